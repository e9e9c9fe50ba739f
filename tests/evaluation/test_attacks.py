"""Attacks stay within their budget, and do what their gradients say."""

import pytest
import torch
from jaxtyping import TypeCheckError
from torch import nn

from inklab.counters import Draws
from inklab.errors import ConfigError, DataError, InklabError, ModelMismatchError, OutOfRangeError
from inklab.evaluation.attacks import attacks as registered
from inklab.evaluation.attacks import corruption_or_attack, fgsm, pgd
from inklab.seeding import Seed


def draws(number: int = 0) -> Draws:
    return Seed(number).draws()


@pytest.fixture
def net() -> nn.Module:
    torch.manual_seed(3)
    return nn.Sequential(nn.Flatten(), nn.Linear(36, 16), nn.Tanh(), nn.Linear(16, 4)).eval()


@pytest.fixture
def images() -> torch.Tensor:
    drawn = draws().uniform(20, 1, 6, 6)
    drawn[:, :, :2] = 0
    drawn[:, :, 2] = 1
    return drawn


def losses(net: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return nn.functional.cross_entropy(net(images), labels, reduction="none")


def attacks(budget: float):
    return (
        lambda net, images, labels: fgsm(net, images, labels, budget),
        lambda net, images, labels: pgd(net, images, labels, budget, draws=draws(1)),
    )


@pytest.mark.parametrize("budget", [0.0, 8 / 255, 0.3, 1.0])
def test_budget_and_range_are_kept_and_the_loss_rises(net, images, budget):
    labels, before = net(images).argmax(dim=1), images.clone()
    for attack in attacks(budget):
        attacked = attack(net, images, labels)
        assert (attacked - images).abs().max() <= budget + 1e-6
        assert 0 <= attacked.min() and attacked.max() <= 1
        assert torch.equal(images, before) and all(p.grad is None for p in net.parameters())
        rise = losses(net, attacked, labels) - losses(net, images, labels)
        assert (rise > 0).float().mean() > 0.9 if budget else torch.equal(attacked, images)


def test_many_steps_find_more_than_one(net, images):
    labels = net(images).argmax(dim=1)
    once, often = (losses(net, attack(net, images, labels), labels).mean() for attack in attacks(0.3))
    assert often >= once


def test_a_linear_network_is_attacked_exactly(images):
    """The strongest attack moves each pixel by the budget, against the difference of two rows of weights."""
    linear = nn.Sequential(nn.Flatten(), nn.Linear(36, 2))
    labels = torch.zeros(20, dtype=torch.long)
    weights = linear[1].weight.detach()
    strongest = (images + 0.2 * (weights[1] - weights[0]).sign().view(1, 1, 6, 6)).clamp(0, 1)
    for attack in attacks(0.2):
        torch.testing.assert_close(attack(linear, images, labels), strongest)


def test_an_image_is_attacked_without_regard_to_the_others(net, images):
    labels = net(images).argmax(dim=1)
    together = fgsm(net, images, labels, 0.1)
    torch.testing.assert_close(fgsm(net, images[:3], labels[:3], 0.1), together[:3])


def test_same_seed_same_attack_also_in_inference_mode(net, images):
    labels = net(images).argmax(dim=1)
    first = pgd(net, images, labels, 0.1, draws=draws(5), steps=3)
    with torch.inference_mode():
        assert torch.equal(pgd(net, images, labels, 0.1, draws=draws(5), steps=3), first)


def test_what_can_not_be_attacked_is_refused(net, images):
    labels = torch.zeros(20, dtype=torch.long)
    wrong: list[tuple[type[InklabError], object]] = [
        (OutOfRangeError, lambda: fgsm(net, images, labels, 1.5)),
        (OutOfRangeError, lambda: fgsm(net, images, labels, float("nan"))),
        (OutOfRangeError, lambda: pgd(net, images, labels, 0.1, draws=draws(), steps=0)),
        (DataError, lambda: fgsm(net, images, labels[:3], 0.1)),
        (DataError, lambda: fgsm(net, images, labels + 4, 0.1)),
        (ModelMismatchError, lambda: fgsm(lambda x: net(x.detach()).detach(), images, labels, 0.1)),
        (ModelMismatchError, lambda: fgsm(lambda x: x, images, labels, 0.1)),
    ]
    for error, call in wrong:
        with pytest.raises((error, TypeCheckError)):  # jaxtyping refuses some earlier, in tests
            call()


def test_an_attack_by_name_is_the_function(net, images):
    labels = net(images).argmax(dim=1)
    assert torch.equal(registered["fgsm"](net, images, labels, 0.1, draws()), fgsm(net, images, labels, 0.1))
    by_name = corruption_or_attack("pgd", 3)(net, images, labels, 0.1, draws(2))
    assert torch.equal(by_name, pgd(net, images, labels, 0.1, draws=draws(2), steps=3))


@pytest.mark.parametrize(
    ("name", "steps", "problem"), [("fgsm", 5, "takes one step"), ("shot", 5, "no attack")]
)
def test_steps_of_what_has_none_are_refused(name, steps, problem):
    with pytest.raises(ConfigError, match=problem):
        corruption_or_attack(name, steps)
