"""Runs with a user's own objects and files in real workers: of scripts, pipes, prompts, cells."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import toy_run
from notebook_cells import NETWORK, run_cell

import inklab
from inklab.api import SingleTraining, prepare_resume, prepare_run, prepare_training
from inklab.errors import ConfigError, CorruptFileError, RunError
from inklab.records.outcomes import TrialState
from inklab.study.jobs import EpochEnded, Planned, Started, TrainingJob
from inklab.study.resources import ExecutionOptions

FAST = {"workers": 1, "threads": 1, "compile": "no", "precision": "fp32", "progress": False}
OPTIONS = ExecutionOptions(1, 1, "fp32", "no", None)
OWN = (
    NETWORK
    + """
def loss(net, batch):
    return nn.functional.cross_entropy(net(batch.inputs), batch.labels, label_smoothing=0.1)

def fog(images, strength, draws):
    return torch.lerp(images, torch.ones_like(images), strength)
"""
)
DATA = toy_run.images(120, 1)


@pytest.fixture
def runs_dir(tmp_path, monkeypatch):
    """An empty runs directory."""
    monkeypatch.setenv("INKLAB_RUNS_DIR", str(tmp_path / "runs"))
    return tmp_path / "runs"


def settings(net, loss, fog, **recipe):
    corruption = {"name": fog, "strength": [0, 0.3]}
    recipe = {"epochs": 2, "batch_size": 32, "objective": loss, "corruption": corruption, **recipe}
    return {"network": net, "recipe": recipe, "grid": {"width": [4, 6]}, "name": "own", "replicates": 1}


def cell_settings(cell, **recipe):
    return settings(cell["Net"], cell["loss"], cell["fog"], **recipe)


def numbers(run):
    """What was measured, in the order of the plan."""
    return [(outcome.metrics, outcome.history) for outcome in run.outcomes.values()]


def models(run):
    return sorted(path.parent for path in run.path.glob("trials/*/model/model.json"))


def failing(net, **options):
    with pytest.raises((RunError, ConfigError)) as caught:
        inklab.train(net, DATA, recipe={"epochs": 1}, name="own", **FAST, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


class TestSession:
    @pytest.mark.integration
    def test_objects_are_as_good_as_a_file_and_go_on_with_the_same_code(self, runs_dir, tmp_path):
        cell = run_cell(OWN)
        run = inklab.train(**cell_settings(cell), data=DATA, **FAST)
        assert {outcome.state for outcome in run.outcomes.values()} == {TrialState.DONE}
        (tmp_path / "own.py").write_text(OWN)
        file = f"{tmp_path}/own.py"
        other = inklab.train(**settings(f"{file}:Net", f"{file}:loss", f"{file}:fog"), data=DATA, **FAST)
        assert other.path != run.path and numbers(other) == numbers(run)

        stamps = {path: path.stat().st_mtime_ns for path in run.path.glob("trials/*/*")}
        again = inklab.train(**cell_settings(run_cell(OWN)), data=DATA, **FAST)
        assert again.path == run.path, "the cell is run again"
        assert {path: path.stat().st_mtime_ns for path in run.path.glob("trials/*/*")} == stamps
        changed = run_cell(OWN.replace("torch.relu", "torch.tanh"))
        prepared = prepare_training(SingleTraining(**cell_settings(changed)), DATA, options=OPTIONS)
        assert prepared.path != run.path and set(prepared.dry_run()[0].trials).isdisjoint(run.outcomes)

        self.check_models(run, tmp_path)
        assert self.in_a_shell("resume", str(run.path)) == (
            2,
            "error: 'Net' is an object of another Python session; run the cell or script again that trained "
            "with it: the same code goes on where it stopped\n",
        )
        assert self.in_a_shell("show", str(run.path))[0] == 0, "looking at it needs no object"
        assert self.in_a_shell("report", str(run.path))[0] == 0

    @pytest.mark.slow
    def test_an_own_augmentation_and_early_stopping_are_the_same_as_from_a_file(self, runs_dir, tmp_path):
        source = NETWORK + (
            "def dim(images, draws):\n    return images * draws.uniform(len(images), 1, 1, 1)\n"
        )

        def train(net, dim):
            stopping = {"patience": 1, "min_delta": 0.2}
            recipe = {
                "epochs": 8, "batch_size": 32, "augmentation": dim, "early_stopping": stopping,
                "class_weights": "balanced", "label_smoothing": 0.1,
            }  # fmt: skip
            return inklab.train(
                net, DATA, recipe=recipe, name="own", replicates=2, overrides=["data.validation=30"], **FAST
            )

        cell = run_cell(source)
        run = train(cell["Net"], cell["dim"])
        assert all(len(history.epoch) < 8 for _, history in numbers(run)), "each stops early"
        (tmp_path / "own.py").write_text(source)
        other = train(f"{tmp_path}/own.py:Net", f"{tmp_path}/own.py:dim")
        assert other.path != run.path and numbers(other) == numbers(run)
        stamps = {path: path.stat().st_mtime_ns for path in run.path.glob("trials/*/*")}
        cell = run_cell(source)
        assert train(cell["Net"], cell["dim"]).path == run.path
        assert stamps and {path: path.stat().st_mtime_ns for path in run.path.glob("trials/*/*")} == stamps

    @staticmethod
    def in_a_shell(*words):
        command = [sys.executable, "-m", "inklab", *words]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return done.returncode, done.stderr

    @staticmethod
    def check_models(run, tmp_path):
        folder = models(run)[0]
        assert inklab.load(folder).name.startswith("live:Net@"), "in its session a model needs no argument"
        changed = run_cell(OWN.replace("torch.relu", "torch.tanh"))["Net"]
        script = tmp_path / "load.py"
        script.write_text(
            f"import inklab, sys\nsys.path.insert(0, {str(Path(toy_run.__file__).parent)!r})\n"
            "from notebook_cells import run_cell\nfrom pathlib import Path\n"
            f"cell = run_cell(Path({str(tmp_path / 'own.py')!r}).read_text())\n"
            f"try:\n    inklab.load({str(folder)!r})\nexcept inklab.InklabError as error:\n    print(error)\n"
            f"model = inklab.load({str(folder)!r}, network=cell['Net'])\nprint(model.name)\n"
            f"print(inklab.load({str(run.path)!r}).model(width=4, network=cell['Net']).name)\n"
        )
        text = subprocess.check_output([sys.executable, script], text=True).splitlines()
        assert "'Net' of another Python session" in text[0] and "network=Net" in text[0]
        assert text[1:] == [inklab.load(folder).name] * 2
        with pytest.raises(CorruptFileError, match="changed"):
            inklab.load(folder, network=changed)

    @pytest.mark.integration
    def test_an_interrupted_training_continues_from_its_checkpoint(self, runs_dir):
        def prepare():
            arguments = {**cell_settings(run_cell(OWN), epochs=40), "grid": {}}
            return prepare_training(SingleTraining(**arguments), DATA, options=OPTIONS)

        def stop(event):
            if isinstance(event, EpochEnded) and event.epoch == 5:
                raise KeyboardInterrupt

        prepared, whole = prepare(), prepare()
        prepared.runner.on_event = stop
        with pytest.raises(KeyboardInterrupt):
            prepared.runner.run()
        assert list(prepared.path.glob("work/*/*/checkpoints/*"))
        events = []
        continued = prepare()
        continued.runner.on_event = events.append
        continued.runner.run()
        assert min(event.epoch for event in events if isinstance(event, EpochEnded)) >= 5
        shutil.move(prepared.path, prepared.path.with_name("interrupted"))
        whole.runner.run()
        runs = [inklab.load(path) for path in (whole.path, prepared.path.with_name("interrupted"))]
        assert numbers(runs[0]) == numbers(runs[1])

    def test_an_unknown_identity_is_said_and_trained(self, runs_dir, capsys, tmp_path):
        cell = run_cell(f"{OWN}\nlog = open({str(tmp_path / 'log')!r}, 'w')\n")
        plain = cell["Net"]

        def make(shape, classes, width):
            return plain(shape, classes, width if cell else log)  # noqa: F821

        cell["make"] = make
        settings = cell_settings({**cell, "Net": make})
        prepared = prepare_training(SingleTraining(**settings), DATA, options=OPTIONS)
        notes = [note for note in prepared.notes if "can't be identified" in note]
        assert len(notes) == 1 and "'make'" in notes[0]
        message = failing(make)
        assert "can't be sent to worker processes" in message
        cell["log"].close()


SCRIPT = f"""
import sys
print("MAIN", __name__)
sys.path.insert(0, {str(Path(toy_run.__file__).parent)!r})
import toy_run
import inklab
{OWN.strip()}
FAST = {FAST!r}
recipe = dict(epochs=1, batch_size=32, objective=loss)
run = inklab.train(Net, toy_run.images(120, 1), recipe=recipe, name="own", **FAST)
print("DONE", [outcome.state.value for outcome in run.outcomes.values()], run.path.name)
"""


class TestMain:
    """What is run is never the user's program again, guarded or not."""

    @pytest.mark.integration
    @pytest.mark.parametrize("how", ["script", "stdin", "-c", "-m", "prompt"])
    def test_an_unguarded_program_is_not_run_again(self, how, runs_dir, tmp_path):
        (tmp_path / "program.py").write_text(SCRIPT)
        arguments, text = {
            "script": (["program.py"], None),
            "stdin": (["-"], SCRIPT),
            "-c": (["-c", SCRIPT], None),
            "-m": (["-m", "program"], None),
            "prompt": (["-i"], prompted(SCRIPT)),
        }[how]
        done = subprocess.run(
            [sys.executable, *arguments],
            input=text,
            text=True,
            capture_output=True,
            cwd=tmp_path,
            check=False,
        )
        output = done.stdout.replace(">>> ", "").replace("... ", "").splitlines()
        assert [line for line in output if line.startswith("MAIN")] == ["MAIN __main__"], done.stderr[-3000:]
        assert [line for line in output if line.startswith("DONE ['done']")], done.stderr[-3000:]

    @pytest.mark.integration
    def test_a_notebook(self, runs_dir, tmp_path):
        import nbformat
        from nbclient import NotebookClient

        setup, classes = SCRIPT.partition("FAST")[0], "FAST" + SCRIPT.partition("FAST")[2]
        load = "print(inklab.load(sorted((run.path / 'trials').iterdir())[0]).name)"
        cells = [setup, classes, setup, classes.replace("DONE", "AGAIN"), load]
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
        NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
        texts = ["".join(output.get("text", "") for output in cell.outputs) for cell in notebook.cells]
        assert "DONE ['done']" in texts[1]
        assert texts[3].splitlines()[-1] == texts[1].splitlines()[-1].replace("DONE", "AGAIN"), "the same run"
        assert texts[4].startswith("live:Net@") and "unknown" not in texts[4]


def prompted(source):
    """A program as it is typed at the prompt: an empty line ends each definition, none is within one."""
    lines = [line for line in source.splitlines() if line.strip()]
    typed = []
    for before, line in zip(["", *lines], lines, strict=False):
        typed += [""] * (before.startswith(" ") and not line.startswith(" "))
        typed.append(line)
    return "\n".join([*typed, ""])


@pytest.mark.integration
def test_names_that_a_decorator_gave_in_this_session_reach_the_workers(runs_dir):
    source = (
        f"import inklab\n{OWN}\n"
        "inklab.objective('session-loss', task='classification')(loss)\n"
        "inklab.corruption('session-fog', unit='share', strengths=(0.0, 0.5), max_strength=1.0)(fog)\n"
        "@inklab.network('session-net')\n"
        "def session_net(shape, classes, *, width=4):\n    return Net(shape, classes, width)\n"
    )
    run_cell(source)
    named = settings("session-net", "session-loss", "session-fog")
    run = inklab.train(**named, data=DATA, **FAST)
    assert {outcome.state for outcome in run.outcomes.values()} == {TrialState.DONE}
    run_cell(source.replace("torch.relu", "torch.tanh"))
    changed = prepare_training(SingleTraining(**named), DATA, options=OPTIONS)
    assert changed.path != run.path, "names stand for their code"
    robustness = {"kind": "robustness", "corruption": "session-fog", "pipelines": ["net"], "baseline": "net"}
    study = inklab.Study("own", {"net": {"network": "session-net"}, "noise": robustness})
    assert len(study.spec.live_objects) == 2
    with pytest.raises(ConfigError, match="Python objects"):
        study.to_toml()


@pytest.mark.integration
def test_functions_are_filters_in_a_study_as_in_a_pipeline_and_in_a_file(runs_dir, tmp_path):
    source = "def darker(images):\n    return images / 4\n"
    darker = run_cell(source)["darker"]
    (tmp_path / "own.py").write_text(source)

    def study(part):
        pipelines = ["net", [part, "net"], ["median", part, "net"]]
        noise = inklab.RobustnessExperiment(pipelines=pipelines, baseline="net", strengths=[0, 0.2])
        net = inklab.TrainingExperiment(network="mlp", recipe={"epochs": 2}, replicates=1)
        return inklab.Study("own", {"net": net, "noise": noise})

    def curves(run):
        names = [label.replace("own.py:", "") for label in run.plan.experiment("noise").pipelines]
        return dict(zip(names, (outcome.accuracy for outcome in run.evaluations.values()), strict=True))

    run = inklab.run(study(darker), data=DATA, **FAST)
    measured = curves(run)
    assert list(measured) == ["net", "darker+net", "median+darker+net"]
    assert measured["darker+net"] != measured["net"]
    assert curves(inklab.run(study(f"{tmp_path}/own.py:darker"), data=DATA, **FAST)) == measured
    pixels, labels = run.dataset.test.pixels, run.dataset.test.labels
    clean = run.pipeline([darker, "net"]).predict(pixels)
    labels_read = [prediction.label for prediction in clean]
    right = sum(read == run.dataset.labels[label] for read, label in zip(labels_read, labels, strict=True))
    assert right / len(labels) == pytest.approx(measured["darker+net"][0])


def test_filters_of_ones_own_that_do_not_fit_are_refused():
    def net(images):
        return images

    experiments = {"net": {"network": "mlp"}, "noise": {"kind": "robustness", "baseline": "net"}}
    experiments["noise"]["pipelines"] = ["net", [net, "net"]]
    with pytest.raises(ConfigError, match="'net' is a function and an experiment"):
        prepare_run(inklab.Study("own", experiments), data="mnist-5k", options=OPTIONS).dry_run()


class TestFiles:
    @pytest.mark.integration
    def test_modules_beside_a_file_are_found_in_workers(self, runs_dir, tmp_path):
        body, _, net = NETWORK.partition("class Net")
        (tmp_path / "blocks.py").write_text(body)
        (tmp_path / "net.py").write_text(f"from torch import nn\nfrom blocks import Body\nclass Net{net}")
        run = inklab.train(f"{tmp_path}/net.py:Net", DATA, recipe={"epochs": 1}, name="own", **FAST)
        assert run.path.name and len(models(run)) == 1
        folder = models(run)[0]
        moved = tmp_path / "elsewhere"
        moved.mkdir()
        for file in ("net.py", "blocks.py"):
            shutil.move(tmp_path / file, moved / file)
        loaded = inklab.load(folder, trust_code=[f"{moved}/net.py:Net"])
        assert loaded.manifest.network.name == f"{tmp_path}/net.py:Net"
        with pytest.raises(ConfigError):
            inklab.load(folder)
        (moved / "blocks.py").write_text(body + "\n")
        with pytest.raises(CorruptFileError, match="changed"):
            inklab.load(folder, trust_code=[f"{moved}/net.py:Net"])

    @pytest.mark.integration
    def test_a_run_is_resumed_from_another_folder(self, runs_dir, tmp_path, monkeypatch):
        here, there = tmp_path / "here", tmp_path / "there"
        here.mkdir()
        there.mkdir()
        (here / "net.py").write_text(OWN)
        monkeypatch.chdir(here)
        data = toy_run.write_npz(here / "toy.npz")
        study = inklab.Study(
            "own",
            {
                "net": {
                    "network": {"name": "net.py:Net", "width": 4},
                    "recipe": {"base": "sgd", "epochs": 1, "objective": "net.py:loss"},
                    "replicates": 2,
                },
                "fog": {
                    "kind": "robustness",
                    "corruption": "net.py:fog",
                    "strengths": [0, 0.5],
                    "confusion_at": [0],
                    "pipelines": ["net"],
                    "baseline": "net",
                },
            },
        )
        run = inklab.run(study, data=data, **FAST)
        before, evaluations = numbers(run), sorted(path.name for path in run.path.glob("evaluations/*"))
        path = run.path.resolve()
        assert len(before) == 2 and len(evaluations) == 2
        shutil.rmtree(path / "trials" / list(run.outcomes)[1])
        shutil.rmtree(path / "evaluations" / evaluations[1])
        monkeypatch.chdir(there)
        events = []
        prepared = prepare_resume(path, OPTIONS)
        prepared.runner.on_event = events.append
        prepared.runner.run()
        assert sum(isinstance(event, Started) and isinstance(event.job, TrainingJob) for event in events) == 1
        assert any(isinstance(event, Planned) for event in events)
        assert numbers(inklab.load(path)) == before
        assert sorted(entry.name for entry in path.glob("evaluations/*")) == evaluations

    @pytest.mark.integration
    def test_code_that_ends_python_is_a_reason_not_a_dead_worker(self, runs_dir, tmp_path):
        (tmp_path / "script.py").write_text("import sys\nsys.exit(2)\n")
        assert "it ends Python with '2'" in failing(f"{tmp_path}/script.py:Net")
        (tmp_path / "net.py").write_text(
            NETWORK.replace("return self.out(", "raise SystemExit(3)\n        (")
        )
        assert "SystemExit" in failing(f"{tmp_path}/net.py:Net")
