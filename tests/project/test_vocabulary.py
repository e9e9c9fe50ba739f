"""One word per concept (glossary: docs/index.md): the old names are gone from code, pages and files."""

import re
import tomllib
from collections.abc import Collection, Iterator

from source_tree import PACKAGE, PYTHON, ROOT, SOURCE, identifiers, relative

DOMAIN = {
    "chapter": "experiment", "chapters": "experiments", "verdict": "diagnosis", "verdicts": "diagnoses",
    "gauge": "diagnosis", "bundle": "model", "bundles": "models", "framing": "preprocessing",
    "judge": "classifier", "judgement": "prediction", "familiarity": "ood_score", "unfamiliar": "ood",
    "lifted": "stacked", "spoilt": "corrupted", "spoil": "corrupt", "spoiled": "corrupted", "told": "report",
    "tell": "report", "stranger": "orphaned", "strangers": "orphaned", "optimiser": "optimizer",
    "optimise": "optimize", "normalise": "normalize", "normalised": "normalized", "recognise": "recognize",
    "recognised": "confident_share", "summarise": "summarize", "colour": "color", "centre": "center",
    "neighbour": "neighbor", "neighbours": "neighbors", "initialise": "initialize", "tpr": "recall",
    "rehearsal": "preflight", "rehearse": "preflight", "onlooker": "monitor",
}  # fmt: skip
"""Word of version 1 -> the field's word, wherever it is part of an identifier."""

GRAMMAR = {
    "each", "found", "place", "places", "wanted", "made", "asked", "given", "shown", "said", "seen", "heard",
    "alone", "lone", "what", "one", "some", "strange", "odd", "taken", "going", "ours", "theirs",
}  # fmt: skip
"""Names that say nothing about what a variable holds."""

DIALECT = re.compile(
    r"\b(told|spoil(t|ed|s)?|what one would|typed again|verdicts?|gauges?|chapters?|framing|unfamiliar|"
    r"familiarity|judgements?|the house|on (this|that|its) floor|its company|optimis\w+|normalis\w+|"
    r"recognis\w+|summaris\w+|neighbours?|behaviours?)\b",
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
TEMPLATES = sorted(PACKAGE.rglob("*.html"))


def words(name: str) -> set[str]:
    """The words of an identifier in snake_case or camelCase.

    >>> sorted(words("_toldApart_by"))
    ['apart', 'by', 'told']
    """
    return {word.lower() for word in WORD.findall(name)}


def banned(names: Collection[str]) -> dict[str, str]:
    domain = {name: DOMAIN[word] for name in names for word in words(name) & DOMAIN.keys()}
    return domain | {name: "what it holds" for name in names if name.strip("_") in GRAMMAR}


def keys(table: object) -> Iterator[str]:
    if isinstance(table, dict):
        for key, value in table.items():
            yield key
            yield from keys(value)
    elif isinstance(table, list):
        for value in table:
            yield from keys(value)


def test_python_identifiers():
    names = {relative(path): banned(identifiers(path.read_text(encoding="utf-8"))) for path in PYTHON}
    assert {path: row for path, row in names.items() if row} == {}


def test_javascript_identifiers():
    for path in SCRIPTS:
        matches = JS_NAME.findall(path.read_text(encoding="utf-8"))
        assert banned({name for match in matches for name in match if name}) == {}, path


def test_toml_keys():
    for path in TABLES:
        assert banned(set(keys(tomllib.loads(path.read_text(encoding="utf-8"))))) == {}, path


def test_prose_docstrings_comments_and_messages():
    for path in (*PAGES, *TABLES, *TEMPLATES, *SOURCE):
        text = path.read_text(encoding="utf-8")
        assert [match[0] for match in DIALECT.finditer(text)] == [], path


def test_planted_names_are_found():
    code = "def score(x):\n    told_apart = x\n    for each in x:\n        pass\n    return told_apart\n"
    assert set(banned(identifiers(code))) == {"told_apart", "each"}
    matches = JS_NAME.findall("const verdictOf = 1;")
    assert banned({match[0] for match in matches}) == {"verdictOf": "diagnosis"}
    assert banned(set(keys({"experiments": [{"chapter": 1}]}))) == {"chapter": "experiment"}
    assert DIALECT.search("the images are spoilt")
