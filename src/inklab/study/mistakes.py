"""Mistakes in a study, told in one line: where, what was given, what is allowed, the nearest right name."""

import re
from collections.abc import Mapping, Sequence

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from inklab.errors import did_you_mean

CONTAINERS = {
    "recipe": "recipe",
    "augmentation": "augmentation",
    "corruption": "corruption",
    "references": "reference",
    "ScalingSpec": "scaling",
}

MOST_TOLD = 10
LONGEST = 60  # characters of what was given, and of each part of its place
KINDS = ("data", "train", "noise", "generator", "findings")
SCALING_WORDS = "literal['none','standard']"  # what pydantic calls that half of a union
A_TABLE, A_LIST = "it must be a table, such as { key = 1 }", "it must be a list, such as [1, 2]"
PLAIN = {
    "model_type": A_TABLE, "dict_type": A_TABLE, "model_attributes_type": A_TABLE, "tuple_type": A_LIST,
    "too_short": "it needs at least one entry",
}  # fmt: skip
"""Words for mistakes that pydantic tells in Python's."""


def told(error: ValidationError, fields: Mapping[str, Sequence[str]]) -> str:
    """The mistakes of a validation, one after the other; of very many the first ten.

    Args:
        error: what pydantic found.
        fields: what may stand in each kind of table.
    """
    found = [detail for detail in error.errors() if not _beside_the_point(detail)]
    lines = [_line(detail, fields) for detail in found[:MOST_TOLD]]
    more = [f"and {len(found) - MOST_TOLD:,} more"] if len(found) > MOST_TOLD else []
    return "; ".join([*dict.fromkeys(lines), *more])


def _beside_the_point(detail: ErrorDetails) -> bool:
    """Whether it tells of the other form that scaling may have: a word or a table."""
    form = str(detail["loc"][-1]) if detail["loc"] else ""
    if form == "ScalingSpec":
        return not isinstance(detail["input"], Mapping)
    return form == SCALING_WORDS and isinstance(detail["input"], Mapping)


def _line(detail: ErrorDetails, fields: Mapping[str, Sequence[str]]) -> str:
    place, table = _place(detail["loc"], fields)
    last = str(detail["loc"][-1]) if detail["loc"] else ""
    if detail["type"] == "extra_forbidden":
        allowed = fields[table]
        hint = did_you_mean(last, allowed) or _one_floor_down(last, table, fields)
        return f"{place} is unknown.{hint} Allowed here: {', '.join(allowed)}"
    if detail["type"] == "missing":
        return f"{place} is missing"
    if detail["type"] == "union_tag_invalid":
        kind = str(detail["ctx"]["tag"])[:LONGEST]
        return f"{place} has the kind '{kind}'.{did_you_mean(kind, KINDS)} Known: {', '.join(KINDS)}"
    message = PLAIN.get(detail["type"], detail["msg"].removeprefix("Value error, "))
    given = repr(detail["input"])
    shown = given if len(given) <= LONGEST else given[: LONGEST - 3] + "..."
    return f"{place} is {shown}: {message[0].lower()}{message[1:]}{_nearest(detail)}"


def _nearest(detail: ErrorDetails) -> str:
    """The hint for a value that is one of a few words."""
    if detail["type"] != "literal_error":
        return ""
    hint = did_you_mean(str(detail["input"]), re.findall(r"'(\w+)'", detail["ctx"]["expected"]))
    return hint and f".{hint}"


def _one_floor_down(name: str, table: str, fields: Mapping[str, Sequence[str]]) -> str:
    """`cnn.epocs`: what is meant lies in the chapter's recipe."""
    return did_you_mean(name, fields["recipe"]).replace("'", "'recipe.", 1) if table == "train" else ""


def _place(loc: tuple[int | str, ...], fields: Mapping[str, Sequence[str]]) -> tuple[str, str]:
    """The dotted place as the user writes it, and the kind of table that it lies in."""
    parts = [str(part) for part in loc]
    table = "study"
    if parts[:1] == ["chapters"]:
        shown = parts[1:2] + parts[3:] or parts  # pydantic puts the kind after the chapter's name
        table = parts[2] if len(parts) > 2 else "train"
    else:
        shown = parts
        table = "data source" if parts[:1] == ["data"] and len(parts) > 1 else table
    for part in parts[2:-1]:
        table = CONTAINERS.get(part, table)
    hidden = ("ScalingSpec", SCALING_WORDS, "[key]")
    return (
        f"'{'.'.join(part[:LONGEST] for part in shown if part not in hidden)}'",
        table if table in fields else "study",
    )
