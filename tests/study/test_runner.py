"""A whole study end to end: run again, extended, interrupted, damaged, moved; grouped in another way."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import toy_run
from inline_executor import InlineExecutor

from inklab.errors import EXIT_FAILED_TRIALS, EXIT_INTERRUPTED, EXIT_OK, RunError, WriteError
from inklab.records.outcomes import TrialState
from inklab.records.results import DataResults
from inklab.records.status import Draft, PendingCommit
from inklab.study import runner
from inklab.study.executors.local_executor import LocalExecutor
from inklab.study.jobs import Done, Failed, Planned, Started
from inklab.study.load import prepare_study, read_study
from inklab.study.resources import ExecutionOptions
from inklab.study.run_directory import COMMIT, RunDirectory, new_attempt_dir
from inklab.study.runner import StudyRunner
from inklab.testing import write_networks

DONE, DIVERGED, FAILED, LOST = TrialState.DONE, TrialState.DIVERGED, TrialState.FAILED, TrialState.LOST


@pytest.fixture(scope="module")
def base():
    return toy_run.finished()


def experiments(folder):
    """Results of a run by experiment."""
    return toy_run.results(folder).experiments


def first_estimate(results, metric="test_accuracy"):
    """The estimate of an experiment's first setting."""
    return results.settings[0].metrics[metric]


def sizes(folder):
    """How many members each population of a run has."""
    groups = RunDirectory(folder).plan().groups
    return sorted(len(group.trials) for group in groups if group.stacked)


def test_everything_planned_is_there_and_done_and_the_failure_on_show_fails(base):
    snapshot, results = toy_run.snapshot(base), experiments(base)
    assert set(snapshot.outcomes) == set(snapshot.plan.trials) and len(snapshot.outcomes) == toy_run.TRIALS
    assert len(snapshot.evaluations) == toy_run.EVALUATIONS
    assert set(snapshot.states.values()) == {DONE} and not (base / "work").exists()
    assert first_estimate(results["mlp"]).mean > 0.3
    for name, diagnoses in (("mlp", []), ("scaled-twice", ["inputs-scaled-twice"])):
        assert [row.name for row in results[name].settings[0].diagnoses] == diagnoses


def test_run_again_it_trains_nothing(base, tmp_path):
    folder, events = toy_run.copied(tmp_path / "again"), []
    toy_run.run(folder, on_event=events.append)
    assert toy_run.stamps(folder) == toy_run.stamps(base)
    assert toy_run.numbers(folder) == toy_run.numbers(base)
    assert [type(event) for event in events] == [Planned] and events[0].estimate.trials == 0


def test_a_job_is_committed_before_its_end_is_reported(tmp_path):
    folder, missing = toy_run.copied(tmp_path / "holed"), {}

    def check(event):
        if isinstance(event, Done):
            missing[event.job.name] = set(event.job.ids) - set(RunDirectory(folder).states(plan))

    plan = RunDirectory(folder).plan()
    shutil.rmtree(folder / "trials" / plan.trials_of("cnn")[0])
    toy_run.run(folder, on_event=check)
    assert len(missing) == 1 and not any(missing.values())


@pytest.mark.parametrize(
    "executor", [InlineExecutor, pytest.param(LocalExecutor, marks=pytest.mark.integration)]
)
def test_numbers_depend_neither_on_executor_nor_on_workers_nor_on_groups(base, executor, tmp_path):
    # also: a resume uses the frozen plan, for the population size is only there
    assert sizes(base) == [1, 2, 4, 5], "two workers, up to eight members"
    folder, events = toy_run.begun(tmp_path / "other", max_population=2), []
    toy_run.run(folder, workers=1, on_event=events.append, executor=executor)
    assert sizes(folder) == [1, 1, 2, 2, 2, 2, 2]
    assert toy_run.numbers(folder) == toy_run.numbers(base)
    assert toy_run.weights(folder) == toy_run.weights(base)
    started = [event.job.name for event in events if isinstance(event, Started)]
    ended = [event.job.name for event in events if not isinstance(event, Planned) and event.is_terminal]
    assert len({*started}) == len(started) and sorted(started) == sorted(ended), "each job once"


def test_more_replicates_train_exactly_those(base, tmp_path):
    folder = toy_run.copied(tmp_path / "longer")
    results = toy_run.run(folder, overrides=["sweep.replicates=4"])
    before, after = toy_run.stamps(base), toy_run.stamps(folder)
    assert {name: after[name] for name in before} == before
    outcomes = toy_run.snapshot(folder).outcomes
    new = [outcomes[name.removeprefix("trials/")] for name in after.keys() - before.keys()]
    assert sorted(outcome.config.recipe.l2 for outcome in new) == [0.0, 1e-3, 1e-1]
    assert {outcome.replicate for outcome in new} == {3}
    sweep = results.experiments["sweep"]
    assert [setting.outcomes for setting in sweep.settings] == [{DONE: 4}] * 3
    for old, longer in zip(experiments(base)["sweep"].settings, sweep.settings, strict=True):
        assert longer.metrics["test_accuracy"].values[:3] == old.metrics["test_accuracy"].values


def test_what_is_deleted_is_computed_again_and_nothing_else(base, tmp_path):
    folder, snapshot = toy_run.copied(tmp_path / "holed"), toy_run.snapshot(base)
    trial = snapshot.plan.experiment("sweep").settings[1].trials[1]
    generation = snapshot.plan.experiment("generation").evaluations
    mixture = next(evaluation.id for evaluation in generation if evaluation.sampler == "mixture")
    deleted = {f"trials/{trial}", f"evaluations/{mixture}"}
    for name in deleted:
        shutil.rmtree(folder / name)
    toy_run.run(folder)
    before, after = toy_run.stamps(base), toy_run.stamps(folder)
    assert {name for name in before if before[name] != after[name]} == deleted
    assert toy_run.numbers(folder) == toy_run.numbers(base)
    assert toy_run.weights(folder) == toy_run.weights(base)


@pytest.mark.parametrize("override", ["name=other", "seed=4"])
def test_a_directory_does_not_mix_studies(base, tmp_path, override):
    folder = toy_run.copied(tmp_path / "taken")
    with pytest.raises(RunError, match="toy"):
        toy_run.run(folder, overrides=[override])
    with RunDirectory(folder).locked(), pytest.raises(RunError):
        toy_run.run(folder)  # a second process
    files = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    with pytest.raises(RunError, match="toy"):
        StudyRunner(toy_run.study(overrides=[override]), RunDirectory(folder)).dry_run()
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == files
    assert toy_run.stamps(folder) == toy_run.stamps(base)


def test_what_stops_a_run_is_reported_and_not_what_follows_from_it(tmp_path, monkeypatch):
    folder = toy_run.copied(tmp_path / "stopped")
    shutil.rmtree(next(iter(toy_run.outcome_paths(folder).values())))

    def stop(event):
        if isinstance(event, Started) and event.job.ids:
            raise KeyboardInterrupt

    def refuse(*_):
        raise WriteError(folder, OSError("full"))

    monkeypatch.setattr(runner, "write_results", refuse)
    with pytest.raises(KeyboardInterrupt):
        toy_run.run(folder, on_event=stop, executor=InlineExecutor)
    assert not (folder / "work" / "data").exists(), "it was cleaned up all the same"
    with pytest.raises(WriteError):
        toy_run.run(folder, executor=InlineExecutor)
    assert not (folder / "work").exists()


def write_failing_study(nets, *networks):
    """A study of some networks of `nets.py`, diverging ones and evaluations of both."""
    recipe = '{ base = "sgd", epochs = 2, batch_size = 64 }'
    own = "".join(
        f'[experiments.{name.lower()}]\nnetwork = "{nets}:{name}"\nrecipe = {recipe}\nreplicates = 1\n'
        for name in networks
    )
    others = (
        f'[experiments.rates]\nnetwork = "mlp"\nrecipe = {recipe}\nreplicates = 2\n'
        'grid = { "recipe.learning_rate" = [0.1, 1e30] }\n'
        '[experiments.wild]\nnetwork = "mlp"\nrecipe = { base = "sgd", learning_rate = 1e30 }\n'
        "replicates = 1\n"
        '[experiments.robustness]\nkind = "robustness"\nstrengths = [0, 0.5]\nimages = 50\n'
        'pipelines = ["quiet", "wild", "raises"]\nbaseline = "quiet"\n'
    )
    path = toy_run.home() / f"failing-{len(networks)}.toml"
    return str(toy_run.write_study(path, f'name = "failing"\n{own}{others}'))


class TestFailures:
    """A diverging and a crashing network beside a good one."""

    @pytest.fixture(scope="class")
    @staticmethod
    def nets(tmp_path_factory):
        return write_networks(tmp_path_factory.mktemp("nets"))

    @pytest.fixture(scope="class")
    @staticmethod
    def runner(nets, tmp_path_factory):
        """Of the study, run once."""
        study = prepare_study(read_study(write_failing_study(nets, "Quiet", "Raises")))
        folder, options = tmp_path_factory.mktemp("runs") / "failed", ExecutionOptions(workers=2)
        runner = StudyRunner(study, RunDirectory(folder), options, executor=InlineExecutor)
        runner.run()
        return runner

    @pytest.fixture(scope="class")
    @staticmethod
    def folder(runner):
        return runner.run_directory.path

    def test_every_failure_is_an_outcome_with_its_reason_and_never_averaged_in(self, folder):
        results = experiments(folder)
        assert results["quiet"].outcomes == {DONE: 1}
        assert results["raises"].outcomes == {FAILED: 1}
        assert [setting.outcomes for setting in results["rates"].settings] == [{DONE: 2}, {DIVERGED: 2}]
        reasons = {o.state: o.reason for o in toy_run.snapshot(folder).outcomes.values()}
        assert "ValueError: on purpose" in reasons[FAILED]
        assert "NaN or infinite in epoch" in reasons[DIVERGED]
        raises = first_estimate(results["raises"])
        assert (raises.n, raises.mean) == (0, None)
        assert results["rates"].best_setting == {"learning_rate": 0.1}
        assert first_estimate(results["quiet"]).n == 1

    def test_an_evaluation_of_a_failed_trial_fails_and_names_it(self, folder):
        evaluations = toy_run.snapshot(folder).evaluations.values()
        by_pipeline = {outcome.evaluation.pipeline: outcome for outcome in evaluations}
        states = {pipeline: outcome.state for pipeline, outcome in by_pipeline.items()}
        assert states == {"quiet": DONE, "wild": FAILED, "raises": FAILED}
        wild = by_pipeline["wild"]
        assert wild.evaluation.depends_on[0] in wild.reason and "diverged" in wild.reason

    def test_run_again_failed_ones_are_tried_again_and_diverged_ones_are_not(self, runner, folder, nets):
        before, states = toy_run.stamps(folder), toy_run.snapshot(folder).states
        (Path(nets).parent / "healed").touch()
        results = runner.run().experiments
        after = toy_run.stamps(folder)
        kept = {name.rpartition("/")[2] for name in before if before[name] == after[name]}
        assert kept == {id for id, state in states.items() if state in (DONE, DIVERGED)}
        assert results["raises"].outcomes == {DONE: 1}
        assert results["robustness"].outcomes == {DONE: 2, FAILED: 1}


@pytest.mark.slow
def test_a_network_that_kills_its_worker_is_lost_and_tried_again_by_a_resume(tmp_path, cli):
    folder, nets = tmp_path / "run", write_networks(tmp_path)
    words = ["run", write_failing_study(nets, "Quiet", "Dies", "Raises"), "--run-dir", folder, "--workers", 2]
    assert cli(*words)[0] == EXIT_FAILED_TRIALS
    assert experiments(folder)["dies"].outcomes == {LOST: 1}
    (reason,) = [o.reason for o in toy_run.snapshot(folder).outcomes.values() if o.state == LOST]
    assert "signal SIGKILL" in reason and "2 times" in reason
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "diverged" in page and "SIGKILL" in page
    (tmp_path / "healed").touch()
    assert cli("resume", folder, "--workers", 2)[0] == EXIT_FAILED_TRIALS, "some diverged"
    results = experiments(folder)
    assert results["dies"].outcomes == results["raises"].outcomes == {DONE: 1}


def test_one_diverging_experiment_leaves_the_others_as_they_are(base, tmp_path, cli):
    folder, events = toy_run.copied(tmp_path / "diverging"), []
    overrides = ["cnn.recipe.learning_rate=1e30"]
    results = toy_run.run(folder, overrides=overrides, on_event=events.append).experiments
    before, after = toy_run.stamps(base), toy_run.stamps(folder)
    assert {name: after[name] for name in before} == before
    earlier = experiments(base)
    assert results["cnn"].outcomes == {DIVERGED: 2} and results["robustness"].outcomes == {FAILED: 6}
    assert results["generation"].outcomes == {FAILED: 6}
    blocked = [event for event in events if isinstance(event, Failed)]
    assert len({event.job.name for event in blocked}) == len(blocked) == 12, "callbacks hear of each"
    assert all("diverged" in event.reason for event in blocked)
    for name in ("images", "mlp", "scaled-twice", "sweep", "denoiser"):
        assert results[name] == earlier[name]
    assert RunDirectory(folder).orphaned(RunDirectory(folder).plan()) == 14
    code, text, _ = cli("status", folder)
    assert code == EXIT_OK and "14" in text
    assert toy_run.run(folder).experiments == earlier, "without that change everything is there already"


def test_a_commit_that_a_killed_runner_had_begun_is_completed(base, tmp_path):
    """Of four members that were trained together, one was committed before the kill."""
    run_directory, events = RunDirectory(toy_run.copied(tmp_path / "run")), []
    path, plan = run_directory.path, run_directory.plan()
    trials = next(group.trials for group in plan.groups if len(group.trials) >= 4)
    attempt_dir = new_attempt_dir(run_directory.work / "0123456789ab")
    (attempt_dir / "trials").mkdir()
    for trial in trials[1:]:
        os.replace(path / "trials" / trial, attempt_dir / "trials" / trial)
    PendingCommit(drafts=tuple(Draft(kind="trials", id=id) for id in trials)).write(attempt_dir / COMMIT)
    toy_run.run(path, on_event=events.append)
    written = [{name: stamp[0] for name, stamp in toy_run.stamps(run).items()} for run in (base, path)]
    assert written[0] == written[1], "nothing was computed again"
    assert [type(event) for event in events] == [Planned]
    assert toy_run.numbers(path) == toy_run.numbers(base) and not run_directory.work.exists()


def interrupt(words, runs_dir, send, stop):
    """Type a command and stop it as soon as something was computed; the lines of its output."""
    command = [sys.executable, "-m", "inklab", *words, "--workers", "1"]
    lines = []
    with subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, start_new_session=True,
        env={**os.environ, "INKLAB_RUNS_DIR": str(runs_dir)},
    ) as process:  # fmt: skip
        for line in process.stderr:
            lines.append(line)
            if "] done " in line:
                assert (runs_dir / "latest/plan.json").is_file(), "a run is the latest while it goes on"
                send(process.pid, stop)
                break
        lines += process.stderr.readlines()
    assert process.returncode == EXIT_INTERRUPTED, "".join(lines)
    return lines


@pytest.mark.integration
def test_interrupted_and_resumed_it_ends_in_the_same_numbers(base, tmp_path):
    kept = {}
    # Ctrl-C reaches the whole process group, a `kill` only the runner. Without a name, the latest is resumed.
    for words, send, stop in (
        (["run", toy_run.study_file()], os.killpg, signal.SIGINT),
        (["resume"], os.kill, signal.SIGTERM),
    ):
        lines = interrupt(words, tmp_path, send, stop)
        assert "interrupted" in lines[-1] and not [line for line in lines if "Traceback" in line]
        folder = (tmp_path / "latest").resolve()
        stamps = toy_run.stamps(folder)
        assert len(kept) < len(stamps) < toy_run.TRIALS + toy_run.EVALUATIONS
        assert {name: stamps[name] for name in kept} == kept
        left = [path for path in folder.glob("work/**/*") if path.is_file()]
        assert all("checkpoints" in path.parts for path in left), "nothing but checkpoints waits for a resume"
        outcomes = [r.outcomes for r in experiments(folder).values() if not isinstance(r, DataResults)]
        assert any(TrialState.WAITING in states for states in outcomes)
        kept = stamps
    toy_run.run(folder, workers=1)
    assert {name: toy_run.stamps(folder)[name] for name in kept} == kept and not (folder / "work").exists()
    assert toy_run.numbers(folder) == toy_run.numbers(base)
    assert toy_run.weights(folder) == toy_run.weights(base)


@pytest.mark.integration
def test_moved_it_can_be_read_and_reported_and_nothing_is_written_there(cli, tmp_path):
    """A copy elsewhere, under another name, without its images."""
    moved = toy_run.copied(tmp_path / "else where" / "renamed run")
    plan = RunDirectory(moved).plan()
    data = plan.data.model_copy(update={"dataset": "/nowhere/toy.npz"})
    plan.model_copy(update={"data": data}).write(moved / "plan.json")

    def files():
        return {path: path.stat().st_mtime_ns for path in [moved, *moved.rglob("*")]}

    before, output = files(), tmp_path / "elsewhere"
    for words in (
        ["show"], ["show", "--json"], ["status"], ["status", "--json"], ["compare", "mlp", "sweep:l2=0.1"],
    ):  # fmt: skip
        code, text, _ = cli(words[0], moved, *words[1:])
        assert code == EXIT_OK and "sweep" in text
    code, text, _ = cli("report", moved, "--output", output)
    assert code == EXIT_OK and text.strip() == str(output / "report.html")
    assert {path.name for path in output.iterdir()} >= {"figures", "report.html"}
    page = (output / "report.html").read_text(encoding="utf-8")
    assert "A toy" in page and "<svg" in page and str(toy_run.finished()) not in page
    assert files() == before
