"""A study is data: what may be in it, and that a mistake is an error which names its key."""

import json
from pathlib import Path

import pytest
from pydantic import ValidationError
from wrong_studies import FILES, OVERRIDES

from inklab.errors import EXIT_USAGE, ConfigError
from inklab.study.load import builtin_studies, parse_override, parse_study, read_study
from inklab.study.spec import SavedStudy, StudySpec

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
    message = str(refused(*(f"cnn.x{i}=0" for i in range(14))))
    assert message.count("'cnn.x") == 10 and "4 more" in message, "of very many, the first ten"


@pytest.mark.parametrize(("text", "key"), FILES)
def test_a_wrong_study_file_is_an_error(tmp_path, text, key):
    path = tmp_path / "mine.toml"
    path.write_text(text, encoding="utf-8")
    error = refused(study=str(path))
    assert error.key == key, error
    assert str(path) in str(error) or "profile 'q'" in str(error)


@pytest.mark.parametrize("text", ["experiments = 3", "experiments = [1]", "name = 3", ""])
def test_overrides_of_a_wrong_study_file_are_errors_too(tmp_path, text):
    path = tmp_path / "mine.toml"
    path.write_text(text, encoding="utf-8")
    for override in ("a.kind=data", "experiments.a.kind=data", "seed=3"):
        refused(override, study=str(path))


def test_what_is_no_study_is_an_error(tmp_path):
    assert refused(study="digit").suggestion == "digits"
    assert refused(study="digit.toml").suggestion == "digits"
    assert refused(profile="ful").suggestion == "full"
    (tmp_path / "latin.toml").write_bytes(b"name = '\xe9'")
    assert "latin.toml" in str(refused(study=str(tmp_path / "latin.toml")))


class TestProfiles:
    def test_the_first_is_the_default_and_plain_is_the_study_as_it_stands(self, tmp_path):
        assert read_study("digits").profile == "quick"
        assert digits() == digits(profile="quick") != digits(profile="full")
        assert digits(profile="plain") == digits(profile="full")
        path = tmp_path / "s.toml"
        path.write_text("name = 's'\n[experiments.a]\nkind = 'data'\n", encoding="utf-8")
        assert read_study(str(path)).profile == "plain", "it has no profiles"

    def test_overrides_come_after_the_profile(self):
        spec = digits("l2-sweep.replicates=40", "cnn.recipe.epochs=7", "seed=9")
        assert spec.experiments["l2-sweep"].replicates == 40
        assert spec.experiments["cnn"].recipe.epochs == 7 and spec.seed == 9
        assert spec.experiments["mlp-64-64"] == digits().experiments["mlp-64-64"]
        assert digits("mlp-64-64.normalize.std=2").experiments["mlp-64-64"].normalize.std == 2


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


class TestRecipes:
    def test_a_base_gives_what_the_study_does_not_name(self):
        recipe = digits(profile="full").experiments["denoiser"].recipe
        assert (recipe.optimizer, recipe.learning_rate, recipe.batch_size) == ("adam", 1e-3, 64)
        assert recipe.corruption.strength == (0.4, 0.4) and recipe.epochs == 20
        changed = digits("denoiser.recipe.learning_rate=0.5", profile="full").experiments["denoiser"].recipe
        assert changed == recipe.model_copy(update={"learning_rate": 0.5})
        before = json.dumps(SMALL)
        net = parse_study(SMALL, "small").experiments["net"]
        assert net.recipe.learning_rate == 0.1 and net.network.to_json() == {"name": "mlp"}
        assert json.dumps(SMALL) == before, "parsing does not change the tables"

    def test_a_file_of_ones_own_lies_beside_the_study(self, tmp_path, monkeypatch):
        (tmp_path / "fast.toml").write_text("learning_rate = 0.7\nepochs = 2\n", encoding="utf-8")
        study = "name = 's'\n[experiments.net]\nnetwork = 'mlp'\nrecipe = {base = 'fast.toml', epochs = 3}\n"
        (tmp_path / "s.toml").write_text(study, encoding="utf-8")
        monkeypatch.chdir("/")
        recipe = read_study(str(tmp_path / "s.toml")).spec.experiments["net"].recipe
        assert (recipe.learning_rate, recipe.epochs) == (0.7, 3)


class TestOptimizers:
    """Each has its own learning rate, unless the user gives one."""

    OVER_SGD = {"network": "mlp", "recipe": {"base": "sgd", "epochs": 2}}

    @staticmethod
    def points(experiment, *, epochs=None):
        """Optimizer, learning rate and weight decay at each point of the grid."""
        net = parse_study({"name": "s", "experiments": {"net": experiment}}, "s").experiments["net"]
        net = net.with_epochs(epochs) if epochs else net
        saved = SavedStudy(profile="plain", study=StudySpec(name="s", experiments={"net": net}))
        read = SavedStudy.model_validate_json(json.dumps(saved.to_json()), strict=True)
        assert read == saved, "as a run saves it"
        recipes = [[point.recipe for _, point in spec.points()] for spec in (net, read.study.training["net"])]
        assert recipes[0] == recipes[1], "a run that is resumed trains what was begun"
        return [(recipe.optimizer, recipe.learning_rate, recipe.weight_decay) for recipe in recipes[0]]

    @pytest.mark.parametrize("epochs", [None, 7])
    def test_in_a_grid_each_has_its_own_rate_and_decay(self, epochs):
        grid = {"recipe.optimizer": ["sgd", "adam", "adamw", "muon"]}
        expected = [("sgd", 0.1, 0.0), ("adam", 1e-3, 0.0), ("adamw", 1e-3, 0.01), ("muon", 0.05, 0.0)]
        for experiment in ({"network": "mlp"}, self.OVER_SGD):
            assert self.points({**experiment, "grid": grid}, epochs=epochs) == expected

    def test_a_rate_that_the_user_names_holds_for_all(self):
        grid = {"recipe.optimizer": ["sgd", "adam"]}
        for rate in (0.1, 0.02):
            own = {"network": "mlp", "recipe": {"base": "sgd", "learning_rate": rate}, "grid": grid}
            assert self.points(own) == [("sgd", rate, 0.0), ("adam", rate, 0.0)]
        both = {**grid, "recipe.learning_rate": [0.3]}
        assert self.points({**self.OVER_SGD, "grid": both}) == [("sgd", 0.3, 0.0), ("adam", 0.3, 0.0)]

    def test_over_a_base_another_optimizer_brings_its_own_rate(self):
        recipe = {"base": "sgd", "optimizer": "adam"}
        assert self.points({"network": "mlp", "recipe": recipe}) == [("adam", 1e-3, 0.0)]
        changed = digits("mlp-64-64.recipe.optimizer=adamw").experiments["mlp-64-64"].recipe
        assert (changed.learning_rate, changed.weight_decay) == (1e-3, 0.01)

    def test_a_wrong_optimizer_is_one_mistake(self):
        with pytest.raises(ConfigError) as caught:
            digits("cnn.recipe.optimizer=sdg")
        assert "default" not in str(caught.value) and str(caught.value).count(";") == 0

    def test_the_default_rise_of_one_cycle_is_not_kept_by_another_schedule(self):
        grid = {"recipe.schedule": ["one-cycle", "linear"]}
        study = parse_study({"name": "s", "experiments": {"net": {"network": "mlp", "grid": grid}}}, "s")
        warmups = [point.recipe.warmup for _, point in study.experiments["net"].points()]
        assert warmups == [0.3, 0.0]


FILE = "learning_rate = 0.7\nnetwork = {name = 'mlp', hidden = [7], dropout = 0.5}\nnormalize = {std = 2}\n"
OWN = {"name": "mlp", "hidden": [7], "dropout": 0.5}


@pytest.mark.parametrize(
    ("experiment", "network", "std", "learning_rate"),
    [
        ({}, OWN, 2, 0.7),
        ({"network": {"hidden": [9]}}, {**OWN, "hidden": [9]}, 2, 0.7),
        ({"network": "mlp"}, {"name": "mlp"}, None, 0.7),  # with its own network go the file's arguments
        ({"network": {"name": "mlp"}}, {"name": "mlp"}, None, 0.7),
        ({"normalize": {"std": 3}}, OWN, 3, 0.7),
        ({"recipe": {"base": "own.toml", "learning_rate": 0.1}}, OWN, 2, 0.1),
    ],
)
def test_the_study_has_the_last_word_over_a_recipe_file(tmp_path, experiment, network, std, learning_rate):
    (tmp_path / "own.toml").write_text(FILE, encoding="utf-8")
    raw = {"name": "s", "experiments": {"net": {"recipe": "own.toml", **experiment}}}
    net = parse_study(raw, "s", tmp_path).experiments["net"]
    assert net.network.to_json() == network and net.recipe.learning_rate == learning_rate
    assert net.normalize == "none" if std is None else net.normalize.std == std


def test_a_study_is_frozen():
    spec = digits()
    with pytest.raises(ValidationError):
        spec.seed = 3
    with pytest.raises(ValidationError):
        spec.experiments["cnn"].recipe.epochs = 3


STUDIES = [*builtin_studies(), *map(str, EXAMPLES)]


@pytest.mark.parametrize("study", STUDIES, ids=lambda study: Path(study).stem)
@pytest.mark.parametrize("profile", [None, "plain"])
def test_every_study_file_is_valid_and_survives_being_saved(study, profile, tmp_path):
    # study.json is what `inklab resume` reads: the very same study must come out of it
    loaded = read_study(study, profile=profile)
    saved = SavedStudy(profile=loaded.profile, study=loaded.spec)
    saved.write(tmp_path / "study.json")
    assert SavedStudy.read(tmp_path / "study.json") == saved
    assert loaded.spec.experiments and "digits" in STUDIES


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
        loaded = read_study(str(path), overrides=overrides).for_images(n_train_images)
        return {name: experiment.recipe.epochs for name, experiment in loaded.spec.training.items()}

    def test_few_images_multiply_the_epochs_after_the_profile(self, path):
        once = {"based": 10, "own": 2, "silent": 10}
        assert self.epochs(path, 1000) == once
        assert self.epochs(path, 999) == {name: 5 * epochs for name, epochs in once.items()}
        for key in ("own.recipe.epochs", "experiments.own.recipe.epochs"):
            assert self.epochs(path, 10, f"{key}=7")["own"] == 7, "epochs that are set stay"
        with pytest.raises(ConfigError):
            self.epochs(path, 10, "silent.recipe={epochs=100000}")

    def test_it_is_applied_once_and_keeps_the_order(self, path):
        loaded = read_study(str(path))
        adapted = loaded.for_images(10)
        assert adapted.small_data is None and adapted.for_images(10) == adapted
        assert list(adapted.spec.experiments) == list(loaded.spec.experiments)
        assert adapted.spec.name == loaded.spec.name and adapted.spec != loaded.spec

    def test_the_digits_train_longer_on_mnist_5k_only(self):
        loaded = read_study("digits")
        assert loaded.for_images(60_000).spec == loaded.spec
        few, many = (loaded.for_images(n).spec.training for n in (4_000, 60_000))
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
