"""What a worker does with a job: check, train, evaluate. It writes drafts in the directory of its attempt."""

import functools
import math
import time
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import torch

from inklab.corruptions.filters import filters
from inklab.data.dataset import stratified_sample
from inklab.errors import WriteError
from inklab.evaluation.attacks import corruption_or_attack
from inklab.evaluation.generation import RealImages, evaluate_generation, real_images
from inklab.evaluation.robustness import robustness_curve
from inklab.io.tensor_file import write_arrays
from inklab.model import TrainedModel
from inklab.networks.layer_table import layer_table
from inklab.networks.layers import NormalizedModel
from inklab.records.manifest import Provenance
from inklab.records.outcomes import (
    Diagnosis,
    Environment,
    GenerationOutcome,
    History,
    RobustnessOutcome,
    TrialOutcome,
    TrialState,
)
from inklab.records.plan import GenerationEvaluation, RobustnessEvaluation, Trial
from inklab.records.recipe import Recipe
from inklab.records.status import Draft
from inklab.seeding import Seed
from inklab.study.jobs import (
    ARRAYS,
    SPLITS,
    CheckJob,
    Done,
    EvaluationJob,
    Job,
    JobContext,
    PreflightJob,
    TrainingJob,
    array_path,
)
from inklab.study.load import check_names
from inklab.study.run_directory import CHECKPOINTS
from inklab.training.batches import TensorSet, TrainingData, to_tensor_set
from inklab.training.checkpoint import CheckpointManager
from inklab.training.device_check import check_network
from inklab.training.diagnostics import diagnose_training
from inklab.training.evaluate import final_metrics
from inklab.training.objectives import objectives
from inklab.training.population import PopulationSpec
from inklab.training.trainer import TrainingResult, train_population
from inklab.usercode import is_user_code

Arrays = dict[str, np.ndarray]

MAX_GUESS_LOSSES = 100.0
"""A training loss beyond so many times that of guessing is no result: healthy trainings end below one."""


@runtime_checkable
class JobReporter(Protocol):
    """What a job can report to the process that drives the run, and ask it."""

    def epoch_ended(self, epoch: int, epochs: int, train_loss: float) -> None:
        """Report an epoch of a training."""

    def warn(self, message: str) -> None:
        """Report something that the user should know."""

    def checkpoint_written(self, path: Path) -> None:
        """Report a checkpoint, the directory `path`, which lies below the attempt's `checkpoints`."""

    def should_stop(self) -> bool:
        """Whether the job is to end; asking also counts as a heartbeat."""


def run_job(job: Job, context: JobContext, attempt_dir: Path, reporter: JobReporter) -> Done:
    """Run a job; its drafts `trials/<id>` and `evaluations/<id>` and its checkpoints lie in `attempt_dir`.

    Raises:
        TrainingInterrupted: a training was asked to stop, and has left a checkpoint.
        WriteError: the disk refuses.
    """
    done = Done(job, (), attempt_dir)
    match job:
        case CheckJob():
            check_names(job.spec)
            return done
        case PreflightJob():
            data = training_data(context)
            traits = check_network(
                job.key, job.config, data.shape, len(context.labels), len(data.train), context.device,
                compiled=context.compile,
            )  # fmt: skip
            if traits.device_check and not traits.device_check.passed:
                reporter.warn(f"it is {traits.device_check.description}")
            return replace(done, traits=traits)
        case TrainingJob():
            _train(job, context, attempt_dir, reporter)
            return replace(done, drafts=tuple(Draft(kind="trials", id=id) for id in job.ids))
        case EvaluationJob():
            _evaluate(job.evaluation, context, attempt_dir / "evaluations" / job.evaluation.id)
            return replace(done, drafts=(Draft(kind="evaluations", id=job.evaluation.id),))


@functools.lru_cache(maxsize=1)
def training_data(context: JobContext) -> TrainingData:
    """The run's images as tensors; read once a process."""

    def read(split: str) -> TensorSet:
        pixels, labels = (
            np.load(array_path(context.run_directory, split, array), allow_pickle=False) for array in ARRAYS
        )
        return to_tensor_set(pixels, labels)

    train, validation, test = map(read, SPLITS)
    return TrainingData(train, validation, test, context.labels)


# ---------------------------------------------------------------- training


def _train(job: TrainingJob, context: JobContext, attempt_dir: Path, reporter: JobReporter) -> None:
    data, group = training_data(context), job.group
    population = PopulationSpec(
        trials=job.trials, stacked=group.stacked, reseed_each_step=group.reseed_each_step, seed=context.seed,
        population_size=group.population_size, compiled=group.compiled, device=group.device,
    )  # fmt: skip
    on_gpu = group.device == context.device.name
    environment = Environment.current(context.threads).model_copy(
        update={
            "precision": job.trials[0].config.precision,
            "members": len(job.trials) if group.stacked else 1,
            "stacked": group.stacked,
            "device": group.device,
            "gpu": (context.device.hardware or None) if on_gpu else None,
        }
    )
    # Training resumes from what earlier attempts at this job left, also those of another session.
    earlier = sorted(attempt_dir.parent.glob(f"*/{CHECKPOINTS}"))
    checkpoints = CheckpointManager(
        attempt_dir / CHECKPOINTS, earlier, reporter.warn, context.checkpoint_every, reporter.should_stop,
        on_write=reporter.checkpoint_written,
    )  # fmt: skip
    report = functools.partial(_report_diagnoses, reported=set(), reporter=reporter)

    def diagnose_first_epoch(trial: Trial, net: NormalizedModel, history: History) -> None:
        if len(history.epoch) == 1 < trial.config.recipe.epochs:  # the last epoch is diagnosed in any case
            report(diagnose_training(trial, net.cpu(), history, data, context.seed))

    results = train_population(population, data, reporter.epoch_ended, checkpoints, diagnose_first_epoch)
    for error in dict.fromkeys(result.compile_error for result in results if result.compile_error):
        reporter.warn(f"its training step could not be compiled, so it ran uncompiled: {error}")
    for result in results:
        folder = attempt_dir / "trials" / result.trial.id
        ran_on = environment.model_copy(update={"compiled": result.compiled})
        report(_write_trial(result, data, context, folder, ran_on).diagnoses)


def _write_trial(
    result: TrainingResult, data: TrainingData, context: JobContext, folder: Path, environment: Environment
) -> TrialOutcome:
    """Evaluate a trained network, write its model, arrays and outcome, and return the outcome."""
    outcome = functools.partial(
        context.outcome, result.trial, history=result.history, seconds=result.seconds,
        parameters=sum(parameter.numel() for parameter in result.net.parameters()),
        layers=tuple(layer_table(result.net.cpu().net, data.shape)), environment=environment,
    )  # fmt: skip
    recipe = result.trial.config.recipe
    if divergence := result.divergence or _huge_loss(recipe, result.history, len(context.labels)):
        diagnoses = diagnose_training(
            result.trial, result.net, result.history, data, context.seed, divergence
        )
        evaluated = outcome(TrialState.DIVERGED, reason=divergence, diagnoses=diagnoses)
    else:
        try:
            evaluated = _evaluate_trial(result, data, context, folder, outcome)
        except WriteError:
            raise
        except Exception:  # one trial's evaluation must not cost its group the training
            evaluated = outcome(TrialState.FAILED, reason=traceback.format_exc())
    evaluated.write(folder / "outcome.json")
    return evaluated


def _huge_loss(recipe: Recipe, history: History, n_classes: int) -> str | None:
    """Why a training whose loss is finite has diverged, if it has; losses of users' objectives are unknown.

    Example:
        >>> _huge_loss(Recipe(), History(epoch=(1,), train_loss=(3805.0,)), 10)
        'the training loss is 3,805 in the last epoch, 1,652 times that of guessing'
        >>> _huge_loss(Recipe(), History(epoch=(1,), train_loss=(2.3,)), 10)
    """
    keeps_best = recipe.early_stopping is not None and recipe.early_stopping.restore_best
    if keeps_best or is_user_code(recipe.objective) or not history.train_loss:
        return None
    is_classifier = objectives.resolve(recipe.objective).task == "classification"
    guess_loss = math.log(max(n_classes, 2) if is_classifier else 2)
    loss = history.train_loss[-1] or 0.0
    if loss <= MAX_GUESS_LOSSES * guess_loss:
        return None
    return (
        f"the training loss is {loss:,.0f} in the last epoch, {loss / guess_loss:,.0f} times that of guessing"
    )


def _evaluate_trial(
    result: TrainingResult,
    data: TrainingData,
    context: JobContext,
    folder: Path,
    outcome: "functools.partial[TrialOutcome]",
) -> TrialOutcome:
    """Compute a network's metrics and diagnoses; write its model and arrays."""
    trial, objective = result.trial, objectives.resolve(result.trial.config.recipe.objective)
    device = torch.device(outcome.keywords["environment"].device)
    metrics, arrays, absent = final_metrics(
        result.net.to(device), objective, trial.config.recipe, data.to(device), Seed(context.seed),
        trial.config.metrics,
    )  # fmt: skip
    result.net.cpu()
    if not all(map(math.isfinite, metrics.values())):
        reason = "its metrics after the last epoch are NaN or infinite"
        return outcome(TrialState.DIVERGED, reason=reason)
    is_classifier = objective.task == "classification"
    provenance = Provenance(
        trial=trial.id, replicate=trial.replicate, seed=context.seed, data_sha256=context.data_sha256,
        environment=outcome.keywords["environment"],
    )  # fmt: skip
    model = TrainedModel.of(
        result.net, trial.config.network, objective.task, context.labels, context.preprocessing,
        provenance=provenance, metrics=metrics,
    )  # fmt: skip
    diagnoses = diagnose_training(
        trial, result.net, result.history, data, context.seed, test_predictions=arrays.get("predicted")
    )
    if absent:
        diagnoses += (_absent_metrics(absent),)
    weights_sha256 = model.save(folder / "model")
    name = "predictions" if is_classifier else "examples"
    write_arrays(folder / f"{name}.safetensors", {key: np.asarray(value) for key, value in arrays.items()})
    return outcome(TrialState.DONE, metrics=metrics, diagnoses=diagnoses, weights_sha256=weights_sha256)


def _report_diagnoses(diagnoses: Sequence[Diagnosis], reported: set[str], reporter: JobReporter) -> None:
    """Report diagnoses of a job's trials, each once."""
    for diagnosis in diagnoses:
        if diagnosis.name not in reported:
            reporter.warn(f"diagnosis {diagnosis.name}: {diagnosis.message}; {diagnosis.advice}")
            reported.add(diagnosis.name)


def _absent_metrics(reasons: Mapping[str, str]) -> Diagnosis:
    """What became of metrics of the user's own that could not be computed."""
    clauses = [f"'{name}' is absent, because {reason}" for name, reason in reasons.items()]
    return Diagnosis(
        name="metric-absent",
        message=f"Of the metrics of your own, {'; '.join(clauses)}.",
        advice="Correct the function and run again; its code is part of a trial, so it is trained anew.",
    )


# ---------------------------------------------------------------- evaluations


def _evaluate(
    evaluation: RobustnessEvaluation | GenerationEvaluation, context: JobContext, folder: Path
) -> None:
    """Compute an evaluation; write its arrays and outcome."""
    started = time.perf_counter()
    outcome: RobustnessOutcome | GenerationOutcome
    if isinstance(evaluation, RobustnessEvaluation):
        outcome, arrays = _evaluate_robustness(evaluation, context)
    else:
        outcome, arrays = _evaluate_generation(evaluation, context)
    write_arrays(folder / "arrays.safetensors", arrays)
    update = {"seconds": time.perf_counter() - started, "environment": Environment.current(context.threads)}
    outcome.model_copy(update=update).write(folder / "outcome.json")


def _load_model(context: JobContext, trial: str) -> TrainedModel:
    return TrainedModel.load(context.run_directory.model_dir(trial), trust_code=context.trust_code)


def _evaluate_robustness(
    evaluation: RobustnessEvaluation, context: JobContext
) -> tuple[RobustnessOutcome, Arrays]:
    data, seed = training_data(context), Seed(context.seed)
    labels = data.test.labels.numpy()
    indices = stratified_sample(labels, evaluation.images, seed / "noise images")
    models = iter([_load_model(context, trial) for trial in evaluation.depends_on])
    denoisers = [
        filters.resolve(part) if is_user_code(part) or part in filters else next(models).denoise
        for part in evaluation.denoisers
    ]

    def denoise(images: torch.Tensor) -> torch.Tensor:
        return functools.reduce(lambda inputs, step: step(inputs), denoisers, images)

    curve = robustness_curve(
        next(models).net, data.test.pixels[torch.from_numpy(indices)], labels[indices],
        corruption_or_attack(evaluation.corruption, evaluation.attack_steps),
        strengths=evaluation.strengths, seed=seed / "noise", denoise=denoise if denoisers else None,
    )  # fmt: skip
    outcome = RobustnessOutcome(
        evaluation=evaluation, state=TrialState.DONE, recall=tuple(curve.recall.tolist()),
        recall_per_class=tuple(
            tuple(share if math.isfinite(share) else None for share in row)
            for row in curve.recall_per_class.tolist()
        ),
        accuracy=tuple(curve.accuracy.tolist()), ece=tuple(curve.ece.tolist()),
    )  # fmt: skip
    arrays = {
        "predicted": curve.predicted, "labels": labels[indices].astype(np.int16), "indices": indices,
        "corrupted": curve.corrupted, "denoised": curve.denoised,
    }  # fmt: skip
    return outcome, arrays


def _evaluate_generation(
    evaluation: GenerationEvaluation, context: JobContext
) -> tuple[GenerationOutcome, Arrays]:
    decoder, classifier = (_load_model(context, trial) for trial in evaluation.depends_on)
    real = _real_images(context, evaluation.depends_on[1], evaluation.replicate, evaluation.nn_images)
    seed = _sampler_seed(context, evaluation.replicate)
    train, test = training_data(context).train.pixels, training_data(context).test.pixels
    return evaluate_generation(evaluation, decoder, classifier, train, test, seed, real)


def _sampler_seed(context: JobContext, replicate: int) -> Seed:
    return Seed(context.seed) / "generator" / replicate


@functools.lru_cache(maxsize=2)
def _real_images(context: JobContext, classifier: str, replicate: int, nn_images: int) -> RealImages:
    """Kept in the process: half the work of a sampler's evaluation, and the same for all of them."""
    net, data = _load_model(context, classifier).net, training_data(context)
    return real_images(net, data.train.pixels, data.test.pixels, nn_images, _sampler_seed(context, replicate))
