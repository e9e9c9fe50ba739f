"""The forms of clock.json, and of results.json as far as it is shown.

All of results.json is described by docs/results.schema.json.
"""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from inklab.study.forms.form import Count, FailFast, FewWords, Json, Key, Number, Record, Size, Words, fitting


def check_results(found: Any, path: Path) -> Json:
    """The results of a run as they were read, if they can be shown.

    Args:
        found: any JSON value.
        path: where it was read, for messages.

    Raises:
        CorruptFileError: they can't; what is wrong first is named.
    """
    advice = f"inklab report {path.parent} writes it anew"
    return fitting(_Results, found, path, "is damaged", advice)


def check_clock(found: Any, path: Path) -> Json:
    """The seconds that somebody waited, as they were read.

    Args:
        found: any JSON value.
        path: where it was read, for messages.

    Raises:
        CorruptFileError: they are no number, or below 0.
    """
    return fitting(_Clock, found, path, "is damaged", "delete it; only the time that was waited is lost")


class _Clock(Record):
    seconds: Size


class _Score(Record):
    mean: Number | None
    n: Count
    ci95: Annotated[list[Number], Field(min_length=2, max_length=2)] | None = None
    values: Annotated[list[Number], FailFast] = []


class _ScorePart(Record):
    """A chapter with one setting, or one setting of a chapter."""

    test_accuracy: _Score | None = None
    test_loss: _Score | None = None
    test_bce: _Score | None = None
    test_psnr: _Score | None = None
    validation_accuracy: _Score | None = None
    validation_bce: _Score | None = None


class _ChapterResults(_ScorePart):
    kind: str
    vary: FewWords | None = None
    settings: Annotated[list[_ScorePart], FailFast] = []


def _part(value: Any) -> str:
    return "findings" if isinstance(value, list) else "chapter"


class _Results(Record):
    format: Literal[1]
    chapters: dict[
        Key,
        Annotated[
            Annotated[Words, Tag("findings")] | Annotated[_ChapterResults, Tag("chapter")],
            Discriminator(_part),
        ],
    ]
