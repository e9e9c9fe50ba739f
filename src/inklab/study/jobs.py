"""What a worker does: check, rehearse, train a group, compute an evaluation. It makes drafts only."""

import functools
import json
import math
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch

from inklab.corruptions.corruption import get_corruption
from inklab.corruptions.filters import filters
from inklab.data.dataset import stratified_split
from inklab.errors import WriteError
from inklab.evaluation.frechet import Moments
from inklab.evaluation.generation import evaluate_generation, reference_moments
from inklab.evaluation.robustness import robustness_curve
from inklab.hardware import environment
from inklab.io.documents import write_json
from inklab.io.tensor_file import write_arrays
from inklab.model import TrainedModel
from inklab.networks.layer_table import layer_table
from inklab.seeding import Seed
from inklab.study.job_context import ARRAYS, SPLITS, JobContext, array_path
from inklab.study.load import check_names
from inklab.study.run_directory import CHECKPOINTS
from inklab.study.spec import StudySpec
from inklab.training.batches import TensorSet, TrainingData, to_tensor_set
from inklab.training.checkpoint import CheckpointManager
from inklab.training.diagnostics import diagnose, trace_forward
from inklab.training.evaluate import evenly_spaced, final_scores
from inklab.training.objectives import objectives
from inklab.training.preflight import preflight
from inklab.training.trainer import PopulationJob, TrainingResult, Trial, train_population

DIAGNOSTIC_IMAGES = 2_000  # training images behind a verdict

Job = dict[str, Any]
"""`{"name", "kind": "check", "rehearse", "train", "noise" or "generator", ...}`: JSON for a worker."""


@runtime_checkable
class JobReporter(Protocol):
    """What a job can tell the driver, and ask it."""

    def epoch(self, epoch: int, epochs: int, loss: float) -> None:
        """An epoch of a training has ended."""

    def warn(self, text: str) -> None:
        """Something that the user should know."""

    def asked_to_stop(self) -> bool:
        """Whether the job is to end; asking also shows that it goes on."""


def run_job(job: Job, bench: JobContext, draft: Path, line: JobReporter) -> Any:
    """Do one job.

    Args:
        job: what to do.
        bench: what it needs.
        draft: folder of this attempt, for what it makes: `trials/<id>/...`, `evaluations/<id>/...` and
            checkpoints.
        line: to the driver.

    Returns:
        Facts of a rehearsal; otherwise the `(kind, id)` of each draft.

    Raises:
        TrainingInterrupted: a training was asked to stop, and has left a checkpoint.
        WriteError: the disk refuses.
    """
    if job["kind"] == "check":
        return check_names(StudySpec.model_validate(job["spec"]))
    if job["kind"] == "rehearse":
        data = training_data(bench)
        return preflight(job["settings"], data.shape, len(bench.labels)).to_json()
    if job["kind"] == "train":
        return _train(job, bench, draft, line)
    return _evaluate(job["evaluation"], bench, draft)


@functools.lru_cache(maxsize=1)
def training_data(bench: JobContext) -> TrainingData:
    """The run's images as tensors; read once a process."""

    def part(name: str) -> TensorSet:
        pixels, labels = (
            np.load(array_path(bench.folder, name, what), allow_pickle=False) for what in ARRAYS
        )
        return to_tensor_set(pixels, labels)

    train, validation, test = (part(name) for name in SPLITS)
    return TrainingData(train, validation, test, bench.labels)


# ---------------------------------------------------------------- training


def _train(job: Job, bench: JobContext, draft: Path, line: JobReporter) -> list[tuple[str, str]]:
    data = training_data(bench)
    trials = [Trial(each["id"], each["settings"], each["replicate"]) for each in job["trials"]]
    group = PopulationJob(trials, job["lifted"], job["random"], bench.seed, job["slots"], job["compiled"])
    ran = {
        **environment(bench.threads, torch.__version__), "precision": trials[0].settings["precision"],
        "members": len(trials) if group.lifted else 1, "lifted": group.lifted,
    }  # fmt: skip
    done = train_population(group, data, line.epoch, _checkpoint_manager(bench, draft, line))
    if group.compiled and not all(trained.compiled for trained in done):
        line.warn("its program could not be compiled, so it ran uncompiled; see inklab doctor")
    for trained in done:
        told = {**ran, "compiled": trained.compiled}
        _write_trial(trained, data, bench, draft / "trials" / trained.trial.id, told)
    return [("trials", trial.id) for trial in trials]


def _checkpoint_manager(bench: JobContext, draft: Path, line: JobReporter) -> CheckpointManager:
    """Goes on from what earlier attempts at this job left, also those of another session."""
    before = sorted(draft.parent.glob(f"*/{CHECKPOINTS}"))
    return CheckpointManager(
        draft / CHECKPOINTS, before, bench.checkpoint_every, line.asked_to_stop, line.warn
    )


def _write_trial(
    trained: TrainingResult, data: TrainingData, bench: JobContext, folder: Path, ran: dict[str, Any]
) -> None:
    trial = trained.trial
    outcome: dict[str, Any] = {
        "format": 1, "id": trial.id, "settings": trial.settings, "replicate": trial.replicate,
        "seed": bench.seed,
        "data_sha256": bench.data_sha256, "numerics": bench.numerics,
        "state": "diverged" if trained.diverged else "done", "reason": trained.diverged,
        "parameters": sum(p.numel() for p in trained.net.parameters()),
        "layers": [row.to_json() for row in layer_table(trained.net.net, data.shape)],
        "history": trained.history, "scores": None, "verdicts": [], "weights_sha256": None,
        "seconds": trained.seconds, "ran": ran,
    }  # fmt: skip
    if not trained.diverged:
        try:
            outcome |= _scored(trained, data, bench, folder, outcome)
        except WriteError:
            raise
        except Exception:  # one trial's scoring must not cost its group the training
            outcome |= {"state": "failed", "reason": traceback.format_exc()}
    write_json(folder / "outcome.json", outcome)


def _scored(
    trained: TrainingResult, data: TrainingData, bench: JobContext, folder: Path, outcome: dict[str, Any]
) -> dict[str, Any]:
    """Score a trained network and write its bundle; what changes in its outcome."""
    trial, objective = trained.trial, objectives[trained.trial.recipe.objective]
    scores, arrays = final_scores(trained.net, objective, trial.recipe, data, Seed(bench.seed))
    if not all(math.isfinite(score) for score in scores.values()):
        return {"state": "diverged", "reason": "its scores after the last epoch are NaN or infinite"}
    classifier = objective.target == "labels"
    found = []
    if classifier:
        index = evenly_spaced(len(data.train.labels), DIAGNOSTIC_IMAGES)
        found = diagnose(trace_forward(trained.net, data.train.images(index), data.train.labels[index]))
    made_by = {key: outcome[key] for key in ("id", "replicate", "seed", "data_sha256", "ran")}
    model, framing = trial.settings["model"], json.loads(bench.framing)
    bundle = TrainedModel(
        trained.net, model, data.shape, bench.labels, objective.target, framing, made_by, scores
    )
    digest = bundle.save(folder / "bundle")
    name = "predictions" if classifier else "examples"
    write_arrays(folder / f"{name}.safetensors", {key: np.asarray(value) for key, value in arrays.items()})
    return {"scores": scores, "verdicts": [each.to_json() for each in found], "weights_sha256": digest}


# ---------------------------------------------------------------- evaluations


def _evaluate(evaluation: dict[str, Any], bench: JobContext, draft: Path) -> list[tuple[str, str]]:
    began = time.perf_counter()
    compute = {"noise": _robustness, "generator": _generation}[evaluation["kind"]]
    numbers, arrays = compute(evaluation, bench)
    folder = draft / "evaluations" / evaluation["id"]
    write_arrays(folder / "arrays.safetensors", arrays)
    outcome = {
        "format": 1, **evaluation, "state": "done", "reason": None, **numbers,
        "seconds": time.perf_counter() - began, "ran": environment(bench.threads, torch.__version__),
    }  # fmt: skip
    write_json(folder / "outcome.json", outcome)
    return [("evaluations", evaluation["id"])]


def _robustness(
    evaluation: dict[str, Any], bench: JobContext
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    data = training_data(bench)
    labels = data.test.labels.numpy()
    seed = Seed(bench.seed)
    indices = stratified_split(labels, evaluation["images"], seed / "noise images")
    bundles = iter([bench.folder.bundle(trial) for trial in evaluation["needs"]])
    load = functools.partial(TrainedModel.load, trusted=bench.codes)
    parts = evaluation["pipeline"].split("+")
    cleaners = [filters[part].run if part in filters else load(next(bundles)).cleaned for part in parts[:-1]]
    curve = robustness_curve(
        load(next(bundles)).net,
        data.test.pixels[torch.from_numpy(indices)],
        labels[indices],
        get_corruption(evaluation["corruption"]),
        strengths=evaluation["strengths"],
        seed=seed / "noise",
        clean=_compose(cleaners),
    )
    numbers = {name: getattr(curve, name).tolist() for name in ("tpr", "tpr_per_class", "accuracy")}
    arrays = {
        "predicted": curve.predicted,
        "labels": labels[indices].astype(np.uint8),
        "indices": indices,
        "shown": curve.shown,
        "seen": curve.seen,
    }
    return numbers, arrays


def _compose(
    cleaners: list[Callable[[torch.Tensor], torch.Tensor]],
) -> Callable[[torch.Tensor], torch.Tensor] | None:
    if not cleaners:
        return None
    return lambda images: functools.reduce(lambda shown, clean: clean(shown), cleaners, images)


def _generation(
    evaluation: dict[str, Any], bench: JobContext
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    decoder, judge = (
        TrainedModel.load(bench.folder.bundle(trial), trusted=bench.codes) for trial in evaluation["needs"]
    )
    replicate = evaluation["replicate"]
    reference = _reference(bench, evaluation["needs"][1], replicate)
    return evaluate_generation(
        evaluation, decoder, judge, training_data(bench), _sampler_seed(bench, replicate), reference
    )


def _sampler_seed(bench: JobContext, replicate: int) -> Seed:
    return Seed(bench.seed) / "generator" / replicate


@functools.lru_cache(maxsize=2)
def _reference(bench: JobContext, judge: str, replicate: int) -> Moments:
    """Kept in the process: a third of the work of a sampler's evaluation, and the same for all of them."""
    bundle = TrainedModel.load(bench.folder.bundle(judge), trusted=bench.codes)
    return reference_moments(bundle, training_data(bench), _sampler_seed(bench, replicate))
