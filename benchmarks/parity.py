"""The same numbers as Keras: from its initial weights and with its batches, our first losses by its own."""

import subprocess
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks.driver import PEERS_PYTHON, ROOT, WORK, BenchmarkError, environment
from benchmarks.images import lay_out
from benchmarks.layouts import laid_out
from benchmarks.peers.images import labels, pixels
from benchmarks.storing import Json, machine, note, store
from benchmarks.training import config_of
from benchmarks.works import EPOCH, PARITY, Case
from inklab.networks.layers import NormalizedModel
from inklab.seeding import Seed
from inklab.training.objectives import Batch, objectives
from inklab.training.optimizers import HyperParams, Tensors, make_optimizer
from inklab.training.population import build_normalized, single_member, stack_states, weight_decay_names
from inklab.training.step import TrainStep

BACKENDS = ("tensorflow", "jax")
TOLERANCE = 1e-4
SLOTS = 2  # dense networks are trained as the study does it, in a population: here of two equal members
TIME_LIMIT = 600


def parity(out: Path, command: str) -> list[str]:
    """Hold every network of the study against Keras on two backends.

    Returns:
        A line a network, with the largest relative difference of its 50 losses from each backend's.

    Raises:
        BenchmarkError: Keras failed.
    """
    folder = lay_out(WORK / "data")
    files: dict[str, Path] = {}
    for backend in BACKENDS:
        note(f"parity: Keras on {backend}")
        files[backend] = _keras(backend, folder, next(iter(files.values()), None))
    raw = {"name": "parity", "tolerance": TOLERANCE, "networks": _networks(files, folder), **machine(command)}
    store(out, raw)
    return lines(raw)


def _networks(files: dict[str, Path], folder: Path) -> Json:
    """Every network: our losses, those of each backend, and how far they are apart."""
    theirs = {backend: dict(np.load(path, allow_pickle=False)) for backend, path in files.items()}
    first = next(iter(theirs.values()))
    found = {}
    for name, case in PARITY.items():
        note(f"parity: {name}")
        ours = our_losses(case, _weights(first, name), first[f"{name}.index"], folder)
        keras = {backend: arrays[f"{name}.losses"] for backend, arrays in theirs.items()}
        apart = {backend: difference(ours, losses) for backend, losses in keras.items()}
        found[name] = {
            "rate": case.work.rate, "l2": case.work.l2, "chaotic": case.chaotic, "steps": len(ours),
            "apart": apart, "keras_apart": difference(*list(keras.values())[:2]),
            "equal": max(apart.values()) <= TOLERANCE,
            "ours": ours.tolist(), "keras": {backend: losses.tolist() for backend, losses in keras.items()},
            "versions": {backend: str(arrays["versions"]) for backend, arrays in theirs.items()},
        }  # fmt: skip
    return found


def difference(ours: np.ndarray, theirs: np.ndarray) -> float:
    """The largest relative difference of two rows of losses."""
    return float(np.max(np.abs(ours - theirs) / np.abs(theirs)))


def _weights(arrays: dict[str, np.ndarray], name: str) -> list[np.ndarray]:
    prefix = f"{name}.weights."
    return [arrays[f"{prefix}{place}"] for place in range(sum(key.startswith(prefix) for key in arrays))]


def _keras(backend: str, folder: Path, first: Path | None) -> Path:
    out = WORK / f"parity-{backend}.npz"
    command = [str(PEERS_PYTHON), "-m", "benchmarks.peers.keras_parity", str(folder), str(out)]
    command += [str(first)] if first else []
    if not PEERS_PYTHON.exists():
        raise BenchmarkError("parity needs Keras; run `make bench-setup` first")
    env = environment({"KERAS_BACKEND": backend})
    ran = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=TIME_LIMIT)
    if ran.returncode:
        last = (ran.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise BenchmarkError(f"Keras on {backend} ended with exit code {ran.returncode}: {last}")
    return out


def our_losses(case: Case, first: list[np.ndarray], index: np.ndarray, folder: Path) -> np.ndarray:
    """Our losses `(steps,)` in fp32, with L2 added, as Keras reports them.

    Args:
        case: which network.
        first: Keras's initial kernels and biases, in its layout and order.
        index: `(steps, batch)` into the training images.
        folder: where the images lie.
    """
    net = _net(case, first)
    recipe = config_of(case.work, "fp32").recipe
    stacked = case.work.network != "cnn"
    params, buffers = stack_states([net] * SLOTS) if stacked else single_member(net)
    decayed = weight_decay_names(net, recipe.l2_params) if recipe.l2 else frozenset[str]()
    optimizer = make_optimizer(recipe.optimizer, recipe.momentum)
    kind = objectives["reconstruct" if case.work.network == "autoencoder" else "classify"]
    step = TrainStep(net, kind, optimizer, decayed, stacked=stacked, precision="fp32")
    state = step.init_state(params, buffers)
    values = [torch.tensor(value) for value in (recipe.learning_rate, recipe.l2, recipe.momentum)]
    rate, l2, momentum = (value.expand(SLOTS) if stacked else value for value in values)
    losses: list[float] = []
    for batch in _batches(case, index, folder, stacked):
        hyper = HyperParams(rate, l2, momentum, torch.tensor(len(losses), dtype=torch.float64))
        penalty = recipe.l2 * sum(_squares(state.params[name], stacked) for name in decayed)
        state, loss = step(state, batch, {}, hyper)
        losses.append(float((loss[0] if stacked else loss) + penalty))
    return np.array(losses)


def _squares(kernel: Tensor, stacked: bool) -> Tensor:
    return (kernel[0] if stacked else kernel).square().sum()


def _batches(case: Case, index: np.ndarray, folder: Path, stacked: bool) -> list[Batch]:
    def images(name: str) -> Tensor:
        return torch.from_numpy(pixels(str(folder), name, EPOCH)[index]).float().unsqueeze(2) / 255

    clean = images("clean")
    inputs = images("noisy") if case.work.network == "autoencoder" else clean
    targets = torch.from_numpy(labels(str(folder), EPOCH)[index])
    batches = [Batch(*parts) for parts in zip(clean, targets, inputs, strict=True)]
    return (
        [Batch(*(torch.stack([part] * SLOTS) for part in batch)) for batch in batches] if stacked else batches
    )


def _net(case: Case, first: list[np.ndarray]) -> NormalizedModel:
    """Our network with Keras's weights, in training mode."""
    config = config_of(case.work, "fp32")
    changes = {"mlp": {"hidden": list(case.hidden)}, "cnn": {"dropout": 0.0}, "autoencoder": {}}
    network = config.network.with_kwargs(changes[case.work.network])
    net = build_normalized(config.model_copy(update={"network": network}), (1, 28, 28), 10, Seed(0))
    ours: Tensors = dict(net.named_parameters())
    with torch.no_grad():
        for value, theirs in zip(ours.values(), first, strict=True):
            value.copy_(torch.from_numpy(laid_out(theirs)))
    return net


def lines(raw: Json) -> list[str]:
    """What is printed."""
    found = []
    for name, told in raw["networks"].items():
        apart = ", ".join(
            f"{told['versions'][backend]}: {value:.1e}" for backend, value in told["apart"].items()
        )
        conclusion = "chaotic at this rate" if told["chaotic"] else "equal" if told["equal"] else "NOT equal"
        found.append(
            f"parity/{name}: {told['steps']} losses, largest relative difference from {apart}; "
            f"Keras from Keras {told['keras_apart']:.1e}; {conclusion} ({raw['tolerance']:g})"
        )
    return found
