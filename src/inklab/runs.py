"""A run directory as an object: what was planned, what came out, its images and its trained models."""

from collections.abc import Collection
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from jaxtyping import Integer

from inklab.data.dataset import Dataset, ImageSet, Labels, Pixels, split
from inklab.data.sources import load_dataset
from inklab.errors import InklabError, RunError, UnknownNameError
from inklab.format import format_outcomes
from inklab.metrics import SPLIT_LABELS, Split
from inklab.records.components import Pipeline
from inklab.records.outcomes import EvaluationOutcome, Snapshot, TrialOutcome, count_outcomes
from inklab.records.plan import Plan, SettingRef, TrainingPlan
from inklab.records.record import RESULTS_FILE
from inklab.records.results import Results, TrainingResults
from inklab.results.arrays import Arrays, StoredArrays
from inklab.results.summarize import compute_results, summarize_training
from inklab.study.run_directory import RunDirectory
from inklab.usercode import is_user_code

if TYPE_CHECKING:
    from inklab.corruptions.filters import Filter
    from inklab.model import TrainedModel


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


class Run:
    """A run, as it stood at first access. Reads lazily and writes nothing.

    Args:
        path: the run directory.
        dataset: its images, if at hand; otherwise they are loaded by the dataset's name when first needed.
        snapshot: an already loaded snapshot, to avoid re-reading.

    Raises:
        RunError: the path is not a run directory.
    """

    def __init__(self, path: Path, dataset: Dataset | None = None, snapshot: Snapshot | None = None) -> None:
        self.path = path
        self._directory = RunDirectory.existing(path)
        self._given_dataset = dataset
        self._given_snapshot = snapshot

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
        """`results.json`; while there is none, computed from the outcomes."""
        try:
            return Results.read(self.path / RESULTS_FILE)
        except FileNotFoundError:
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
        trials = self._setting_for(experiment).setting.trials
        if replicate is not None and not 0 <= replicate < len(trials):
            raise UnknownNameError("replicate", str(replicate), [str(k) for k in range(len(trials))])
        candidates = trials if replicate is None else trials[replicate : replicate + 1]
        outcomes = {trial: outcome for trial in candidates if (outcome := self._outcome(trial)) is not None}
        done = (trial for trial, outcome in outcomes.items() if outcome.is_done)
        if (trial := next(done, None)) is not None:
            return trial
        states = count_outcomes(candidates, outcomes)
        raise RunError(
            f"'{self.path}' has no trained network of '{experiment}': {format_outcomes(states)}; "
            f"finish it with inklab resume {self.path}"
        )

    def model_dir(self, experiment: str, replicate: int | None = None) -> Path:
        """The directory of the model representing an experiment; see `trial_for`."""
        return self._directory.model_dir(self.trial_for(experiment, replicate))

    def model(
        self, experiment: str, replicate: int | None = None, trust_code: Collection[str] = ()
    ) -> "TrainedModel":
        """The model representing an experiment: best setting by validation, first completed replicate.

        Args:
            experiment: its name, or one of its settings.
            replicate: which replicate; the first completed one if left out.
            trust_code: code of your own that may be run, such as "my_net.py:Net".

        Raises:
            InklabError: see `trial_for` and `TrainedModel.load`.
        """
        from inklab.model import TrainedModel

        return TrainedModel.load(self.model_dir(experiment, replicate), trust_code=trust_code)

    def pipeline_models(
        self, pipeline: str, replicate: int | None = None, trust_code: Collection[str] = ()
    ) -> "list[TrainedModel | Filter]":
        """The parts of a pipeline, in the order in which an image passes them.

        Args:
            pipeline: such as "denoiser+cnn"; a part that is not an experiment is a filter.
            replicate: replicate of every trained part; of each the first completed one if left out.
            trust_code: code of your own that may be run.

        Raises:
            UnknownNameError: a part is neither an experiment nor a filter.
            ConfigError: the last part is not a classifier, or an earlier one is not a denoiser.
            InklabError: see `model`.
        """
        from inklab.corruptions.filters import filters

        checked = Pipeline(pipeline)
        checked.check({name: experiment.task for name, experiment in self._training.items()}, filters)
        return [
            self.model(part, replicate, trust_code)
            if part.partition(":")[0] in self._training
            else filters[part]
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

    def samples(self) -> ImageSet | None:
        """The first training images of each class; stored in the run directory, so a moved run has them."""
        arrays = self._arrays.samples()
        return ImageSet(arrays["pixels"], arrays["labels"].astype(np.int64)) if arrays else None

    @cached_property
    def dataset(self) -> Dataset | None:
        """The dataset of the run; None if it is not at hand, or has changed since."""
        if self._given_dataset is not None:
            return self._given_dataset
        data = self.plan.data
        if is_user_code(data.dataset):  # a plan may come from anywhere; only code that the user names is run
            return None
        try:
            dataset = load_dataset(data.dataset, seed=self.plan.seed)
        except InklabError:
            return None
        return dataset if dataset.sha256 == data.sha256 else None

    def test_images(self, indices: Integer[np.ndarray, " m"]) -> Pixels | None:
        """Some images of the test set, if the data is at hand."""
        return None if self.dataset is None else self.dataset.test.pixels[indices]

    def test_labels(self) -> Labels | None:
        """All labels of the test set, if the data is at hand."""
        return None if self.dataset is None else self.dataset.test.labels

    def training_sets(self) -> tuple[ImageSet, ImageSet] | None:
        """Training and validation set as the study split them, if the data is at hand."""
        if self.dataset is None:
            return None
        parts = split(self.dataset, validation=self.plan.data.validation, seed=self.plan.seed)
        return parts.train, parts.validation


def _history_rows(setting: str, outcome: TrialOutcome) -> list[HistoryRow]:
    history = outcome.history
    return [
        HistoryRow(setting, outcome.replicate, epoch, split, name.removeprefix(f"{split}_"), column[index])
        for index, epoch in enumerate(history.epoch)
        for name, column in history.columns.items()
        for split in SPLIT_LABELS
        if name.startswith(f"{split}_")
    ]
