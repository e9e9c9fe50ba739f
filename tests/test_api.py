"""`import inklab`: names load lazily; Python, commands and TOML give the same trials and numbers."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import toy_run
from hypothesis import given
from hypothesis import strategies as st
from inline_executor import InlineExecutor
from plan_builder import plan_spec
from source_tree import run_python

import inklab
from inklab.api import SingleTraining, override_texts, prepare_resume, prepare_run, prepare_training
from inklab.errors import ConfigError, DataError, RunError
from inklab.study.jobs import Started
from inklab.study.load import builtin_studies, parse_override, read_study
from inklab.study.resources import ExecutionOptions

FAST = {"workers": 1, "threads": 1, "compile": "no", "precision": "fp32"}
RECIPE = {"epochs": 2, "batch_size": 32}


@pytest.fixture
def runs_dir(tmp_path, monkeypatch):
    """An empty runs directory."""
    monkeypatch.setenv("INKLAB_RUNS_DIR", str(tmp_path / "runs"))
    return tmp_path / "runs"


def numbers(run):
    """What a run measured, by trial: metrics and learning curves."""
    return {id: (outcome.metrics, outcome.history) for id, outcome in run.outcomes.items()}


class TestNames:
    def test_importing_loads_next_to_nothing(self):
        heavy = "torch numpy pydantic typing_extensions scipy pandas".split()
        code = f"import sys, inklab; print([name for name in {heavy} if name in sys.modules])"
        assert run_python(code) == "[]"

    def test_every_name_is_there_and_stays(self):
        """A submodule that is imported later must not take a function's place."""
        code = (
            "import inklab, inklab.runs, inklab.sklearn, inklab.serve.server, inklab.cli.main\n"
            "values = {name: getattr(inklab, name) for name in inklab.__all__}\n"
            "print(callable(inklab.run), callable(inklab.load), callable(inklab.train),\n"
            "      set(inklab.__all__) <= set(dir(inklab)),\n"
            "      [name for name in values if values[name] is not getattr(inklab, name)])"
        )
        assert run_python(code) == "True True True True []"

    def test_public_objects_are_documented(self):
        undocumented = [name for name in inklab.__all__ if not getattr(inklab, name).__doc__]
        assert undocumented == []

    def test_an_unknown_name(self):
        with pytest.raises(AttributeError, match="nothing_like_it"):
            _ = inklab.nothing_like_it


class TestStudy:
    @pytest.mark.parametrize("name", builtin_studies())
    def test_written_and_read_it_is_the_same(self, name, tmp_path):
        study = inklab.Study.from_toml(name)
        study.to_toml(tmp_path / "copy.toml")
        copied = inklab.Study.from_toml(tmp_path / "copy.toml")
        assert copied == study and copied.profiles == study.profiles
        for profile in ("plain", *study.profiles):
            assert copied.configure(profile) == study.configure(profile) == read_study(name, profile=profile)

    def test_built_in_python_it_plans_the_trials_of_its_toml(self, tmp_path):
        net = inklab.TrainingExperiment(
            network={"name": "mlp", "hidden": [8]}, recipe=inklab.Recipe(epochs=3), replicates=2,
            grid={"recipe.l2": [0.0, 1e-3]},
        )  # fmt: skip
        plain = net.model_copy(update={"grid": {}})
        curve = inklab.RobustnessExperiment(pipelines=["plain", "median+plain"], baseline="plain", images=50)
        study = inklab.Study(
            "small", {"mlp": net, "plain": plain, "noise": curve}, seed=7, profiles={"more": {"seed": 8}}
        )
        study.to_toml(tmp_path / "small.toml")
        read = inklab.Study.from_toml(tmp_path / "small.toml")
        assert read == study
        plans = [plan_spec(other.configure("plain").spec) for other in (study, read)]
        assert plans[0] == plans[1] and len(plans[0].trials) == 4
        assert read.configure().spec.seed == 8, "the first profile is the default"

    def test_a_recipe_file_is_put_in(self, tmp_path):
        (tmp_path / "mine.toml").write_text('optimizer = "adam"\nepochs = 3\n', encoding="utf-8")
        text = '[experiments.net]\nnetwork = "mlp"\nrecipe = { base = "mine.toml", l2 = 1e-3 }\n'
        (tmp_path / "s.toml").write_text(f'name = "s"\n{text}', encoding="utf-8")
        study = inklab.Study.from_toml(tmp_path / "s.toml")
        (tmp_path / "elsewhere").mkdir()
        study.to_toml(tmp_path / "elsewhere" / "s.toml")
        assert inklab.Study.from_toml(tmp_path / "elsewhere" / "s.toml") == study

    def test_a_profile_may_complete_a_file(self, tmp_path):
        text = 'name = "s"\n[experiments.net]\n[profiles.small]\n"net.network" = "mlp"\n'
        (tmp_path / "s.toml").write_text(text, encoding="utf-8")
        study = inklab.Study.from_toml(tmp_path / "s.toml")
        assert study.configure().spec.training["net"].network.name == "mlp"
        with pytest.raises(ConfigError):
            study.configure("plain")

    def test_mistakes_are_reported_at_once(self):
        with pytest.raises(ConfigError) as error:
            inklab.Study("s", {"net": {"network": "mlp", "recipe": {"epoch": 3}}})
        assert error.value.suggestion == "epochs"

    def test_it_shows_itself(self):
        study = inklab.Study("s", {"net": {"network": "mlp", "title": "<b>"}})
        assert repr(study) == "Study('s', experiments: net)" and "&lt;b&gt;" in study._repr_html_()


VALUES = st.recursive(
    st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")), max_size=20),
    lambda inner: st.lists(inner, max_size=3), max_leaves=5,
)  # fmt: skip


@given(VALUES)
def test_overrides_survive_as_text(value):
    (text,) = override_texts({"net.recipe.epochs": value})
    assert parse_override(text) == ("net.recipe.epochs", value)


class TestTraining:
    """What `train` makes of its arguments; nothing is trained."""

    def prepare(self, **arguments):
        data = arguments.pop("data", str(toy_run.home() / "toy.npz"))
        return prepare_training(SingleTraining(**arguments), data)

    def spec(self, **arguments):
        (experiment,) = self.prepare(**arguments).study.spec.training.values()
        return experiment

    def test_bare_keys_of_a_grid(self):
        grid = {"learning_rate": [0.1, 0.2], "hidden": [[4], [8]], "normalize.std": [1.0, 255.0]}
        experiment = self.spec(network="mlp", grid=grid, normalize=inklab.NormalizeConfig())
        assert list(experiment.grid) == ["recipe.learning_rate", "network.hidden", "normalize.std"]

    @pytest.mark.parametrize(
        "recipe",
        [inklab.Recipe(optimizer="adam"), {"optimizer": "adam"}, {"base": "sgd", "optimizer": "adam"}],
    )
    def test_forms_of_a_recipe(self, recipe):
        adam = self.spec(network="mlp", recipe=recipe).recipe
        assert (adam.optimizer, adam.learning_rate) == ("adam", 0.001), "its own default rate"

    def test_a_denoiser_gets_its_recipe(self):
        assert self.spec(network="autoencoder").recipe.objective == "reconstruct"
        assert self.spec(network="autoencoder", recipe=inklab.Recipe(epochs=3)).recipe.corruption is not None

    def test_other_settings_or_images_are_another_run(self):
        X, y = np.arange(40 * 16, dtype=np.uint8).reshape(40, 4, 4), np.arange(40) % 2
        base = {"network": "mlp", "data": (X, y)}
        others = [base | {"data": (X[::-1], y)}, base | {"seed": 1}, base | {"recipe": {"l2": 0.1}}]
        paths = [self.prepare(**arguments).path for arguments in (base, base, *others)]
        assert paths[0] == paths[1] and len(set(paths)) == 4

    @pytest.mark.parametrize(
        ("arguments", "kind"),
        [
            ({}, ConfigError),
            ({"network": "mpl"}, ConfigError),
            ({"network": "mlp", "grid": {"hiden": [[3]]}}, ConfigError),
            ({"network": "mlp", "grid": {"dropout": 0.5}}, ConfigError),
            ({"network": "mlp", "metrics": max}, ConfigError),
            ({"network": "mlp", "recipe": {"epoch": 3}}, ConfigError),
            ({"network": "mlp", "replicates": 0}, ConfigError),
            ({"network": "mlp", "data": "no/such/folder"}, DataError),
            ({"network": "mlp", "data": (np.zeros((4, 2, 2), np.uint8), [0, 1])}, DataError),
        ],
    )
    def test_mistakes(self, arguments, kind):
        with pytest.raises(kind):
            self.prepare(**arguments).runner.check()


class TestSameNumbers:
    @pytest.mark.integration
    def test_python_and_the_command(self, runs_dir, cli, capsys):
        """A command, and the function with the same arguments in another directory: equal to the bit."""
        overrides = {"sweep.replicates": 1, "mlp.replicates": 1, "mlp.recipe.epochs": 1}
        study = inklab.Study.from_toml(toy_run.study_file())
        small = {"mlp": study.spec.experiments["mlp"], "sweep": study.spec.experiments["sweep"]}
        data = str(toy_run.home() / "toy.npz")
        built = inklab.Study("toy", small, seed=3, data=data)
        built.to_toml(runs_dir.parent / "small.toml")
        sets = [word for text in override_texts(overrides) for word in ("--set", text)]
        options = ["--workers", 1, "--threads", 1, "--compile", "no", "--precision", "fp32", "--json"]
        code, out, _ = cli("run", runs_dir.parent / "small.toml", *sets, *options)
        run = inklab.run(built, overrides=overrides, run_dir=runs_dir / "python", progress=False, **FAST)
        typed = inklab.load("latest")
        assert code == 0 and numbers(run) == numbers(typed) and len(run.outcomes) == 4
        assert run.results.experiments == typed.results.experiments
        assert json.loads(out)["experiments"].keys() == run.results.experiments.keys()

    @pytest.mark.integration
    def test_arrays_and_their_file(self, runs_dir):
        """The trials are those of the file with the same images; trained again, nothing is done."""
        (X, y), (X_test, y_test) = toy_run.images(toy_run.TRAIN, 1), toy_run.images(toy_run.TEST, 2)
        arguments = {"recipe": RECIPE, "grid": {"hidden": [[8], [12]]}, "progress": False, **FAST}
        run = inklab.train("mlp", (X, y, X_test, y_test), **arguments)
        file = inklab.train("mlp", toy_run.home() / "toy.npz", run_dir=runs_dir / "file", **arguments)
        assert numbers(run) == numbers(file) and len(run.outcomes) == 2
        written = {path: path.stat().st_mtime_ns for path in run.path.rglob("outcome.json")}
        again = inklab.train("mlp", (X, y, X_test, y_test), **arguments)
        assert again.path == run.path and numbers(again) == numbers(run)
        assert {path: path.stat().st_mtime_ns for path in run.path.rglob("outcome.json")} == written
        with pytest.raises(RunError, match="'arrays', came from a Python session"):
            prepare_resume(run.path)
        assert prepare_resume(file.path).path == file.path


class InterruptedExecutor(InlineExecutor):
    """The user interrupts the first job."""

    def events(self):
        yield Started(self.queue[0])
        raise KeyboardInterrupt


def test_a_run_that_is_interrupted_while_it_is_checked_again_is_the_latest(runs_dir):
    experiment = {"network": {"name": "mlp", "hidden": [4]}, "recipe": {"epochs": 1}, "replicates": 1}
    options = ExecutionOptions(workers=1, threads=1, precision="fp32", compile="no")

    def prepared(name, executor, *overrides):
        study = inklab.Study(name, {"net": experiment}, data=str(toy_run.home() / "toy.npz"))
        run = prepare_run(study, overrides=list(overrides), options=options)
        run.runner.executor = executor
        return run

    first = prepared("first", InlineExecutor).run(progress=False)
    second = prepared("second", InlineExecutor).run(progress=False)
    assert inklab.load("latest").path == second.path.resolve()
    again = prepared("first", InterruptedExecutor, "net.network.hidden=[5]")
    assert again.path == first.path
    with pytest.raises(KeyboardInterrupt):
        again.run(progress=False)
    assert inklab.load("latest").path == first.path.resolve()


class TestLoad:
    def test_runs_and_models(self, toy_report, runs_dir):
        run = inklab.load(toy_report.path)
        assert isinstance(run, inklab.Run) and run.plan == toy_report.plan
        model = inklab.load(run.model_dir("cnn"))
        assert isinstance(model, inklab.TrainedModel) and model.name == "cnn"
        runs_dir.mkdir()
        (runs_dir / "latest").symlink_to(toy_report.path)
        assert inklab.load("latest").path == inklab.load("runs/latest").path == toy_report.path.resolve()

    def test_a_run_needs_no_torch(self, toy_report):
        use = f"inklab.load({str(toy_report.path)!r}).results"
        code = f"import sys, inklab; {use}; print('torch' in sys.modules)"
        assert run_python(code) == "False"

    def test_neither(self, tmp_path):
        with pytest.raises(DataError):
            inklab.load(tmp_path)
        with pytest.raises(RunError):
            inklab.load(tmp_path / "nothing")


def test_a_dry_run_writes_nothing(runs_dir):
    plan, cost = prepare_run(toy_run.study_file()).dry_run()
    assert len(plan.trials) == toy_run.TRIALS and cost.trials == toy_run.TRIALS and not runs_dir.exists()


SLOW_NETWORK = """
import os, time
from torch import nn

class Slow(nn.Sequential):
    def __init__(self, shape, classes):
        super().__init__(nn.Flatten(), nn.Linear(shape[0] * shape[1] * shape[2], classes))

    def forward(self, images):
        time.sleep(float(os.environ.get("PAUSE", 0)))
        return super().forward(images)
"""


@pytest.mark.integration
def test_an_interrupted_script_continues(runs_dir, tmp_path):
    """Ctrl-C ends the script; run again, it ends with the numbers of an uninterrupted one."""
    network, data, script = tmp_path / "slow.py", toy_run.home() / "toy.npz", tmp_path / "script.py"
    network.write_text(SLOW_NETWORK, encoding="utf-8")
    arguments = f"'{network}:Slow', {str(data)!r}, recipe={{'epochs': 20}}, replicates=2"
    options = "workers=1, threads=1, compile='no', precision='fp32', checkpoint_every=float(sys.argv[1])"
    script.write_text(
        f"import inklab, sys\nrun = inklab.train({arguments}, {options})\nprint(run.path)\n", encoding="utf-8"
    )
    # Ten seconds or more, of which the signal takes a second: however busy the machine is, it comes first.
    slow = os.environ | {"PAUSE": "0.02"}
    stopped = subprocess.Popen([sys.executable, script, "0"], stderr=subprocess.PIPE, text=True, env=slow)
    while not list(runs_dir.rglob("checkpoints/*")):
        assert stopped.poll() is None
        time.sleep(0.01)
    stopped.send_signal(signal.SIGINT)
    assert "KeyboardInterrupt" in stopped.communicate()[1] and stopped.returncode != 0
    command = [sys.executable, script, "100"]
    finished = subprocess.run(command, capture_output=True, text=True, check=True)
    run = inklab.load(finished.stdout.strip())
    whole = inklab.train(
        f"{network}:Slow", data, recipe={"epochs": 20}, replicates=2,
        run_dir=tmp_path / "whole", progress=False, **FAST,
    )  # fmt: skip
    assert numbers(run) == numbers(whole)
