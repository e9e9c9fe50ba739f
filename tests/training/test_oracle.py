"""The engine against an ordinary PyTorch loop: `nn.Module`, autograd and `torch.optim`, written out.

The oracle gets the same initial weights, the same order and the same inputs, and nothing else.
"""

from collections import OrderedDict
from typing import Any

import numpy as np
import pytest
import torch
from synthetic_training import (
    assert_tensor_near,
    same_bits,
    train,
    train_one,
    trial_config,
    trials_of,
)
from torch import nn
from torch.nn import functional

from inklab.corruptions.corruption import corruptions
from inklab.networks.layers import Flatten
from inklab.networks.network import build_network
from inklab.records.components import NetworkConfig, NormalizeConfig
from inklab.records.recipe import Recipe, TrialConfig
from inklab.seeding import Seed
from inklab.training import optimizers

ROOT = 5
L2, L2_PARAMS = 1e-2, ("hidden.*.weight",)
NOISE = {"name": "salt_and_pepper", "strength": [0.4, 0.4]}


def plain_mlp() -> nn.Module:
    hidden = nn.Sequential(nn.Linear(144, 16), nn.ReLU(), nn.Linear(16, 12), nn.ReLU())
    return nn.Sequential(OrderedDict(flatten=nn.Flatten(), hidden=hidden, output=nn.Linear(12, 10)))


def plain_cnn() -> nn.Module:
    """Pooling after the last ReLU, as textbooks draw it; the parameter names are those of `cnn`."""
    features = OrderedDict(
        [("0", nn.Conv2d(1, 4, 3)), ("1", nn.ReLU()), ("2", nn.Conv2d(4, 8, 3)), ("3", nn.ReLU())]
    )
    parts = OrderedDict(features=nn.Sequential(features), pool=nn.MaxPool2d(2), flatten=Flatten())
    parts["hidden"] = nn.Sequential(nn.Linear(8 * 4 * 4, 16), nn.ReLU())
    parts["output"] = nn.Linear(16, 10)
    return nn.Sequential(parts)


def plain_autoencoder() -> nn.Module:
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(144, 24), nn.ReLU(), nn.Linear(24, 8), nn.ReLU())
    decoder = nn.Sequential(nn.Linear(8, 24), nn.ReLU(), nn.Linear(24, 144), nn.Unflatten(1, (1, 12, 12)))
    return nn.Sequential(OrderedDict(encoder=encoder, decoder=decoder))


SMALL = {
    "mlp": (NetworkConfig.of("mlp", hidden=[16, 12]), plain_mlp),
    "cnn": (NetworkConfig.of("cnn", channels=[4, 8], pool=2, dropout=0.0, hidden=16), plain_cnn),
    "autoencoder": (NetworkConfig.of("autoencoder", hidden=[24], code=8), plain_autoencoder),
}
CASES = {
    "mlp": ("mlp", {}),
    "mlp-l2": ("mlp", {"l2": L2, "l2_params": L2_PARAMS}),
    "mlp-momentum-cosine": ("mlp", {"learning_rate": 0.05, "momentum": 0.9, "schedule": "cosine"}),
    "mlp-adam": ("mlp", {"optimizer": "adam", "learning_rate": 1e-3}),
    "mlp-muon": (
        "mlp",
        {"optimizer": "muon", "learning_rate": 0.02, "momentum": 0.9, "l2": L2, "l2_params": L2_PARAMS},
    ),
    "mlp-linear": ("mlp", {"momentum": 0.9, "learning_rate": 0.05, "schedule": "linear", "warmup": 0.3}),
    "mlp-smoothed": ("mlp", {"objective": "classify-smoothed"}),
    "mlp-noise": ("mlp", {"corruption": NOISE}),
    "mlp-normalized": ("mlp", {"normalize": NormalizeConfig(mean=0.2, std=0.4)}),
    # At 0.1 the last bits of a convolution grow to 1e-4 within 40 steps.
    "cnn": ("cnn", {"learning_rate": 0.03}),
    "cnn-muon": ("cnn", {"optimizer": "muon", "learning_rate": 0.01, "momentum": 0.5}),
    "denoiser": (
        "autoencoder",
        {"objective": "reconstruct", "optimizer": "adam", "learning_rate": 1e-3, "corruption": NOISE},
    ),
}


def ordinary_loop(
    case: str, config: TrialConfig, data, replicate: int
) -> tuple[list[list[float]], nn.Module]:
    """Losses by epoch and step, and the network at the end."""
    recipe, seed = config.recipe, Seed(ROOT) / "replicate" / replicate
    net = SMALL[CASES[case][0]][1]()
    net.load_state_dict(build_network(config.network, (1, 12, 12), 10, seed / "weights").state_dict())
    optimizer = optimizer_for(net, recipe)
    count = len(data.train.labels)
    schedule = schedule_for(optimizer, recipe, recipe.epochs * -(-count // recipe.batch_size))
    losses: list[list[float]] = []
    for epoch in range(recipe.epochs):
        losses.append([])
        order = torch.randperm(count, generator=(seed / "order" / epoch).generator())
        for number, index in enumerate(order.split(recipe.batch_size)):
            images = data.train.pixels[index].float() / 255
            inputs = images
            if recipe.corruption:
                rng = (seed / "corruption" / epoch / number).generator()
                inputs = corruptions["salt_and_pepper"](images, 0.4, rng)
            output = net((inputs - config.normalize.mean) / config.normalize.std)
            loss = loss_of(recipe, output, images, data.train.labels[index])
            losses[-1].append(loss.item())
            hidden: Any = getattr(net, "hidden", None)
            kernels = [hidden[0].weight, hidden[2].weight] if recipe.l2 else []
            penalty = sum((kernel.square().sum() for kernel in kernels), torch.zeros(()))
            optimizer.zero_grad()
            (loss + recipe.l2 * penalty).backward()
            optimizer.step()
            schedule.step()
    return losses, net


def loss_of(recipe: Recipe, output: torch.Tensor, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    if recipe.objective == "reconstruct":
        return functional.binary_cross_entropy(output.sigmoid(), images)
    log_probabilities = output.log_softmax(1)
    loss = functional.nll_loss(log_probabilities, labels)
    if recipe.objective == "classify-smoothed":
        return 0.9 * loss - 0.1 * log_probabilities.mean()
    return loss


class KerasAdam(torch.optim.Adam):
    """torch's Adam with Keras's epsilon of 1e-7, which is added to the uncorrected root."""

    def step(self, closure=None):
        (group,) = self.param_groups
        self.steps = getattr(self, "steps", 0) + 1
        group["eps"] = 1e-7 / (1 - 0.999**self.steps) ** 0.5
        return super().step(closure)


class MuonBySvd(torch.optim.SGD):
    """SGD with Nesterov's momentum; steps of all kernels but the last are orthogonalized, by their SVD.

    `torch.optim.Muon` iterates in bf16, which does not agree to 1e-4.
    """

    def step(self, closure=None):
        (group,) = self.param_groups
        kernels = [value for value in group["params"] if value.dim() > 1]
        for value in group["params"]:
            velocity = self.state[value].setdefault("velocity", torch.zeros_like(value))
            velocity.mul_(group["momentum"]).add_(value.grad)
            direction = value.grad + group["momentum"] * velocity
            rate = group["lr"] * optimizers.MUON_OTHER_RATE
            if any(value is kernel for kernel in kernels[:-1]):
                rows, columns = direction.flatten(1).shape
                rate = group["lr"] * max(1, rows / columns) ** 0.5
                direction = by_svd(direction.flatten(1).double()).float().reshape(direction.shape)
            value.data.sub_(rate * direction)


def by_svd(matrix: torch.Tensor) -> torch.Tensor:
    left, values, right = torch.linalg.svd(matrix, full_matrices=False)
    a, b, c = optimizers.MUON_POLYNOMIAL
    values = values / values.norm()
    for _ in range(optimizers.MUON_ITERATIONS):
        values = a * values + b * values**3 + c * values**5
    return left @ values.diag() @ right


def schedule_for(optimizer: torch.optim.Optimizer, recipe: Recipe, steps: int):
    schedulers = torch.optim.lr_scheduler
    if recipe.schedule == "cosine":
        return schedulers.CosineAnnealingLR(optimizer, steps)
    if recipe.schedule == "linear":
        warmup_steps = round(recipe.warmup * steps)
        up = schedulers.LinearLR(optimizer, 1 / warmup_steps, 1.0, warmup_steps - 1)
        down = schedulers.LinearLR(optimizer, 1.0, 0.0, steps - warmup_steps)
        return schedulers.SequentialLR(optimizer, [up, down], [warmup_steps])
    return schedulers.ConstantLR(optimizer, 1.0)


def optimizer_for(net: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    if recipe.optimizer == "adam":
        return KerasAdam(net.parameters(), lr=recipe.learning_rate)
    if recipe.optimizer == "muon":
        return MuonBySvd(net.parameters(), lr=recipe.learning_rate, momentum=recipe.momentum)
    return torch.optim.SGD(net.parameters(), lr=recipe.learning_rate, momentum=recipe.momentum)


def assert_same_network(trained: nn.Module, plain: nn.Module) -> None:
    expected = list(plain.named_parameters())
    for (name, value), (_, plain_value) in zip(trained.named_parameters(), expected, strict=True):
        assert_tensor_near(value.detach(), plain_value.detach(), name)


@pytest.mark.parametrize("case", ["mlp", "mlp-l2", "cnn", "denoiser"])
def test_fifty_losses_equal_an_ordinary_loop(case, data):
    """One step for each epoch, so that every point of the history is the loss of one step."""
    small, recipe = CASES[case]
    config = trial_config(SMALL[small][0], **recipe, epochs=50, batch_size=200)
    expected, plain = ordinary_loop(case, config, data, replicate=2)
    result = train_one(config, data, replicate=2, stacked=small != "cnn", seed=ROOT)
    assert [len(epoch) for epoch in expected] == [1] * 50
    assert result.history.epoch == tuple(range(1, 51))
    np.testing.assert_allclose(result.history.train_loss, np.ravel(expected), rtol=1e-4)
    assert_same_network(result.net.net, plain)


@pytest.mark.parametrize("case", CASES)
def test_epochs_of_several_batches_equal_an_ordinary_loop(case, data):
    """Seven steps an epoch, the last with 8 images; an epoch's loss is the mean over its steps."""
    small, recipe = CASES[case]
    config = trial_config(SMALL[small][0], **recipe, epochs=3, batch_size=32)
    expected, plain = ordinary_loop(case, config, data, replicate=1)
    result = train_one(config, data, replicate=1, stacked=small != "cnn", seed=ROOT)
    assert [len(epoch) for epoch in expected] == [7] * 3
    np.testing.assert_allclose(result.history.train_loss, np.mean(expected, axis=1), rtol=1e-4)
    assert_same_network(result.net.net, plain)


@pytest.mark.parametrize("schedule", ["constant", "cosine", "linear"])
@pytest.mark.parametrize("warmup", [0.0, 0.3, 0.9])
def test_a_training_of_one_step_takes_it_at_the_full_rate(warmup, schedule, data):
    """Whatever the schedule: a single step is the first, the last and the peak."""
    config = trial_config(SMALL["mlp"][0], batch_size=200, schedule=schedule, warmup=warmup)
    plain = trial_config(SMALL["mlp"][0], batch_size=200)
    assert same_bits(train_one(config, data).net, train_one(plain, data).net)


def test_l2_is_not_in_the_reported_loss_and_acts_on_the_named_kernels_only(data):
    """A strength that moves kernels by their size in a step changes neither the loss nor other parameters."""
    bare, pulled = (
        trial_config(SMALL["mlp"][0], l2=l2, l2_params=["hidden.0.weight"], batch_size=200, learning_rate=0.1)
        for l2 in (0.0, 5.0)
    )
    first, other = train(trials_of((0, bare), (0, pulled)), data)
    assert first.history.train_loss == other.history.train_loss
    initial = build_network(bare.network, (1, 12, 12), 10, Seed(0) / "replicate" / 0 / "weights").state_dict()
    for name, value in first.net.net.state_dict().items():
        change = other.net.net.state_dict()[name] - value
        if name == "hidden.0.weight":  # one step of the penalty's gradient: -rate * 2 * l2 * w = -w
            torch.testing.assert_close(change, -initial[name], rtol=1e-5, atol=1e-6)
        else:
            assert torch.equal(change, torch.zeros_like(change)), name


def test_bf16_follows_fp32_at_a_distance(data):
    """The same training in fewer digits: near, but not the same."""
    configs = [trial_config(SMALL["mlp"][0], precision, epochs=3) for precision in ("fp32", "bf16")]
    ends = [train_one(config, data) for config in configs]
    fine, coarse = (end.history.train_loss for end in ends)
    assert fine != coarse
    np.testing.assert_allclose(coarse, fine, rtol=0.02)
    assert all(value.dtype == torch.float32 for value in ends[1].net.state_dict().values())
