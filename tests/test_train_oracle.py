"""The engine against an ordinary PyTorch loop: `nn.Module`, autograd and `torch.optim`, written out.

The oracle is given the same initial weights, the same order and the same shown images, and nothing else.
"""

from collections import OrderedDict

import numpy as np
import pytest
import torch
from synthetic_training import assert_tensor_near, members, same_bits, settings, train, train_one
from torch import nn
from torch.nn import functional

from inklab.corruptions.corruption import corruptions
from inklab.networks.layers import Flatten
from inklab.networks.network import build_net
from inklab.seeding import Seed
from inklab.training import optimizers

ROOT = 5
L2, L2_ON = 1e-2, ("hidden.*.weight",)
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
    "mlp": ({"name": "mlp", "hidden": [16, 12]}, plain_mlp),
    "cnn": ({"name": "cnn", "channels": [4, 8], "pool": 2, "dropout": 0.0, "hidden": 16}, plain_cnn),
    "autoencoder": ({"name": "autoencoder", "hidden": [24], "code": 8}, plain_autoencoder),
}
CASES = {
    "mlp": ("mlp", {}),
    "mlp-l2": ("mlp", {"l2": L2, "l2_on": L2_ON}),
    "mlp-momentum-cosine": ("mlp", {"rate": 0.05, "momentum": 0.9, "schedule": "cosine"}),
    "mlp-adam": ("mlp", {"optimiser": "adam", "rate": 1e-3}),
    "mlp-muon": ("mlp", {"optimiser": "muon", "rate": 0.02, "momentum": 0.9, "l2": L2, "l2_on": L2_ON}),
    "mlp-linear": ("mlp", {"momentum": 0.9, "rate": 0.05, "schedule": "linear", "warmup": 0.3}),
    "mlp-smoothed": ("mlp", {"objective": "classify-smoothed"}),
    "mlp-noise": ("mlp", {"corruption": NOISE}),
    "mlp-scaled": ("mlp", {"mean": 0.2, "spread": 0.4}),
    "cnn": ("cnn", {"rate": 0.03}),  # at 0.1 the last bits of a convolution grow to 1e-4 within 40 steps
    "cnn-muon": ("cnn", {"optimiser": "muon", "rate": 0.01, "momentum": 0.5}),
    "denoiser": (
        "autoencoder",
        {"objective": "reconstruct", "optimiser": "adam", "rate": 1e-3, "corruption": NOISE},
    ),
}


def ordinary_loop(case: str, told: dict, data, replicate: int) -> tuple[list[list[float]], nn.Module]:
    """Losses by epoch and step, and the network at the end."""
    recipe, streams = told["recipe"], Seed(ROOT) / "replicate" / replicate
    net = SMALL[CASES[case][0]][1]()
    net.load_state_dict(build_net(told["model"], (1, 12, 12), 10, streams / "weights").state_dict())
    optimiser = optimiser_for(net, recipe)
    count, batch = len(data.train.labels), recipe["batch"]
    steps = recipe["epochs"] * -(-count // batch)
    schedule = schedule_for(optimiser, recipe, steps)
    losses: list[list[float]] = []
    for epoch in range(recipe["epochs"]):
        losses.append([])
        order = torch.randperm(count, generator=(streams / "order" / epoch).generator())
        for number, index in enumerate(order.split(batch)):
            images = data.train.pixels[index].float() / 255
            shown = images
            if recipe.get("corruption"):
                rng = (streams / "corruption" / epoch / number).generator()
                shown = corruptions["salt_and_pepper"](images, 0.4, rng)
            out = net((shown - told["scaling"]["mean"]) / told["scaling"]["spread"])
            if recipe.get("objective") == "reconstruct":
                loss = functional.binary_cross_entropy(out.sigmoid(), images)
            else:
                logs = out.log_softmax(1)
                loss = functional.nll_loss(logs, data.train.labels[index])
                if recipe.get("objective") == "classify-smoothed":
                    loss = 0.9 * loss - 0.1 * logs.mean()
            losses[-1].append(loss.item())
            kernels = [net.hidden[0].weight, net.hidden[2].weight] if "l2" in recipe else []
            penalty = sum((kernel.square().sum() for kernel in kernels), torch.zeros(()))
            optimiser.zero_grad()
            (loss + recipe.get("l2", 0.0) * penalty).backward()
            optimiser.step()
            schedule.step()
    return losses, net


class AdamOfKeras(torch.optim.Adam):
    """torch's Adam with Keras's epsilon of 1e-7, which stands beside the uncorrected root."""

    def step(self, closure=None):
        (group,) = self.param_groups
        self.taken = getattr(self, "taken", 0) + 1
        group["eps"] = 1e-7 / (1 - 0.999**self.taken) ** 0.5
        return super().step(closure)


class MuonBySvd(torch.optim.SGD):
    """SGD with Nesterov's momentum, whose steps of all kernels but the last are turned, by their SVD.

    `torch.optim.Muon` turns in bf16, which 1e-4 is too near for.
    """

    def step(self, closure=None):
        (group,) = self.param_groups
        kernels = [each for each in group["params"] if each.dim() > 1]
        for value in group["params"]:
            velocity = self.state[value].setdefault("velocity", torch.zeros_like(value))
            velocity.mul_(group["momentum"]).add_(value.grad)
            ahead = value.grad + group["momentum"] * velocity
            rate = group["lr"] * optimizers.MUON_OTHER_RATE
            if any(value is kernel for kernel in kernels[:-1]):
                rows, columns = ahead.flatten(1).shape
                rate = group["lr"] * max(1, rows / columns) ** 0.5
                ahead = turned(ahead.flatten(1).double()).float().reshape(ahead.shape)
            value.data.sub_(rate * ahead)


def turned(matrix: torch.Tensor) -> torch.Tensor:
    left, values, right = torch.linalg.svd(matrix, full_matrices=False)
    a, b, c = optimizers.MUON_POLYNOMIAL
    values = values / values.norm()
    for _ in range(optimizers.MUON_ROUNDS):
        values = a * values + b * values**3 + c * values**5
    return left @ values.diag() @ right


def schedule_for(optimiser: torch.optim.Optimizer, recipe: dict, steps: int):
    schedulers = torch.optim.lr_scheduler
    if recipe.get("schedule") == "cosine":
        return schedulers.CosineAnnealingLR(optimiser, steps)
    if recipe.get("schedule") == "linear":
        rising = round(recipe["warmup"] * steps)
        up = schedulers.LinearLR(optimiser, 1 / rising, 1.0, rising - 1)
        down = schedulers.LinearLR(optimiser, 1.0, 0.0, steps - rising)
        return schedulers.SequentialLR(optimiser, [up, down], [rising])
    return schedulers.ConstantLR(optimiser, 1.0)


def optimiser_for(net: nn.Module, recipe: dict) -> torch.optim.Optimizer:
    if recipe.get("optimiser") == "adam":
        return AdamOfKeras(net.parameters(), lr=recipe["rate"])
    if recipe.get("optimiser") == "muon":
        return MuonBySvd(net.parameters(), lr=recipe["rate"], momentum=recipe["momentum"])
    return torch.optim.SGD(net.parameters(), lr=recipe.get("rate", 0.1), momentum=recipe.get("momentum", 0.0))


def assert_same_network(ours: nn.Module, plain: nn.Module) -> None:
    wanted = list(plain.named_parameters())
    for (name, value), (_, plain_value) in zip(ours.named_parameters(), wanted, strict=True):
        assert_tensor_near(value.detach(), plain_value.detach(), name)


@pytest.mark.parametrize("case", ["mlp", "mlp-l2", "cnn", "denoiser"])
def test_fifty_losses_equal_an_ordinary_loop(case, data):
    """One step an epoch, so that every point of the history is the loss of one step."""
    small, recipe = CASES[case]
    told = settings(SMALL[small][0], **recipe, epochs=50, batch=200)
    wanted, plain = ordinary_loop(case, told, data, replicate=2)
    result = train_one(told, data, replicate=2, lifted=small != "cnn", seed=ROOT)
    assert [len(epoch) for epoch in wanted] == [1] * 50
    assert result.history["epoch"] == list(range(1, 51))
    np.testing.assert_allclose(result.history["train_loss"], np.ravel(wanted), rtol=1e-4)
    assert_same_network(result.net.net, plain)


@pytest.mark.parametrize("case", CASES)
def test_epochs_of_several_batches_equal_an_ordinary_loop(case, data):
    """Seven steps an epoch, the last with 8 images; an epoch's loss is the mean over its steps."""
    small, recipe = CASES[case]
    told = settings(SMALL[small][0], **recipe, epochs=3, batch=32)
    wanted, plain = ordinary_loop(case, told, data, replicate=1)
    result = train_one(told, data, replicate=1, lifted=small != "cnn", seed=ROOT)
    assert [len(epoch) for epoch in wanted] == [7] * 3
    np.testing.assert_allclose(result.history["train_loss"], np.mean(wanted, axis=1), rtol=1e-4)
    assert_same_network(result.net.net, plain)


@pytest.mark.parametrize("schedule", ["constant", "cosine", "linear"])
@pytest.mark.parametrize("warmup", [0.0, 0.3, 0.9])
def test_a_training_of_one_step_takes_it_at_the_full_rate(warmup, schedule, data):
    """Whatever the schedule: a lone step is the first, the last and the peak."""
    told = settings(SMALL["mlp"][0], batch=200, schedule=schedule, warmup=warmup)
    plain = settings(SMALL["mlp"][0], batch=200)
    assert same_bits(train_one(told, data).net, train_one(plain, data).net)


def test_l2_is_not_in_the_reported_loss_and_acts_on_the_named_kernels_only(data):
    """A strength that pulls kernels to zero within an epoch leaves all else, and the first loss, alone."""
    bare, pulled = (
        settings(SMALL["mlp"][0], l2=l2, l2_on=["hidden.0.weight"], batch=200, rate=0.1) for l2 in (0.0, 5.0)
    )
    one, other = train(members((0, bare), (0, pulled)), data)
    assert one.history["train_loss"] == other.history["train_loss"]
    first = build_net(bare["model"], (1, 12, 12), 10, Seed(0) / "replicate" / 0 / "weights").state_dict()
    for name, value in one.net.net.state_dict().items():
        change = other.net.net.state_dict()[name] - value
        if name == "hidden.0.weight":  # one step of the penalty's gradient: -rate * 2 * l2 * w = -w
            torch.testing.assert_close(change, -first[name], rtol=1e-5, atol=1e-6)
        else:
            assert torch.equal(change, torch.zeros_like(change)), name


def test_bf16_follows_fp32_at_a_distance(data):
    """The same training in fewer digits: near, but not the same."""
    told = [settings(SMALL["mlp"][0], precision, epochs=3) for precision in ("fp32", "bf16")]
    ends = [train_one(each, data) for each in told]
    fine, coarse = (end.history["train_loss"] for end in ends)
    assert fine != coarse
    np.testing.assert_allclose(coarse, fine, rtol=0.02)
    assert all(value.dtype == torch.float32 for value in ends[1].net.state_dict().values())
