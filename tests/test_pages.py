"""What pages say of keys and numbers is so: the README's table, tables of keys, TOML that is read."""

import importlib.util
import json
import re
import tomllib
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType

import pytest
from synthetic_run import synthetic_run

from inklab.results.summarize import summarize
from inklab.study.load import parse_study, read_study
from inklab.study.spec import (
    DataSpec,
    GenerationExperiment,
    Reference,
    RobustnessExperiment,
    StudySpec,
    TrainingExperiment,
)
from inklab.training.recipe import Augmentation, Recipe, recipe_names

ROOT = Path(__file__).parent.parent
README, RESULTS = ROOT / "README.md", ROOT / "docs" / "results" / "results.json"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    """scripts/readme_table as a module."""
    loader = SourceFileLoader("scripts_readme_table", str(ROOT / "scripts" / "readme_table"))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(loader.name, loader))
    loader.exec_module(module)
    return module


def text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def blocks(name: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text(name), re.M | re.S)


@pytest.mark.skipif(not RESULTS.is_file(), reason="the long run's results are not there yet")
def test_the_readme_table_is_current(script):
    results = json.loads(RESULTS.read_text(encoding="utf-8"))
    page = text("README.md")
    assert script.filled(page, script.render(results)) == page, "run scripts/readme_table"
    summary = json.loads(script.SUMMARY.read_text(encoding="utf-8"))
    assert script.filled(page, script.render_speed(summary), script.SPEED) == page, "run scripts/readme_table"
    ratios = [name for name in summary if name.partition("/")[0] in script.WORKS]
    assert all(f"**{summary[name]['value']:.1f}**" in page for name in ratios if not name.endswith("/limit"))
    assert script.filled(page, script.render_records(), script.RECORDS) == page, "run scripts/readme_table"


def test_the_readme_table_tells_the_numbers(script):
    run = synthetic_run()
    environment = {"precision": "bf16", "torch": "2.13.0", "cores": 2, "cpu": "some processor"}
    results = summarize(run.plan, run.outcomes, run.evaluations, run.arrays, environment=environment)
    rows = {
        row.split("|")[1].strip(): row for row in script.render(results).splitlines() if row.startswith("| `")
    }
    score = results["chapters"]["mlp-64-64"]["test_accuracy"]
    low, high = score["ci95"]
    ours = f"{100 * score['mean']:.2f} % ({100 * low:.2f} to {100 * high:.2f}), n = 3"
    assert ours in rows["`mlp-64-64`"] and "Keras, inputs scaled once: 97.20 %" in rows["`mlp-64-64`"]
    assert "verdict `inputs-scaled-twice` in 1 of 1" in rows["`scaled-twice`"]
    assert "best by validation: l2 = 1e-5" in rows["`l2-sweep`"] and "1e-3" in rows["`l2-sweep`"]
    assert "BCE 0.12" in rows["`denoiser`"] and "perturbed 80.0 %" in rows["`generator`"]
    assert "is shown to help from strength" in rows["`noise`"] and "over 3 replicates" in rows["`noise`"]
    assert len(rows) == len(results["chapters"]) - 2  # all but data and findings


def test_a_table_goes_between_the_markers_and_nowhere_else(script):
    page = text("README.md")
    before, after = page.split(script.BEGIN)[0], page.split(script.END)[1]
    filled = script.filled(page, "| new |")
    assert filled.startswith(before) and filled.endswith(after) and "| new |" in filled
    assert script.filled(filled, "| new |") == filled
    with pytest.raises(ValueError, match="markers"):
        script.filled("no markers", "| new |")


@pytest.mark.parametrize(
    ("page", "model"),
    [
        ("docs/studies.md", StudySpec),
        ("docs/studies.md", TrainingExperiment),
        ("docs/studies.md", RobustnessExperiment),
        ("docs/studies.md", GenerationExperiment),
        ("docs/studies.md", Reference),
        ("docs/recipes.md", Recipe),
        ("docs/recipes.md", Augmentation),
    ],
)
def test_every_key_has_its_place(page, model):
    assert not [name for name in model.model_fields if f"`{name}" not in text(page)]


def test_every_key_of_data_has_its_place():
    assert not [name for name in DataSpec.model_fields if f"`data.{name}`" not in text("docs/studies.md")]


def test_the_example_study_is_a_study(tmp_path):
    (example,) = blocks("docs/studies.md", "toml")
    path = tmp_path / "dropout.toml"
    path.write_text(example, encoding="utf-8")
    spec, profile = read_study(str(path))
    assert profile == "quick" and spec.train_chapters()["sweep"].replicates == 2
    assert read_study(str(path), profile="full")[0].train_chapters()["sweep"].replicates == 10


def test_the_example_recipes_are_recipes():
    *alone, chapters = blocks("docs/recipes.md", "toml")
    found = [Recipe(**tomllib.loads(each)) for each in alone]
    assert [each.schedule for each in found[:2]] == ["cosine", "linear"]
    spec = parse_study({"name": "page", **tomllib.loads(chapters)}, "docs/recipes.md")
    assert spec.train_chapters()["other"].recipe.momentum == 0.9
    assert all(f"`{name}`" in text("docs/recipes.md") for name in recipe_names())


@pytest.mark.parametrize("path", sorted((ROOT / "examples").rglob("*.toml")), ids=lambda path: path.stem)
def test_example_studies_are_studies(path):
    assert read_study(str(path))[0].chapters
