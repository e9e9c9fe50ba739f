"""Mistakes in a study, told in one line: where, what was given, what is allowed, the nearest right name."""

from collections.abc import Mapping, Sequence

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from inklab.errors import did_you_mean

CONTAINERS = {
    "recipe": "recipe",
    "corruption": "corruption",
    "references": "reference",
    "ScalingSpec": "scaling",
}


def told(error: ValidationError, fields: Mapping[str, Sequence[str]]) -> str:
    """All mistakes of a validation, one after the other.

    Args:
        error: what pydantic found.
        fields: what may stand in each kind of table.
    """
    lines = [_line(detail, fields) for detail in error.errors()]
    return "; ".join(dict.fromkeys(lines))


def _line(detail: ErrorDetails, fields: Mapping[str, Sequence[str]]) -> str:
    place, table = _place(detail["loc"], fields)
    last = str(detail["loc"][-1]) if detail["loc"] else ""
    if detail["type"] == "extra_forbidden":
        allowed = fields[table]
        return f"{place} is unknown.{did_you_mean(last, allowed)} Allowed here: {', '.join(allowed)}"
    if detail["type"] == "missing":
        return f"{place} is missing"
    if detail["type"] == "union_tag_invalid":
        return f"{place}: kind must be one of data, train, noise, generator, findings"
    message = detail["msg"].removeprefix("Value error, ")
    given = repr(detail["input"])
    shown = given if len(given) <= 60 else given[:57] + "..."
    return f"{place} is {shown}: {message[0].lower()}{message[1:]}"


def _place(loc: tuple[int | str, ...], fields: Mapping[str, Sequence[str]]) -> tuple[str, str]:
    """The dotted place as the user writes it, and the kind of table that it lies in."""
    parts = [str(part) for part in loc]
    table = "study"
    if parts[:1] == ["chapters"]:
        shown = parts[1:2] + parts[3:]  # pydantic puts the kind after the chapter's name
        table = parts[2] if len(parts) > 2 else "train"
    else:
        shown = parts
        table = "data source" if parts[:1] == ["data"] and len(parts) > 1 else table
    for part in parts[2:-1]:
        table = CONTAINERS.get(part, table)
    hidden = ("ScalingSpec", "literal['none','standard']", "[key]")
    return (
        f"'{'.'.join(part for part in shown if part not in hidden)}'",
        table if table in fields else "study",
    )
