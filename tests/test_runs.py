"""A run directory as an object: what it reads, which trained model stands for an experiment, its arrays."""

import re
import shutil
import socket
from pathlib import Path

import numpy as np
import pytest
import toy_run
from synthetic_report import digits_plan, invent_outcomes, plan_of, write_report_run
from synthetic_run import SyntheticRun, replace, synthetic_run

from inklab.errors import ConfigError, CorruptFileError, InklabError, RunError, UnknownNameError
from inklab.io.tensor_file import read_arrays, write_arrays
from inklab.records.estimates import Difference, Estimate
from inklab.records.outcomes import TrialState
from inklab.results.arrays import ARRAY_SPECS, StoredArrays, check_arrays
from inklab.runs import Run


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Run:
    """A finished run of the built-in study; not to be changed."""
    return write_report_run(tmp_path_factory.mktemp("run"), digits_plan())


@pytest.fixture
def draft() -> SyntheticRun:
    return synthetic_run()


class TestReading:
    def test_everything_is_read_back(self, written):
        opened = Run(written.path)
        assert opened.plan == written.plan and opened.results == written.results
        assert opened.outcomes == written.outcomes and opened.evaluations == written.evaluations

    def test_results_come_from_the_file_or_are_computed_while_there_is_none(self, draft, tmp_path):
        with pytest.raises(RunError):
            Run(tmp_path)
        run = draft.write(tmp_path, with_results=False)
        results = draft.results
        assert Run(tmp_path).results.experiments == results.experiments
        assert not (run.path / "results.json").exists()
        another = results.model_copy(update={"title": "another"})
        another.write(tmp_path / "results.json")
        assert Run(tmp_path).results == another

    def test_images_are_those_of_the_data_set(self, written):
        samples = written.images.samples()
        assert np.bincount(samples.labels).tolist() == [10] * 10
        indices = np.array([3, 1])
        assert np.array_equal(written.images.test_images(indices), written.dataset.test.pixels[indices])
        assert np.array_equal(written.images.test_labels(), written.dataset.test.labels)

    def test_a_run_whose_data_is_not_at_hand_has_no_test_images(self, written):
        moved = Run(written.path)  # its dataset has a hash that no dataset has
        assert moved.dataset is None and moved.images.test_images(np.arange(2)) is None
        assert moved.images.test_labels() is None and moved.images.training_sets() is None
        assert moved.images.samples() is not None

    @pytest.mark.parametrize(
        ("dataset", "reason"),
        [
            ("kmnist", "'kmnist' is not on this machine; inklab data fetch kmnist downloads it"),
            ("arrays", r"'arrays' is not in this directory, or came from a Python session; inklab.Run\("),
            ("here.npz", r"'here.npz': images are \(1, 12, 12\), but preprocessing makes \(1, 28, 28\)"),
            ("/gone/stamps", "there is nothing at '/gone/stamps' any more; put them back there"),
            ("stamps.py:load", "'stamps.py:load' is code of yours, which is not run for that; inklab.Run"),
            ("mnist-5k", "'mnist-5k' has other images than the run was trained on; restore those"),
        ],
    )
    def test_why_images_are_missing_is_said_and_nothing_is_downloaded(
        self, draft, tmp_path, monkeypatch, dataset, reason
    ):
        def connect(*_):
            pytest.fail("a connection was tried")  # no error that a download would catch

        monkeypatch.delenv("INKLAB_OFFLINE", raising=False)
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        monkeypatch.setattr(socket, "getaddrinfo", connect)
        monkeypatch.setattr(socket.socket, "connect", connect)
        monkeypatch.chdir(tmp_path)  # a relative path is read like any other
        shutil.copy(toy_run.home() / "toy.npz", "here.npz")
        draft.change_plan(data=replace(draft.plan.data, dataset=dataset))
        draft.write(tmp_path / "run")
        run = Run(tmp_path / "run")
        assert run.dataset is None and re.search(reason, run.images.why_missing)
        assert re.search(rf"no training images at hand: {reason}", run.images_note)

    def test_history_has_one_row_for_each_value(self, written):
        rows = written.history("l2-sweep")
        trial = written.plan.experiment("l2-sweep").settings[1].trials[2]
        history = written.outcomes[trial].history
        own = [row for row in rows if (row.setting, row.replicate) == ("l2 = 5e-6", 2)]
        column = [row.value for row in own if (row.split, row.metric) == ("validation", "accuracy")]
        assert tuple(column) == history.validation_accuracy
        assert {row.epoch for row in own} == set(history.epoch)
        assert written.history("robustness") == []


class TestTrialFor:
    def test_the_first_replicate_that_is_done_stands_for_an_experiment(self, draft, tmp_path):
        assert draft.write(tmp_path).trial_for("cnn") == "cnn-0-0"
        draft.fail("cnn-0-0")
        draft.fail("scaled-twice-0-0", TrialState.LOST)
        run = draft.write(tmp_path)
        assert run.trial_for("cnn") == "cnn-0-1" == Run(tmp_path).trial_for("cnn")
        assert run.trial_for("cnn", 2) == "cnn-0-2"
        assert run.trial_for("l2-sweep:l2=0.000001", 1) == "l2-sweep-0-1"
        with pytest.raises(RunError, match="1 diverged"):
            run.trial_for("cnn", 0)
        with pytest.raises(RunError, match="1 lost"):
            run.trial_for("scaled-twice")

    @pytest.mark.parametrize("with_results", [True, False])
    def test_of_a_grid_it_is_the_best_setting_by_validation(self, draft, tmp_path, with_results):
        for k in range(6):
            draft.change_metrics(f"l2-sweep-2-{k}", test_accuracy=1.0)  # only the test set says so
        run = draft.write(tmp_path, with_results=with_results)
        assert run.trial_for("l2-sweep") == "l2-sweep-1-0"
        assert run.trial_for("l2-sweep", 3) == "l2-sweep-1-3"

    @pytest.mark.parametrize("written", [0, 1, 2])
    def test_results_that_are_older_than_the_plan_are_not_asked(self, draft, tmp_path, written):
        """The run was extended since: by the whole experiment, or by settings of its grid."""
        run = draft.write(tmp_path)
        newest = draft.results.experiments
        sweep = newest["l2-sweep"]
        settings = sweep.settings[:written]
        older = {**newest, "l2-sweep": sweep.model_copy(update={"settings": settings, "comparisons": ()})}
        if settings:
            values = {"best_setting": settings[0].values}
            older["l2-sweep"] = older["l2-sweep"].model_copy(update=values)
        else:
            del older["l2-sweep"]
        draft.results.model_copy(update={"experiments": older}).write(tmp_path / "results.json")
        assert Run(run.path).trial_for("l2-sweep") == "l2-sweep-1-0"

    def test_results_of_settings_that_are_no_longer_planned_are_not_asked(self, draft, tmp_path):
        draft.write(tmp_path)
        plan = draft.plan.experiment("l2-sweep")
        draft.change_experiment("l2-sweep", settings=(plan.settings[0], plan.settings[2]))
        draft.plan.write(tmp_path / "plan.json")
        assert Run(tmp_path).trial_for("l2-sweep") == "l2-sweep-0-0"

    @pytest.mark.parametrize(("name", "replicate"), [("cn", None), ("cnn", 3), ("cnn", -1)])
    def test_mistakes(self, draft, tmp_path, name, replicate):
        with pytest.raises(UnknownNameError):
            draft.write(tmp_path).trial_for(name, replicate)

    def test_nothing_is_done_yet(self, draft, tmp_path):
        draft.outcomes, draft.evaluations, draft.stored = {}, {}, {}
        run = draft.write(tmp_path, with_results=False)
        with pytest.raises(RunError, match="3 waiting"):
            run.trial_for("cnn")
        with pytest.raises(ConfigError, match="l2-sweep:l2=1e-5"):
            run.trial_for("l2-sweep")


@pytest.mark.parametrize(
    ("pipeline", "error"),
    [
        ("denoiser+cn", UnknownNameError),
        ("cnn+cnn", ConfigError),  # no denoiser in front
        ("denoiser", ConfigError),  # no classifier
        ("cnn+median", ConfigError),  # a filter is no classifier
        ("denoiser+", ConfigError),
    ],
)
def test_a_pipeline_is_denoisers_and_a_classifier(written, pipeline, error):
    with pytest.raises(error) as caught:
        written.pipeline_models(pipeline)
    assert type(caught.value) is error


class TestArrays:
    def test_those_of_trials_and_evaluations_are_read(self, written):
        stored = invent_outcomes(digits_plan()).stored
        assert stored.keys() == {*written.plan.trials, *written.plan.evaluations}
        for id, arrays in stored.items():
            read = written.arrays(id)
            assert read.keys() == arrays.keys()
            assert all(np.array_equal(read[name], arrays[name]) for name in arrays)

    def test_an_evaluation_that_lost_its_arrays_is_named(self, draft, tmp_path):
        id = next(iter(draft.evaluations))
        del draft.stored[id]
        for name in ("binary", "gaussian", "perturbed", "real_data"):
            draft.stored.pop(f"generation-{name}", None)
        plan = draft.plan
        assert StoredArrays(tmp_path, plan)(id) == {}
        with pytest.raises(CorruptFileError, match=id):
            StoredArrays(tmp_path, plan).finished(id)

    @pytest.mark.parametrize(
        ("name", "change"),
        [
            ("labels", lambda array: array + 1),  # class 10 of 10
            ("labels", lambda array: array[:-1]),
            ("labels", lambda array: array.astype(np.float32)),
            ("predicted", lambda array: array[:-1]),  # a strength is missing
            ("corrupted", lambda array: array[..., :-1]),
            ("corrupted", lambda array: array.astype(np.int16)),
            ("denoised", lambda array: array[:, :0]),
        ],
    )
    def test_arrays_that_contradict_the_plan_are_refused(self, written, tmp_path, name, change):
        planned = written.plan.experiment("robustness").evaluations[0]
        arrays = written.arrays(planned.id)
        file = tmp_path / "evaluations" / planned.id / "arrays.safetensors"
        write_arrays(file, {**arrays, name: change(arrays[name])})
        with pytest.raises(CorruptFileError):
            StoredArrays(tmp_path, written.plan)(planned.id)

    @pytest.mark.parametrize("confidence", [-0.1, 1.1, np.nan])
    def test_impossible_confidences_are_refused(self, confidence):
        arrays = {"predicted": np.zeros(2, np.int16), "confidence": np.array([0.5, confidence], np.float32)}
        with pytest.raises(CorruptFileError):
            check_arrays(arrays, Path("predictions.safetensors"), "predictions")

    def test_another_kind_of_file_is_refused(self, written):
        samples = read_arrays(written.path / "samples.safetensors")
        assert check_arrays(samples, Path("samples.safetensors"), "samples") is samples
        for kind in set(ARRAY_SPECS) - {"samples"}:
            with pytest.raises(InklabError):
                check_arrays(samples, Path("samples.safetensors"), kind)


class TestModels:
    @pytest.fixture(scope="class")
    @classmethod
    def toy(cls) -> Run:
        return Run(toy_run.finished())

    def trial(self, model) -> str:
        return model.manifest.provenance.trial

    def test_of_a_setting(self, toy):
        by_keyword = self.trial(toy.model("sweep", l2=1e-3, replicate=2))
        assert by_keyword == toy.trial_for("sweep:l2=0.001", 2) == self.trial(toy.model("sweep:l2=1e-3", 2))
        assert self.trial(toy.model("sweep", 1, l2=0)) == toy.trial_for("sweep:l2=0", 1)

    def test_mistakes(self, toy):
        with pytest.raises(UnknownNameError, match=r"sweep:l2 = 3.*sweep:l2=1e-3"):
            toy.model("sweep", l2=3)
        with pytest.raises(UnknownNameError, match="rate"):
            toy.model("sweep", rate=3)
        with pytest.raises(ConfigError, match="which experiment.*mlp, scaled-twice, sweep, cnn, denoiser"):
            toy.model()
        with pytest.raises(UnknownNameError, match="Did you mean 'sweep'"):
            toy.model("swep", l2=3)

    def test_one_experiment_needs_no_name_and_the_best_of_some_settings_is_taken(self, draft, tmp_path):
        """By name, since a synthetic run has no weights."""
        plan = draft.plan.experiment("l2-sweep")
        settings = [
            replace(setting, values={"l2": l2, "width": width})
            for setting, (l2, width) in zip(plan.settings, [(0, 8), (0, 16), (1, 8)], strict=True)
        ]
        plan = replace(plan, settings=settings, grid=("l2", "width"))
        trials = {id: entry for id, entry in draft.plan.trials.items() if id in plan.trials}
        groups = [group for group in draft.plan.groups if set(group.trials) <= set(plan.trials)]
        draft.change_plan(experiments=[plan], trials=trials, groups=groups)
        draft.outcomes = {id: draft.outcomes[id] for id in trials}
        draft.evaluations, draft.stored = {}, {}
        run = draft.write(tmp_path)
        assert run._setting_name(None, {"l2": 1}) == "l2-sweep:l2=1,width=8"
        assert run._setting_name(None, {"l2": 0}) == "l2-sweep:l2=0,width=16"  # the best by validation
        assert run._setting_name(None, {}) == "l2-sweep"


class TestRefreshing:
    def test_a_run_that_goes_on_is_read_again_when_asked(self, draft, tmp_path):
        missing = draft.outcomes.pop("cnn-0-2")
        draft.write(tmp_path, with_results=False)
        run = Run(tmp_path)
        assert run.estimates()["cnn"].n == 2 and [trial.state for trial in run.trials].count("waiting") == 1
        missing.write(tmp_path / "trials" / "cnn-0-2" / "outcome.json")
        assert run.estimates()["cnn"].n == 2, "it stays as it was"
        kept = run.outcomes["cnn-0-0"]
        assert run.refresh() is run and run.estimates()["cnn"].n == 3
        assert run.outcomes["cnn-0-0"] is kept, "final outcomes are not read again"

    def test_results_of_before_are_not_shown_while_it_goes_on(self, draft, tmp_path):
        missing = draft.outcomes.pop("cnn-0-2")
        run = draft.write(tmp_path)
        missing.write(tmp_path / "trials" / "cnn-0-2" / "outcome.json")
        assert run.refresh().estimates()["cnn"].n == 2, "results.json says so, and nothing drives the run"
        (tmp_path / "work").mkdir()
        (tmp_path / "work" / "status.json").write_text("{}")
        assert run.refresh().estimates()["cnn"].n == 3


class TestReport:
    def test_it_is_what_the_command_writes(self, tmp_path, cli):
        plan = plan_of(["mlp-64-64"])
        folders = (tmp_path / name / "run" for name in ("mine", "commands"))
        mine, commands = (write_report_run(folder, plan).path for folder in folders)
        page = Run(mine).report()
        assert page == mine / "report.html"
        assert cli("report", commands)[1].strip() == str(commands / "report.html")
        assert f">{page}</a>" in page._repr_html_()
        texts = [(path / "report.html").read_text().replace(str(path), "RUN") for path in (mine, commands)]
        assert texts[0] == texts[1]
        assert toy_run.results(mine) == toy_run.results(commands)
        figures = [sorted(file.name for file in (path / "figures").iterdir()) for path in (mine, commands)]
        assert figures[0] == figures[1] and "mlp-64-64-curves.svg" in figures[0], "they lie beside the page"

    def test_a_file_is_no_directory_to_write_to(self, tmp_path):
        run = Run(toy_run.copied(tmp_path / "run"))
        for name in ("report.pdf", "page.HTML", "run/plan.json"):
            with pytest.raises(ConfigError, match="names a file; name a directory"):
                run.report(tmp_path / name)
        assert not (tmp_path / "report.pdf").exists()

    @pytest.mark.integration
    def test_elsewhere(self, tmp_path):
        run = Run(toy_run.copied(tmp_path / "run"))
        before = toy_run.stamps(run.path)
        assert run.report(str(tmp_path / "out")) == tmp_path / "out" / "report.html"
        assert (tmp_path / "out" / "figures" / "cnn-curves.svg").is_file()
        assert not (run.path / "report.html").exists() and toy_run.stamps(run.path) == before


class TestInANotebook:
    def test_estimates_findings_and_where_it_lies(self, draft, tmp_path):
        html = draft.write(tmp_path)._repr_html_()
        estimate = draft.of("cnn").best.metrics["test_accuracy"]
        assert f"{100 * estimate.mean:.2f}%" in html and str(tmp_path) in html and "<a " not in html
        assert html.count("<li>") == len(draft.results.findings)

    def test_names_are_escaped_and_the_report_is_linked(self, draft, tmp_path, monkeypatch):
        draft.change_plan(title="<script>x</script>", study="a&b")
        path = tmp_path / "a'b <i>"
        run = draft.write(path)
        (path / "report.html").write_text("")
        monkeypatch.chdir(tmp_path)
        html = run._repr_html_()
        assert "<script" not in html and "<i>" not in html
        assert "href='a%27b%20%3Ci%3E/report.html'" in html

    def test_estimates_and_differences(self):
        estimate = Estimate(mean=0.5, sd=0.1, n=2, ci95=(0.4, 0.6), values=(0.4, 0.6))
        assert str(estimate) == "0.5000 (95% CI 0.4000 to 0.6000, n = 2)"
        assert "0.5000" in estimate._repr_html_() and "n = 2" in estimate._repr_html_()
        difference = Difference(mean=0.31, sd=0.17, n=5, ci95=(0.1, 0.52), p=0.04, mde=0.4)
        assert str(difference) == "+0.31 (95% CI +0.1 to +0.52, p = 0.04, n = 5)"
        assert "p = 0.04" in difference._repr_html_()
        assert "no value yet" in Estimate.empty()._repr_html_()
