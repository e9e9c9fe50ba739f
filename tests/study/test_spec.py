"""A study is data: what may be in it, and that a mistake is an error which names its key."""

import json
from pathlib import Path

import pytest
from pydantic import ValidationError
from wrong_studies import FILES, OVERRIDES

from inklab.errors import EXIT_USAGE, ConfigError
from inklab.study.load import builtin_studies, parse_override, parse_study, read_study, with_data
from inklab.study.spec import SavedStudy, SmallDataRule

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").rglob("*.toml"))
SMALL = {"name": "small", "experiments": {"net": {"network": "mlp", "recipe": "sgd"}}}


def digits(*overrides: str, profile: str | None = None):
    return read_study("digits", profile=profile, overrides=overrides).spec


def refused(*overrides: str, study: str = "digits", profile: str | None = None) -> ConfigError:
    """The error about a mistake: of one line, with the exit code of a mistake."""
    with pytest.raises(ConfigError) as caught:
        read_study(study, profile=profile, overrides=overrides)
    assert caught.value.exit_code == EXIT_USAGE
    assert "\n" not in str(caught.value)
    return caught.value


@pytest.mark.parametrize("override", OVERRIDES)
def test_a_mistake_has_a_key_and_a_suggestion(override):
    error = refused(*override.split("\0"))
    key, suggestion, words = OVERRIDES[override]
    assert (error.key, error.suggestion) == (key, suggestion), error
    assert key in str(error) and suggestion in str(error) and words in str(error), error
    jargon = ("instance of", "tuple", "dict", "Spec", "Config", "pydantic", "tagged-union")
    assert not [word for word in jargon if word in str(error)], "it does not speak of Python"


def test_all_mistakes_are_reported_at_once_and_once():
    message = str(refused("cnn.recipe.epochs=0", "robustness.images=0", "seed=-1"))
    assert all(message.count(key) == 1 for key in ("'cnn.recipe.epochs'", "'robustness.images'", "'seed'"))


def test_of_very_many_mistakes_the_first_ten_are_reported():
    message = str(refused(*(f"cnn.x{i}=0" for i in range(14))))
    assert message.count("'cnn.x") == 10 and "4 more" in message


@pytest.mark.parametrize(("text", "key"), FILES)
def test_a_wrong_study_file_is_an_error(tmp_path, text, key):
    path = tmp_path / "mine.toml"
    path.write_text(text, encoding="utf-8")
    error = refused(study=str(path))
    assert error.key == key, error
    assert str(path) in str(error) or "profile 'q'" in str(error)


@pytest.mark.parametrize("overrides", [["a.kind=data"], ["experiments.a.kind=data"], ["seed=3"]])
@pytest.mark.parametrize("text", ["experiments = 3", "experiments = [1]", "name = 3", ""])
def test_overrides_of_a_wrong_study_file_are_errors_too(tmp_path, text, overrides):
    path = tmp_path / "mine.toml"
    path.write_text(text, encoding="utf-8")
    refused(*overrides, study=str(path))


def test_what_is_no_study_is_an_error(tmp_path):
    assert refused(study="digit").suggestion == "digits"
    assert refused(study="digit.toml").suggestion == "digits"
    (tmp_path / "latin.toml").write_bytes(b"name = '\xe9'")
    assert "latin.toml" in str(refused(study=str(tmp_path / "latin.toml")))


class TestProfiles:
    def test_the_first_is_the_default(self):
        assert read_study("digits").profile == "quick"
        assert digits() == digits(profile="quick") != digits(profile="full")

    def test_plain_is_the_study_as_it_stands(self):
        assert digits(profile="plain") == digits(profile="full")

    def test_an_unknown_one_is_an_error(self):
        assert refused(profile="ful").suggestion == "full"

    def test_a_study_without_profiles_is_plain(self, tmp_path):
        path = tmp_path / "s.toml"
        path.write_text("name = 's'\n[experiments.a]\nkind = 'data'\n", encoding="utf-8")
        assert read_study(str(path)).profile == "plain"

    def test_overrides_come_after_the_profile(self):
        spec = digits("l2-sweep.replicates=40", "cnn.recipe.epochs=7", "seed=9")
        assert spec.experiments["l2-sweep"].replicates == 40
        assert spec.experiments["cnn"].recipe.epochs == 7 and spec.seed == 9
        assert spec.experiments["mlp-64-64"] == digits().experiments["mlp-64-64"]


class TestOverrides:
    @pytest.mark.parametrize(
        ("override", "parsed"),
        [
            ("a.b=40", ("a.b", 40)),
            ("a.b=1e-4", ("a.b", 1e-4)),  # which YAML would read as text
            ("a.b = [1, 2]", ("a.b", [1, 2])),
            ("a.b=true", ("a.b", True)),
            ("data.dataset=mnist-5k", ("data.dataset", "mnist-5k")),
            ("data.dataset=/some where/x.npz", ("data.dataset", "/some where/x.npz")),
            ("a.b='40'", ("a.b", "40")),
            ("a.b=x=y", ("a.b", "x=y")),
            ("a.b=", ("a.b", "")),
        ],
    )
    def test_values_are_read_as_toml_and_else_as_text(self, override, parsed):
        assert parse_override(override) == parsed

    def test_an_experiment_with_the_name_of_a_field_does_not_hide_the_field(self):
        spec = digits("data.dataset=mnist-5k", "experiments.data.title=Pictures")
        assert spec.data.dataset == "mnist-5k" and spec.experiments["data"].title == "Pictures"

    @pytest.mark.parametrize("override", ["grid.recipe.l2=[0.0, 0.5]", "grid={'recipe.l2'=[0.0, 0.5]}"])
    def test_the_values_of_a_grid_can_be_set(self, override):
        assert digits(f"l2-sweep.{override}").experiments["l2-sweep"].grid == {"recipe.l2": (0.0, 0.5)}

    def test_a_missing_table_is_added(self):
        assert digits("mlp-64-64.normalize.std=2").experiments["mlp-64-64"].normalize.std == 2


class TestRecipes:
    def test_a_base_gives_what_the_study_does_not_name(self):
        experiment = digits(profile="full").experiments["denoiser"]
        recipe = experiment.recipe
        assert (recipe.optimizer, recipe.learning_rate, recipe.batch_size) == ("adam", 1e-3, 64)
        assert recipe.corruption.strength == (0.4, 0.4) and recipe.epochs == 20
        changed = digits("denoiser.recipe.learning_rate=0.5", profile="full").experiments["denoiser"].recipe
        assert changed == recipe.model_copy(update={"learning_rate": 0.5})

    def test_a_name_is_the_whole_recipe(self):
        net = parse_study(SMALL, "small").experiments["net"]
        assert net.recipe.learning_rate == 0.1 and net.network.to_json() == {"name": "mlp"}

    def test_a_file_of_ones_own_lies_beside_the_study(self, tmp_path, monkeypatch):
        (tmp_path / "fast.toml").write_text("learning_rate = 0.7\nepochs = 2\n", encoding="utf-8")
        study = "name = 's'\n[experiments.net]\nnetwork = 'mlp'\nrecipe = {base = 'fast.toml', epochs = 3}\n"
        (tmp_path / "s.toml").write_text(study, encoding="utf-8")
        monkeypatch.chdir("/")
        recipe = read_study(str(tmp_path / "s.toml")).spec.experiments["net"].recipe
        assert (recipe.learning_rate, recipe.epochs) == (0.7, 3)


class TestMergeOrder:
    """Which of a study and the recipe file that it names has the last word."""

    FILE = (
        "learning_rate = 0.7\nnetwork = {name = 'mlp', hidden = [7], dropout = 0.5}\nnormalize = {std = 2}\n"
    )

    def merged(self, tmp_path, **experiment):
        (tmp_path / "own.toml").write_text(self.FILE, encoding="utf-8")
        raw = {"name": "s", "experiments": {"net": {"recipe": "own.toml", **experiment}}}
        return parse_study(raw, "s", tmp_path).experiments["net"]

    def test_the_file_gives_everything(self, tmp_path):
        net = self.merged(tmp_path)
        assert net.network.to_json() == {"name": "mlp", "hidden": [7], "dropout": 0.5}
        assert net.normalize.std == 2 and net.recipe.learning_rate == 0.7

    def test_arguments_of_the_study_go_over_those_of_the_file(self, tmp_path):
        net = self.merged(tmp_path, network={"hidden": [9]})
        assert net.network.to_json() == {"name": "mlp", "hidden": [9], "dropout": 0.5}

    @pytest.mark.parametrize("network", ["mlp", {"name": "mlp"}])
    def test_a_network_of_its_own_takes_neither_network_nor_normalize(self, tmp_path, network):
        net = self.merged(tmp_path, network=network)
        assert net.network.to_json() == {"name": "mlp"} and net.normalize == "none"

    def test_the_studys_normalize_goes_over_the_files(self, tmp_path):
        assert self.merged(tmp_path, normalize="dataset").normalize == "dataset"

    def test_keys_of_the_recipe_go_over_those_of_the_file(self, tmp_path):
        net = self.merged(tmp_path, recipe={"base": "own.toml", "learning_rate": 0.1})
        assert net.recipe.learning_rate == 0.1


def test_a_study_is_frozen():
    spec = digits()
    with pytest.raises(ValidationError):
        spec.seed = 3
    with pytest.raises(ValidationError):
        spec.experiments["cnn"].recipe.epochs = 3


def test_parsing_does_not_change_the_tables():
    raw = {"name": "s", "experiments": {"a": {"network": "mlp", "recipe": {"base": "sgd", "epochs": 3}}}}
    before = json.dumps(raw)
    parse_study(raw, "s")
    assert json.dumps(raw) == before


STUDIES = [*builtin_studies(), *map(str, EXAMPLES)]


@pytest.mark.parametrize("study", STUDIES, ids=lambda study: Path(study).stem)
@pytest.mark.parametrize("profile", [None, "plain"])
def test_every_study_file_is_valid_and_survives_being_saved(study, profile, tmp_path):
    # study.json is what `inklab resume` reads: the very same study must come out of it
    loaded = read_study(study, profile=profile)
    saved = SavedStudy(profile=loaded.profile, study=loaded.spec)
    saved.write(tmp_path / "study.json")
    assert SavedStudy.read(tmp_path / "study.json") == saved
    assert loaded.spec.experiments


def test_studies_were_found():
    assert "digits" in builtin_studies()


class TestSmallData:
    TEXT = """
        name = "few"
        [small_data]
        fewer_than = 1000
        epochs_factor = 5
        [experiments.based]
        network = "mlp"
        recipe = "sgd"
        [experiments.own]
        network = "mlp"
        recipe = { epochs = 3 }
        [experiments.silent]
        network = "mlp"
        [experiments.findings]
        kind = "findings"
        [profiles.quick]
        "own.recipe.epochs" = 2
    """

    @pytest.fixture
    def path(self, tmp_path):
        path = tmp_path / "few.toml"
        path.write_text(self.TEXT, encoding="utf-8")
        return path

    def epochs(self, path, n_train_images, *overrides):
        loaded = with_data(read_study(str(path), overrides=overrides), n_train_images)
        return {name: experiment.recipe.epochs for name, experiment in loaded.spec.training.items()}

    def test_few_images_multiply_the_epochs_after_the_profile(self, path):
        once = {"based": 10, "own": 2, "silent": 10}
        assert self.epochs(path, 1000) == once
        assert self.epochs(path, 999) == {name: 5 * epochs for name, epochs in once.items()}

    def test_it_is_applied_once_and_keeps_the_order(self, path):
        loaded = read_study(str(path))
        adapted = with_data(loaded, 10)
        assert adapted.small_data is None and with_data(adapted, 10) == adapted
        assert list(adapted.spec.experiments) == list(loaded.spec.experiments)
        assert adapted.spec.name == loaded.spec.name and adapted.spec != loaded.spec

    @pytest.mark.parametrize("key", ["own.recipe.epochs", "experiments.own.recipe.epochs"])
    def test_epochs_that_are_set_stay(self, path, key):
        assert self.epochs(path, 10, f"{key}=7")["own"] == 7

    def test_more_epochs_than_allowed_are_an_error(self, path):
        with pytest.raises(ConfigError):
            self.epochs(path, 10, "silent.recipe={epochs=100000}")

    def test_the_digits_train_longer_on_mnist_5k_only(self):
        loaded = read_study("digits")
        assert with_data(loaded, 60_000).spec == loaded.spec
        few, many = (with_data(loaded, n).spec.training for n in (4_000, 60_000))
        assert all(few[name].recipe.epochs == 12 * many[name].recipe.epochs for name in many)

    @pytest.mark.parametrize(
        ("line", "key", "suggestion"),
        [
            ("epochs_factor = 0", "small_data.epochs_factor", ""),
            ("epoch_factor = 2", "small_data.epoch_factor", "epochs_factor"),
            ("", "small_data.epochs_factor", ""),
            ("epochs_factor = 5\nfewer_then = 2", "small_data.fewer_then", "fewer_than"),
        ],
    )
    def test_a_wrong_table_is_an_error(self, path, line, key, suggestion):
        path.write_text(self.TEXT.replace("epochs_factor = 5", line), encoding="utf-8")
        error = refused(study=str(path))
        assert (error.key, error.suggestion) == (key, suggestion)
        assert all(field in SmallDataRule.model_fields for field in ("fewer_than", "epochs_factor"))
