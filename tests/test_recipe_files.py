"""Recipe files that bring their network: what a chapter takes of them, and what they must come with."""

import re
from pathlib import Path

import pytest

from inklab.errors import ConfigError
from inklab.networks.network import check_model
from inklab.study.load import parse_study, read_study
from inklab.training.objectives import objectives
from inklab.training.recipe import Recipe, read_recipe, recipe_names

CARDS = Path(__file__).parent.parent / "docs" / "recipes"
HEADINGS = ("## What it does", "## What was tried", "## Looks at the test images")
DRAFT = 0  # the version of what was never looked at on the test images
OWN = """
version = 3
model = { name = "mlp", hidden = [7], dropout = 0.5 }
scaling = "standard"
epochs = 4
"""
WITH_NETWORK = [name for name in recipe_names() if read_recipe(name).network]


@pytest.fixture
def chapter(tmp_path):
    """A chapter read from its table, beside a recipe file that names a network."""
    (tmp_path / "own.toml").write_text(OWN, encoding="utf-8")
    (tmp_path / "plain.toml").write_text("epochs = 5\n", encoding="utf-8")

    def read(**told):
        study = parse_study({"name": "s", "chapters": {"c": told}}, "s", tmp_path)
        return study.train_chapters()["c"]

    return read


def test_a_file_falls_into_its_parts(tmp_path):
    (tmp_path / "own.toml").write_text(OWN, encoding="utf-8")
    file = read_recipe("own.toml", tmp_path)
    assert file.fields == {"epochs": 4} and file.version == 3
    assert file.network == {"model": {"name": "mlp", "hidden": [7], "dropout": 0.5}, "scaling": "standard"}


@pytest.mark.parametrize("recipe", ["own.toml", {"base": "own.toml"}], ids=str)
def test_a_chapter_without_a_network_takes_the_recipes(chapter, recipe):
    found = chapter(recipe=recipe)
    assert found.model == {"name": "mlp", "hidden": [7], "dropout": 0.5}
    assert found.scaling == "standard" and found.recipe.epochs == 4


def test_settings_without_a_name_stand_over_the_recipes_network(chapter):
    found = chapter(recipe={"base": "own.toml", "epochs": 9}, model={"hidden": [5]}, scaling="none")
    assert found.model == {"name": "mlp", "hidden": [5], "dropout": 0.5}
    assert found.scaling == "none" and found.recipe.epochs == 9


@pytest.mark.parametrize("model", ["mlp", {"name": "mlp", "hidden": [3]}], ids=str)
def test_a_chapters_own_network_is_taken_whole(chapter, model):
    found = chapter(recipe="own.toml", model=model)
    assert found.model == ({"name": "mlp"} if model == "mlp" else model)
    assert found.scaling == "none", "scaling goes with the recipe's network"


def test_a_chapter_needs_a_network_from_somewhere(chapter):
    with pytest.raises(ConfigError, match="model"):
        chapter(recipe="plain.toml")


def test_few_images_train_longer_also_with_the_recipes_network(tmp_path):
    (tmp_path / "own.toml").write_text(OWN, encoding="utf-8")
    study = '[chapters.c]\nrecipe = { base = "own.toml" }\n[small]\nbelow = 100\nepochs_times = 3\n'
    (tmp_path / "s.toml").write_text(f'name = "s"\n{study}', encoding="utf-8")
    spec, _ = read_study(str(tmp_path / "s.toml"), train_images=50)
    assert spec.train_chapters()["c"].recipe.epochs == 12


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_that_comes_with_inklab_is_sound(name):
    file = read_recipe(name)
    recipe = Recipe.model_validate(file.fields)
    assert recipe.objective in objectives
    if file.network:
        assert check_model(file.network["model"]) is None
    assert isinstance(file.version, int) and file.version >= 0


def test_enough_recipes_bring_their_network():
    assert {"cnn-best", "cnn-fast", "denoiser-best", "mlp-best"} <= set(WITH_NETWORK)


@pytest.mark.parametrize("name", WITH_NETWORK)
def test_a_recipe_with_a_network_has_a_card_that_tells_all_looks_at_the_test_images(name):
    text = (CARDS / f"{name}.md").read_text(encoding="utf-8")
    assert text.startswith(f"# {name}\n") and all(heading in text for heading in HEADINGS)
    looks = re.findall(r"^\| \d{4}-\d\d-\d\d \| (\d+) \|", text.partition(HEADINGS[-1])[2], flags=re.M)
    version = read_recipe(name).version
    assert (version == DRAFT and "is a draft" in text) or str(version) in looks, "never measured"


@pytest.mark.parametrize("name", WITH_NETWORK)
def test_its_file_is_headed_by_what_it_achieves(name):
    from importlib import resources

    head = (resources.files("inklab.training") / "recipes" / f"{name}.toml").read_text(encoding="utf-8")
    comment = " ".join(line.lstrip("# ") for line in head.splitlines() if line.startswith("#"))
    if read_recipe(name).version == DRAFT:
        assert comment.startswith("A draft")
        return
    for told in (r"\d\d\.\d+ %|0\.0\d+", r"n = \d+", r"SD \d", r" s[ ,;(]"):
        assert re.search(told, comment), f"{name}: its head tells no {told}"
