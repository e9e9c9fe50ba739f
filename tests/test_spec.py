"""A study is data: what may stand in it, and how each mistake is told in one line."""

import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from inklab.errors import EXIT_USAGE, ConfigError
from inklab.study.load import builtin_studies, parse_override, parse_study, read_study

EXAMPLES = sorted((Path(__file__).parent.parent / "examples").rglob("*.toml"))
SMALL = {"name": "small", "chapters": {"net": {"model": "mlp", "recipe": "sgd"}}}


def digits(*sets: str, profile: str | None = None):
    return read_study("digits", profile=profile, sets=sets)[0]


def refused(*sets: str, study: str = "digits", profile: str | None = None) -> str:
    """What is said about a mistake: one line, and the exit code of a mistake."""
    with pytest.raises(ConfigError) as caught:
        read_study(study, profile=profile, sets=sets)
    assert caught.value.exit_code == EXIT_USAGE
    assert "\n" not in str(caught.value)
    return str(caught.value)


MISTAKES = {
    # change: (place and what was given, what is allowed or the nearest right name)
    "cnn.recipe.epoch=3": ("'cnn.recipe.epoch' is unknown", "Did you mean 'epochs'? Allowed here: obj"),
    "cnn.replicate=3": ("'cnn.replicate' is unknown", "Did you mean 'replicates'?"),
    "cnn.scaling.spred=2": ("'cnn.scaling.spred' is unknown", "'spread'? Allowed here: mean, spread"),
    "noise.stength=[0]": ("'noise.stength' is unknown", "Did you mean 'strengths'?"),
    "findings.replicates=3": ("'findings.replicates' is unknown", "Allowed here: title"),
    "data.sorce='x'": ("'data.sorce' is unknown", "Did you mean 'source'? Allowed here: source, validation"),
    "noise-trained-cnn.recipe.corruption.nam='x'": ("recipe.corruption.nam' is unknown", "'name'?"),
    "cnn.references=[{who='x',values={a=1},wo=3}]": ("'cnn.references.0.wo' is unknown", "'who'?"),
    "cnn.recipe.epochs=0": ("'cnn.recipe.epochs' is 0", "greater than or equal to 1"),
    "cnn.recipe.epochs='three'": ("'cnn.recipe.epochs' is 'three'", "valid integer"),
    "cnn.recipe.epochs=1.5": ("'cnn.recipe.epochs' is 1.5", "valid integer"),
    "cnn.recipe.rate=-1": ("'cnn.recipe.rate' is -1", "greater than 0"),
    "cnn.recipe.rate=nan": ("'cnn.recipe.rate' is nan", "finite"),
    "cnn.recipe.l2=inf": ("'cnn.recipe.l2' is inf", "finite"),
    "cnn.recipe.momentum=1": ("'cnn.recipe.momentum' is 1", "less than 1"),
    "cnn.recipe.optimiser='sdg'": ("'cnn.recipe.optimiser' is 'sdg'", "'muon'. Did you mean 'sgd'?"),
    "cnn.recipe.optimiser='moun'": ("'cnn.recipe.optimiser' is 'moun'", "Did you mean 'muon'?"),
    "cnn.recipe.schedule='liner'": ("'cnn.recipe.schedule' is 'liner'", "Did you mean 'linear'?"),
    "cnn.recipe.warmup=1": ("'cnn.recipe.warmup' is 1", "less than 1"),
    "cnn.recipe.warmpu=0.1": ("'cnn.recipe.warmpu' is unknown", "Did you mean 'warmup'?"),
    "cnn.recipe.augmentation.shft=2": (
        "'cnn.recipe.augmentation.shft' is unknown", "'shift'? Allowed here: shift, rotation, scale, elastic",
    ),
    "cnn.recipe.augmentation.shift=1.5": ("'cnn.recipe.augmentation.shift' is 1.5", "valid integer"),
    "cnn.recipe.augmentation.shift=-1": ("augmentation.shift' is -1", "greater than or equal to 0"),
    "cnn.recipe.augmentation.rotation=360": ("augmentation.rotation' is 360", "less than or equal to 180"),
    "cnn.recipe.augmentation.scale=1": ("augmentation.scale' is 1", "less than 1"),
    "cnn.recipe.augmentation.elastic=nan": ("augmentation.elastic' is nan", "finite"),
    "cnn.recipe.augmentation=3": ("'cnn.recipe.augmentation' is 3", "must be a table"),
    "cnn.recipe.augmentaton={shift=2}": ("recipe.augmentaton' is unknown", "Did you mean 'augmentation'?"),
    "cnn.recipe.scored_at=0.4": ("'cnn.recipe'", "but there is no corruption"),
    "noise-trained-cnn.recipe.scored_at=-1": ("recipe.scored_at' is -1", "greater than or equal to 0"),
    "cnn.scaling='standrad'": ("'cnn.scaling' is 'standrad'", "Did you mean 'standard'?"),
    "precision='fp16'": ("'precision' is 'fp16'", "'auto', 'fp32' or 'bf16'"),
    "cnn.scaling.spread=0": ("'cnn.scaling.spread' is 0", "greater than 0"),
    "cnn.recipe='sdg'": ("'cnn.recipe': no recipe is called 'sdg'", "Did you mean 'sgd'? Known: "),
    "cnn.recipe.base='sdg'": ("'cnn.recipe': no recipe is called 'sdg'", "Did you mean 'sgd'?"),
    "cnn.recipe.base='my.toml'": ("'cnn.recipe': there is no recipe file 'my.toml'", "built-in recipes: "),
    "cnn.model=3": ("'cnn.model' is 3", "must be a table"),
    "cnn.model={}": ("'cnn.model' is {}", "a model needs a name"),
    "cnn.answers='relu'": ("'cnn.answers' is 'relu'", "must be a list"),
    "noise.kind='nois'": ("'noise' has the kind 'nois'", "Did you mean 'noise'? Known: data, train"),
    "noise.strengths=[0.5,0.1]": ("'noise.strengths' is [0.5, 0.1]", "must rise"),
    "noise.strengths=[]": ("'noise.strengths' is []", "must rise"),
    "noise.strengths=[-1]": ("'noise.strengths.0' is -1", "greater than or equal to 0"),
    "noise.strengths=[nan]": ("'noise.strengths.0' is nan", "finite"),
    "noise.images=0": ("'noise.images' is 0", "greater than or equal to 1"),
    "noise.pipelines=[]": ("'noise.pipelines' is []", "at least one entry"),
    "generator.samples=10": ("'generator.samples' is 10", "greater than or equal to 100"),
    "noise-trained-cnn.recipe.corruption.strength=[0.9,0.1]": (".strength' is [0.9, 0.1]", "lower first"),
    "denoiser.recipe.corruption.strenght=1": ("corruption.strenght' is unknown", "Did you mean 'strength'?"),
    "l2-sweep.vary=3": ("'l2-sweep.vary' is 3", "must be a table"),
    "l2-sweep.vary.recipe.l2=3": ("'l2-sweep.vary.recipe.l2' is 3", "must be a list"),
    "l2-sweep.vary={'recipe.l2'=[]}": ("'l2-sweep.vary.recipe.l2' is []", "at least one entry"),
    "l2-sweep.vary={'recipe.l2'=[0.1,0.1]}": ("'l2-sweep.vary' is", "'recipe.l2' has the same value twice"),
    "l2-sweep.vary={'model.name'=[1],'recipe.name'=[1]}": ("'l2-sweep.vary' is", "two keys end in 'name'"),
    "seed=-1": ("'seed' is -1", "greater than or equal to 0"),
    "name='A b'": ("'name' is 'A b'", "should match pattern"),
    "data=3": ("'data' is 3", "must be a table"),
    "chapters=3": ("'chapters' is 3", "must be a table"),
    "cn.replicates=1": ("--set cn.replicates=1: no chapter or field is called 'cn'", "Did you mean 'cnn'?"),
    "seeed=3": ("no chapter or field is called 'seeed'", "Did you mean 'seed'?"),
    "cnn=3": ("--set cnn=3: 'cnn' is a chapter", "such as cnn.title"),
    "cnn.recipe.epochs.x=3": ("'epochs' is a single value", "nothing can be set below it"),
    "cnn.replicates": ("--set 'cnn.replicates' is not key=value", "for example --set cnn.recipe.epochs=3"),
    "=3": ("--set '=3' is not key=value", "write for example"),
}  # fmt: skip


@pytest.mark.parametrize("change", MISTAKES)
def test_a_mistake_is_told_with_place_what_was_given_and_what_is_right(change):
    told = refused(change)
    for part in MISTAKES[change]:
        assert part in told, told


def test_all_mistakes_are_told_at_once_and_each_once():
    told = refused("cnn.recipe.epochs=0", "noise.images=0", "seed=-1")
    assert told.count("; ") == 2
    assert all(told.count(place) == 1 for place in ("'cnn.recipe.epochs'", "'noise.images'", "'seed'"))


def test_a_mistake_does_not_speak_of_python():
    for change in MISTAKES:
        told = refused(change)
        assert not [word for word in ("instance of", "tuple", "dict", "Spec", "pydantic") if word in told], (
            told
        )


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "'name' is missing"),
        ("name = 'x'", "'chapters' is missing"),
        ("name = 'x'\nchapters = []", "'chapters' is []"),
        ("name = 'x'\n[chapters]", "'chapters' is {}"),
        ("name = 'x'\n[chapters.a]", "'a.model' is missing"),
        ("name = 'x'\n[chapters.'A b']\nkind = 'data'", "'A b' is 'A b'"),
        ("name = 'x'\n[chapters.a]\nkind = 1979-05-27", "'a' has the kind '1979-05-27'"),
        ("profiles = 3", "profiles must be tables, such as [profiles.quick]"),
        ("[profiles]\nquick = 3", "profiles must be tables, such as [profiles.quick]"),
        (
            "name = 'x'\n[chapters.a]\nkind = 'data'\n[profiles.q]\n'b.c' = 1",
            "profile 'q': no chapter or field",
        ),
        ("name = ", "is not TOML"),
        ("[a]\n[a]", "is not TOML"),
    ],
)
def test_a_wrong_study_file_is_told(tmp_path, text, says):
    path = tmp_path / "mine.toml"
    path.write_text(text, encoding="utf-8")
    assert says in refused(study=str(path))
    assert str(path) in refused(study=str(path)) or "profile 'q'" in says


@pytest.mark.parametrize("sets", [["a.kind=data"], ["chapters.a.kind=data"], ["seed=3"]])
@pytest.mark.parametrize("text", ["chapters = 3", "chapters = [1]", "name = 3", ""])
def test_changes_to_a_wrong_study_file_are_told_too(tmp_path, text, sets):
    path = tmp_path / "mine.toml"
    path.write_text(text, encoding="utf-8")
    refused(*sets, study=str(path))


def test_what_is_no_study_is_told(tmp_path):
    assert "no study is called 'digit'. Did you mean 'digits'?" in refused(study="digit")
    assert "there is no study file 'digit.toml'; built-in studies: digits" in refused(study="digit.toml")
    (tmp_path / "latin.toml").write_bytes(b"name = '\xe9'")
    assert "is not TOML" in refused(study=str(tmp_path / "latin.toml"))


class TestProfiles:
    def test_the_first_is_the_default(self):
        assert read_study("digits")[1] == "quick"
        assert digits() == digits(profile="quick") != digits(profile="full")

    def test_plain_is_the_study_as_it_stands(self):
        assert digits(profile="plain") == digits(profile="full")

    def test_an_unknown_one_is_told(self):
        assert "no profile is called 'ful'. Did you mean 'full'?" in refused(profile="ful")

    def test_a_study_without_profiles_is_plain(self, tmp_path):
        path = tmp_path / "s.toml"
        path.write_text("name = 's'\n[chapters.a]\nkind = 'data'\n", encoding="utf-8")
        assert read_study(str(path))[1] == "plain"

    def test_changes_come_after_the_profile(self):
        spec = digits("l2-sweep.replicates=40", "cnn.recipe.epochs=7", "seed=9")
        assert spec.chapters["l2-sweep"].replicates == 40
        assert spec.chapters["cnn"].recipe.epochs == 7 and spec.seed == 9
        assert spec.chapters["mlp-64-64"] == digits().chapters["mlp-64-64"]


class TestSet:
    @pytest.mark.parametrize(
        ("typed", "read"),
        [
            ("a.b=40", ("a.b", 40)),
            ("a.b=1e-4", ("a.b", 1e-4)),  # which YAML would read as text
            ("a.b = [1, 2]", ("a.b", [1, 2])),
            ("a.b=true", ("a.b", True)),
            ("data.source=mnist-5k", ("data.source", "mnist-5k")),
            ("data.source=/some where/x.npz", ("data.source", "/some where/x.npz")),
            ("a.b='40'", ("a.b", "40")),
            ("a.b=x=y", ("a.b", "x=y")),
            ("a.b=", ("a.b", "")),
        ],
    )
    def test_values_are_read_as_toml_and_else_as_text(self, typed, read):
        assert parse_override(typed) == read

    def test_a_chapter_called_like_a_field_does_not_hide_the_field(self):
        spec = digits("data.source=mnist-5k", "chapters.data.title=Pictures")
        assert spec.data.source == "mnist-5k" and spec.chapters["data"].title == "Pictures"

    def test_the_values_of_a_grid_can_be_set(self):
        for change in ("l2-sweep.vary.recipe.l2=[0.0, 0.5]", "l2-sweep.vary={'recipe.l2'=[0.0, 0.5]}"):
            assert digits(change).chapters["l2-sweep"].vary == {"recipe.l2": (0.0, 0.5)}

    def test_what_is_set_below_something_missing_is_made(self):
        assert digits("mlp-64-64.scaling.spread=2").chapters["mlp-64-64"].scaling.spread == 2


class TestRecipes:
    def test_a_base_gives_what_is_not_said(self):
        chapter = digits(profile="full").chapters["denoiser"]
        assert (chapter.recipe.optimiser, chapter.recipe.rate, chapter.recipe.batch) == ("adam", 1e-3, 64)
        assert chapter.recipe.corruption.strength == (0.4, 0.4) and chapter.recipe.epochs == 20
        changed = digits("denoiser.recipe.rate=0.5", profile="full").chapters["denoiser"].recipe
        assert changed == chapter.recipe.model_copy(update={"rate": 0.5})

    def test_a_name_is_the_whole_recipe(self):
        spec = parse_study(SMALL, "small")
        assert spec.chapters["net"].recipe.rate == 0.1 and spec.chapters["net"].model == {"name": "mlp"}

    def test_a_file_of_ones_own_lies_beside_the_study(self, tmp_path, monkeypatch):
        (tmp_path / "fast.toml").write_text("rate = 0.7\nepochs = 2\n", encoding="utf-8")
        study = "name = 's'\n[chapters.net]\nmodel = 'mlp'\nrecipe = { base = 'fast.toml', epochs = 3 }\n"
        (tmp_path / "s.toml").write_text(study, encoding="utf-8")
        monkeypatch.chdir("/")
        recipe = read_study(str(tmp_path / "s.toml"))[0].chapters["net"].recipe
        assert (recipe.rate, recipe.epochs) == (0.7, 3)


def test_a_study_is_frozen():
    spec = digits()
    with pytest.raises(ValidationError):
        spec.seed = 3
    with pytest.raises(ValidationError):
        spec.chapters["cnn"].recipe.epochs = 3


def test_reading_leaves_what_was_read_alone():
    raw = {"name": "s", "chapters": {"a": {"model": "mlp", "recipe": {"base": "sgd", "epochs": 3}}}}
    before = json.dumps(raw)
    parse_study(raw, "s")
    assert json.dumps(raw) == before


STUDIES = [*builtin_studies(), *map(str, EXAMPLES)]


@pytest.mark.parametrize("study", STUDIES, ids=lambda study: Path(study).stem)
@pytest.mark.parametrize("profile", [None, "plain"])
def test_every_study_file_is_valid_and_survives_being_stored(study, profile):
    # spec.json is what `inklab resume` reads: the very same study must come out of it
    spec, _ = read_study(study, profile=profile)
    stored = json.loads(json.dumps(spec.model_dump(mode="json"), allow_nan=False))
    assert parse_study(stored, study) == spec
    assert spec.chapters


def test_studies_were_found():
    assert "digits" in builtin_studies()


# ---------------------------------------------------------------- few images


FEW_IMAGES = """
name = "few"
[small]
below = 1000
epochs_times = 5
[chapters.based]
model = "mlp"
recipe = "sgd"
[chapters.own]
model = "mlp"
recipe = { epochs = 3 }
[chapters.silent]
model = "mlp"
[profiles.quick]
"own.recipe.epochs" = 2
"""


def epochs_of(path, **told):
    spec, _ = read_study(str(path), **told)
    return {name: chapter.recipe.epochs for name, chapter in spec.train_chapters().items()}


@pytest.fixture
def few(tmp_path):
    path = tmp_path / "few.toml"
    path.write_text(FEW_IMAGES, encoding="utf-8")
    return path


def test_few_images_multiply_the_epochs_after_the_profile(few):
    once = {"based": 10, "own": 2, "silent": 10}
    assert epochs_of(few) == epochs_of(few, train_images=1000) == once
    assert epochs_of(few, train_images=999) == {name: 5 * epochs for name, epochs in once.items()}


def test_what_is_set_stands_also_with_few_images(few):
    assert epochs_of(few, train_images=10, sets=["own.recipe.epochs=7"])["own"] == 7


def test_the_digits_train_longer_on_mnist_5k_only():
    assert read_study("digits", train_images=60_000) == read_study("digits")
    few, many = (read_study("digits", train_images=n)[0].train_chapters() for n in (4_000, 60_000))
    assert all(few[name].recipe.epochs == 12 * many[name].recipe.epochs for name in many)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("epochs_times = 0", "epochs_times"),
        ("epoch_times = 2", "Did you mean 'epochs_times'"),
    ],
)
def test_a_wrong_table_for_few_images_is_told(few, line, message):
    few.write_text(FEW_IMAGES.replace("epochs_times = 5", line), encoding="utf-8")
    with pytest.raises(ConfigError, match=message):
        read_study(str(few))
