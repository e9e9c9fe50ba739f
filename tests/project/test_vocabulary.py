"""One word per concept: the names of version 1 are gone from code, pages and files (docs/index.md, glossary)."""

import re
import tomllib
from collections.abc import Iterable, Iterator

import pytest
from source_tree import PACKAGE, PYTHON, ROOT, identifiers, relative

BANNED = {
    "chapter": "experiment", "verdict": "diagnosis", "gauge": "diagnosis", "bundle": "model",
    "framing": "preprocessing", "judge": "classifier", "judgement": "prediction", "familiarity": "ood_score",
    "unfamiliar": "ood", "lifted": "stacked", "spoilt": "corrupted", "spoil": "corrupt", "spoiled": "corrupted",
    "told": "the thing itself", "tell": "report", "found": "the thing itself", "each": "the thing itself",
    "place": "index, path", "places": "indices, paths", "wanted": "expected", "made": "the thing itself",
    "asked": "requested", "shown": "inputs, significant", "said": "reported", "heard": "last_seen",
    "alone": "baseline, single", "lone": "single", "stranger": "orphaned", "strangers": "orphaned",
    "optimiser": "optimizer", "optimise": "optimize", "normalise": "normalize", "normalised": "normalized",
    "recognise": "recognize", "recognised": "confident_share", "summarise": "summarize", "colour": "color",
    "centre": "center", "neighbour": "neighbor", "neighbours": "neighbors", "grey": "gray",
    "initialise": "initialize", "licence": "license", "tpr": "recall", "rehearsal": "preflight",
    "rehearse": "preflight", "onlooker": "monitor", "teller": "sentence", "keeper": "checkpoints",
    "shelf": "catalog", "stock": "registry",
}  # fmt: skip
"""Word of version 1 -> the field's word. Compared with the words of an identifier, so `toldApart` counts."""

DIALECT = re.compile(
    r"\b(told|spoil(t|ed|s)?|what one would|typed again|verdicts?|gauges?|chapters?|framing|unfamiliar|familiarity|"
    r"judgements?|the house|on (this|that|its) floor|in company|its company|optimis\w+|normalis\w+|recognis\w+|"
    r"summaris\w+|colou?red in|neighbours?|behaviours?|licen[c]e)\b",
    re.I,
)
"""Dialect and British spelling in prose and sentences."""

JS_NAME = re.compile(
    r"\b(?:const|let|var|function\*?|class)\s+([A-Za-z_$][\w$]*)|^\s+(?:async\s+)?([a-z]\w*)\([^)]*\)\s*\{",
    re.M,
)
WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
SCRIPTS = sorted(PACKAGE.rglob("*.js"))
TABLES = sorted([*PACKAGE.rglob("*.toml"), *(ROOT / "examples").rglob("*.toml")])
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").rglob("*.md")])
TEMPLATES = sorted([*PACKAGE.rglob("*.html")])


def words(name: str) -> set[str]:
    """The words of an identifier in snake_case or camelCase.

    >>> sorted(words("_toldApart_by"))
    ['apart', 'by', 'told']
    """
    return {word.lower() for word in WORD.findall(name)}


def banned(names: Iterable[str]) -> dict[str, str]:
    """Names with a banned word, and what to write instead."""
    return {name: BANNED[word] for name in names for word in words(name) & BANNED.keys()}


def keys(table: object) -> Iterator[str]:
    """Every key of a TOML table, at any depth."""
    if isinstance(table, dict):
        for key, value in table.items():
            yield key
            yield from keys(value)
    elif isinstance(table, list):
        for value in table:
            yield from keys(value)


@pytest.mark.parametrize("path", PYTHON, ids=relative)
def test_python_identifiers(path):
    assert banned(identifiers(path.read_text(encoding="utf-8"))) == {}


@pytest.mark.parametrize("path", SCRIPTS, ids=relative)
def test_javascript_identifiers(path):
    matches = JS_NAME.findall(path.read_text(encoding="utf-8"))
    assert banned({name for match in matches for name in match if name}) == {}


@pytest.mark.parametrize("path", TABLES, ids=relative)
def test_toml_keys(path):
    assert banned(keys(tomllib.loads(path.read_text(encoding="utf-8")))) == {}


@pytest.mark.parametrize("path", [*PAGES, *TABLES, *TEMPLATES], ids=relative)
def test_prose(path):
    assert [match[0] for match in DIALECT.finditer(path.read_text(encoding="utf-8"))] == []


@pytest.mark.parametrize("path", [path for path in PYTHON if path.is_relative_to(PACKAGE)], ids=relative)
def test_docstrings_comments_and_messages(path):
    assert [match[0] for match in DIALECT.finditer(path.read_text(encoding="utf-8"))] == []


def test_a_planted_name_is_found(tmp_path):
    code = "def score(x):\n    told_apart = x\n    return told_apart\n"
    assert banned(identifiers(code)) == {"told_apart": "the thing itself"}
    assert banned(match[0] or match[1] for match in JS_NAME.findall("const verdictOf = 1;")) == {
        "verdictOf": "diagnosis"
    }
    assert banned(keys({"experiments": [{"chapter": 1}]})) == {"chapter": "experiment"}
    assert DIALECT.search("the images are spoilt")
