"""Runs with realistic shapes and invented numbers, as typed records, for tests of what reads runs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from inklab.data.dataset import Dataset, ImageSet
from inklab.io.tensor_file import write_arrays
from inklab.metrics import Task
from inklab.records.components import NetworkConfig, NormalizeConfig, Pipeline, Preprocessing
from inklab.records.execution import ExecutionConfig
from inklab.records.outcomes import (
    Diagnosis,
    Environment,
    EvaluationOutcome,
    GenerationOutcome,
    RobustnessOutcome,
    Snapshot,
    TrialOutcome,
    TrialState,
)
from inklab.records.plan import (
    REAL_DATA,
    AnyExperimentPlan,
    DataInfo,
    DataPlan,
    FindingsPlan,
    GenerationEvaluation,
    GenerationPlan,
    GroupPlan,
    Plan,
    PlannedTrial,
    Reference,
    RobustnessEvaluation,
    RobustnessPlan,
    Setting,
    SplitCounts,
    TrainingPlan,
)
from inklab.records.recipe import Recipe, TrialConfig
from inklab.records.record import Record
from inklab.records.results import ExperimentResults, Results
from inklab.results.summarize import summarize
from inklab.runs import Run

CLASSES = 4
STRENGTHS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5)
PIPELINES = {"cnn": (0.98, 1.5), "denoiser+cnn": (0.95, 0.3), "median+cnn": (0.97, 0.7)}
"""Pipeline to its accuracy on clean images, and what a strength of 1 takes away."""
SAMPLERS = {"binary": (0.0, 90.0), "gaussian": (0.41, 20.0), "perturbed": (0.8, 9.0)}
"""Sampler to its confident share and Fréchet distance."""
CONFIDENCE = 0.9
"""Of every prediction under a corruption."""
L2_GAINS = {1e-6: 0.0, 1e-5: 0.0004, 1e-3: -0.02}

ENVIRONMENT = Environment(
    inklab="0.2.0", python="3.11.7", torch="2.13.0", numpy="2.4.6", platform="Linux x86_64",
    cpu="a processor", cores=2, threads=1,
)  # fmt: skip
DATA = DataInfo(
    dataset="mnist", sha256="a" * 64, shape=(1, 28, 28), labels=tuple(str(k) for k in range(CLASSES)),
    counts=SplitCounts(train=(13_750,) * CLASSES, validation=(1_250,) * CLASSES, test=(2_500,) * CLASSES),
    mean=0.1307, std=0.3081, preprocessing=Preprocessing(),
)  # fmt: skip


@dataclass
class SyntheticRun:
    """A run in memory; tests change it and then look at its results, or write it.

    Attributes:
        plan: what was planned.
        outcomes: of trials, by id.
        evaluations: outcomes of evaluations, by id.
        stored: arrays of trials and evaluations, by id.
        test_set: images of the dataset, for reports; None if it is not at hand.
    """

    plan: Plan
    outcomes: dict[str, TrialOutcome] = field(default_factory=dict)
    evaluations: dict[str, EvaluationOutcome] = field(default_factory=dict)
    stored: dict[str, dict[str, np.ndarray]] = field(default_factory=dict)
    test_set: ImageSet | None = None

    @property
    def results(self) -> Results:
        """Computed from the outcomes as they are now."""
        snapshot = Snapshot(self.plan, self.outcomes, self.evaluations)
        return replace(summarize(snapshot, self.stored.__getitem__), environment=ENVIRONMENT)

    def of(self, name: str) -> ExperimentResults:
        """Results of an experiment."""
        return self.results.experiments[name]

    def change_plan(self, **fields: object) -> None:
        """Give the plan other fields."""
        self.plan = replace(self.plan, **fields)

    def change_experiment(self, name: str, **fields: object) -> None:
        """Give an experiment of the plan other fields."""
        experiments = [
            replace(experiment, **fields) if experiment.name == name else experiment
            for experiment in self.plan.experiments
        ]
        self.change_plan(experiments=experiments)

    def change_metrics(self, trial: str, **metrics: float) -> None:
        """Give a trial other numbers."""
        outcome = self.outcomes[trial]
        self.outcomes[trial] = replace(outcome, metrics={**(outcome.metrics or {}), **metrics})

    def change_evaluation(self, id: str, **fields: object) -> None:
        """Give the outcome of an evaluation other fields."""
        self.evaluations[id] = replace(self.evaluations[id], **fields)

    def fail(self, trial: str, state: TrialState = TrialState.DIVERGED) -> None:
        """Let a trial come to nothing."""
        reason = "the loss became NaN in epoch 2"
        self.outcomes[trial] = replace(self.outcomes[trial], state=state, metrics=None, reason=reason)

    def write(self, path: Path, *, with_results: bool = True) -> Run:
        """Write it as a run directory, and open that."""
        self.plan.write(path / "plan.json")
        for id, outcome in (*self.outcomes.items(), *self.evaluations.items()):
            outcome.write(path / self._directory(id) / "outcome.json")
        for id, arrays in self.stored.items():
            write_arrays(path / self._directory(id) / f"{self._array_file(id)}.safetensors", arrays)
        dataset = self._write_samples(path)
        if with_results:
            self.results.write(path / "results.json")
        return Run(path, dataset, Snapshot(self.plan, dict(self.outcomes), dict(self.evaluations)))

    def _directory(self, id: str) -> str:
        return f"trials/{id}" if id in self.plan.trials else f"evaluations/{id}"

    def _array_file(self, id: str) -> str:
        if id not in self.plan.trials:
            return "arrays"
        return "examples" if "clean" in self.stored[id] else "predictions"

    def _write_samples(self, path: Path) -> Dataset | None:
        if self.test_set is None:
            return None
        labels = self.test_set.labels
        firsts = np.concatenate([np.flatnonzero(labels == label)[:10] for label in np.unique(labels)])
        samples = self.test_set.take(firsts)
        write_arrays(path / "samples.safetensors", {"pixels": samples.pixels, "labels": samples.labels})
        data = self.plan.data
        return Dataset(data.dataset, self.test_set, self.test_set, data.labels, data.preprocessing)


R = TypeVar("R", bound=Record)


def replace(record: R, **fields: object) -> R:
    """A record with other fields, validated."""
    values = {name: getattr(record, name) for name in type(record).model_fields}
    return type(record).model_validate({**values, **fields})


def make_plan(
    experiments: Sequence[AnyExperimentPlan], configs: Mapping[str, TrialConfig], data: DataInfo = DATA
) -> Plan:
    """A plan of experiments; the trials are those that they name, each in a group of its own."""
    trials = {
        trial: PlannedTrial(config=setting.config, replicate=replicate)
        for experiment in experiments
        if isinstance(experiment, TrainingPlan)
        for setting in experiment.settings
        for replicate, trial in enumerate(setting.trials)
    }
    groups = tuple(
        GroupPlan(trials=(trial,), stacked=False, reseed_each_step=False, population_size=1, compiled=False)
        for trial in trials
    )
    return Plan(
        study="digits", title="Digits", profile="quick", seed=0, data=data,
        execution=ExecutionConfig(precision="fp32"), configs=dict(configs), experiments=tuple(experiments),
        trials=trials, groups=groups,
    )  # fmt: skip


def synthetic_run(replicates: int = 3, images: int = 800) -> SyntheticRun:
    """All kinds of experiments of the digits study, everything done.

    Args:
        replicates: of cnn and denoiser.
        images: of the robustness experiment.
    """
    builder = _Builder()
    reference = Reference(
        source="the source", values={"test_accuracy": 0.1135, "parameters": 55050}, notes=("one run",)
    )
    builder.experiments.append(DataPlan(**_heading("data")))
    builder.train("mlp-64-64", 0.97, 3, references=(reference,))
    builder.train("scaled-twice", 0.1135, 1)
    builder.train("l2-sweep", 0.975, 6, l2_gains=L2_GAINS)
    builder.train("cnn", 0.99, replicates)
    builder.train("denoiser", 0.12, replicates, task="denoising")
    builder.evaluate_robustness(replicates, images)
    builder.evaluate_generation()
    builder.experiments.append(FindingsPlan(**_heading("findings")))
    run = builder.run()
    diagnosis = Diagnosis(name="inputs-scaled-twice", message="inputs lie below 0.004", advice="scale once")
    trial = "scaled-twice-0-0"
    run.outcomes[trial] = replace(run.outcomes[trial], diagnoses=(diagnosis,))
    return run


def _heading(name: str) -> dict[str, Any]:
    return {"name": name, "title": name, "question": f"What of {name}?"}


@dataclass
class _Builder:
    experiments: list[AnyExperimentPlan] = field(default_factory=list)
    configs: dict[str, TrialConfig] = field(default_factory=dict)
    outcomes: dict[str, TrialOutcome] = field(default_factory=dict)
    evaluations: dict[str, EvaluationOutcome] = field(default_factory=dict)
    stored: dict[str, dict[str, np.ndarray]] = field(default_factory=dict)

    def run(self) -> SyntheticRun:
        plan = make_plan(self.experiments, self.configs)
        return SyntheticRun(plan, self.outcomes, self.evaluations, self.stored)

    def train(
        self,
        name: str,
        level: float,
        n: int,
        *,
        task: Task = "classification",
        l2_gains: Mapping[float, float] | None = None,
        references: tuple[Reference, ...] = (),
    ) -> None:
        rng = np.random.default_rng(sum(name.encode()))
        luck = rng.normal(0, 0.0008, n)  # of a replicate, shared by all settings
        settings = []
        for index, (l2, gain) in enumerate((l2_gains or {0.0: 0.0}).items()):
            key = f"{name}-{index}"
            objective = "reconstruct" if task == "denoising" else "classify"
            config = TrialConfig(
                network=NetworkConfig.of("mlp"), normalize=NormalizeConfig(),
                recipe=Recipe(objective=objective, l2=l2), precision="fp32",
            )  # fmt: skip
            self.configs[key] = config
            trials = tuple(f"{key}-{k}" for k in range(n))
            values: dict[str, Any] = {"l2": l2} if l2_gains else {}
            settings.append(Setting(values=values, config=key, trials=trials))
            for k, trial in enumerate(trials):
                mean = level + gain + luck[k] + rng.normal(0, 0.0002)
                self.outcomes[trial] = outcome_of(trial, config, k, _metrics(mean, task))
        grid = ("l2",) if l2_gains else ()
        self.experiments.append(
            TrainingPlan(
                **_heading(name), task=task, grid=grid, settings=tuple(settings), references=references
            )
        )

    def evaluate_robustness(self, replicates: int, images: int) -> None:
        labels = (np.arange(images) % CLASSES).astype(np.uint8)
        planned = []
        for pipeline, (clean, slope) in PIPELINES.items():
            for k in range(replicates):
                trials = [f"denoiser-0-{k}"] * ("denoiser" in pipeline) + [f"cnn-0-{k}"]
                evaluation = RobustnessEvaluation(
                    id=robustness_id(pipeline, k), pipeline=Pipeline(pipeline), corruption="salt_and_pepper",
                    strengths=STRENGTHS, images=images, replicate=k, depends_on=tuple(trials),
                )  # fmt: skip
                planned.append(evaluation)
                rng = np.random.default_rng(k)  # the same images are hard for every pipeline
                hard, luck = rng.random(images), rng.normal(0, 0.002)
                is_right = np.stack([hard < clean + luck - slope * strength for strength in STRENGTHS])
                self._store_robustness(evaluation, labels, is_right)
        self.experiments.append(
            RobustnessPlan(
                **_heading("robustness"), corruption="salt_and_pepper", strengths=STRENGTHS, images=images,
                confusion_at=(0.0, 0.2), pipelines=tuple(Pipeline(name) for name in PIPELINES),
                baseline=Pipeline("cnn"), evaluations=tuple(planned),
            )
        )  # fmt: skip

    def _store_robustness(
        self, evaluation: RobustnessEvaluation, labels: np.ndarray, is_right: np.ndarray
    ) -> None:
        predicted = np.where(is_right, labels, (labels + 1) % CLASSES).astype(np.uint8)
        blank = np.zeros((len(STRENGTHS), 2, 1, 28, 28), np.uint8)
        self.stored[evaluation.id] = {
            "predicted": predicted, "labels": labels, "indices": np.arange(len(labels)),
            "corrupted": blank, "denoised": blank,
        }  # fmt: skip
        self.evaluations[evaluation.id] = robustness_outcome(evaluation, labels, is_right, CLASSES, 1.0)

    def evaluate_generation(self) -> None:
        shared: dict[str, Any] = {"samples": 10_000, "mixture_components": 5}
        shared |= {"max_fit_images": 1000, "nn_images": 10}
        planned = [
            GenerationEvaluation(
                id=f"generation-{name}", sampler=name, replicate=0,
                depends_on=("denoiser-0-0", "cnn-0-0"), **shared,
            )
            for name in (*SAMPLERS, REAL_DATA)
        ]  # fmt: skip
        for evaluation in planned:
            if evaluation.sampler == REAL_DATA:
                self.evaluations[evaluation.id] = GenerationOutcome(
                    evaluation=evaluation, state=TrialState.DONE, confident_share=0.97,
                    confident_share_reconstructed=0.89, frechet_distance=1.2, coverage=0.97, seconds=3.0,
                )  # fmt: skip
                continue
            share, frechet = SAMPLERS[evaluation.sampler]
            self.evaluations[evaluation.id] = GenerationOutcome(
                evaluation=evaluation, state=TrialState.DONE, confident_share=share,
                class_shares=(1 / CLASSES,) * CLASSES if share else None, frechet_distance=frechet,
                nn_distance=5.0, manifold_precision=0.9, coverage=share / 2, nearer_share=0.6,
            )  # fmt: skip
        self.experiments.append(
            GenerationPlan(
                **_heading("generation"), decoder="denoiser", classifier="cnn", samplers=tuple(SAMPLERS),
                evaluations=tuple(planned), **shared,
            )
        )  # fmt: skip


def robustness_id(pipeline: str, replicate: int) -> str:
    """Id of an evaluation of `synthetic_run`."""
    return f"robustness-{pipeline.replace('+', '-')}-{replicate}"


def robustness_outcome(
    evaluation: RobustnessEvaluation, labels: np.ndarray, is_right: np.ndarray, n_classes: int, seconds: float
) -> RobustnessOutcome:
    """The outcome of an evaluation that classified some images rightly, strength by strength."""
    per_class = [[float(row[labels == label].mean()) for label in range(n_classes)] for row in is_right]
    return RobustnessOutcome(
        evaluation=evaluation,
        state=TrialState.DONE,
        recall=tuple(float(np.mean(row)) for row in per_class),
        recall_per_class=tuple(tuple(row) for row in per_class),
        accuracy=tuple(float(row.mean()) for row in is_right),
        ece=tuple(abs(float(row.mean()) - CONFIDENCE) for row in is_right),
        seconds=seconds,
    )


def outcome_of(
    trial: str, config: TrialConfig, replicate: int, metrics: Mapping[str, float], **fields: object
) -> TrialOutcome:
    """The outcome of a trial that is done."""
    values = {
        "id": trial, "config": config, "replicate": replicate, "seed": 0, "data_sha256": "a" * 64,
        "numerics": 3, "state": TrialState.DONE, "parameters": 55_050, "metrics": metrics, "seconds": 2.0,
    }  # fmt: skip
    return TrialOutcome.model_validate({**values, **fields})


def _metrics(mean: float, task: Task) -> dict[str, float]:
    if task == "denoising":
        return {"test_bce": mean, "test_psnr": 15.0, "validation_bce": mean + 0.001, "validation_psnr": 15.1}
    loss = 3 * (1 - mean)
    return {
        "test_accuracy": mean, "test_loss": loss, "validation_accuracy": mean + 0.001, "validation_loss": loss
    }  # fmt: skip
