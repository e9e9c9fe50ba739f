"""What the pages claim: what is registered is on its page, commands are commands, the reference is current.

Links are tested in test_links.py, keys and example files in test_pages.py, the README's tables in
test_readme_tables.py.
"""

import re
import shlex
import sys
from pathlib import Path
from types import ModuleType

import pytest
import typer
from source_tree import load_script

from inklab.corruptions.corruption import corruptions
from inklab.corruptions.filters import filters
from inklab.data.sources import datasets
from inklab.evaluation.samplers import samplers
from inklab.networks.network import networks
from inklab.report.page import known_explanations
from inklab.study.load import builtin_studies, read_study
from inklab.training.objectives import objectives
from inklab.training.recipe_files import recipe_names

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
README = ROOT / "README.md"
PACKAGE = ROOT / "src" / "inklab"
PAGES = {path.name: path.read_text(encoding="utf-8") for path in sorted(DOCS.glob("*.md"))}
PROSE = "\n".join(text for name, text in PAGES.items() if name != "cli.md")
LISTED = {
    "corruptions.md": [*corruptions, *filters], "datasets.md": list(datasets),
    "samplers.md": list(samplers), "objectives.md": list(objectives),
}  # fmt: skip
HEADINGS = ("## What it imitates", "## Strength and unit", "## Formula", "## Source")


@pytest.fixture(scope="module")
def script() -> ModuleType:
    return load_script("build_cli_docs")


@pytest.fixture(scope="module")
def application(script):
    """The command line; typer names no class that commands and groups have in common."""
    return typer.main.get_command(script.app)


def commands(text: str) -> list[str]:
    """The lines that call inklab in a page's blocks, without their comments; `\\` at an end joins lines."""
    blocks = re.findall(r"^```(?:sh|bash|console|shell|text)?\n(.*?)^```", text, re.M | re.S)
    lines = (line.strip() for line in "\n".join(blocks).replace("\\\n", " ").splitlines())
    return [line for line in (line.removeprefix("$ ") for line in lines) if line.startswith("inklab ")]


def problem(line: str, application) -> str | None:
    """Why the command line would reject a command, without running it."""
    words = [word for word in shlex.split(line.partition("  #")[0], comments=True)[1:] if word != "--debug"]
    command = application
    while subcommands := getattr(command, "commands", None):
        if not words or words[0] not in subcommands:
            return f"there is no command {' '.join(words[:1])}"
        command, words = subcommands[words[0]], words[1:]
    try:
        command.make_context(command.name, words)
    except typer.exceptions.TyperException as error:
        return error.format_message()
    return None


class TestRegistered:
    def test_everything_registered_is_on_its_page(self):
        for page, listed in LISTED.items():
            assert listed and [name for name in listed if f"`{name}`" not in PAGES[page]] == [], page
        for name in [*networks, *recipe_names()]:
            assert re.search(rf"`(name = )?\"?{re.escape(name)}\"?`", PROSE), name

    def test_every_corruption_has_a_card_and_every_card_its_corruption(self):
        cards = {path.stem: path.read_text(encoding="utf-8") for path in (DOCS / "corruptions").glob("*.md")}
        # A user's own, which another test may have loaded, needs no card here.
        built_in = {name for name in corruptions if corruptions[name].fn.__module__.startswith("inklab.")}
        assert cards.keys() == built_in and len(cards) >= 5
        for name, text in cards.items():
            assert text.startswith(f"# {name}\n")
            assert [heading for heading in HEADINGS if heading not in text] == [], name
            assert f"corruptions/{name}.md" in PAGES["corruptions.md"]

    @pytest.mark.parametrize("study", builtin_studies())
    def test_every_explanation_that_a_study_names_exists(self, study):
        experiments = read_study(study).spec.experiments.values()
        assert {
            name for experiment in experiments for name in experiment.explanations
        } <= known_explanations()


class TestReference:
    def test_it_is_current_and_does_not_depend_on_the_terminal(self, script, monkeypatch):
        variables = {"COLUMNS": "33", "TERMINAL_WIDTH": "33", "FORCE_COLOR": "1", "TERM": "dumb"}
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        assert script.render() == PAGES["cli.md"], "run scripts/build_cli_docs.py"

    def test_the_script_notices_an_outdated_page(self, script, tmp_path, monkeypatch):
        outdated = tmp_path / "cli.md"
        outdated.write_text(PAGES["cli.md"].replace("--debug", "--verbose"), encoding="utf-8")
        monkeypatch.setattr(script, "PAGE", outdated)
        monkeypatch.setattr(sys, "argv", ["build_cli_docs.py", "--check"])
        assert script.main() == 1

    def test_every_command_and_option_has_help(self, application):
        def check(command, name):
            assert command.help or command.callback.__doc__, f"{name} has no help"
            assert f"\n## {name}\n" in PAGES["cli.md"]
            for option in command.params:
                assert getattr(option, "help", None), f"{name} {option.name} has no help"
            for subcommand in getattr(command, "commands", {}).values():
                check(subcommand, f"{name} {subcommand.name}")

        check(application, "inklab")


class TestArchitecture:
    def test_the_tree_has_every_module(self):
        tree = PAGES["architecture.md"].partition("```\nsrc/inklab/\n")[2].partition("```")[0]
        top, *packages = re.split(r"^  (\w+)/ ", tree, flags=re.M)
        listed = {"": set(re.findall(r"(\w+)\.py", top))}
        for package, modules in zip(packages[::2], packages[1::2], strict=True):
            listed[package] = {word for word in modules.split() if word.isidentifier()}
        listed["web"] = set()  # JavaScript, described in words
        modules = [path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py")]
        for package, names in listed.items():
            files = {path.stem for path in modules if str(path.parent) == (package or ".")}
            assert names == files - {"__init__", "__main__"}, package or "top level"
        assert listed.keys() - {""} == {str(path.parent) for path in modules if len(path.parts) == 2}

    def test_the_parts_of_a_link_are_on_the_page(self):
        script = (PACKAGE / "serve" / "page" / "state.js").read_text(encoding="utf-8")
        parts = re.findall(r"^  (\w+): \[", script.partition("const PARTS = {")[2].partition("\n};")[0], re.M)
        assert len(parts) > 10 and [name for name in parts if f"`{name}`" not in PAGES["page.md"]] == []


class TestCommands:
    @pytest.mark.parametrize("path", [README, *sorted(DOCS.rglob("*.md"))], ids=lambda path: path.stem)
    def test_commands_on_pages_are_commands(self, path, application):
        problems = {line: problem(line, application) for line in commands(path.read_text(encoding="utf-8"))}
        assert {line: text for line, text in problems.items() if text} == {}

    def test_the_readme_runs_studies_that_exist(self):
        lines = [shlex.split(line, comments=True) for line in commands(README.read_text(encoding="utf-8"))]
        runs = [words for words in lines if words[1] == "run"]
        assert runs, "the README shows no study"
        for words in runs:
            overrides = [words[index + 1] for index, word in enumerate(words) if word == "--set"]
            profile = words[words.index("--profile") + 1] if "--profile" in words else None
            assert read_study("digits", profile=profile, overrides=overrides).spec.training

    def test_a_wrong_command_is_noticed(self, application):
        for line, word in (
            ("inklab run --profle full", "--profle"), ("inklab rum", "rum"),
            ("inklab data gett mnist", "gett"), ("inklab compare runs/latest", "A"),
            ("inklab run --workers none", "--workers"),
        ):  # fmt: skip
            assert word in problem(line, application)
        assert problem("inklab run --set cnn.recipe.epochs=3   # a comment", application) is None
