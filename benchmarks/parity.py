"""The same numbers as Keras: from its initial weights and with its batches, inklab's first losses."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks.dataset_cache import cache_dataset
from benchmarks.keras_weights import convert_keras_weights
from benchmarks.options import WORK, Options
from benchmarks.peer_client import PEERS_PYTHON, run_module
from benchmarks.peers.arrays import read_labels, read_pixels
from benchmarks.records import ParityNetwork, ParityResults
from benchmarks.results_io import describe_measurement, log_progress, write_results
from benchmarks.training import make_config
from benchmarks.workloads import EPOCH_IMAGES, PARITY_CASES, ParityCase
from inklab.networks.layers import NormalizedModel
from inklab.records.recipe import Recipe
from inklab.seeding import Seed
from inklab.training.objectives import Batch, objectives
from inklab.training.optimizers import HyperParams, Tensors, make_optimizer
from inklab.training.population import build_normalized, l2_param_names, single_member, stack_states
from inklab.training.step import TrainStep

BACKENDS = ("tensorflow", "jax")
TOLERANCE = 1e-4
MEMBERS = 2  # dense networks are trained as in the study, in a population: here of two equal members

Arrays = dict[str, np.ndarray]


def measure_parity(options: Options) -> list[str]:
    """Compare every network of the study with Keras on two backends.

    Returns:
        A line per network, with the largest relative difference of its 50 losses from each backend's.

    Raises:
        BenchmarkError: Keras failed.
    """
    folder = cache_dataset()
    files: dict[str, Path] = {}
    for backend in BACKENDS:
        log_progress(f"parity: Keras on {backend}")
        files[backend] = _train_keras(backend, folder, next(iter(files.values()), None))
    keras = {backend: dict(np.load(path, allow_pickle=False)) for backend, path in files.items()}
    results = ParityResults(
        tolerance=TOLERANCE,
        networks={name: _compare_network(name, case, keras, folder) for name, case in PARITY_CASES.items()},
        measurement=describe_measurement(options.command),
    )
    write_results(options.output, "parity", results)
    return [_format_network(name, network) for name, network in results.networks.items()]


def _train_keras(backend: str, folder: Path, first: Path | None) -> Path:
    output = WORK / f"parity-{backend}.npz"
    arguments = [str(folder), str(output), *([str(first)] if first else [])]
    run_module("benchmarks.peers.keras_parity", arguments, {"KERAS_BACKEND": backend}, PEERS_PYTHON)
    return output


def _compare_network(name: str, case: ParityCase, keras: dict[str, Arrays], folder: Path) -> ParityNetwork:
    """Losses of inklab and of each backend, and how much they differ."""
    log_progress(f"parity: {name}")
    first = next(iter(keras.values()))
    losses = train_losses(case, _initial_weights(first, name), first[f"{name}.index"], folder)
    keras_losses = {backend: arrays[f"{name}.losses"] for backend, arrays in keras.items()}
    differences = {backend: relative_difference(losses, other) for backend, other in keras_losses.items()}
    return ParityNetwork(
        learning_rate=case.workload.learning_rate,
        l2=case.workload.l2,
        chaotic=case.chaotic,
        steps=len(losses),
        differences=differences,
        keras_difference=relative_difference(*list(keras_losses.values())[:2]),
        equal=max(differences.values()) <= TOLERANCE,
        losses=tuple(losses.tolist()),
        keras_losses={backend: tuple(other.tolist()) for backend, other in keras_losses.items()},
        versions={backend: str(arrays["versions"]) for backend, arrays in keras.items()},
    )


def relative_difference(losses: np.ndarray, reference: np.ndarray) -> float:
    """The largest relative difference of two rows of losses."""
    return float(np.max(np.abs(losses - reference) / np.abs(reference)))


def _initial_weights(arrays: Arrays, name: str) -> list[np.ndarray]:
    prefix = f"{name}.weights."
    return [
        arrays[f"{prefix}{position}"] for position in range(sum(key.startswith(prefix) for key in arrays))
    ]


def train_losses(case: ParityCase, weights: list[np.ndarray], index: np.ndarray, folder: Path) -> np.ndarray:
    """inklab's losses `(steps,)` in fp32, with L2 added, as Keras reports them.

    Args:
        case: which network.
        weights: Keras's initial kernels and biases, in its layout and order.
        index: `(steps, batch)` into the training images.
        folder: of the cached arrays.
    """
    net = _build_network(case, weights)
    recipe = make_config(case.workload, "fp32").recipe
    stacked = case.workload.network != "cnn"
    params, buffers = stack_states([net] * MEMBERS) if stacked else single_member(net)
    decayed = l2_param_names(net, recipe.l2_params) if recipe.l2 else frozenset[str]()
    optimizer = make_optimizer(recipe.optimizer, recipe.momentum)
    objective = objectives["reconstruct" if case.workload.denoises else "classify"]
    step = TrainStep(net, objective, optimizer, decayed, stacked=stacked, precision="fp32")
    state = step.init_state(params, buffers)
    losses: list[float] = []
    for batch in _make_batches(case, index, folder, stacked):
        state, loss = step(state, batch, {}, _hyper_params(recipe, len(losses), stacked))
        penalty = recipe.l2 * sum(float(_squared_norm(state.params[name], stacked)) for name in decayed)
        losses.append(float(loss[0] if stacked else loss) + penalty)
    return np.array(losses)


def _hyper_params(recipe: Recipe, step: int, stacked: bool) -> HyperParams:
    values = [torch.tensor(value) for value in (recipe.learning_rate, recipe.l2, recipe.momentum)]
    rate, l2, momentum = (value.expand(MEMBERS) if stacked else value for value in values)
    return HyperParams(rate, l2, momentum, torch.tensor(step, dtype=torch.float64))


def _squared_norm(kernel: Tensor, stacked: bool) -> Tensor:
    return (kernel[0] if stacked else kernel).square().sum()


def _make_batches(case: ParityCase, index: np.ndarray, folder: Path, stacked: bool) -> list[Batch]:
    def read_batches(name: str) -> Tensor:
        pixels = read_pixels(str(folder), name, EPOCH_IMAGES)[index]
        return torch.from_numpy(pixels).float().unsqueeze(2) / 255

    clean = read_batches("clean")
    inputs = read_batches("noisy") if case.workload.denoises else clean
    labels = torch.from_numpy(read_labels(str(folder), EPOCH_IMAGES)[index])
    batches = [Batch(*parts) for parts in zip(clean, labels, inputs, strict=True)]
    if not stacked:
        return batches
    return [Batch(*(torch.stack([part] * MEMBERS) for part in batch)) for batch in batches]


def _build_network(case: ParityCase, weights: list[np.ndarray]) -> NormalizedModel:
    """inklab's network with Keras's weights, in training mode."""
    config = make_config(case.workload, "fp32")
    changes: dict[str, dict[str, object]] = {
        "mlp": {"hidden": list(case.hidden)},
        "cnn": {"dropout": 0.0},
        "autoencoder": {},
    }
    network = config.network.with_kwargs(changes[case.workload.network])
    net = build_normalized(config.model_copy(update={"network": network}), (1, 28, 28), 10, Seed(0))
    params: Tensors = dict(net.named_parameters())
    with torch.no_grad():
        for param, array in zip(params.values(), weights, strict=True):
            param.copy_(torch.from_numpy(convert_keras_weights(array)))
    return net


def _format_network(name: str, network: ParityNetwork) -> str:
    differences = ", ".join(
        f"{network.versions[backend]}: {value:.1e}" for backend, value in network.differences.items()
    )
    conclusion = "chaotic at this rate" if network.chaotic else "equal" if network.equal else "NOT equal"
    return (
        f"parity/{name}: {network.steps} losses, largest relative difference from {differences}; "
        f"Keras against Keras {network.keras_difference:.1e}; {conclusion} ({TOLERANCE:g})"
    )
