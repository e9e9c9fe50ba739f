"""A run directory as an object: estimates, comparisons, tables, figures, trained models, raw records."""

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple, get_args

import numpy as np
from jaxtyping import Bool

from inklab.data.dataset import Dataset
from inklab.errors import ConfigError, DataError, RunError, UnknownNameError
from inklab.format import format_outcomes, format_setting
from inklab.io.files import gc_paused
from inklab.metrics import REPORTED_METRIC, SELECTION_METRIC, SPLIT_LABELS, Split
from inklab.notebook import Columns, FilePath, Row, as_frame, as_rows
from inklab.ood import ReferenceImages, TrainingRun
from inklab.records.components import Pipeline
from inklab.records.manifest import find_model_dir
from inklab.records.outcomes import EvaluationOutcome, Snapshot, TrialOutcome, count_outcomes
from inklab.records.plan import Plan, SettingRef, TrainingPlan
from inklab.records.record import PLAN_FILE, RESULTS_FILE
from inklab.records.results import Results, TrainingResults
from inklab.results.arrays import Arrays, StoredArrays
from inklab.results.comparison import Comparison, Side, compare_images, compare_sides, unknown_metric
from inklab.results.frames import (
    FRAMES,
    Estimates,
    FrameKind,
    RunTrial,
    Spread,
    corruption_error_columns,
    estimate_columns,
    history_columns,
    list_trials,
    prediction_columns,
    robustness_columns,
    run_html,
    text_columns,
    trial_columns,
)
from inklab.results.run_images import RunImages
from inklab.results.summarize import compute_results, find_best, summarize_training
from inklab.study.run_directory import RunDirectory, find_run
from inklab.usercode import is_user_code, reference, short_name

if TYPE_CHECKING:
    from pandas import DataFrame
    from torch import Tensor

    from inklab.corruptions.filters import Filter
    from inklab.evaluation.trained_pipeline import TrainedPipeline
    from inklab.model import TrainedModel
    from inklab.report.figures import Figure

Over = Literal["auto", "replicates", "images"]
"""What a comparison is over."""

OVERS, SPREADS = get_args(Over), get_args(Spread)


REPORT_SUFFIXES = (".html", ".htm", ".pdf")
"""Of files that a person may expect `report` to write; it writes several, into a directory."""


class HistoryRow(NamedTuple):
    """One point of a learning curve.

    Attributes:
        setting: values of the setting as text; "" where nothing varies.
        replicate: replicate of the trial.
        epoch: from 1.
        split: the images that were measured.
        metric: without its split, such as "loss".
        value: a share in [0, 1] if the metric is one; None where it is not finite.
    """

    setting: str
    replicate: int
    epoch: int
    split: Split
    metric: str
    value: float | None


class Run(TrainingRun):
    """A run: its estimates, comparisons, tables, figures and trained models. In a notebook it shows itself.

    It is read when something is first needed, and then stays as it was: `refresh` reads a run again that is
    still going on. Only `report` writes.

    Args:
        path: the run directory.
        dataset: its images, if at hand; otherwise they are loaded by the dataset's name when first needed.
        snapshot: an already loaded snapshot, to avoid re-reading.

    Raises:
        RunError: the path is not a run directory.

    Example:
        >>> import inklab
        >>> run = inklab.train("mlp", "mnist-5k", grid={"l2": [0.0, 1e-4]}, replicates=5)  # doctest: +SKIP
        >>> run.estimates()                                                       # doctest: +SKIP
        mlp:l2=0     94.12% (95% CI 93.80 to 94.44, n = 5)
        mlp:l2=1e-4  94.30% (95% CI 94.01 to 94.59, n = 5)
        >>> print(run.compare("mlp:l2=1e-4", "mlp:l2=0"))                         # doctest: +SKIP
        >>> run.to_pandas("history").groupby(["l2", "epoch"]).mean(numeric_only=True)  # doctest: +SKIP
        >>> run.model(l2=0.0).predict("photo.png")                                # doctest: +SKIP
    """

    def __init__(self, path: Path, dataset: Dataset | None = None, snapshot: Snapshot | None = None) -> None:
        self.path = path
        self._directory = RunDirectory.existing(path)
        self._given_dataset = dataset
        self._given_snapshot = snapshot

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r})"

    def _repr_html_(self) -> str:
        return run_html(self.plan, self.results, self.path)

    def refresh(self) -> "Run":
        """Read again what has changed: outcomes that are final are kept.

        Returns:
            The run itself.
        """
        earlier = vars(self).get("_snapshot") or self._given_snapshot
        self._given_snapshot = None
        for name in ("plan", "results", "figures", "_training", "_arrays"):
            vars(self).pop(name, None)
        vars(self)["_snapshot"] = self._directory.snapshot(earlier)
        return self

    # ------------------------------------------------------------ numbers

    def estimates(self, metric: str | None = None) -> Estimates:
        """A metric of every setting: mean over replicates with its interval. In a notebook it is a table.

        Args:
            metric: such as `test_accuracy` or `validation_loss`. If left out, `test_accuracy`; in a run of
                denoisers only, `test_bce`.

        Returns:
            A mapping from names that `compare` takes, such as "cnn" or "l2-sweep:l2=1e-5", to estimates. An
            experiment whose task has no such metric is left out.

        Raises:
            UnknownNameError: no trial has such a metric.
        """
        tasks = {planned.task for planned in self.plan.training}
        default = REPORTED_METRIC["denoising" if tasks == {"denoising"} else "classification"]
        name = metric or default
        settings = {
            label: setting.metrics
            for planned in self.plan.training
            for label, setting in zip(
                planned.setting_names, self._training_results(planned).settings, strict=True
            )
        }
        estimates = {label: metrics[name] for label, metrics in settings.items() if name in metrics}
        if not estimates and metric:
            known = dict.fromkeys(key for metrics in settings.values() for key in metrics)
            raise unknown_metric(metric, known)
        return Estimates(name, estimates, self.results.data.images_of(name))

    def compare(
        self,
        a: str,
        b: str | None = None,
        other: "Run | str | Path | None" = None,
        *,
        metric: str | None = None,
        over: Over | str = "auto",
        replicate: int | None = None,
    ) -> Comparison:
        """How much one setting differs from another: a - b, with interval and p value.

        Replicates are compared in pairs: replicate k has the same random streams in every setting. Across
        runs they pair if data, validation set and root seed are the same; otherwise Welch's test is used, and
        the sentence says so. A single pair of trained networks is compared image by image (McNemar).

        Args:
            a: an experiment such as "cnn", or one of its settings, such as "l2-sweep:l2=1e-5".
            b: what it is compared with; if left out, the same setting of the other run.
            other: the run that has b, if it is another one: a `Run` or its path.
            metric: only this one; all that both have if left out.
            over: "replicates" says what training again would give; "images" compares one trained network of
                each on the test images. "auto": images only where there are no two replicates to compare.
            replicate: over images, which one of both; the first that is done in each if left out.

        Raises:
            UnknownNameError: there is no such experiment, setting, metric or replicate.
            ConfigError: nothing to compare with is named, one trains nothing or has several settings, or the
                tasks differ.
            DataError: over images, and their labels are not at hand.

        Example:
            >>> import inklab
            >>> run = inklab.load("latest")                                       # doctest: +SKIP
            >>> run.compare("mlp-500-300", "mlp-64-64")                           # doctest: +SKIP
            Comparison(mlp-500-300 - mlp-64-64, test accuracy: +0.97 points (95% CI ...))
            >>> run.compare("cnn", other="runs/digits/1c0ffee0")                  # doctest: +SKIP
        """
        _check_choice("kind of comparison", over, OVERS)
        if b is None and other is None:
            raise ConfigError(f"'{a}' needs something to compare with: another setting, or another run")
        run = other if isinstance(other, Run) else Run(Path(other)) if other is not None else self
        first = Side(a, self.plan.find_setting(a), self.plan, self.outcomes)
        name, is_here = a if b is None else b, run.path.resolve() == self.path.resolve()
        label = name if is_here else f"{name} of {run.path.name}"
        second = Side(label, run.plan.find_setting(name), run.plan, run.outcomes)
        comparison = None if over == "images" else compare_sides(first, second)
        if comparison is None:
            comparison = self._compare_images(first, second, run, replicate)
        elif over == "auto" and not comparison.is_tested and first.task == "classification":
            with suppress(DataError, RunError):  # without predictions or labels, replicates are all there is
                comparison = self._compare_images(first, second, run, replicate)
        return comparison if metric is None else comparison.only(metric)

    def _compare_images(self, a: Side, b: Side, other: "Run", replicate: int | None) -> Comparison:
        if a.task == b.task != "classification":
            raise ConfigError(f"'{a.name}' is a denoiser; only classifiers are compared over images")
        if self.plan.data.sha256 != other.plan.data.sha256:
            raise DataError("the runs have different data, so they have no test images in common")
        replicate_a, correct_a = self._predicted_correctly(a, replicate)
        replicate_b, correct_b = other._predicted_correctly(b, replicate)
        return compare_images(a, b, (replicate_a, replicate_b), (correct_a, correct_b))

    def _predicted_correctly(self, side: Side, replicate: int | None) -> tuple[int, Bool[np.ndarray, " n"]]:
        """The replicate that stands for a setting, and which test images it classifies rightly."""
        trial = self._done_trial(side.name, side.trials, replicate)
        labels, arrays = self.images.test_labels(), self.arrays(trial)
        if labels is None or len(arrays.get("predicted", ())) != len(labels):
            raise DataError(
                f"the test images of '{self.path}' have no labels or predictions here"
                f"{f': {reason}' if (reason := self.images.why_missing) else ''}, or compare over replicates"
            )
        return side.trials.index(trial), np.asarray(arrays["predicted"] == labels)

    # ------------------------------------------------------------ tables

    @property
    def trials(self) -> list[RunTrial]:
        """Every training: its experiment, setting, replicate, state, metrics and learning curves."""
        return list_trials(self.plan, self.outcomes)

    def rows(self, kind: FrameKind | str = "trials", experiment: str | None = None) -> list[Row]:
        """A tidy table as a list of dictionaries; see `to_pandas`.

        Raises:
            UnknownNameError: there is no such table or experiment.
        """
        return as_rows(self._columns(kind, experiment))

    def to_pandas(self, kind: FrameKind | str = "trials", experiment: str | None = None) -> "DataFrame":
        """A tidy table as a DataFrame: one row a case, one column a variable.

        All tables have `experiment`, `setting` (as text) and a column for each key that a grid varies.
        Accuracies, recalls and other shares lie in [0, 1]; what was not measured is missing.

        Args:
            kind: "trials": one row a training, with `replicate`, `state`, every metric, `epochs`, `seconds`,
                `parameters`, `trial` (its id) and `reason` (why it is not done).
                "history": one row a training and epoch.
                "estimates": one row a setting and metric: `mean`, `sd`, `n`, `ci95_low`, `ci95_high` (over
                replicates), `ci95_images_low`, `ci95_images_high` (over images).
                "robustness": one row a pipeline, replicate and strength: `recall`, `accuracy`, `ece` and
                `recall_<class>`.
                "corruption_errors": one row a corruption, pipeline and replicate: `accuracy`,
                `corruption_error` (relative to the baseline) and `relative_corruption_error`.
                "predictions": one row a test image and training: `index`, `label`, `predicted`, `confidence`;
                `label` is missing if the data is not at hand.
            experiment: only this one.

        Raises:
            UnknownNameError: there is no such table or experiment.
            ConfigError: pandas is not installed; `rows` needs none.

        Example:
            >>> import inklab
            >>> trials = inklab.load("latest").to_pandas()                        # doctest: +SKIP
            >>> trials.groupby("experiment")["test_accuracy"].describe()          # doctest: +SKIP
        """
        return as_frame(self._columns(kind, experiment))

    def table(
        self,
        *metrics: str,
        experiment: str | None = None,
        spread: Spread | str = "ci95",
    ) -> "DataFrame":
        """Settings by metrics as text for a paper, such as "97.84 ± 0.12".

        Args:
            metrics: a column each; those that are reported of the run's tasks if left out.
            experiment: only this one.
            spread: after ±: "ci95", half the 95% interval over replicates (Student's t), or "sd".

        Raises:
            UnknownNameError: there is no such experiment, or no trial has such a metric.
            ConfigError: pandas is not installed.

        Example:
            >>> import inklab
            >>> table = inklab.load("latest").table("test_accuracy", "test_ece")  # doctest: +SKIP
            >>> print(table.to_latex(index=False, escape=True))                   # doctest: +SKIP
        """
        _check_choice("spread", spread, SPREADS)
        tasks = dict.fromkeys(planned.task for planned in self.plan.training)
        for metric in metrics:
            self.estimates(metric)
        names = metrics or tuple(REPORTED_METRIC[task] for task in tasks)
        return as_frame(text_columns(self.results, names, self._check_experiment(experiment), spread))

    def _columns(self, kind: str, experiment: str | None) -> Columns:
        name = self._check_experiment(experiment)
        match kind:
            case "estimates":
                return estimate_columns(self.results, name)
            case "robustness":
                return robustness_columns(self.plan, self.evaluations, name)
            case "corruption_errors":
                return corruption_error_columns(self.results, name)
        trials = list_trials(self.plan, self.outcomes, name)
        match kind:
            case "trials":
                return trial_columns(trials)
            case "history":
                return history_columns(trials)
            case "predictions":
                done = [trial for trial in trials if trial.metrics]
                return prediction_columns(done, self.arrays, self.plan.data.labels, self.images.test_labels())
        raise UnknownNameError("table", kind, FRAMES)

    def _check_experiment(self, name: str | None) -> str:
        """Its name, or "" for all. Raises UnknownNameError: there is none."""
        return "" if name is None else self.plan.experiment(name).name

    # ------------------------------------------------------------ figures and report

    @cached_property
    def figures(self) -> "dict[str, Figure]":
        """Every figure that the outcomes allow, by name."""
        from inklab.report.figures import draw_figures

        return {figure.name: figure for figures in draw_figures(self).values() for figure in figures}

    def figure(self, name: str) -> "Figure":
        """A figure, such as "cnn-curves" or "robustness-confusion". In a notebook it shows itself.

        Raises:
            UnknownNameError: there is none of that name, or what it shows is not done yet.

        Example:
            >>> import inklab
            >>> inklab.load("latest").figure("cnn-curves").save("curves.pdf")     # doctest: +SKIP
        """
        if name not in self.figures:
            raise UnknownNameError("figure of this run", name, self.figures)
        return self.figures[name]

    def report(self, directory: str | Path | None = None) -> Path:
        """Compute the results again, draw the figures and write the report.

        Args:
            directory: where to; the run directory if left out.

        Returns:
            The path of `report.html`; a notebook shows it as a link.

        Raises:
            ConfigError: `directory` is a file, or named like one.
        """
        from inklab.report.page import write_report

        target = self.path if directory is None else Path(directory)
        if target.suffix.lower() in REPORT_SUFFIXES or target.is_file():
            raise ConfigError(
                f"'{target}' names a file; name a directory, in which report.html is written "
                "(a browser prints it to PDF)",
                key="output",
            )
        with gc_paused():
            snapshot = self._directory.snapshot()
            compute_results(self.path, snapshot).write(target / RESULTS_FILE)
            return FilePath(write_report(Run(self.path, self._given_dataset, snapshot), target))

    # ------------------------------------------------------------ what was planned, and what came out

    @cached_property
    def _snapshot(self) -> Snapshot:
        return self._given_snapshot or self._directory.snapshot()

    @cached_property
    def plan(self) -> Plan:
        """`plan.json`."""
        return self._given_snapshot.plan if self._given_snapshot else self._directory.plan()

    @property
    def outcomes(self) -> dict[str, TrialOutcome]:
        """Existing outcomes of trials, by id."""
        return self._snapshot.outcomes

    @property
    def evaluations(self) -> dict[str, EvaluationOutcome]:
        """Existing outcomes of evaluations, by id."""
        return self._snapshot.evaluations

    @cached_property
    def results(self) -> Results:
        """`results.json`; while there is none or the run is going on, computed from the outcomes."""
        if not self._directory.status_path.exists():
            with suppress(FileNotFoundError):
                return Results.read(self.path / RESULTS_FILE)
        return compute_results(self.path, self._snapshot)

    def history(self, experiment: str) -> list[HistoryRow]:
        """The learning curves of an experiment: setting by setting, replicate by replicate, epoch by epoch.

        Raises:
            UnknownNameError: there is no such experiment.
        """
        planned = self.plan.experiment(experiment)
        settings = planned.settings if isinstance(planned, TrainingPlan) else ()
        pairs = ((setting.label, self.outcomes.get(id)) for setting in settings for id in setting.trials)
        return [row for label, outcome in pairs if outcome for row in _history_rows(label, outcome)]

    # ------------------------------------------------------------ trained models

    def trial_for(self, experiment: str, replicate: int | None = None) -> str:
        """The trial representing an experiment: best setting by validation, first completed replicate.

        Args:
            experiment: its name, or one of its settings, such as "l2-sweep:l2=1e-5".
            replicate: which replicate; the first completed one if left out.

        Raises:
            UnknownNameError: there is no such experiment, setting or replicate.
            ConfigError: it trains nothing, or no setting can be chosen yet.
            RunError: its training is not done.
        """
        return self._done_trial(experiment, self._setting_for(experiment).setting.trials, replicate)

    def _done_trial(self, name: str, trials: Sequence[str], replicate: int | None) -> str:
        """The first of a setting's trials that is done, or a certain one."""
        if replicate is not None and not 0 <= replicate < len(trials):
            raise UnknownNameError("replicate", str(replicate), [str(k) for k in range(len(trials))])
        candidates = trials if replicate is None else trials[replicate : replicate + 1]
        outcomes = {trial: outcome for trial in candidates if (outcome := self._outcome(trial)) is not None}
        done = (trial for trial, outcome in outcomes.items() if outcome.is_done)
        if (trial := next(done, None)) is not None:
            return trial
        states = count_outcomes(candidates, outcomes)
        raise RunError(
            f"'{self.path}' has no trained network of '{name}': {format_outcomes(states)}; "
            f"finish it with inklab resume {self.path}"
        )

    def model_dir(self, experiment: str, replicate: int | None = None) -> Path:
        """The directory of the model representing an experiment; see `trial_for`."""
        return self._directory.model_dir(self.trial_for(experiment, replicate))

    def model(
        self,
        experiment: str | None = None,
        replicate: int | None = None,
        trust_code: Collection[str] = (),
        network: "str | Callable[..., object] | None" = None,
        **setting: object,
    ) -> "TrainedModel":
        """The model representing an experiment: best setting by validation, first completed replicate.

        Args:
            experiment: its name, or one of its settings; can be left out if only one trains networks.
            replicate: which replicate; the first completed one if left out.
            trust_code: code of your own that may be run, such as "my_net.py:Net".
            network: the class or function of your own that it was trained with; not needed in the session
                that trained it.
            setting: values of a grid, such as `l2=1e-5`; of several settings that have them, the best by
                validation.

        Raises:
            InklabError: see `trial_for` and `TrainedModel.load`.

        Example:
            >>> import inklab
            >>> inklab.load("latest").model("l2-sweep", l2=1e-5, replicate=2)     # doctest: +SKIP
        """
        from inklab.model import TrainedModel

        name = self._setting_name(experiment, setting)
        return TrainedModel.load(
            self.model_dir(name, replicate), network=network, trust_code=trust_code, run=self
        )

    def _setting_name(self, experiment: str | None, values: Mapping[str, object]) -> str:
        """What `plan.find_setting` calls the setting that arguments of `model` name."""
        if experiment is None:
            if len(self._training) != 1:
                listed = ", ".join(self._training) or "(none)"
                raise ConfigError(f"which experiment? Name one of those that train networks: {listed}")
            experiment = next(iter(self._training))
        if not values:
            return experiment
        planned = self._training.get(experiment) or self.plan.find_setting(experiment).experiment
        plain = {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}
        matches = [
            index
            for index, setting in enumerate(planned.settings)
            if all(key in setting.values and setting.values[key] == value for key, value in plain.items())
        ]
        if not matches:
            name = f"{planned.name}:{format_setting(plain)}"
            raise UnknownNameError("setting", name, planned.setting_names)
        results = self._training_results(planned).settings
        best = find_best([results[index] for index in matches], SELECTION_METRIC[planned.task])
        return planned.setting_names[matches[best or 0]]

    def pipeline(
        self,
        parts: "str | Sequence[str | Callable[..., Tensor]]",
        replicate: int | None = None,
        trust_code: Collection[str] = (),
    ) -> "TrainedPipeline":
        """A pipeline, used like one model: it predicts for images after denoising them.

        Args:
            parts: such as "denoiser+cnn", "median+cnn" or `[blur, "cnn"]` with a function of your own, see
                `pipeline_models`; trained parts are chosen as by `model`.
            replicate: of every trained part; of each the first completed one if left out.
            trust_code: code of your own that may be run.

        Raises:
            InklabError: see `pipeline_models`.
        """
        from inklab.evaluation.trained_pipeline import TrainedPipeline

        name = "+".join(map(short_name, _pipeline_of(parts).parts))
        return TrainedPipeline(name, tuple(self.pipeline_models(parts, replicate, trust_code)))

    def pipeline_models(
        self,
        pipeline: "str | Sequence[str | Callable[..., Tensor]]",
        replicate: int | None = None,
        trust_code: Collection[str] = (),
    ) -> "list[TrainedModel | Filter]":
        """The parts of a pipeline, in the order in which an image passes them.

        Args:
            pipeline: such as "denoiser+cnn", or a list of its parts. A part that is not an experiment is a
                filter: a registered name, `file.py:name`, which runs that file, or a function from images
                `(n, c, h, w)` in [0, 1] to such images.
            replicate: replicate of every trained part; of each the first completed one if left out.
            trust_code: code of your own that may be run.

        Raises:
            UnknownNameError: a part is neither an experiment nor a filter.
            ConfigError: the last part is not a classifier, or an earlier one is not a denoiser.
            InklabError: see `model`.
        """
        from inklab.corruptions.filters import filters

        checked = _pipeline_of(pipeline)
        own = filter(is_user_code, checked.parts)
        checked.check(
            {name: experiment.task for name, experiment in self._training.items()}, [*filters, *own]
        )
        return [
            self.model(part, replicate, trust_code)
            if part.partition(":")[0] in self._training
            else filters.resolve(part)
            for part in checked.parts
        ]

    @cached_property
    def _training(self) -> dict[str, TrainingPlan]:
        return {experiment.name: experiment for experiment in self.plan.training}

    def _setting_for(self, name: str) -> SettingRef:
        """The setting that is named, else the best of its experiment."""
        experiment = self._training.get(name)
        if experiment is not None and len(experiment.settings) > 1:
            best = self._training_results(experiment).best
            if best is not None:
                setting = next(setting for setting in experiment.settings if setting.values == best.values)
                return SettingRef(experiment, setting)
        return self.plan.find_setting(name)

    def _training_results(self, experiment: TrainingPlan) -> TrainingResults:
        """Of one experiment; computed from its outcomes alone unless `results.json` has it as it is planned.

        The file is older than the plan while a run is being extended, or after it was killed.
        """
        if (self.path / RESULTS_FILE).is_file():
            written = self.results.training.get(experiment.name)
            planned = [setting.values for setting in experiment.settings]
            if written is not None and [setting.values for setting in written.settings] == planned:
                return written
        return summarize_training(experiment, self.outcomes, self.plan.data)

    def _outcome(self, trial: str) -> TrialOutcome | None:
        """Of one trial, without reading those of all others for it."""
        if self._given_snapshot or "_snapshot" in vars(self):
            return self.outcomes.get(trial)
        return self._directory.outcome(trial)

    # ------------------------------------------------------------ arrays and images

    @cached_property
    def _arrays(self) -> StoredArrays:
        return StoredArrays(self.path, self.plan)

    def arrays(self, id: str) -> Arrays:
        """The arrays of a trial or an evaluation; empty if there are none.

        Raises:
            CorruptFileError: they are damaged, or not what is stored there.
        """
        return self._arrays(id)

    @cached_property
    def images(self) -> RunImages:
        """Its images and labels, as far as they are on this machine; nothing is downloaded for them."""
        return RunImages(self.plan, self._arrays, self._given_dataset)

    @property
    def dataset(self) -> Dataset | None:
        """The dataset of the run; None if it is not on this machine, or has changed since."""
        return self.images.dataset

    @property
    def reference_images(self) -> ReferenceImages | None:
        """What OOD scores compare inputs with: training images, else samples of them; None without any."""
        return self.images.reference_images

    @property
    def images_note(self) -> str:
        """What OOD scores lack, why, and what to do; "" with all training images."""
        return self.images.note


def run_of_model(folder: Path) -> tuple[Run, str] | None:
    """The run that a model's directory is in and the id of its trial; None for one that is in no run."""
    trial = folder.resolve().parent
    path = trial.parent.parent
    if trial.parent.name != "trials" or not (path / PLAN_FILE).is_file():
        return None
    run = Run(path)
    return (run, trial.name) if trial.name in run.plan.trials else None


def find_model_or_run(name: str) -> Path | Run:
    """The directory of a trained model, or else a run.

    Args:
        name: directory of a model, of its trial or of a run; or what `find_run` knows, such as "latest".

    Raises:
        DataError: the path is neither.
        RunError: there is no such path or run.
    """
    folder = find_model_dir(Path(name))
    if folder is not None:
        return folder
    try:
        return Run(find_run(name))
    except RunError:
        if not Path(name).exists():
            raise
        raise DataError(
            f"'{name}' is neither a trained model (model.json) nor a run ({PLAN_FILE})", key=name
        ) from None


def _history_rows(setting: str, outcome: TrialOutcome) -> list[HistoryRow]:
    history = outcome.history
    return [
        HistoryRow(setting, outcome.replicate, epoch, split, name.removeprefix(f"{split}_"), column[index])
        for index, epoch in enumerate(history.epoch)
        for name, column in history.columns.items()
        for split in SPLIT_LABELS
        if name.startswith(f"{split}_")
    ]


def _pipeline_of(parts: "str | Sequence[str | Callable[..., Tensor]]") -> Pipeline:
    """Its parts by name; functions get references."""
    return Pipeline(parts) if isinstance(parts, str) else Pipeline.of(*map(reference, parts))


def _check_choice(kind: str, value: str, known: Sequence[str]) -> None:
    if value not in known:
        raise UnknownNameError(kind, value, known)
