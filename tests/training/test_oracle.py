"""The engine against an ordinary PyTorch loop: `nn.Module`, autograd and `torch.optim`, written out.

The oracle gets the same initial weights, the same order and the same inputs, and nothing else.
"""

from collections import OrderedDict
from typing import Any

import numpy as np
import pytest
import torch
from synthetic_training import (
    DENOISE,
    NOISE,
    SMALL_AUTOENCODER,
    SMALL_CNN,
    SMALL_MLP,
    KerasAdam,
    assert_tensor_near,
    orthogonalized_by_svd,
    same_bits,
    train,
    train_one,
    trial_config,
    trials_of,
)
from torch import nn
from torch.nn import functional
from torch.optim import swa_utils

from inklab.corruptions.corruption import corruptions
from inklab.networks.layers import Flatten
from inklab.networks.network import build_network
from inklab.records.components import NormalizeConfig
from inklab.records.recipe import Recipe, TrialConfig
from inklab.seeding import Seed
from inklab.training import optimizers

ROOT = 5
PULLED: dict[str, Any] = {"l2": 1e-2, "l2_params": ("hidden.*.weight",)}


def plain_mlp() -> nn.Module:
    hidden = nn.Sequential(nn.Linear(144, 16), nn.ReLU(), nn.Linear(16, 12), nn.ReLU())
    return nn.Sequential(OrderedDict(flatten=nn.Flatten(), hidden=hidden, output=nn.Linear(12, 10)))


def plain_cnn() -> nn.Module:
    """Pooling after the last ReLU, as textbooks draw it; the parameter names are those of `cnn`."""
    features = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 8, 3), nn.ReLU())
    hidden = nn.Sequential(nn.Linear(8 * 4 * 4, 16), nn.ReLU())
    parts = {"features": features, "pool": nn.MaxPool2d(2), "flatten": Flatten(), "hidden": hidden}
    return nn.Sequential(OrderedDict(parts, output=nn.Linear(16, 10)))


def plain_autoencoder() -> nn.Module:
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(144, 24), nn.ReLU(), nn.Linear(24, 8), nn.ReLU())
    decoder = nn.Sequential(nn.Linear(8, 24), nn.ReLU(), nn.Linear(24, 144), nn.Unflatten(1, (1, 12, 12)))
    return nn.Sequential(OrderedDict(encoder=encoder, decoder=decoder))


SMALL = {
    "mlp": (SMALL_MLP, plain_mlp),
    "cnn": (SMALL_CNN.with_kwargs({"dropout": 0.0}), plain_cnn),
    "autoencoder": (SMALL_AUTOENCODER, plain_autoencoder),
}
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "mlp": ("mlp", {}),
    "mlp-l2": ("mlp", PULLED),
    "mlp-momentum-cosine": ("mlp", {"learning_rate": 0.05, "momentum": 0.9, "schedule": "cosine"}),
    "mlp-nesterov": ("mlp", {"learning_rate": 0.02, "momentum": 0.9, "nesterov": True, **PULLED}),
    "mlp-adam": ("mlp", {"optimizer": "adam", "learning_rate": 1e-3}),
    "mlp-adamw": ("mlp", {"optimizer": "adamw", "weight_decay": 0.5, "schedule": "one-cycle"}),
    "mlp-clipped": ("mlp", {"clip_norm": 0.3, "schedule": "step", "step_epochs": 2, **PULLED}),
    "mlp-averaged": ("mlp", {"ema_decay": 0.9, "momentum": 0.5}),
    "cnn-all": (
        "cnn",
        {"optimizer": "adamw", "clip_norm": 0.5, "ema_decay": 0.7, "schedule": "one-cycle", "warmup": 0.4},
    ),
    "mlp-muon": ("mlp", {"optimizer": "muon", "learning_rate": 0.02, "momentum": 0.9, **PULLED}),
    "mlp-linear": ("mlp", {"momentum": 0.9, "learning_rate": 0.05, "schedule": "linear", "warmup": 0.3}),
    "mlp-smoothed": ("mlp", {"objective": "classify-smoothed"}),
    "mlp-noise": ("mlp", {"corruption": NOISE}),
    "mlp-normalized": ("mlp", {"normalize": NormalizeConfig(mean=0.2, std=0.4)}),
    # At 0.1 the last bits of a convolution grow to 1e-4 within 40 steps.
    "cnn": ("cnn", {"learning_rate": 0.03}),
    "cnn-muon": ("cnn", {"optimizer": "muon", "learning_rate": 0.01, "momentum": 0.5}),
    "denoiser": ("autoencoder", DENOISE),
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
    n_steps = recipe.epochs * -(-count // recipe.batch_size)
    schedule = schedule_for(optimizer, recipe, n_steps)
    average = swa_utils.AveragedModel(
        net, multi_avg_fn=swa_utils.get_ema_multi_avg_fn(recipe.ema_decay or 0.0), use_buffers=True
    )
    losses: list[list[float]] = []
    for epoch in range(recipe.epochs):
        losses.append([])
        order = torch.randperm(count, generator=(seed / "order" / epoch).generator())
        for number, index in enumerate(order.split(recipe.batch_size)):
            images = data.train.pixels[index].float() / 255
            inputs = images
            if recipe.corruption:
                draws = (seed / "corruption" / epoch / number).draws()
                inputs = corruptions["salt_and_pepper"](images, 0.4, draws)
            output = net((inputs - config.normalize.mean) / config.normalize.std)
            loss = loss_of(recipe, output, images, data.train.labels[index])
            losses[-1].append(loss.item())
            hidden: Any = getattr(net, "hidden", None)
            kernels = [hidden[0].weight, hidden[2].weight] if recipe.l2 else []
            penalty = sum((kernel.square().sum() for kernel in kernels), torch.zeros(()))
            optimizer.zero_grad()
            (loss + recipe.l2 * penalty).backward()
            if recipe.clip_norm is not None:
                nn.utils.clip_grad_norm_(net.parameters(), recipe.clip_norm)
            optimizer.step()
            average.update_parameters(net)
            if (number, epoch) != (n_steps // recipe.epochs - 1, recipe.epochs - 1):
                schedule.step()
    return losses, average.module


def loss_of(recipe: Recipe, output: torch.Tensor, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    if recipe.objective == "reconstruct":
        return functional.binary_cross_entropy(output.sigmoid(), images)
    log_probabilities = output.log_softmax(1)
    loss = functional.nll_loss(log_probabilities, labels)
    if recipe.objective == "classify-smoothed":
        return 0.9 * loss - 0.1 * log_probabilities.mean()
    return loss


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
                direction = orthogonalized_by_svd(direction.flatten(1), optimizers.MUON_ITERATIONS)
                direction = direction.reshape(value.shape)
            value.data.sub_(rate * direction)


def schedule_for(optimizer: torch.optim.Optimizer, recipe: Recipe, steps: int):
    schedulers = torch.optim.lr_scheduler
    if recipe.schedule == "cosine":
        return schedulers.CosineAnnealingLR(optimizer, steps)
    if recipe.schedule == "linear":
        warmup_steps = round(recipe.warmup * steps)
        up = schedulers.LinearLR(optimizer, 1 / warmup_steps, 1.0, warmup_steps - 1)
        down = schedulers.LinearLR(optimizer, 1.0, 0.0, steps - warmup_steps)
        return schedulers.SequentialLR(optimizer, [up, down], [warmup_steps])
    if recipe.schedule == "one-cycle":
        return schedulers.OneCycleLR(
            optimizer, recipe.learning_rate, total_steps=steps, pct_start=recipe.warmup, cycle_momentum=False
        )
    if recipe.schedule == "step":
        step_size = recipe.step_epochs * steps // recipe.epochs
        return schedulers.StepLR(optimizer, step_size, recipe.step_factor)
    return schedulers.ConstantLR(optimizer, 1.0)


def optimizer_for(net: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    if recipe.optimizer == "adam":
        return KerasAdam(net.parameters(), lr=recipe.learning_rate)
    if recipe.optimizer == "muon":
        return MuonBySvd(net.parameters(), lr=recipe.learning_rate, momentum=recipe.momentum)
    if recipe.optimizer == "adamw":
        return torch.optim.AdamW(net.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
    return torch.optim.SGD(
        net.parameters(), lr=recipe.learning_rate, momentum=recipe.momentum, nesterov=recipe.nesterov
    )


@pytest.mark.parametrize(
    ("case", "epochs", "batches"),
    [*((case, 50, [200]) for case in ("mlp", "mlp-l2", "cnn", "denoiser")),
     *((case, 3, [32] * 6 + [8]) for case in CASES)],
)  # fmt: skip
def test_losses_and_weights_equal_an_ordinary_loop(case, epochs, batches, data):
    """Fifty losses of one step each; and epochs whose loss is the mean over their steps, the last smaller."""
    small, recipe = CASES[case]
    config = trial_config(SMALL[small][0], **recipe, epochs=epochs, batch_size=batches[0])
    expected, plain = ordinary_loop(case, config, data, replicate=1)
    result = train_one(config, data, replicate=1, stacked=small != "cnn", seed=ROOT)
    assert [len(losses) for losses in expected] == [len(batches)] * epochs
    assert result.history.epoch == tuple(range(1, epochs + 1))
    np.testing.assert_allclose(result.history.train_loss, np.mean(expected, axis=1), rtol=1e-4)
    pairs = zip(result.net.net.named_parameters(), plain.parameters(), strict=True)
    for (name, value), plain_value in pairs:
        assert_tensor_near(value.detach(), plain_value.detach(), name)


@pytest.mark.parametrize("schedule", ["constant", "cosine", "linear"])
@pytest.mark.parametrize("warmup", [0.0, 0.3, 0.9])
def test_a_training_of_one_step_takes_it_at_the_full_rate(warmup, schedule, data):
    """Whatever the schedule: a single step is the first, the last and the peak."""
    plain = trial_config(batch_size=200)
    config = trial_config(batch_size=200, schedule=schedule, warmup=warmup)
    assert same_bits(train_one(config, data).net, train_one(plain, data).net)


def test_l2_is_not_in_the_reported_loss_and_acts_on_the_named_kernels_only(data):
    """A strength that moves kernels by their size in a step changes neither the loss nor other parameters."""
    bare, pulled = (
        trial_config(l2=l2, l2_params=["hidden.0.weight"], batch_size=200, learning_rate=0.1)
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
    ends = [train_one(trial_config(precision=precision, epochs=3), data) for precision in ("fp32", "bf16")]
    fine, coarse = (end.history.train_loss for end in ends)
    assert fine != coarse
    np.testing.assert_allclose(coarse, fine, rtol=0.02)
    assert all(value.dtype == torch.float32 for value in ends[1].net.state_dict().values())
