"""The plan: what a study comes to, and what the ids of its trials and evaluations depend on and what not."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from plan_builder import EXECUTION, MNIST, NET, first_config, plan_digits, plan_experiments, plan_spec

from inklab.corruptions.corruption import corruptions
from inklab.data.sources import datasets
from inklab.errors import ConfigError
from inklab.records.components import NormalizeConfig
from inklab.records.execution import ExecutionConfig
from inklab.records.plan import SplitCounts
from inklab.study.load import builtin_studies, check_names, read_study
from inklab.study.planner import distinct_configs, run_id

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").rglob("*.toml"))


def data(**changes):
    return MNIST.model_copy(update=changes)


class TestDigits:
    """Section 6 of the design: the built-in study."""

    FULL = {
        "mlp-64-64": (5, 10), "scaled-twice": (5, 10), "mlp-500-300": (5, 40), "l2-sweep": (150, 10),
        "cnn": (3, 40), "noise-trained-cnn": (3, 40), "denoiser": (3, 20),
    }  # fmt: skip
    QUICK = {
        "mlp-64-64": (3, 5), "scaled-twice": (3, 5), "mlp-500-300": (2, 5), "l2-sweep": (15, 2),
        "cnn": (1, 1), "noise-trained-cnn": (1, 1), "denoiser": (1, 4),
    }  # fmt: skip

    @pytest.mark.parametrize(
        ("profile", "table", "images", "evaluations", "components"),
        [("full", FULL, 10_000, (12, 18), 50), ("quick", QUICK, 2_000, (4, 6), 10)],
    )
    def test_trials_epochs_and_evaluations(self, profile, table, images, evaluations, components):
        plan = plan_digits(profile=profile)
        for name, (count, epochs) in table.items():
            settings = plan.experiment(name).settings
            assert sum(len(setting.trials) for setting in settings) == len(plan.trials_of(name)) == count
            assert {plan.configs[setting.config].recipe.epochs for setting in settings} == {epochs}, name
        assert len(plan.trials) == sum(count for count, _ in table.values())
        assert {experiment.name for experiment in plan.training} == set(table)
        robustness, generation = plan.experiment("robustness"), plan.experiment("generation")
        assert (len(robustness.evaluations), len(generation.evaluations)) == evaluations
        assert (robustness.images, generation.mixture_components) == (images, components)
        assert robustness.strengths == pytest.approx([i / 20 for i in range(21)])

    def test_what_is_trained(self):
        plan = plan_digits()
        recipes = {name: first_config(plan, name).recipe for name in self.FULL}
        for name in ("cnn", "mlp-500-300"):
            assert (recipes[name].learning_rate, recipes[name].batch_size) == (0.1, 128)
        assert recipes["noise-trained-cnn"].corruption.strength == (0.0, 0.9)
        assert recipes["denoiser"].corruption.name == "salt_and_pepper"
        assert recipes["denoiser"].corruption.strength == (0.4, 0.4)
        assert (recipes["denoiser"].optimizer, recipes["denoiser"].learning_rate) == ("adam", 1e-3)
        assert recipes["l2-sweep"].l2_params == ("hidden.*.weight",)
        assert first_config(plan, "scaled-twice").normalize == NormalizeConfig(mean=0.0, std=255.0)
        values = [setting.values["l2"] for setting in plan.experiment("l2-sweep").settings]
        assert values == [1e-6, 5e-6, 1e-5, 1e-4, 1e-3]
        assert plan.denoisers == ("denoiser",) and plan.experiment("cnn").task == "classification"

    def test_a_pipeline_pairs_replicate_k_with_k(self):
        plan = plan_digits()
        for job in plan.experiment("robustness").evaluations:
            parts = [part for part in job.pipeline.parts if part != "median"]
            assert job.depends_on == tuple(plan.trials_of(part)[job.replicate] for part in parts)
        for job in plan.experiment("generation").evaluations:
            k = job.replicate
            assert job.depends_on == (plan.trials_of("denoiser")[k], plan.trials_of("cnn")[k])

    def test_ids_stay_what_they_were(self):
        # Run directories hold outcomes under these. If a change may move a number, raise NUMERICS and renew
        # them; if it may not, an id that moves throws away what users have trained.
        plan = plan_digits()
        trials = [plan.trials_of(name)[0] for name in ("mlp-64-64", "l2-sweep", "cnn", "denoiser")]
        evaluations = [plan.evaluations_of(name)[0] for name in ("robustness", "generation")]
        assert (trials, evaluations) == (GOLDEN_TRIALS, GOLDEN_EVALUATIONS)
        assert run_id("digits", "full", "f" * 64, 0) == GOLDEN_RUN


GOLDEN_TRIALS = ["f3a922926fc3", "e1daf0ea22ea", "58ca8704dedf", "681076d61909"]
GOLDEN_EVALUATIONS = ["2550f8f85dbb", "f245ffb8d112"]
GOLDEN_RUN = "8911f6e16f68"


def test_a_robustness_experiment_without_strengths_takes_those_of_its_corruption():
    robustness = {"kind": "robustness", "corruption": "contrast", "pipelines": ["net"], "baseline": "net"}
    plan = plan_experiments({"net": NET, "robustness": robustness})
    assert plan.experiment("robustness").strengths == corruptions["contrast"].strengths


@pytest.mark.parametrize(
    ("override", "counts", "reason"),
    [
        ("cnn.recipe.class_weights=[1, 2]", None, "experiment 'cnn'.*2 numbers.*10 classes"),
        ("denoiser.recipe.label_smoothing=0.1", None, "experiment 'denoiser'.*'reconstruct' does not use it"),
        ("cnn.recipe.early_stopping={}", (0,) * 10, "experiment 'cnn'.*needs validation images"),
    ],
)
def test_a_recipe_that_does_not_fit_the_data_is_refused_at_planning(override, counts, reason):
    plan_digits(override) if counts else plan_digits("cnn.recipe.early_stopping={}")
    splits = SplitCounts(train=(5500,) * 10, validation=counts or (500,) * 10, test=(1000,) * 10)
    with pytest.raises(ConfigError, match=reason):
        plan_digits(override, data=data(counts=splits))


class TestIds:
    @pytest.mark.parametrize(
        "change",
        [
            "network.hidden=[65, 64]", "network.dropout=0.1", "recipe.learning_rate=0.2", "recipe.epochs=11",
            "recipe.batch_size=64", "recipe.l2=0.1", "recipe.momentum=0.5", "recipe.schedule='cosine'",
            "recipe.warmup=0.1", "recipe.augmentation.shift=1", "recipe.early_stopping={patience=3}",
            "recipe.label_smoothing=0.1", "recipe.class_weights='balanced'",
            "recipe.corruption={name='salt_and_pepper', strength=0.1}", "normalize.mean=0.1",
            "normalize='dataset'",
        ],
    )  # fmt: skip
    def test_a_setting_changes_the_trials_of_its_experiment_and_no_others(self, change):
        before, after = plan_digits(), plan_digits(f"mlp-64-64.{change}")
        assert not set(before.trials_of("mlp-64-64")) & set(after.trials_of("mlp-64-64"))
        assert before.trials_of("cnn") == after.trials_of("cnn")
        assert before.evaluations_of("robustness") == after.evaluations_of("robustness")

    VALIDATION_OF_499 = SplitCounts(train=(5500,) * 10, validation=(499,) * 10, test=(1000,) * 10)

    @pytest.mark.parametrize(
        ("overrides", "changes", "stay"),
        [
            (["seed=1"], {}, False),
            ([], {"data": data(sha256="e" * 64)}, False),
            ([], {"data": data(counts=VALIDATION_OF_499)}, False),
            ([], {"execution": ExecutionConfig(precision="fp32")}, False),
            (["precision=fp32"], {}, False),
            ([], {}, True),
            ([], {"execution": ExecutionConfig(precision="bf16", workers=7)}, True),
            ([], {"execution": ExecutionConfig(precision="bf16", max_population=2)}, True),
            (["title=Another", "description=else", "cnn.title=A", "robustness.question=Q?"], {}, True),
            (["cnn.references=[]", "cnn.explanations=[]", "data.dataset=elsewhere"], {}, True),
            (["robustness.confusion_at=[0]"], {}, True),
            (["precision=bf16"], {}, True),
            (["name=other"], {}, True),
            (["cnn.recipe.learning_rate=0.10"], {}, True),
            ([], {"data": data(dataset="/here", note="look", mean=0.5, std=0.5)}, True),
        ],
    )
    def test_what_moves_a_number_changes_every_id_and_nothing_else_any(self, overrides, changes, stay):
        before, after = set(plan_digits().ids), set(plan_digits(*overrides, **changes).ids)
        assert before == after if stay else not before & after

    def test_normalizing_by_the_data_set_takes_its_mean_and_std_into_the_id(self):
        net = {"net": {**NET, "normalize": "dataset"}}
        plan, other = plan_experiments(net), plan_experiments(net, data=data(mean=0.14))
        assert first_config(plan, "net").normalize == NormalizeConfig(mean=0.13, std=0.31)
        assert not set(plan.ids) & set(other.ids)

    @pytest.mark.parametrize(
        ("change", "experiment"),
        [
            ("robustness.strengths=[0, 0.5]", "robustness"),
            ("robustness.images=50", "robustness"),
            ("robustness.corruption=gaussian", "robustness"),
            ("generation.samples=500", "generation"),
            ("generation.mixture_components=3", "generation"),
            ("cnn.recipe.epochs=3", "robustness"),
            ("denoiser.recipe.epochs=3", "generation"),
        ],
    )
    def test_an_evaluation_changes_with_its_settings_and_its_trials(self, change, experiment):
        before, after = plan_digits(), plan_digits(change)
        old, new = (set(plan.evaluations_of(experiment)) for plan in (before, after))
        assert old - new
        if change.startswith(experiment):
            assert not old & new
            assert set(before.trials) == set(after.trials)

    def test_a_run_is_named_by_study_profile_data_and_seed(self):
        names, others = ("digits", "quick", "f" * 64, 0), ("x", "full", "e" * 64, 1)
        ids = {run_id(*names[:i], other, *names[i + 1 :]) for i, other in enumerate(others)}
        assert len(ids | {run_id(*names)}) == 5


class TestReferences:
    def test_other_epochs_are_noted_last(self):
        references = [
            {
                "source": "them", "dataset": "mnist", "values": {"test_accuracy": 0.9},
                "notes": ["one run"], "epochs": epochs,
            }
            for epochs in (2, 5)
        ]  # fmt: skip
        plan = plan_experiments({"net": {**NET, "references": references}})
        same, other = plan.experiment("net").references
        assert same.notes == ("one run",)
        assert other.notes == ("one run", "5 epochs (here 2)")
        plan = plan_experiments({"shown": {"kind": "data", "references": references}})
        assert plan.experiment("shown").references[1].notes == ("one run",), "it trains nothing"

    @pytest.mark.parametrize(
        ("name", "sha256", "count"),
        [
            ("mnist", "f" * 64, 1), ("/my/idx", datasets["mnist"].sha256, 1),
            ("mnist-5k", "f" * 64, 0), ("fashion-mnist", datasets["fashion-mnist"].sha256, 0),
        ],
    )  # fmt: skip
    def test_only_what_was_measured_on_the_same_images_is_compared(self, name, sha256, count):
        reference = {"source": "them", "dataset": "mnist", "values": {"test_accuracy": 0.9}}
        data = MNIST.model_copy(update={"dataset": name, "sha256": sha256})
        plan = plan_experiments({"net": {**NET, "references": [reference]}}, data=data)
        assert len(plan.experiment("net").references) == count


class TestUserCode:
    @pytest.fixture(autouse=True)
    def _files(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        Path("my_net.py").write_text("Net = 1\n", encoding="utf-8")
        Path("my_noise.py").write_text("speckle = 1\n", encoding="utf-8")
        Path("my_filters.py").write_text("blur = 1\n", encoding="utf-8")

    def plan(self):
        corruption = {"name": "my_noise.py:speckle", "strength": 0.1}
        robustness = {
            "kind": "robustness",
            "corruption": "my_noise.py:speckle",
            "strengths": [0, 0.1],
            "pipelines": ["plain"],
            "baseline": "plain",
        }
        filtered = {
            **robustness, "corruption": "gaussian_noise", "pipelines": ["my_filters.py:blur+plain"],
            "baseline": "my_filters.py:blur+plain",
        }  # fmt: skip
        return plan_experiments(
            {
                "filtered": filtered,
                "plain": NET,
                "own": {**NET, "network": "my_net.py:Net"},
                "noisy": {**NET, "recipe": {"base": "sgd", "corruption": corruption}},
                "robustness": robustness,
            }
        )

    @pytest.mark.parametrize(
        ("file", "moved"),
        [("my_net.py", ["own"]), ("my_noise.py", ["noisy", "robustness"]), ("my_filters.py", ["filtered"])],
    )
    def test_a_changed_file_changes_what_was_computed_with_it(self, file, moved):
        def ids(plan):
            names = {name: plan.trials_of(name) for name in ("plain", "own", "noisy")}
            evaluations = {name: plan.evaluations_of(name) for name in ("robustness", "filtered")}
            return {**names, **evaluations}

        before = ids(self.plan())
        os.utime(file)
        assert ids(self.plan()) == before, "touching a file is not a change"
        Path(file).write_text("Net = speckle = blur = 2\n", encoding="utf-8")
        after = ids(self.plan())
        assert [name for name in before if before[name] != after[name]] == moved
        Path(file).write_text("raise SystemExit('it was run')\n", encoding="utf-8")
        plan = self.plan()
        assert len(plan.trials) == 6
        Path(file).unlink()  # else `inklab status` would only work where the run was begun
        assert plan.traits(plan.trials_of("own")[0]).parameters == 1_000
        with pytest.raises(ConfigError, match=file):
            self.plan()

    def test_users_networks_are_fp32_unless_requested(self):
        assert first_config(self.plan(), "own").precision == "fp32"
        requested = plan_experiments({"own": {**NET, "network": "my_net.py:Net"}}, precision="bf16")
        assert first_config(requested, "own").precision == "bf16"


class TestExtending:
    def test_more_replicates_and_values_add_exactly_those(self):
        before, after = plan_digits(), plan_digits("l2-sweep.replicates=40")
        assert set(before.trials) < set(after.trials)
        settings = (plan.experiment("l2-sweep").settings for plan in (before, after))
        for old, new in zip(*settings, strict=True):
            assert new.trials[:30] == old.trials and len(new.trials) == 40
        assert len(after.trials) - len(before.trials) == 50
        after = plan_digits("l2-sweep.grid.recipe.l2=[1e-6, 5e-6, 1e-5, 1e-4, 1e-3, 1e-2]")
        assert set(before.trials) < set(after.trials)
        assert len(after.trials) - len(before.trials) == 30

    def test_experiments_that_train_the_same_share_it_in_any_order(self):
        whole, real = (plan_digits(f"cnn.recipe.learning_rate={text}") for text in ("1", "1.0"))
        assert whole.ids == real.ids, "numbers that are equal have equal ids"
        swept = {**NET, "grid": {"recipe.l2": [0.0, 0.1]}}
        experiments = {"a": NET, "b": {**NET, "title": "again", "replicates": 3}, "c": swept}
        plan = plan_experiments(experiments)
        assert plan.trials_of("b")[:2] == plan.trials_of("a") == plan.experiment("c").settings[0].trials
        assert (
            sum(len(group.trials) for group in plan.groups) == 5 == len(plan.trials)
            and len(plan.configs) == 2
        )
        assert set(plan_experiments(dict(reversed(experiments.items()))).ids) == set(plan.ids)

    def test_several_keys_make_a_grid(self):
        grid = {"network.hidden": [[8], [16]], "recipe.learning_rate": [0.1, 0.2, 0.3]}
        plan = plan_experiments({"net": {**NET, "grid": grid}})
        assert plan.experiment("net").grid == ("hidden", "learning_rate")
        values = [setting.values for setting in plan.experiment("net").settings]
        assert values == [{"hidden": [h], "learning_rate": r} for h in (8, 16) for r in (0.1, 0.2, 0.3)]
        for setting in plan.experiment("net").settings:
            config = plan.configs[setting.config]
            assert config.network.kwargs["hidden"] == setting.values["hidden"]
            assert config.recipe.learning_rate == setting.values["learning_rate"]
        plan = plan_experiments({"net": {**NET, "grid": {"normalize": ["none", "dataset"]}}})
        means = [plan.configs[setting.config].normalize.mean for setting in plan.experiment("net").settings]
        assert means == [0.0, 0.13], "whole tables can be varied"


def test_a_network_is_checked_once():
    spec = read_study("digits", profile="full").spec
    networks = [config.network.name for config in distinct_configs(spec, MNIST, EXECUTION).values()]
    assert sorted(networks) == ["autoencoder", "cnn", "mlp", "mlp"], "mlp 64-64 and 500-300"


@pytest.mark.parametrize(
    "study", [*builtin_studies(), *map(str, EXAMPLES)], ids=lambda study: Path(study).stem
)
def test_every_study_file_can_be_planned(study, monkeypatch):
    monkeypatch.chdir(Path(study).resolve().parent if study.endswith(".toml") else Path.cwd())
    for profile in (None, "plain"):
        loaded = read_study(study, profile=profile)
        plan = plan_spec(loaded.spec, loaded.profile)
        check_names(loaded.spec)
        assert plan.trials and set(plan.trials) <= set(plan.ids)
        assert type(plan).parse_json(plan.model_dump_json().encode(), "plan.json") == plan


def test_planning_imports_no_torch():
    probe = (
        "import sys; sys.path.insert(0, 'tests/support')\n"
        "from plan_builder import plan_digits\n"
        "print(len(plan_digits(profile='quick').trials), 'torch' in sys.modules)"
    )
    root = Path(__file__).parents[2]
    output = subprocess.check_output([sys.executable, "-c", probe], text=True, cwd=root)
    assert output.split() == ["26", "False"]
