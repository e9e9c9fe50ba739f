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

from inklab.corruptions.corruption import find_corruption
from inklab.corruptions.filters import filters
from inklab.data.dataset import stratified
from inklab.errors import Unwritable
from inklab.evaluation.frechet import Moments
from inklab.evaluation.generation import generator_evaluation, reference_moments
from inklab.evaluation.robustness import noise_curve
from inklab.hardware import environment
from inklab.io.documents import write_json
from inklab.io.tensor_file import write_arrays
from inklab.model import Bundle
from inklab.networks.layer_table import layer_table
from inklab.seeding import Seed
from inklab.study.job_context import PARTS, WHATS, Bench, data_file
from inklab.study.load import check_names
from inklab.study.run_directory import CHECKPOINTS
from inklab.study.spec import StudySpec
from inklab.training.batches import Part, TrainingData, as_part
from inklab.training.checkpoint import Keeper
from inklab.training.diagnostics import verdicts, watch
from inklab.training.evaluate import final_scores, spread_out
from inklab.training.objectives import objectives
from inklab.training.preflight import rehearse
from inklab.training.trainer import Group, Trained, Trial, train_group

LOOKED_AT = 2_000  # training images behind a verdict

Job = dict[str, Any]
"""`{"name", "kind": "check", "rehearse", "train", "noise" or "generator", ...}`: JSON for a worker."""


@runtime_checkable
class Line(Protocol):
    """What a job can tell the driver, and ask it."""

    def epoch(self, epoch: int, epochs: int, loss: float) -> None:
        """An epoch of a training has ended."""

    def warn(self, text: str) -> None:
        """Something that the user should know."""

    def asked_to_stop(self) -> bool:
        """Whether the job is to end; asking also shows that it goes on."""


def perform(job: Job, bench: Bench, draft: Path, line: Line) -> Any:
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
        Interrupted: a training was asked to stop, and has left a checkpoint.
        Unwritable: the disk refuses.
    """
    if job["kind"] == "check":
        return check_names(StudySpec.model_validate(job["spec"]))
    if job["kind"] == "rehearse":
        data = resident(bench)
        return rehearse(job["settings"], data.shape, len(bench.labels)).to_json()
    if job["kind"] == "train":
        return _train(job, bench, draft, line)
    return _evaluate(job["evaluation"], bench, draft)


@functools.lru_cache(maxsize=1)
def resident(bench: Bench) -> TrainingData:
    """The run's images as tensors; read once a process."""

    def part(name: str) -> Part:
        pixels, labels = (np.load(data_file(bench.folder, name, what), allow_pickle=False) for what in WHATS)
        return as_part(pixels, labels)

    train, validation, test = (part(name) for name in PARTS)
    return TrainingData(train, validation, test, bench.labels)


# ---------------------------------------------------------------- training


def _train(job: Job, bench: Bench, draft: Path, line: Line) -> list[tuple[str, str]]:
    data = resident(bench)
    trials = [Trial(each["id"], each["settings"], each["replicate"]) for each in job["trials"]]
    group = Group(trials, job["lifted"], job["random"], bench.seed, job["slots"], job["compiled"])
    ran = {
        **environment(bench.threads, torch.__version__), "precision": trials[0].settings["precision"],
        "members": len(trials) if group.lifted else 1, "lifted": group.lifted,
    }  # fmt: skip
    done = train_group(group, data, line.epoch, _keeper(bench, draft, line))
    if group.compiled and not all(trained.compiled for trained in done):
        line.warn("its program could not be compiled, so it ran uncompiled; see inklab doctor")
    for trained in done:
        told = {**ran, "compiled": trained.compiled}
        _write_trial(trained, data, bench, draft / "trials" / trained.trial.id, told)
    return [("trials", trial.id) for trial in trials]


def _keeper(bench: Bench, draft: Path, line: Line) -> Keeper:
    """Goes on from what earlier attempts at this job left, also those of another session."""
    before = sorted(draft.parent.glob(f"*/{CHECKPOINTS}"))
    return Keeper(draft / CHECKPOINTS, before, bench.checkpoint_every, line.asked_to_stop, line.warn)


def _write_trial(
    trained: Trained, data: TrainingData, bench: Bench, folder: Path, ran: dict[str, Any]
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
        except Unwritable:
            raise
        except Exception:  # one trial's scoring must not cost its group the training
            outcome |= {"state": "failed", "reason": traceback.format_exc()}
    write_json(folder / "outcome.json", outcome)


def _scored(
    trained: Trained, data: TrainingData, bench: Bench, folder: Path, outcome: dict[str, Any]
) -> dict[str, Any]:
    """Score a trained network and write its bundle; what changes in its outcome."""
    trial, objective = trained.trial, objectives[trained.trial.recipe.objective]
    scores, arrays = final_scores(trained.net, objective, trial.recipe, data, Seed(bench.seed))
    if not all(math.isfinite(score) for score in scores.values()):
        return {"state": "diverged", "reason": "its scores after the last epoch are NaN or infinite"}
    classifier = objective.target == "labels"
    found = []
    if classifier:
        index = spread_out(len(data.train.labels), LOOKED_AT)
        found = verdicts(watch(trained.net, data.train.images(index), data.train.labels[index]))
    made_by = {key: outcome[key] for key in ("id", "replicate", "seed", "data_sha256", "ran")}
    model, framing = trial.settings["model"], json.loads(bench.framing)
    bundle = Bundle(trained.net, model, data.shape, bench.labels, objective.target, framing, made_by, scores)
    digest = bundle.save(folder / "bundle")
    name = "predictions" if classifier else "examples"
    write_arrays(folder / f"{name}.safetensors", {key: np.asarray(value) for key, value in arrays.items()})
    return {"scores": scores, "verdicts": [each.to_json() for each in found], "weights_sha256": digest}


# ---------------------------------------------------------------- evaluations


def _evaluate(evaluation: dict[str, Any], bench: Bench, draft: Path) -> list[tuple[str, str]]:
    began = time.perf_counter()
    compute = {"noise": _noise, "generator": _generator}[evaluation["kind"]]
    numbers, arrays = compute(evaluation, bench)
    folder = draft / "evaluations" / evaluation["id"]
    write_arrays(folder / "arrays.safetensors", arrays)
    outcome = {
        "format": 1, **evaluation, "state": "done", "reason": None, **numbers,
        "seconds": time.perf_counter() - began, "ran": environment(bench.threads, torch.__version__),
    }  # fmt: skip
    write_json(folder / "outcome.json", outcome)
    return [("evaluations", evaluation["id"])]


def _noise(evaluation: dict[str, Any], bench: Bench) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    data = resident(bench)
    labels = data.test.labels.numpy()
    seed = Seed(bench.seed)
    indices = stratified(labels, evaluation["images"], seed / "noise images")
    bundles = iter([bench.folder.bundle(trial) for trial in evaluation["needs"]])
    load = functools.partial(Bundle.load, trusted=bench.codes)
    parts = evaluation["pipeline"].split("+")
    cleaners = [filters[part].run if part in filters else load(next(bundles)).cleaned for part in parts[:-1]]
    curve = noise_curve(
        load(next(bundles)).net,
        data.test.pixels[torch.from_numpy(indices)],
        labels[indices],
        find_corruption(evaluation["corruption"]),
        strengths=evaluation["strengths"],
        seed=seed / "noise",
        clean=_chained(cleaners),
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


def _chained(
    cleaners: list[Callable[[torch.Tensor], torch.Tensor]],
) -> Callable[[torch.Tensor], torch.Tensor] | None:
    if not cleaners:
        return None
    return lambda images: functools.reduce(lambda shown, clean: clean(shown), cleaners, images)


def _generator(evaluation: dict[str, Any], bench: Bench) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    decoder, judge = (
        Bundle.load(bench.folder.bundle(trial), trusted=bench.codes) for trial in evaluation["needs"]
    )
    replicate = evaluation["replicate"]
    reference = _reference(bench, evaluation["needs"][1], replicate)
    return generator_evaluation(
        evaluation, decoder, judge, resident(bench), _drawing(bench, replicate), reference
    )


def _drawing(bench: Bench, replicate: int) -> Seed:
    return Seed(bench.seed) / "generator" / replicate


@functools.lru_cache(maxsize=2)
def _reference(bench: Bench, judge: str, replicate: int) -> Moments:
    """Kept in the process: a third of the work of a sampler's evaluation, and the same for all of them."""
    bundle = Bundle.load(bench.folder.bundle(judge), trusted=bench.codes)
    return reference_moments(bundle, resident(bench), _drawing(bench, replicate))
