"""Recipes and recipe files: what is in range, what a file holds, and what the built-in ones come with."""

import re
from importlib import resources
from pathlib import Path

import pytest

from inklab.errors import ConfigError, UnknownNameError
from inklab.networks.network import check_network
from inklab.records.components import NetworkConfig, NormalizeConfig
from inklab.records.recipe import ADDED_FIELDS, CorruptionConfig, Recipe, TrialConfig
from inklab.training.objectives import objectives
from inklab.training.recipe_files import RecipeFile, read_recipe_file, recipe_names

CARDS = Path(__file__).parents[2] / "docs" / "recipes"
HEADINGS = ("## What it does", "## What was tried", "## Uses of the test set")
DRAFT = 0  # the version of what was never evaluated on the test set
WITH_NETWORK = [name for name in recipe_names() if read_recipe_file(name).network]
CORRUPTION = {"name": "salt_and_pepper", "strength": [0.1, 0.7]}


@pytest.fixture
def recipe_file(tmp_path):
    """Reads a recipe file with some text."""

    def read(text: str) -> RecipeFile:
        (tmp_path / "own.toml").write_text(text, encoding="utf-8")
        return read_recipe_file("own.toml", tmp_path)

    return read


class TestRecipe:
    @pytest.mark.parametrize(
        "strength", [[0.5, 0.2], [-0.1, 0.2], -1, [0.1], [0.1, 0.2, 0.3], "much", [None, 1], [[1], 2], True]
    )
    def test_strengths_that_are_no_range_are_refused(self, strength):
        with pytest.raises(ConfigError):
            CorruptionConfig(name="gaussian", strength=strength)

    @pytest.mark.parametrize(
        "fields",
        [
            {"learning_rate": 0}, {"learning_rate": float("nan")}, {"momentum": 1.0}, {"l2": -1e-9},
            {"epochs": 0}, {"batch_size": 0}, {"epoch": 3}, {"warmup": 1.0}, {"warmup": -0.1},
            {"schedule": "stairs"}, {"clip_norm": 0}, {"ema_decay": 1.0}, {"ema_decay": -0.1},
            {"step_factor": 0}, {"step_factor": 1.1}, {"schedule": "step", "step_epochs": 0},
            {"optimizer": "lion"}, {"augmentation": {"shift": -1}}, {"augmentation": {"shift": 1.5}},
            {"augmentation": {"rotation": 181}},
            {"augmentation": {"scale": 1.0}}, {"augmentation": {"elastic": float("inf")}},
            {"augmentation": {"flip": True}}, {"eval_strength": 0.4},
            {"eval_strength": -0.1, "corruption": CORRUPTION},
        ],
        ids=str,
    )  # fmt: skip
    def test_fields_out_of_range_are_refused(self, fields):
        with pytest.raises(ConfigError):
            Recipe.parse(fields)

    @pytest.mark.parametrize(
        ("fields", "reason"),
        [
            ({"nesterov": True}, "momentum is 0"),
            ({"nesterov": True, "momentum": 0.9, "optimizer": "adam"}, "the optimizer is adam"),
            ({"weight_decay": 0.1}, "the optimizer is sgd; .* l2 = 0.05"),
            ({"weight_decay": 0.1, "optimizer": "adam"}, "the optimizer is adam; .* l2 = 0.05"),
            ({"schedule": "step"}, "needs step_epochs"),
            ({"step_epochs": 3}, "the schedule is constant"),
            ({"step_factor": 0.5, "schedule": "cosine"}, "the schedule is cosine"),
        ],
        ids=str,
    )
    def test_fields_that_do_not_go_together_are_refused_in_one_line(self, fields, reason):
        with pytest.raises(ConfigError, match=reason) as caught:
            Recipe.parse(fields)
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize(
        ("optimizer", "learning_rate", "weight_decay"),
        [("sgd", 0.1, 0), ("adam", 1e-3, 0), ("adamw", 1e-3, 0.01), ("muon", 0.05, 0)],
    )
    def test_defaults_depend_on_the_optimizer(self, optimizer, learning_rate, weight_decay):
        recipe = Recipe(optimizer=optimizer)
        assert (recipe.learning_rate, recipe.weight_decay) == (learning_rate, weight_decay)
        assert Recipe(optimizer=optimizer, learning_rate=0.3).learning_rate == 0.3

    def test_fields_that_were_added_later_do_not_move_the_identity_of_what_does_not_use_them(self):
        """Outcomes are found by it; to lose them is to train again."""
        config = TrialConfig(
            network=NetworkConfig.of("mlp"), normalize=NormalizeConfig(), recipe=Recipe(momentum=0.9),
            precision="fp32",
        )  # fmt: skip
        assert set(config.identity["recipe"]) == set(Recipe.model_fields) - set(ADDED_FIELDS)
        for changes in (
            {"nesterov": True}, {"clip_norm": 1.0}, {"ema_decay": 0.0}, {"optimizer": "adamw"},
            {"schedule": "step", "step_epochs": 2, "step_factor": 0.5},
        ):  # fmt: skip
            changed = config.model_copy(update={"recipe": Recipe(momentum=0.9, **changes)})
            assert changes.items() <= changed.identity["recipe"].items()


class TestOptimizerOverABase:
    """A rate that was made for one optimizer is seldom right for another."""

    @pytest.mark.parametrize(
        ("changes", "expected"),
        [
            ({}, ("muon", 0.05, 0.9)),
            ({"optimizer": "muon"}, ("muon", 0.05, 0.9)),
            ({"optimizer": "adam"}, ("adam", 1e-3, 0.0)),
            ({"optimizer": "adamw", "learning_rate": 0.1}, ("adamw", 0.1, 0.0)),
            ({"optimizer": "sgd", "momentum": 0.5}, ("sgd", 0.1, 0.5)),
        ],
        ids=str,
    )
    def test_settings_of_the_files_optimizer_go_with_it(self, changes, expected):
        recipe = Recipe.parse(read_recipe_file("mlp-best").merged(changes))
        assert (recipe.optimizer, recipe.learning_rate, recipe.momentum) == expected

    def test_a_rate_of_the_files_own_stays_with_its_optimizer(self, recipe_file):
        file = recipe_file("learning_rate = 0.7\nepochs = 3\n")
        assert file.merged({"momentum": 0.9}) == {"learning_rate": 0.7, "epochs": 3, "momentum": 0.9}
        assert file.merged({"optimizer": "adam"}) == {"epochs": 3, "optimizer": "adam"}


class TestReading:
    def test_a_file_without_a_network(self, recipe_file):
        file = recipe_file("epochs = 3\naugmentation = { shift = 1 }\n")
        assert file.recipe == Recipe(epochs=3, augmentation={"shift": 1})
        assert file.fields == {"epochs": 3, "augmentation": {"shift": 1}}, "only what the file names"
        assert (file.network, file.normalize, file.version) == (None, None, 1)

    def test_a_file_with_a_network(self, recipe_file):
        network = 'network = { name = "mlp", hidden = [7] }'
        file = recipe_file(f'version = 3\n{network}\nnormalize = "dataset"\nepochs = 4\n')
        assert file.network == NetworkConfig.of("mlp", hidden=[7]) and file.normalize == "dataset"
        assert file.fields == {"epochs": 4} and file.version == 3
        file = recipe_file('network = "cnn"\nnormalize = { mean = 0.1, std = 0.3 }\n')
        assert file.network == NetworkConfig(name="cnn")
        assert file.normalize == NormalizeConfig(mean=0.1, std=0.3)

    @pytest.mark.parametrize(
        ("key", "suggestion"), [("epoch", "epochs"), ("optimiser", "optimizer"), ("networks", "network")]
    )
    def test_an_unknown_key_is_refused_with_the_nearest_valid_one(self, key, suggestion, recipe_file):
        with pytest.raises(UnknownNameError) as caught:
            recipe_file(f"{key} = 3\n")
        assert (caught.value.key, caught.value.suggestion) == (key, suggestion)

    @pytest.mark.parametrize(
        "text",
        [
            "epochs = ", "epochs = 0", "version = -1", 'normalize = "twice"', "network = { hidden = [3] }",
            "network = 3", "eval_strength = 0.4",
        ],
    )  # fmt: skip
    def test_a_wrong_value_is_refused(self, text, recipe_file):
        with pytest.raises(ConfigError):
            recipe_file(f"{text}\n")

    @pytest.mark.parametrize(
        ("name", "error", "fact"),
        [("gone.toml", ConfigError, ("gone.toml", "")), ("sdg", UnknownNameError, ("sdg", "sgd"))],
    )
    def test_a_missing_recipe_is_refused(self, name, error, fact, tmp_path):
        with pytest.raises(error) as caught:
            read_recipe_file(name, tmp_path)
        assert (caught.value.key, caught.value.suggestion) == fact


class TestBuiltIn:
    @pytest.mark.parametrize("name", recipe_names())
    def test_every_recipe_is_valid(self, name):
        file = read_recipe_file(name)
        assert file.recipe.objective in objectives and Recipe.parse(file.fields) == file.recipe
        assert file.network is None or check_network(file.network) is None

    def test_there_are_recipes_with_and_without_a_network(self):
        assert set(WITH_NETWORK) == {
            "cnn-best",
            "cnn-fast",
            "cnn-robust",
            "denoiser-best",
            "generator-best",
            "mlp-best",
        }
        assert {"sgd", "denoise"} <= set(recipe_names()) - set(WITH_NETWORK)

    @pytest.mark.parametrize("name", WITH_NETWORK)
    def test_a_recipe_with_a_network_has_a_card_with_all_evaluations_on_the_test_set(self, name):
        text = (CARDS / f"{name}.md").read_text(encoding="utf-8")
        assert text.startswith(f"# {name}\n") and all(heading in text for heading in HEADINGS)
        versions = re.findall(r"^\| \d{4}-\d\d-\d\d \| (\d+) \|", text.partition(HEADINGS[-1])[2], flags=re.M)
        version = read_recipe_file(name).version
        assert (version == DRAFT and "is a draft" in text) or str(version) in versions, "never measured"

    @pytest.mark.parametrize("name", WITH_NETWORK)
    def test_its_file_begins_with_what_it_achieves(self, name):
        text = (resources.files("inklab.training") / "recipes" / f"{name}.toml").read_text(encoding="utf-8")
        comment = " ".join(line.lstrip("# ") for line in text.splitlines() if line.startswith("#"))
        if read_recipe_file(name).version == DRAFT:
            assert comment.startswith("A draft")
            return
        for fact in (r"\d\d\.\d+%|0\.\d+%|0\.0\d+", r"n = \d+", r"SD \d", r" s[ ,;(]"):
            assert re.search(fact, comment), f"{name}: its head has no {fact}"
