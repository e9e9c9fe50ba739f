"""What the pages claim: every registered thing has its place in them, and the generated ones are current."""

import importlib.util
import json
import re
import shlex
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType

import pytest
import typer
from inklab.training.recipe import recipe_names

from inklab.cli.console import app
from inklab.corruptions.corruption import corruptions
from inklab.corruptions.filters import filters
from inklab.data.sources import sources
from inklab.errors import InklabError
from inklab.evaluation.samplers import samplers
from inklab.networks.network import models
from inklab.report.page import known_explanations
from inklab.study.load import builtin_studies, read_study
from inklab.study.spec import TrainingExperiment
from inklab.training.objectives import objectives

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = {path.name: path.read_text(encoding="utf-8") for path in sorted(DOCS.glob("*.md"))}
WRITTEN = "\n".join(text for name, text in PAGES.items() if name != "cli.md")
README = ROOT / "README.md"
LISTED = {
    "corruptions.md": [*corruptions, *filters],
    "sources.md": list(sources),
    "samplers.md": list(samplers),
}
HEADINGS = ("## What it imitates", "## Strength and unit", "## Formula", "## Source")


def script() -> ModuleType:
    """scripts/docs as a module."""
    loader = SourceFileLoader("scripts_docs", str(ROOT / "scripts" / "docs"))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(loader.name, loader))
    loader.exec_module(module)
    return module


def commands(text: str) -> list[str]:
    """The lines that call inklab in a page's blocks, without their comments; `\\` at an end joins lines."""
    blocks = re.findall(r"^```(?:sh|bash|console|shell|text)?\n(.*?)^```", text, re.M | re.S)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    return [
        line for line in (line.strip().removeprefix("$ ") for line in lines) if line.startswith("inklab ")
    ]


def refused(line: str) -> str | None:
    """Why the command line would refuse a command, without running it."""
    words = [word for word in shlex.split(line.partition("  #")[0], comments=True)[1:] if word != "--debug"]
    command = typer.main.get_command(app)
    while below := getattr(command, "commands", None):
        if not words or words[0] not in below:
            return f"there is no command {' '.join(words[:1])}"
        command, words = below[words[0]], words[1:]
    try:
        command.make_context(command.name, words)
    except typer.exceptions.TyperException as error:
        return error.format_message()
    return None


@pytest.mark.parametrize("page", LISTED)
def test_everything_registered_is_on_its_page(page):
    assert LISTED[page], "nothing was found"
    assert not [name for name in LISTED[page] if f"`{name}`" not in PAGES[page].replace("+cnn", "")]


@pytest.mark.parametrize("name", [*models, *recipe_names(), *objectives])
def test_every_model_recipe_and_objective_is_written_about(name):
    assert re.search(rf"`(name = )?\"?{re.escape(name)}\"?`", WRITTEN), f"no page tells of `{name}`"


def test_every_corruption_has_a_card_and_every_card_its_corruption():
    cards = {path.stem: path.read_text(encoding="utf-8") for path in (DOCS / "corruptions").glob("*.md")}
    # A user's own, which another test may have loaded, needs no card here.
    ours = {name for name, each in corruptions.all().items() if each.run.__module__.startswith("inklab.")}
    assert set(cards) == ours and len(cards) >= 5
    for name, text in cards.items():
        assert text.startswith(f"# {name}\n")
        assert all(heading in text for heading in HEADINGS), f"the card of {name} lacks a heading"
        assert f"corruptions/{name}.md" in PAGES["corruptions.md"]


@pytest.mark.parametrize("path", sorted(DOCS.rglob("*.md")), ids=lambda path: str(path.relative_to(DOCS)))
def test_links_between_pages_lead_somewhere(path):
    prose = re.sub(r"^```.*?^```", "", path.read_text(encoding="utf-8"), flags=re.M | re.S)
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", prose):
        assert (path.parent / target).exists(), f"{path.name} links to {target}"


@pytest.mark.parametrize("study", builtin_studies())
def test_every_explanation_that_a_study_names_exists(study):
    spec = read_study(study).spec
    used = {name for experiment in spec.experiments.values() for name in experiment.explanations}
    assert used <= known_explanations()
    assert used or study != "digits"


def test_the_cli_page_is_current():
    assert script().render() == PAGES["cli.md"], "run scripts/docs"


def test_the_cli_page_does_not_depend_on_the_terminal(monkeypatch):
    for name, value in {"COLUMNS": "33", "TERMINAL_WIDTH": "33", "FORCE_COLOR": "1", "TERM": "dumb"}.items():
        monkeypatch.setenv(name, value)
    assert script().render() == PAGES["cli.md"]


def test_every_command_has_help_and_stands_on_the_cli_page():
    def walk(command, name):
        assert command.help or command.callback.__doc__, f"{name} has no help"
        assert f"\n## {name}\n" in PAGES["cli.md"]
        for option in command.params:
            assert getattr(option, "help", None), f"{name} {option.name} has no help"
        for below in getattr(command, "commands", {}).values():
            walk(below, f"{name} {below.name}")

    walk(typer.main.get_command(app), "inklab")


def test_the_schema_has_a_place_for_every_score_of_the_contract():
    schema = json.loads((DOCS / "results.schema.json").read_text(encoding="utf-8"))
    assert set(schema["required"]) == {
        "format", "study", "profile", "seed", "data", "chapters", "environment", "seconds",
    }  # fmt: skip


@pytest.mark.parametrize("page", [name for name in PAGES if name != "cli.md"])
def test_commands_on_pages_are_commands(page):
    assert {line: told for line in commands(PAGES[page]) if (told := refused(line))} == {}


@pytest.mark.skipif(not README.is_file(), reason="there is no README yet")
def test_readme_commands_are_commands():
    lines = commands(README.read_text(encoding="utf-8"))
    assert lines, "the README shows no command"
    assert {line: told for line in lines if (told := refused(line))} == {}


@pytest.mark.skipif(not README.is_file(), reason="there is no README yet")
def test_readme_studies_are_studies():
    for line in commands(README.read_text(encoding="utf-8")):
        words = shlex.split(line, comments=True)
        if words[1] == "run":
            sets = [words[place + 1] for place, word in enumerate(words) if word == "--set"]
            profile = words[words.index("--profile") + 1] if "--profile" in words else None
            try:
                spec, _ = read_study("digits", profile=profile, sets=sets)
            except InklabError as error:
                pytest.fail(f"{line}: {error}")
            assert any(isinstance(chapter, TrainingExperiment) for chapter in spec.chapters.values())


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("inklab run --profle full", "--profle"),
        ("inklab rum", "rum"),
        ("inklab data gett mnist", "gett"),
        ("inklab compare runs/latest cnn", "B"),
        ("inklab run --workers none", "--workers"),
    ],
)
def test_a_wrong_command_on_a_page_would_be_seen(line, says):
    assert says in (refused(line) or "")
    assert refused("inklab run --profile full --set cnn.recipe.epochs=3   # a comment") is None
    assert refused("inklab data check mnist") is None
