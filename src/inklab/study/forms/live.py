"""The form of work/live.json."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from inklab.study.forms.form import (
    MOST_ENTRIES,
    Count,
    Counts,
    Form,
    Json,
    Keys,
    Number,
    Quick,
    Size,
    fitting,
)


def check_live(found: Any, path: Path) -> Json:
    """What a driver said that it is at, as it was read.

    Args:
        found: any JSON value.
        path: where it was read, for messages.

    Raises:
        CorruptFile: it is nothing that a driver says.
    """
    return fitting(_Live, found, path, "is damaged", "delete it; nothing depends on it")


class _Running(Form):
    job: str
    label: str
    trials: Keys
    turn: Count
    epochs: Count | None
    epoch: Counts
    train_loss: Annotated[list[Number | None], Quick]


class _Live(Form):
    format: Literal[1]
    process: Annotated[int, Field(ge=1, le=2**31)]
    host: str
    since: Size
    planned: Size | None
    estimate: Size | None
    running: Annotated[list[_Running], Quick, Field(max_length=MOST_ENTRIES)]
