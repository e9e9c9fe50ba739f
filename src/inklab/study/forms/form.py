"""The types that files of a run folder are checked against, and how what is wrong is told.

Of each file that is checked which is read of it; what else stands there is let through. The values themselves
are handed on as they were read: a check changes nothing.
"""

from pathlib import Path
from reprlib import repr as shortened
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from inklab.errors import CorruptFileError

Json = dict[str, Any]

KEY = r"^[A-Za-z0-9_-]{1,64}$"  # of what becomes a folder's name: it leads nowhere else
MAX_NUMBER = 1e100  # of any number: squares of it are numbers too, and no float32 is larger
MAX_ENTRIES = 1000  # of a table of kinds of things, or of a list of what is compared


def _few(table: Any) -> Any:
    if isinstance(table, dict) and len(table) > MAX_ENTRIES:  # before each entry gets an error of its own
        raise ValueError(f"it has {len(table):,} entries; at most {MAX_ENTRIES:,} are read")
    return table


LimitedEntries = BeforeValidator(_few)
FailFast = Field(fail_fast=True)  # of a list: its first mistake is the only one that is kept
Key = Annotated[str, Field(pattern=KEY)]
Count = Annotated[int, Field(ge=0, le=2**53)]
Positive = Annotated[int, Field(ge=1, le=2**53)]
Number = Annotated[float, Field(ge=-MAX_NUMBER, le=MAX_NUMBER)]
Size = Annotated[float, Field(ge=0, le=MAX_NUMBER)]
Share = Annotated[float, Field(ge=0, le=1)]
Table = Annotated[Json, LimitedEntries]
Numbers = Annotated[dict[str, Number], LimitedEntries]
Keys = Annotated[list[Key], FailFast]
Words = Annotated[list[str], FailFast]
FewWords = Annotated[list[str], FailFast, Field(max_length=MAX_ENTRIES)]
Counts = Annotated[list[Count], FailFast]
Strengths = Annotated[list[Size], FailFast, Field(min_length=1, max_length=MAX_ENTRIES)]


class Record(BaseModel):
    """Values of the very types that stand there: no text is taken for a number, no truth value either."""

    model_config = ConfigDict(strict=True, extra="ignore", allow_inf_nan=False)


def fitting(form: type[Record], found: Any, file: Path, complaint: str, advice: str) -> Json:
    """A value as it was read, if it has a form.

    Args:
        form: what it must look like.
        found: any JSON value.
        file: where it was read.
        complaint: what is said of that file, such as "is not a plan"; what is wrong first is added.
        advice: what to do then.

    Raises:
        CorruptFileError: it has another form.
    """
    try:
        form.model_validate(found)
    except ValidationError as error:
        raise CorruptFileError(f"'{file}' {complaint}: {_first(error)}; {advice}") from None
    return dict(found)


def _first(error: ValidationError) -> str:
    """The first thing that is wrong: where, what stands there, what should."""
    detail = error.errors(include_url=False, include_context=False)[0]
    place = ".".join(str(part) for part in detail["loc"])
    where = f"'{place[:60]}'" if place else "it"
    if detail["type"] == "missing":
        return f"{where} is missing"
    message = detail["msg"].removeprefix("Value error, ").removeprefix("Input ")
    given = "" if isinstance(detail["input"], dict | list) else f" is {shortened(detail['input'])}:"
    return f"{where}{given} {message}"
