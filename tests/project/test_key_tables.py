"""What pages say of keys is true: tables of keys are complete, and their TOML can be read."""

import re
import tomllib
from pathlib import Path

import pytest

from inklab.records.recipe import Augmentation, Recipe
from inklab.study.load import parse_study, read_study
from inklab.study.spec import (
    DataSpec,
    GenerationExperiment,
    ReferenceSpec,
    RobustnessExperiment,
    StudySpec,
    TrainingExperiment,
)
from inklab.training.recipe_files import recipe_names

ROOT = Path(__file__).resolve().parents[2]


def text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def blocks(name: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text(name), re.M | re.S)


def test_every_key_is_on_its_page():
    studies, recipes = text("docs/studies.md"), text("docs/recipes.md")
    for model in (StudySpec, TrainingExperiment, RobustnessExperiment, GenerationExperiment, ReferenceSpec):
        assert not [name for name in model.model_fields if f"`{name}" not in studies], model
    assert not [name for name in DataSpec.model_fields if f"`data.{name}`" not in studies]
    for model in (Recipe, Augmentation):
        assert not [name for name in model.model_fields if f"`{name}" not in recipes], model


def test_the_example_study_is_a_study(tmp_path):
    (example,) = blocks("docs/studies.md", "toml")
    path = tmp_path / "dropout.toml"
    path.write_text(example, encoding="utf-8")
    loaded = read_study(str(path))
    assert loaded.profile == "quick" and loaded.spec.training["sweep"].replicates == 2
    assert read_study(str(path), profile="full").spec.training["sweep"].replicates == 10


def test_the_example_recipes_are_recipes():
    *tables, experiments = blocks("docs/recipes.md", "toml")
    recipes = [Recipe.parse(tomllib.loads(table)) for table in tables]
    assert [recipe.schedule for recipe in recipes[:2]] == ["cosine", "linear"]
    spec = parse_study({"name": "page", **tomllib.loads(experiments)}, "docs/recipes.md")
    assert spec.training["other"].recipe.momentum == 0.9
    assert all(f"`{name}`" in text("docs/recipes.md") for name in recipe_names())


@pytest.mark.parametrize("path", sorted((ROOT / "examples").rglob("*.toml")), ids=lambda path: path.stem)
def test_example_studies_are_studies(path):
    assert read_study(str(path)).spec.experiments
