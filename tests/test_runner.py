"""A whole study end to end: run again, extended, interrupted, damaged, moved; alone and in company."""

import json
import os
import shutil
import signal
import subprocess
import sys

import pytest
import toy_run

from inklab.cli import main
from inklab.errors import EXIT_FAILED_TRIALS, EXIT_INTERRUPTED, EXIT_OK, RunError
from inklab.study.run_directory import RunDirectory


@pytest.fixture(scope="module")
def base():
    return toy_run.finished()


def typed(*words):
    """Type a command in this process; its exit code."""
    with pytest.raises(SystemExit) as ended:
        main([str(word) for word in words])
    return ended.value.code


def sizes(folder):
    """How many members each population of a run has."""
    groups = RunDirectory(folder).plan()["groups"]
    return sorted(len(group["trials"]) for group in groups if group["lifted"])


def test_everything_planned_is_there_and_done(base):
    plan, outcomes = RunDirectory(base).plan(), toy_run.outcomes(base)
    trials = {name for name in outcomes if name.startswith("trials/")}
    assert trials == {f"trials/{trial}" for trial in plan["trials"]} and len(trials) == toy_run.TRIALS
    assert len(outcomes) - len(trials) == toy_run.EVALUATIONS
    assert {outcome["state"] for outcome in outcomes.values()} == {"done"}
    assert not (base / "work").exists()


def test_it_learns_and_the_failure_on_show_fails(base):
    chapters = toy_run.numbers(base)["chapters"]
    assert chapters["mlp"]["test_accuracy"]["mean"] > 0.3
    assert chapters["scaled-twice"]["verdicts"] == ["inputs-scaled-twice"]
    assert "verdicts" not in chapters["mlp"]


def test_run_again_it_trains_nothing(base, tmp_path):
    folder = toy_run.copied(tmp_path / "again")
    told = []
    toy_run.drive(folder, watcher=lambda event, job: told.append((event.kind, job.get("kind"))))
    assert toy_run.stamps(folder) == toy_run.stamps(base)
    assert toy_run.numbers(folder) == toy_run.numbers(base)
    assert not [kind for event, kind in told if kind in ("train", "noise", "generator")]


def test_numbers_depend_neither_on_workers_nor_on_company(base, tmp_path):
    # also: a resume obeys the frozen plan, for the members stand only there
    assert sizes(base) == [1, 2, 4, 5], "two workers, up to eight members"
    folder = toy_run.begun(tmp_path / "other", members=2)
    toy_run.drive(folder, workers=1)
    assert sizes(folder) == [1, 1, 2, 2, 2, 2, 2]
    assert toy_run.numbers(folder) == toy_run.numbers(base)
    assert toy_run.weights(folder) == toy_run.weights(base)


def test_more_replicates_train_exactly_those(base, tmp_path):
    folder = toy_run.copied(tmp_path / "longer")
    results = toy_run.drive(folder, sets=["sweep.replicates=4"])
    before, after = toy_run.stamps(base), toy_run.stamps(folder)
    assert {name: after[name] for name in before} == before
    new = [toy_run.outcomes(folder)[name] for name in after.keys() - before.keys()]
    assert sorted(each["settings"]["recipe"]["l2"] for each in new) == [0.0, 1e-3, 1e-1]
    assert {each["replicate"] for each in new} == {3}
    assert [each["outcomes"] for each in results["chapters"]["sweep"]["settings"]] == [{"done": 4}] * 3
    was = toy_run.numbers(base)["chapters"]["sweep"]["settings"]
    for old, new in zip(was, results["chapters"]["sweep"]["settings"], strict=True):
        assert new["test_accuracy"]["values"][:3] == old["test_accuracy"]["values"]


def test_what_is_deleted_is_computed_again_and_nothing_else(base, tmp_path):
    folder = toy_run.copied(tmp_path / "holed")
    sweep = RunDirectory(base).plan()["chapters"][3]["settings"][1]["trials"]
    drawn = [name for name, each in toy_run.outcomes(base).items() if each.get("sampler") == "mixture"]
    gone = {f"trials/{sweep[1]}", drawn[0]}
    for name in gone:
        shutil.rmtree(folder / name)
    toy_run.drive(folder)
    before, after = toy_run.stamps(base), toy_run.stamps(folder)
    assert {name for name in before if before[name] != after[name]} == gone
    assert toy_run.numbers(folder) == toy_run.numbers(base) and toy_run.weights(folder) == toy_run.weights(
        base
    )


def test_a_second_driver_is_refused(base, tmp_path):
    folder = toy_run.copied(tmp_path / "busy")
    with RunDirectory(folder).locked(), pytest.raises(RunError, match="is being run by process"):
        toy_run.drive(folder)
    assert toy_run.stamps(folder) == toy_run.stamps(base)


@pytest.mark.parametrize("change", ["name=other", "seed=4"])
def test_a_folder_does_not_mix_studies(base, tmp_path, change):
    folder = toy_run.copied(tmp_path / "taken")
    with pytest.raises(RunError, match="holds study 'toy'.*--out"):
        toy_run.drive(folder, sets=[change])
    assert toy_run.stamps(folder) == toy_run.stamps(base)


class TestFailures:
    """A diverging, a crashing and a dying network beside a sound one."""

    @pytest.fixture(scope="class")
    @staticmethod
    def nets(tmp_path_factory):
        return toy_run.write_nets(tmp_path_factory.mktemp("nets"))

    @pytest.fixture(scope="class")
    @staticmethod
    def study(nets, tmp_path_factory):
        recipe = '{ base = "sgd", epochs = 2, batch = 64 }'
        chapters = "".join(
            f'[chapters.{name.lower()}]\nmodel = "{nets}:{name}"\nrecipe = {recipe}\nreplicates = 1\n'
            for name in ("Quiet", "Dies", "Raises")
        )
        chapters += (
            f'[chapters.rates]\nmodel = "mlp"\nrecipe = {recipe}\nreplicates = 2\n'
            'vary = { "recipe.rate" = [0.1, 1e30] }\n'
            '[chapters.wild]\nmodel = "mlp"\nrecipe = { base = "sgd", rate = 1e30 }\nreplicates = 1\n'
            '[chapters.noise]\nkind = "noise"\nstrengths = [0, 0.5]\nimages = 50\n'
            'pipelines = ["quiet", "wild", "raises"]\nalone = "quiet"\n'
        )
        path = tmp_path_factory.mktemp("failing") / "failing.toml"
        source = toy_run.home() / "toy.npz"
        path.write_text(f'name = "failing"\ndata = {{ source = "{source}" }}\n{chapters}', encoding="utf-8")
        return path

    @pytest.fixture(scope="class")
    @staticmethod
    def failed(study, tmp_path_factory):
        folder = tmp_path_factory.mktemp("runs") / "failed"
        return folder, typed("run", study, "--out", folder, "--workers", 2)

    def test_the_exit_code_says_that_it_finished_with_failures(self, failed):
        assert failed[1] == EXIT_FAILED_TRIALS

    def test_each_failure_is_an_outcome_with_its_reason(self, failed):
        chapters = toy_run.numbers(failed[0])["chapters"]
        assert chapters["quiet"]["outcomes"] == {"done": 1}
        assert chapters["dies"]["outcomes"] == {"lost": 1}
        assert chapters["raises"]["outcomes"] == {"failed": 1}
        assert [each["outcomes"] for each in chapters["rates"]["settings"]] == [{"done": 2}, {"diverged": 2}]
        reasons = {
            o["state"]: o["reason"] for name, o in toy_run.outcomes(failed[0]).items() if "trials" in name
        }
        assert "signal SIGKILL" in reasons["lost"] and "2 times" in reasons["lost"]
        assert "ValueError: on purpose" in reasons["failed"]
        assert "the loss became NaN or infinite in epoch" in reasons["diverged"]

    def test_failures_are_never_averaged_in(self, failed):
        chapters = toy_run.numbers(failed[0])["chapters"]
        assert (
            chapters["dies"]["test_accuracy"]["n"] == 0 and chapters["dies"]["test_accuracy"]["mean"] is None
        )
        assert chapters["rates"]["best"] == 0.1
        assert chapters["quiet"]["test_accuracy"]["n"] == 1

    def test_an_evaluation_that_needs_a_failed_trial_fails_and_names_it(self, failed):
        noise = {
            o["pipeline"]: o
            for name, o in toy_run.outcomes(failed[0]).items()
            if name.startswith("evaluations")
        }
        assert {name: o["state"] for name, o in noise.items()} == {
            "quiet": "done",
            "wild": "failed",
            "raises": "failed",
        }
        assert f"trial {noise['wild']['needs'][0]} is diverged" in noise["wild"]["reason"]

    def test_there_is_a_report_all_the_same(self, failed):
        page = (failed[0] / "report.html").read_text(encoding="utf-8")
        assert "diverged" in page and "SIGKILL" in page

    def test_run_again_failed_ones_are_tried_again_and_diverged_ones_are_not(self, failed, study, nets):
        from pathlib import Path

        folder, before = failed[0], toy_run.stamps(failed[0])
        states = {name: outcome["state"] for name, outcome in toy_run.outcomes(folder).items()}
        (Path(nets).parent / "healed").touch()
        assert typed("resume", folder, "--workers", 2) == EXIT_FAILED_TRIALS, "what diverged is still there"
        after = toy_run.stamps(folder)
        assert {name for name in before if before[name] == after[name]} == {
            name for name, state in states.items() if state in ("done", "diverged")
        }
        chapters = toy_run.numbers(folder)["chapters"]
        assert chapters["dies"]["outcomes"] == chapters["raises"]["outcomes"] == {"done": 1}
        assert chapters["noise"]["outcomes"] == {"done": 2, "failed": 1}


def test_one_diverging_chapter_leaves_the_others_alone(base, tmp_path, capsys):
    folder = toy_run.copied(tmp_path / "diverging")
    words = ("run", toy_run.study_file(), "--out", folder, "--workers", 2)
    assert typed(*words, "--set", "cnn.recipe.rate=1e30") == EXIT_FAILED_TRIALS
    before, after = toy_run.stamps(base), toy_run.stamps(folder)
    assert {name: after[name] for name in before} == before
    told, was = toy_run.numbers(folder)["chapters"], toy_run.numbers(base)["chapters"]
    assert told["cnn"]["outcomes"] == {"diverged": 2} and told["noise"]["outcomes"] == {"failed": 6}
    assert told["generator"]["outcomes"] == {"failed": 6}
    assert all(told[name] == was[name] for name in ("images", "mlp", "scaled-twice", "sweep", "denoiser"))
    assert "diverged" in (folder / "report.html").read_text(encoding="utf-8")
    assert typed("status", folder) == EXIT_OK
    assert "14 outcomes of other settings, data or versions of inklab also here" in capsys.readouterr().out
    assert typed(*words) == EXIT_OK, "without that change everything is there already"
    assert toy_run.numbers(folder)["chapters"] == was


def interrupted(words, runs, send, stop):
    """Type a command, stop it as soon as something was computed; what it said."""
    command = [sys.executable, "-m", "inklab", *words, "--workers", "1"]
    surroundings = {**os.environ, "INKLAB_RUNS_DIR": str(runs)}
    told = []
    with subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, start_new_session=True, env=surroundings,
        # A suite that a shell runs in the background ignores Ctrl-C, and so would what it starts.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    ) as process:  # fmt: skip
        for line in process.stderr:
            told.append(line)
            if "] done " in line and "rehearsal" not in line and "names" not in line:
                send(process.pid, stop)
                break
        told += process.stderr.readlines()
    assert process.returncode == EXIT_INTERRUPTED, "".join(told)
    return told


def test_interrupted_it_goes_on_and_ends_in_the_same_numbers(base, tmp_path):
    kept = {}
    # Ctrl-C reaches the whole process group, a `kill` only the driver. Without a name, the latest is resumed.
    for words, send, stop in (
        (["run", toy_run.study_file()], os.killpg, signal.SIGINT),
        (["resume"], os.kill, signal.SIGTERM),
    ):
        told = interrupted(words, tmp_path, send, stop)
        assert told[-1].startswith("inklab: interrupted; what is finished is kept"), "".join(told)
        assert not [line for line in told if "Traceback" in line]
        folder = (tmp_path / "latest").resolve()
        stamps = toy_run.stamps(folder)
        assert len(kept) < len(stamps) < toy_run.TRIALS + toy_run.EVALUATIONS
        assert {name: stamps[name] for name in kept} == kept
        left = [path for path in folder.glob("work/**/*") if path.is_file()]
        assert all("checkpoints" in path.parts for path in left), "nothing but checkpoints waits for a resume"
        assert "waiting" in json.dumps(toy_run.numbers(folder)["chapters"])
        kept = stamps
    toy_run.drive(folder, workers=1)
    assert {name: toy_run.stamps(folder)[name] for name in kept} == kept and not (folder / "work").exists()
    assert toy_run.numbers(folder) == toy_run.numbers(base) and toy_run.weights(folder) == toy_run.weights(
        base
    )


class TestMoved:
    @pytest.fixture(scope="class")
    @staticmethod
    def moved(tmp_path_factory):
        """A copy elsewhere, under another name, without its images."""
        folder = toy_run.copied(tmp_path_factory.mktemp("else where") / "renamed run")
        plan = json.loads((folder / "plan.json").read_text(encoding="utf-8"))
        plan["data"]["source"] = "/nowhere/toy.npz"
        (folder / "plan.json").write_text(json.dumps(plan), encoding="utf-8")
        return folder

    @pytest.mark.parametrize(
        "words", [["show"], ["show", "--json"], ["status"], ["status", "--json"]], ids=" ".join
    )
    def test_it_can_be_shown(self, moved, words, capsys):
        assert typed(words[0], moved, *words[1:]) == EXIT_OK
        assert "sweep" in capsys.readouterr().out

    def test_it_can_be_compared(self, moved, capsys):
        assert typed("compare", moved, "mlp", "sweep:l2=0.1") == EXIT_OK
        assert "mlp" in capsys.readouterr().out

    def test_it_can_be_reported(self, moved, capsys):
        (moved / "report.html").unlink(missing_ok=True)
        assert typed("report", moved) == EXIT_OK
        assert capsys.readouterr().out.strip() == str(moved / "report.html")
        page = (moved / "report.html").read_text(encoding="utf-8")
        assert "A toy" in page and "<svg" in page and str(toy_run.finished()) not in page

    def test_reading_writes_nothing_there(self, moved, capsys, tmp_path):
        def everything():
            return {path: path.stat().st_mtime_ns for path in [moved, *moved.rglob("*")]}

        before = everything()
        for words in (
            ["show", moved],
            ["show", moved, "--json"],
            ["status", moved],
            ["report", moved, "--out", tmp_path / "elsewhere"],
            ["compare", moved, "mlp", "cnn"],
        ):
            assert typed(*words) == EXIT_OK
        assert everything() == before
        assert {path.name for path in (tmp_path / "elsewhere").iterdir()} == {
            "figures", "report.html", "results.json",
        }  # fmt: skip
