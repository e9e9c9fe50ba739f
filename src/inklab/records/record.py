"""The base of all records: frozen, strict, and read from a file with one clear line for what is wrong.

Records are read in one pass by pydantic's JSON parser (Rust): reading and validating 10,000 outcomes takes
about as long as parsing them.
"""

import inspect
import math
import re
from collections.abc import Collection
from pathlib import Path
from reprlib import repr as shorten
from typing import Annotated, Any, ClassVar, NamedTuple, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, JsonValue, ValidationError
from pydantic_core import ErrorDetails

from inklab.errors import ConfigError, CorruptFileError, nearest_name
from inklab.io.files import read_bytes_capped, write_json

MAX_NUMBER = 1e100
"""Largest magnitude allowed for a number in a file; its square is still finite. No float32 is larger."""

MAX_FP32 = 3e38
"""Largest magnitude that fp32 holds. A rate far below it may still diverge, which is an outcome."""

MAX_ENTRIES = 1000  # maximum number of entries in a table or list

MAX_SIDE = 4096
"""Maximum image side or number of channels: a damaged file can't have a huge network built for it."""

MAX_REPORTED = 10  # maximum number of mistakes in a message
MAX_LOCATION = 80  # maximum number of characters of a key in a message

MESSAGES = {
    **dict.fromkeys(
        ("model_type", "dict_type", "model_attributes_type"), "it must be a table, such as { key = 1 }"
    ),
    **dict.fromkeys(("tuple_type", "is_instance_of", "sequence_str"), "it must be a list, such as [1, 2]"),
    "too_short": "it needs at least one entry",
}
"""Messages in TOML's words for types of errors that pydantic describes in Python's."""

MIB = 1024**2

PLAN_FILE, RESULTS_FILE, TIMER_FILE = "plan.json", "results.json", "timer.json"
REPORT_FILE = "report.html"
"""Files of a run directory, one record each."""

FailFast = Field(fail_fast=True)
"""Keeps only the first error of a list, so that a damaged file of a million entries gives one line."""


def _to_json_value(value: object) -> object:
    """Refuse what JSON can't represent, and turn tuples into lists."""
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("should be a finite number")
    if isinstance(value, list | tuple):
        return [_to_json_value(entry) for entry in value]
    if isinstance(value, dict):
        return {key: _to_json_value(entry) for key, entry in value.items()}
    return value


Id = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
"""An ID that is safe as a directory name; it cannot escape its parent."""

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Count = Annotated[int, Field(ge=0, le=2**53)]
PositiveCount = Annotated[int, Field(ge=1, le=2**53)]
Number = Annotated[float, Field(ge=-MAX_NUMBER, le=MAX_NUMBER)]
NonNegative = Annotated[float, Field(ge=0, le=MAX_NUMBER)]
Share = Annotated[float, Field(ge=0, le=1)]
Bounded = Annotated[float, Field(ge=-MAX_FP32, le=MAX_FP32)]
NonNegativeFp32 = Annotated[float, Field(ge=0, le=MAX_FP32)]
PositiveFp32 = Annotated[float, Field(gt=0, le=MAX_FP32)]
FiniteJson = Annotated[JsonValue, BeforeValidator(_to_json_value)]
"""Any JSON value, without NaN and infinity."""

RootSeed = Annotated[int, Field(ge=0, lt=2**63)]

Few = Field(max_length=MAX_ENTRIES)
"""Limits a table or a list to `MAX_ENTRIES`."""

Ids = Annotated[tuple[Id, ...], FailFast]
Counts = Annotated[tuple[Count, ...], FailFast]
Names = Annotated[tuple[str, ...], FailFast, Few]
Strengths = Annotated[tuple[NonNegative, ...], FailFast, Field(min_length=1, max_length=MAX_ENTRIES)]
Curve = Annotated[tuple[Number | None, ...], FailFast]
"""One value per epoch; None where it is not finite."""

ShareRow = Annotated[tuple[Share | None, ...], FailFast]
"""One share per class; None for a class without images."""

Side = Annotated[int, Field(ge=1, le=MAX_SIDE)]
Shape = tuple[Side, Side, Side]
"""Channels, height and width of one image."""

Values = Annotated[dict[str, FiniteJson], Few]
"""A point of a grid: key to value."""

Numbers = Annotated[dict[str, Number], Few]


def _document_schema(schema: dict[str, Any], record: type[BaseModel]) -> None:
    """Describe a record and its fields in its JSON Schema by the words of its docstring."""
    schema["description"], _ = _parse_docstring(record)
    for parent in reversed(record.__mro__):
        if issubclass(parent, BaseModel):
            for name, text in _parse_docstring(parent)[1].items():
                if isinstance(field := schema.get("properties", {}).get(name), dict):
                    field["description"] = text


def _parse_docstring(record: type[BaseModel]) -> tuple[str, dict[str, str]]:
    """A docstring's first part, and its attributes' descriptions by name."""
    text = inspect.cleandoc(record.__doc__ or "")
    head, _, attributes = text.partition("\n\nAttributes:\n")
    attributes = re.split(r"\n\n(?=\S)", attributes)[0]
    entries = re.findall(r"^    (\w+): (.*(?:\n      .*)*)", attributes, re.MULTILINE)
    return " ".join(head.split()), {name: " ".join(words.split()) for name, words in entries}


R = TypeVar("R", bound="Record")


class Record(BaseModel):
    """A frozen record. Unknown keys, NaN and infinity are errors; in files no text is taken for a number.

    A subclass with a file of its own sets `max_bytes` and `repair_advice` (what to do about a damaged file).
    Derived values may be `functools.cached_property`: they are no part of equality, copies or pickles.

    Attributes:
        format: version of the file.
        kind: which of several kinds of record it is.
    """

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        json_schema_serialization_defaults_required=True,
        json_schema_extra=_document_schema,
    )

    max_bytes: ClassVar[int] = 64 * MIB
    repair_advice: ClassVar[str] = "delete it or restore it from a copy"

    def __init__(self, /, **values: Any) -> None:
        """A record of these values.

        Raises:
            ConfigError: a key is unknown or missing, or has a wrong value; all mistakes in one line.
        """
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise construction_error(error, type(self)) from None

    __init__.__pydantic_base_init__ = True  # type: ignore[attr-defined]  # validation does not go through it

    @classmethod
    def read(cls: type[R], path: Path) -> R:
        """Read and validate a JSON file.

        Raises:
            FileNotFoundError, NotADirectoryError: there is none.
            CorruptFileError: it is too large, not JSON, or another record; the message names the first error.
        """
        return cls.parse_json(read_bytes_capped(path, cls.max_bytes), f"'{path}'")

    @classmethod
    def parse_json(cls: type[R], raw: bytes, name: str) -> R:
        """Validate the bytes of a JSON file, which messages call `name`.

        Raises:
            CorruptFileError: it is not JSON, or another record; the message names the first error.
        """
        try:
            return cls.model_validate_json(raw, strict=True)
        except ValidationError as error:
            problem = describe_error(error.errors(include_url=False)[0]).message
            raise CorruptFileError(f"{name} is damaged: {problem}; {cls.repair_advice}") from None

    @classmethod
    def parse(cls: type[R], value: object, name: str = "") -> R:
        """Validate Python values that a user wrote, such as a table of a TOML file; lists may be tuples.

        Args:
            value: a mapping, or such a record.
            name: what messages call it; the record's class if left out.

        Raises:
            ConfigError: of the first key that is unknown or missing, or has a wrong value.
        """
        try:
            return cls.model_validate(value)
        except ValidationError as error:
            key, problem, suggestion = describe_error(error.errors(include_url=False)[0])
            message = f"{name or cls.__name__}: {problem}"
            raise ConfigError(message, key=key, suggestion=suggestion) from None

    def write(self, path: Path) -> None:
        """Write the record as JSON, whole or not at all. Raises WriteError: the disk refuses."""
        write_json(path, self.to_json())

    def to_json(self) -> dict[str, Any]:
        """The record as JSON values."""
        return self.model_dump(mode="json")

    def __getstate__(self) -> dict[Any, Any]:
        state = super().__getstate__()
        return {**state, "__dict__": self._fields(state["__dict__"])}

    def __copy__(self: R) -> R:  # also of `model_copy`, whose update would leave cached values as they were
        copy = super().__copy__()
        object.__setattr__(copy, "__dict__", self._fields(copy.__dict__))
        return copy

    def _fields(self, values: dict[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in values.items() if name in type(self).model_fields}


class ConfigIssue(NamedTuple):
    """One mistake: its key as the user writes it, what is wrong, the nearest valid key or value."""

    key: str
    message: str
    suggestion: str = ""


def construction_error(error: ValidationError, record: type[BaseModel]) -> ConfigError:
    """What is wrong with the arguments of a record, in one line."""
    issues = [
        unknown_key(str(detail["loc"][0]), record.model_fields)
        if detail["type"] == "extra_forbidden" and len(detail["loc"]) == 1
        else describe_error(detail)
        for detail in error.errors(include_url=False)
    ]
    text = "; ".join(issue.message for issue in issues[:MAX_REPORTED])
    return ConfigError(f"{record.__name__}: {text}", key=issues[0].key, suggestion=issues[0].suggestion)


def unknown_key(key: str, allowed: Collection[str], suggestion: str = "") -> ConfigIssue:
    """That a key is unknown, and which are allowed.

    Args:
        key: as the user writes it; its last part is what is unknown.
        allowed: the names in its place.
        suggestion: what was probably meant; the nearest of the allowed names if left out.
    """
    suggestion = suggestion or nearest_name(key.rpartition(".")[2], allowed)
    hint = f" Did you mean '{suggestion}'?" if suggestion else ""
    return ConfigIssue(key, f"'{key}' is unknown.{hint} Allowed here: {', '.join(allowed)}", suggestion)


def describe_error(detail: ErrorDetails, key: str = "") -> ConfigIssue:
    """One error of a validation in a line: which key, what value it has, what is allowed.

    Args:
        detail: as pydantic gives it.
        key: as the user writes it; by default the error's location.

    Example:
        >>> class Point(Record):
        ...     x: Count
        >>> try:
        ...     Point.model_validate({"x": -1})
        ... except ValidationError as error:
        ...     print(describe_error(error.errors()[0]).message)
        'x' is -1: should be greater than or equal to 0
    """
    key = key or ".".join(map(str, detail["loc"]))
    key = key if len(key) <= MAX_LOCATION else key[: MAX_LOCATION - 3] + "..."
    kind, value = detail["type"], detail["input"]
    reason = detail["msg"].removeprefix("Value error, ").removeprefix("Input ")
    if not key:
        return ConfigIssue("", reason)
    reason = MESSAGES.get(kind, reason)
    if kind in ("missing", "extra_forbidden"):
        return ConfigIssue(key, f"'{key}' is {'missing' if kind == 'missing' else 'not a known key there'}")
    words = re.findall(r"'(\w+)'", detail["ctx"]["expected"]) if kind == "literal_error" else []
    suggestion = nearest_name(str(value), words)
    hint = f". Did you mean '{suggestion}'?" if suggestion else ""
    is_whole = kind == "value_error" and isinstance(value, dict | BaseModel)  # the reason is about all of it
    value_text = "" if is_whole or isinstance(value, bytes) else f" is {shorten(value)}"
    return ConfigIssue(key, f"'{key}'{value_text}: {reason[0].lower()}{reason[1:]}{hint}", suggestion)
