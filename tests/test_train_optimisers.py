"""Optimisers over stacked tensors against `torch.optim`, one instance a member, and the schedule's ends."""

import pytest
import torch
from torch import Tensor

from inklab.train.loop import rate_factor
from inklab.train.optimisers import ADAM, PLAIN_SGD, SGD, Hyper, Optimiser, choose, over

RATES, MOMENTA, STEPS = (0.1, 1e-3, 0.7), (0.9, 0.0, 0.5), 20
SHAPES = {"kernel": (4, 3), "bias": (4,), "filters": (2, 3, 3, 3)}


def first() -> dict[str, Tensor]:
    rng = torch.Generator().manual_seed(0)
    return {name: torch.randn(len(RATES), *shape, generator=rng) for name, shape in SHAPES.items()}


def gradients(step: int) -> dict[str, Tensor]:
    rng = torch.Generator().manual_seed(step + 1)
    return {name: torch.randn(len(RATES), *shape, generator=rng) for name, shape in SHAPES.items()}


def hyper_at(step: int) -> Hyper:
    taken = torch.tensor(float(step), dtype=torch.float64)
    return Hyper(torch.tensor(RATES), torch.zeros(len(RATES)), torch.tensor(MOMENTA), taken)


def of_member(tensors: dict[str, Tensor], member: int) -> dict[str, Tensor]:
    return {name: value[member].clone() for name, value in tensors.items()}


def oracle(name: str, member: int) -> dict[str, Tensor]:
    params = {key: torch.nn.Parameter(value) for key, value in of_member(first(), member).items()}
    choices = {
        "plain": lambda: torch.optim.SGD(params.values(), RATES[member]),
        "sgd": lambda: torch.optim.SGD(params.values(), RATES[member], momentum=MOMENTA[member]),
        "adam": lambda: torch.optim.Adam(params.values(), RATES[member]),
    }
    optimiser = choices[name]()
    for step in range(STEPS):
        for key, grad in of_member(gradients(step), member).items():
            params[key].grad = grad
        if name == "adam":  # torch's epsilon stands beside the corrected root, ours and Keras's does not
            optimiser.param_groups[0]["eps"] = 1e-7 / (1 - 0.999 ** (step + 1)) ** 0.5
        optimiser.step()
    return {key: value.detach() for key, value in params.items()}


OURS: dict[str, Optimiser] = {"plain": PLAIN_SGD, "sgd": SGD, "adam": ADAM}


@pytest.mark.parametrize("name", OURS)
def test_twenty_steps_with_a_rate_a_member(name):
    params = first()
    memory = OURS[name].init(params)
    for step in range(STEPS):
        params, memory = OURS[name].update(params, gradients(step), memory, hyper_at(step))
    for member in range(len(RATES)):
        for key, wanted in oracle(name, member).items():
            torch.testing.assert_close(params[key][member], wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", OURS)
def test_a_network_alone_is_a_member_to_the_bit(name):
    together, alone = first(), of_member(first(), 1)
    memories = [OURS[name].init(together), OURS[name].init(alone)]
    for step in range(5):
        hyper = hyper_at(step)
        lone = Hyper(*(values[1] for values in hyper[:3]), taken=hyper.taken)
        together, memories[0] = OURS[name].update(together, gradients(step), memories[0], hyper)
        alone, memories[1] = OURS[name].update(alone, of_member(gradients(step), 1), memories[1], lone)
    assert all(torch.equal(together[key][1], alone[key]) for key in alone)


@pytest.mark.parametrize("name", OURS)
def test_an_update_leaves_its_arguments_alone(name):
    """Else a member's history could reach back into another's."""
    params, memory = OURS[name].update(first(), gradients(0), OURS[name].init(first()), hyper_at(0))
    held = [params, gradients(1), *memory.values()]
    before = [{key: value.clone() for key, value in tensors.items()} for tensors in held]
    OURS[name].update(params, held[1], memory, hyper_at(1))
    for tensors, copies in zip(held, before, strict=True):
        assert all(torch.equal(tensors[key], copies[key]) for key in copies)


def test_momentum_decides_whether_sgd_keeps_a_memory():
    assert choose("sgd", 0.0) is PLAIN_SGD and choose("sgd", 0.1) is SGD and choose("adam", 0.0) is ADAM
    assert PLAIN_SGD.init(first()) == {}


def test_over_lines_values_up_with_the_members():
    values = over(torch.tensor([1.0, 2.0, 3.0]), torch.zeros(3, 4, 5))
    assert torch.equal((torch.ones(3, 4, 5) * values)[:, 0, 0], torch.tensor([1.0, 2.0, 3.0]))
    assert over(torch.tensor(2.0), torch.zeros(4, 5)).dim() == 0


@pytest.mark.parametrize("steps", [1, 7, 860])
def test_cosine_begins_at_one_and_ends_at_zero(steps):
    factors = [rate_factor("cosine", step, steps) for step in range(steps + 1)]
    assert factors[0] == 1.0 and factors[-1] == 0.0
    assert all(high > low for high, low in zip(factors, factors[1:], strict=False))
    assert sum(factors) == pytest.approx((steps + 1) / 2)  # it is as long above a half as below


def test_constant_stays():
    assert {rate_factor("constant", step, 10) for step in range(11)} == {1.0}
