"""Records: what is written reads back, what is wrong is named, and what they know of themselves."""

import copy
import json
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from synthetic_run import ENVIRONMENT, replace, synthetic_run

from inklab.errors import ConfigError, CorruptFileError, UnknownNameError
from inklab.records.components import NetworkConfig, NormalizeConfig, Pipeline, Preprocessing
from inklab.records.estimates import Difference, Estimate
from inklab.records.manifest import ModelManifest
from inklab.records.outcomes import (
    GenerationOutcome,
    History,
    RobustnessOutcome,
    TrialOutcome,
    TrialState,
    count_states,
    failed_evaluation,
    read_evaluation_outcome,
)
from inklab.records.plan import Plan
from inklab.records.recipe import CorruptionConfig, Recipe
from inklab.records.results import Results, results_schema
from inklab.records.status import ElapsedTime, LiveStatus, Progress

DONE = TrialState.DONE
SWEEP = ("l2-sweep-0", "l2-sweep-1", "l2-sweep-2")


def two_keys():
    """A run whose sweep varies the width, too."""
    run = synthetic_run(replicates=1)
    settings = [
        replace(setting, values={**setting.values, "hidden": [64]})
        for setting in run.plan.experiment("l2-sweep").settings
    ]
    run.change_experiment("l2-sweep", grid=("l2", "hidden"), settings=settings)
    return run


RUN = two_keys()
TRIAL = RUN.outcomes["cnn-0-0"]
RATES = RUN.evaluations["robustness-cnn-0"]


@pytest.fixture
def plan():
    return Plan.parse(RUN.plan.to_json())


def trial_outcome(**more):
    return TrialOutcome.parse({**TRIAL.to_json(), **more})


def estimate(*values, images=None):
    n = len(values)
    mean, spread = (sum(values) / n if n else None), n > 1
    return Estimate(
        mean=mean, sd=0.1 if spread else None, n=n, ci95=(mean - 0.1, mean + 0.1) if spread else None,
        values=values, ci95_images=images,
    )  # fmt: skip


def examples():
    job = {"job": "t", "label": "cnn", "trials": ["cnn-0"], "epoch": [1], "train_loss": [None]}
    live = {"process": 1, "host": "h", "started_at": 1.0, "running": [job]}
    manifest = {"network": {"name": "mlp"}, "shape": [1, 8, 8], "labels": ["a"], "task": "denoising"}
    manifest |= {"normalize": {"std": 255.0}, "preprocessing": {"height": 8, "width": 8, "fit_to": 8}}
    return [
        RUN.plan, RUN.results, trial_outcome(environment=ENVIRONMENT.to_json()), RATES,
        RUN.evaluations["generation-binary"], LiveStatus.parse(live), ElapsedTime(seconds=3),
        ModelManifest.parse({**manifest, "weights_sha256": "0" * 64, "metrics": {"test_bce": 1}}),
        Progress(state="stopped", done=1, total=2),
    ]  # fmt: skip


@pytest.mark.parametrize("record", examples(), ids=lambda record: type(record).__name__)
def test_a_record_reads_back_and_travels(record, tmp_path):
    record.write(tmp_path / "a.json")
    assert type(record).read(tmp_path / "a.json") == record
    assert pickle.loads(pickle.dumps(record)) == record
    assert copy.deepcopy(record) == record
    with pytest.raises(ValidationError):
        record.format = 3


NUMBERS = st.floats(min_value=-1e9, max_value=1e9)


@given(st.lists(NUMBERS, max_size=5))
def test_any_estimate_reads_back(values):
    record = estimate(*values)
    assert Estimate.parse_json(json.dumps(record.to_json()).encode(), "it") == record


@given(
    st.dictionaries(
        st.sampled_from(["l2", "hidden"]),
        st.lists(st.one_of(st.none(), NUMBERS, st.sampled_from(["", "relu", "\u00e9\n"]))),
    )
)
def test_any_network_reads_back(kwargs):
    record = NetworkConfig.of("mlp", **kwargs)
    assert record.kwargs == kwargs
    assert NetworkConfig.parse_json(json.dumps(record.to_json()).encode(), "it") == record


def damaged(value, *keys, to):
    table = copied = json.loads(json.dumps(value))
    for key in keys[:-1]:
        table = table[key]
    table[keys[-1]] = to
    return json.dumps(copied).encode()


@pytest.mark.parametrize(
    ("keys", "to", "message"),
    [
        (("data", "mean"), float("nan"), "'data.mean' is nan"),
        (("data", "counts", "train"), [1], "different numbers of classes"),
        (("data", "shape"), [1, 28, 5000], "'data.shape.2' is 5000"),
        (("data", "shape"), [1, 14, 14], "preprocessing makes (1, 28, 28)"),
        (("surprise",), 1, "'surprise' is not a known key"),
        (("execution", "precision"), "fp8", "'execution.precision' is 'fp8'"),
        (("experiments", 1, "settings", 0, "trials"), ["cnn-0-0"], "not its replicates"),
        (("experiments", 6, "baseline"), "a++b", "'a++b' is not a pipeline"),
        (("experiments", 6, "evaluations", 0, "images"), 2, "is an evaluation of something else"),
        (("experiments", 6, "evaluations", 0, "depends_on"), ["x"], "'robustness-cnn-0' depends on a trial"),
        (("experiments", 6, "evaluations", 0, "id"), "cnn-0-0", "'cnn-0-0' is a trial and an evaluation"),
        (("experiments", 7, "evaluations", 0, "sampler"), "x", "is an evaluation of something else"),
        (("configs",), {}, "configs has no "),
        (("groups",), [], "is only in one of trials and groups"),
    ],
)
def test_a_damaged_plan_is_refused_in_one_line(keys, to, message):
    with pytest.raises(CorruptFileError) as refused:
        Plan.parse_json(damaged(RUN.plan.to_json(), *keys, to=to), "'plan.json'")
    assert message in str(refused.value) and "\n" not in str(refused.value)
    assert str(refused.value).startswith("'plan.json' is damaged: ")
    assert str(refused.value).endswith("finished work is kept")


def test_what_is_no_json_is_refused(tmp_path):
    path = tmp_path / "timer.json"
    too_long = b" " * (ElapsedTime.max_bytes + 1)
    for raw in (b"", b"{", b"\xff", b"[1]", b'{"seconds": 1e999}', b'{"seconds": NaN}', too_long):
        path.write_bytes(raw)
        with pytest.raises(CorruptFileError):
            ElapsedTime.read(path)
    with pytest.raises(FileNotFoundError):
        ElapsedTime.read(tmp_path / "none.json")


def test_json_values_are_finite_anywhere():
    with pytest.raises(CorruptFileError):
        NetworkConfig.parse_json(b'{"name": "mlp", "rates": [[1e999]]}', "it")
    with pytest.raises(ConfigError):
        NetworkConfig.of("mlp", rate=float("nan"))
    with pytest.raises(ConfigError):
        NetworkConfig.of("mlp", rate=object())


def test_a_recipe_knows_how_it_is_evaluated():
    noisy = Recipe.parse(
        {"corruption": {"name": "salt_and_pepper", "strength": [0, 0.9]}, "eval_strength": 0.4}
    )
    assert noisy.eval_corruption == CorruptionConfig(name="salt_and_pepper", strength=(0.4, 0.4))
    assert Recipe().eval_corruption is None
    trial = replace(TRIAL.config, network=NetworkConfig.of("a.py:Net"))
    assert trial.user_code == ("a.py:Net",) and trial.network.is_user_code


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ({"learning_rate": 0}, "'learning_rate' is 0"),
        ({"rate": 0.1}, "'rate' is not a known key"),
        ({"eval_strength": 0.4}, "there is no corruption"),
        ({"corruption": {"name": "a", "strength": [0.9, 0.1]}}, "the lower first"),
        ({"corruption": {"name": "a", "strength": "x"}}, "'corruption.strength' is 'x'"),
    ],
)
def test_a_wrong_recipe_is_refused(recipe, message):
    with pytest.raises(ConfigError) as refused:
        Recipe.parse(recipe, "recipe")
    assert message in str(refused.value)


def test_a_network_is_a_name_or_a_table():
    assert NetworkConfig.parse("mlp") == NetworkConfig.parse({"name": "mlp"})
    assert NetworkConfig.of("mlp", a=1).with_kwargs({"a": 2, "b": 3}).kwargs == {"a": 2, "b": 3}
    with pytest.raises(ConfigError, match="name"):
        NetworkConfig.parse({"hidden": [1]})


def test_preprocessing_is_consistent_and_normalization_divides_by_something():
    assert Preprocessing.resize_only((3, 8, 6)).shape == (3, 8, 6)
    assert Preprocessing.resize_only((3, 8, 6)).is_resize_only and not Preprocessing().is_resize_only
    for wrong in ({"channels": 3}, {"fit_to": 29}, {"center": "mas"}, {"height": 0}, {"channels": 2}):
        with pytest.raises(ConfigError):
            Preprocessing.parse(wrong)
    with pytest.raises(ConfigError, match="std"):
        NormalizeConfig.parse({"std": 0})


def test_a_pipeline_is_text_with_parts():
    pipeline = Pipeline("median+denoiser+cnn")
    assert (pipeline.denoisers, pipeline.classifier) == (("median", "denoiser"), "cnn")
    assert json.dumps({pipeline: pipeline}) == '{"median+denoiser+cnn": "median+denoiser+cnn"}'
    assert pickle.loads(pickle.dumps(pipeline)).parts == pipeline.parts
    for wrong in ("", "+", "a+", "a +b"):
        with pytest.raises(ConfigError):
            Pipeline(wrong)


def test_a_plan_answers_about_itself(plan):
    assert plan.denoisers == ("denoiser",)
    assert plan.trials_of("l2-sweep") == tuple(f"{key}-{k}" for key in SWEEP for k in range(6))
    assert plan.evaluations_of("robustness")[:2] == ("robustness-cnn-0", "robustness-denoiser-cnn-0")
    assert plan.trials_of("data") == plan.evaluations_of("cnn") == ()
    assert plan.config("l2-sweep-2-1") is plan.configs["l2-sweep-2"]
    assert plan.setting_of("l2-sweep-2-1").setting.label == "l2 = 1e-3, hidden = 64"
    assert plan.evaluations["robustness-denoiser-cnn-0"].pipeline.denoisers == ("denoiser",)
    assert len(plan.ids) == 24 + 7 == len(set(plan.ids))
    assert (plan.data.train, plan.data.test, plan.data.n_classes) == (55_000, 10_000, 4)


def test_cached_values_are_no_part_of_a_plan(plan):
    other = Plan.parse(RUN.plan.to_json())
    assert plan.evaluations and plan == other and len(pickle.dumps(plan)) == len(pickle.dumps(other))
    assert plan.model_copy(update={"experiments": plan.experiments[:1]}).evaluations == {}


@pytest.mark.parametrize(
    "name",
    ["l2-sweep:l2=1e-5,hidden=[64]", "l2-sweep:l2=0.00001,hidden=64", "l2-sweep: hidden = [64],l2=1e-05"],
)
def test_a_setting_is_found_however_it_is_written(plan, name):
    assert plan.find_setting(name).setting.config == "l2-sweep-1"
    for experiment in plan.training:
        for point, own_name in zip(experiment.settings, experiment.setting_names, strict=True):
            assert plan.find_setting(own_name).setting == point


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("cnm", UnknownNameError, "Did you mean 'cnn'?"),
        ("cnn:l2=1", UnknownNameError, "cnn"),
        ("l2-sweep", ConfigError, "l2-sweep:l2=1e-5,hidden=[64]"),
        ("l2-sweep:l2=7", UnknownNameError, "l2-sweep:l2=1e-3"),
        ("robustness", ConfigError, "trains nothing"),
    ],
)
def test_a_setting_that_is_not_there_is_named(plan, name, error, message):
    with pytest.raises(error) as refused:
        plan.find_setting(name)
    assert type(refused.value) is error and message in str(refused.value)


def test_an_outcome_is_that_of_its_trial(tmp_path):
    path = tmp_path / "outcome.json"
    trial_outcome().write(path)
    assert TrialOutcome.read_planned(path, "cnn-0-0").is_done
    with pytest.raises(CorruptFileError, match="cnn-0-0"):
        TrialOutcome.read_planned(path, "cnn-0-1")


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"metrics": None}, "it is done, but has no metrics"),
        ({"state": "diverged"}, "it is diverged, but has metrics"),
        ({"state": "failed", "metrics": {}}, "it is failed, but has metrics"),
        ({"metrics": {"test_accuracy": 97.0}}, "'test_accuracy' is 97"),
        ({"state": "waiting"}, "'state' is 'waiting'"),
        ({"history": {"epoch": [1, 2], "train_loss": [0.1]}}, "'train_loss' has 1 values"),
        ({"weights_sha256": "x"}, "'weights_sha256' is 'x'"),
    ],
)
def test_an_impossible_outcome_is_refused(more, message):
    with pytest.raises(ConfigError) as refused:
        trial_outcome(**more)
    assert message in str(refused.value)


def test_states_are_counted_in_their_order():
    lost = trial_outcome(state="lost", reason="its worker ended", metrics=None)
    assert (lost.state, lost.metrics, lost.history) == (TrialState.LOST, None, History())
    assert not lost.state.is_final and TrialState.DIVERGED.is_final
    assert list(count_states([None, TrialState.LOST, DONE])) == ["done", "lost", "waiting"]


def test_an_evaluation_is_the_planned_one(plan, tmp_path):
    path, planned = tmp_path / "outcome.json", plan.evaluations["robustness-cnn-0"]
    RATES.write(path)
    assert read_evaluation_outcome(path, planned, 4) == RATES
    other, sampled = plan.evaluations["robustness-denoiser-cnn-0"], plan.evaluations["generation-binary"]
    for evaluation, n_classes, named in (
        (planned, 10, "10"),
        (other, 4, other.id),
        (sampled, 4, "generation"),
    ):
        with pytest.raises(CorruptFileError, match=named):
            read_evaluation_outcome(path, evaluation, n_classes)
    with pytest.raises(ConfigError):
        RobustnessOutcome.parse({**RATES.to_json(), "recall": [1.0]})
    with pytest.raises(ConfigError, match="confident_share"):
        GenerationOutcome.parse({"evaluation": sampled.to_json(), "state": "done"})
    for planned in plan.evaluations.values():
        outcome = failed_evaluation(planned, "no memory")
        assert (outcome.id, outcome.kind, outcome.reason) == (planned.id, planned.kind, "no memory")


def test_estimates_are_worded_as_agreed():
    five = Estimate(
        mean=0.9714, sd=0.001, n=5, ci95=(0.9696, 0.9731), values=(0.97, 0.971, 0.972, 0.972, 0.972)
    )
    assert five.format("test_accuracy") == "97.14% (95% CI 96.96 to 97.31, n = 5)"
    equal = Estimate(mean=0.1, sd=0.0, n=3, ci95=(0.1, 0.1), values=(0.1, 0.1, 0.1))
    assert equal.format("test_loss") == "0.1000 (n = 3, all equal)"
    assert equal.interval is None and equal.has_zero_width
    single = estimate(0.993, images=(0.991, 0.9944))
    assert single.basis == "images"
    assert single.format("test_accuracy") == "99.30% (n = 1; 95% CI over images 99.10 to 99.44)"
    assert estimate(0.25).format("test_bce") == "0.2500 (n = 1)"


def test_differences_are_worded_as_agreed():
    plain = {"mean": 0.0031, "sd": 0.002, "n": 5, "ci95": (0.001, 0.0052), "p": 0.004, "mde": 0.004}
    assert Difference(**plain).format("recall") == "+0.31 points (95% CI +0.10 to +0.52, p = 0.004, n = 5)"
    adjusted = Difference(**plain, p_holm=0.02, lower=0.0004, upper=0.0058)
    assert adjusted.significant and adjusted.interval == (0.0004, 0.0058)
    assert adjusted.format("recall") == (
        "+0.31 points (Holm-adjusted 95% CI +0.04 to +0.58, adjusted p = 0.02, n = 5)"
    )
    unclear = Difference(**plain | {"ci95": (-0.001, 0.007), "p": 0.2})
    assert not unclear.significant
    assert unclear.format("recall").endswith("n = 5); minimum detectable effect 0.40 points (80% power)")
    single = Difference(mean=0.01, sd=None, n=1, ci95=None, p=None, mde=None)
    assert single.format("recall") == "+1.00 points (n = 1, no interval)"
    same = Difference(mean=0.0, sd=0.0, n=3, ci95=(0.0, 0.0), p=1.0, mde=None)
    assert same.format("recall") == "0.00 points (n = 3, all equal)"


@pytest.mark.parametrize(
    "wrong",
    [
        {"mean": 1.0, "sd": None, "n": 0, "ci95": None, "values": []},
        {"mean": 1.0, "sd": None, "n": 2, "ci95": None, "values": [1.0, 1.0]},
        {"mean": 1.0, "sd": None, "n": 1, "ci95": None, "values": []},
        {"mean": 1.0, "sd": None, "n": 1, "ci95": [0.1, 1.2], "values": [1.0]},
        {"mean": 1.0, "sd": 0.0, "n": 1, "ci95": None, "values": [1.0]},
        {"mean": None, "sd": 0.1, "n": 2, "ci95": [0.9, 1.1], "values": [0.9, 1.1]},
        {"mean": 1.0, "sd": 0.1, "n": 2, "ci95": None, "values": [0.9, 1.1]},
        {"mean": 1.0, "sd": 0.1, "n": 3, "ci95": [0.9, 1.1], "values": [0.9, 1.1]},
    ],
)
def test_an_estimate_agrees_with_itself(wrong):
    with pytest.raises(ConfigError):
        Estimate.parse(wrong)


def test_every_field_of_the_schema_is_described():
    schema = results_schema()
    for record in [schema, *schema["$defs"].values()]:
        for name, field in record.get("properties", {}).items():
            assert field.get("description"), (record["title"], name)


def test_results_answer_about_themselves():
    record = RUN.results
    sweep, robust = record.training["l2-sweep"], record.experiment("robustness")
    assert sweep.best.label == "l2 = 1e-5, hidden = 64" and sweep.best_first[0] is sweep.best
    assert sweep.setting({"l2": 1e-3, "hidden": [64]}) == sweep.settings[2]
    assert robust.denoising.best.strength == 0.5
    assert robust.denoising.cost_when_clean == robust.denoising.differences[0].difference
    with pytest.raises(UnknownNameError) as caught:
        record.experiment("robustnes")
    assert caught.value.suggestion == "robustness"
    with pytest.raises(UnknownNameError):
        sweep.setting({"l2": 7})


@pytest.mark.parametrize(
    ("keys", "to", "message"),
    [
        (("data", "train"), 7, "counts.train"),
        (("data", "test"), 1, "counts.test"),
        (("experiments", "l2-sweep", "best_setting"), {"l2": 7}, "best_setting is not one of"),
        (("experiments", "l2-sweep", "grid"), [], "grid is []"),
        (("experiments", "robustness", "baseline"), "mlp", "the baseline 'mlp'"),
        (("experiments", "robustness", "strengths"), [0.0], "for each of 1 strengths"),
        (("experiments", "robustness", "denoised_pipeline"), "cnn", "'cnn' is not compared"),
        (("experiments", "robustness", "comparisons", 0, "better_at"), [0.25], "significant_from"),
        (("experiments", "robustness", "comparisons", 0, "significant_from"), 0.5, "significant_from"),
    ],
)
def test_results_that_disagree_are_refused(keys, to, message):
    with pytest.raises(CorruptFileError) as refused:
        Results.parse_json(damaged(RUN.results.to_json(), *keys, to=to), "it")
    assert message in str(refused.value)


@pytest.mark.parametrize(
    ("fields", "message", "suggestion"),
    [
        (
            {"epohcs": 2},
            "Recipe: 'epohcs' is unknown. Did you mean 'epochs'? Allowed here: objective, ",
            "epochs",
        ),
        ({"optimizer": "Adam"}, "Recipe: 'optimizer' is 'Adam': should be 'sgd', 'adam', ", "adam"),
        ({"momentum": 3, "l2": -1}, "Recipe: 'momentum' is 3: should be less than 1; 'l2' is -1: ", ""),
    ],
    ids=str,
)
def test_mistakes_in_arguments_are_one_line(fields, message, suggestion):
    with pytest.raises(ConfigError) as caught:
        Recipe(**fields)
    assert str(caught.value).startswith(message) and caught.value.suggestion == suggestion


def test_a_records_parts_are_validated_together_with_it():
    with pytest.raises(ConfigError, match=r"'epochs' is 0.*; 'early_stopping\.patience' is 0"):
        Recipe(early_stopping={"patience": 0}, epochs=0)
