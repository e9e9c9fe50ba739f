"""The form of work/live.json."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from inklab.study.forms.form import (
    MAX_ENTRIES,
    Count,
    Counts,
    FailFast,
    Json,
    Keys,
    Number,
    Record,
    Size,
    fitting,
)


def check_live(found: Any, path: Path) -> Json:
    """What a driver said that it is at, as it was read.

    Args:
        found: any JSON value.
        path: where it was read, for messages.

    Raises:
        CorruptFileError: it is nothing that a driver says.
    """
    return fitting(_Live, found, path, "is damaged", "delete it; nothing depends on it")


class _Running(Record):
    job: str
    label: str
    trials: Keys
    turn: Count
    epochs: Count | None
    epoch: Counts
    train_loss: Annotated[list[Number | None], FailFast]


class _Live(Record):
    format: Literal[1]
    process: Annotated[int, Field(ge=1, le=2**31)]
    host: str
    since: Size
    planned: Size | None
    estimate: Size | None
    running: Annotated[list[_Running], FailFast, Field(max_length=MAX_ENTRIES)]
