"""Optimizers over stacked tensors against `torch.optim`, one instance for each member; schedules."""

import math
from collections.abc import Callable

import pytest
import torch
from synthetic_training import KerasAdam, orthogonalized_by_svd
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

from inklab.records.recipe import Recipe
from inklab.training import optimizers
from inklab.training.optimizers import (
    ADAM,
    ADAMW,
    MUON,
    MUON_BF16,
    NESTEROV_SGD,
    PLAIN_SGD,
    SGD,
    HyperParams,
    HyperSchedule,
    Optimizer,
    broadcast,
    clip_gradients,
    make_optimizer,
    orthogonalize,
    schedule_factor,
)

RATES, MOMENTA, STEPS = (0.1, 1e-3, 0.7), (0.9, 0.0, 0.5), 20
DECAYS, CLIP_NORMS = (0.1, 10.0, 0.0), (2.0, 1e-3, math.inf)
SHAPES = {
    "kernel": (4, 3), "bias": (4,), "filters": (2, 3, 3, 3), "square": (5, 5),
    "output": (4, 3), "last bias": (4,),
}  # fmt: skip
INNER = ("kernel", "filters", "square")
"""Kernels that Muon orthogonalizes: all but the last."""


def drawn(seed: int) -> dict[str, Tensor]:
    rng = torch.Generator().manual_seed(seed)
    return {name: torch.randn(len(RATES), *shape, generator=rng) for name, shape in SHAPES.items()}


def first() -> dict[str, Tensor]:
    return drawn(0)


def gradients(step: int) -> dict[str, Tensor]:
    return drawn(step + 1)


def hyper_at(step: int) -> HyperParams:
    number = torch.tensor(float(step), dtype=torch.float64)
    return HyperParams(
        torch.tensor(RATES), torch.zeros(len(RATES)), torch.tensor(MOMENTA), number, torch.tensor(DECAYS)
    )


def of_member(tensors: dict[str, Tensor], member: int) -> dict[str, Tensor]:
    return {name: value[member].clone() for name, value in tensors.items()}


def reference(name: str, member: int) -> dict[str, Tensor]:
    """Parameters after twenty steps of `torch.optim`; its Muon takes matrices, and inner kernels only."""
    start, rate, momentum = of_member(first(), member), RATES[member], MOMENTA[member]
    inner = INNER if name == "muon" else ()
    params = {
        key: torch.nn.Parameter(value.flatten(1) if key in inner else value) for key, value in start.items()
    }
    others = [value for key, value in params.items() if key not in inner]
    choices: dict[str, Callable[[], list[torch.optim.Optimizer]]] = {
        "plain": lambda: [torch.optim.SGD(others, rate)],
        "sgd": lambda: [torch.optim.SGD(others, rate, momentum=momentum)],
        "nesterov": lambda: [torch.optim.SGD(others, rate, momentum=momentum, nesterov=momentum > 0)],
        "adam": lambda: [KerasAdam(others, rate)],
        "adamw": lambda: [torch.optim.AdamW(others, rate, weight_decay=DECAYS[member])],
        "muon": lambda: [
            torch.optim.Muon(
                [params[key] for key in inner], rate, weight_decay=0.0, momentum=momentum,
                ns_steps=optimizers.MUON_ITERATIONS, ns_coefficients=optimizers.MUON_POLYNOMIAL,
            ),
            torch.optim.SGD(
                others, rate * optimizers.MUON_OTHER_RATE, momentum=momentum, nesterov=momentum > 0
            ),
        ],
    }  # fmt: skip
    steppers = choices[name]()
    for step in range(STEPS):
        for key, grad in of_member(gradients(step), member).items():
            params[key].grad = grad.reshape(params[key].shape)
        for stepper in steppers:
            stepper.step()
    return {key: params[key].detach().reshape(value.shape) for key, value in start.items()}


OURS: dict[str, Optimizer] = {
    "plain": PLAIN_SGD, "sgd": SGD, "nesterov": NESTEROV_SGD, "adam": ADAM, "adamw": ADAMW, "muon": MUON,
    "muon-in-bf16": MUON_BF16,
}  # fmt: skip


@pytest.mark.parametrize("name", ["plain", "sgd", "nesterov", "adam", "adamw", "muon"])
def test_twenty_steps_with_a_learning_rate_for_each_member(name):
    """torch's Muon iterates in bf16, so kernels agree to 2% of their change; all else agrees to rounding.

    Its momentum is a running mean, ours a sum; the direction is the same, and only that counts.
    """
    params, start = first(), first()
    state = OURS[name].init(params)
    for step in range(STEPS):
        params, state = OURS[name].update(params, gradients(step), state, hyper_at(step))
    for member in range(len(RATES)):
        for key, expected in reference(name, member).items():
            if name == "muon" and key in INNER:
                change = (expected - start[key][member]).norm()
                assert (params[key][member] - expected).norm() < 0.02 * change, key
            else:
                torch.testing.assert_close(params[key][member], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", OURS)
def test_a_single_network_is_updated_like_a_member(name):
    """To the bit, but for Muon, whose products of stacked matrices add up in another order."""
    stacked, single = first(), of_member(first(), 1)
    states = [OURS[name].init(stacked), OURS[name].init(single)]
    for step in range(5):
        hyper = hyper_at(step)
        own = HyperParams(*(values[1] for values in hyper[:3]), hyper.step, hyper.weight_decay[1])
        stacked, states[0] = OURS[name].update(stacked, gradients(step), states[0], hyper)
        single, states[1] = OURS[name].update(single, of_member(gradients(step), 1), states[1], own)
    for key in single:
        close = {"rtol": 1e-4, "atol": 1e-6} if name.startswith("muon") else {"rtol": 0, "atol": 0}
        torch.testing.assert_close(stacked[key][1], single[key], **close)


@pytest.mark.parametrize("name", OURS)
def test_a_trace_computes_the_same_at_other_rates_and_steps(name):
    """As the compiler gets it: a Python number would become a constant of the trace."""
    state = OURS[name].init(first())
    graph = make_fx(OURS[name].update)(first(), gradients(9), state, hyper_at(0))
    for step in (0, 7):
        hyper = hyper_at(step)._replace(learning_rate=torch.tensor(RATES[::-1]))
        arguments = (first(), gradients(step), state, hyper)
        expected, actual = (update(*arguments)[0] for update in (OURS[name].update, graph))
        assert all(torch.equal(actual[key], expected[key]) for key in expected)


@pytest.mark.parametrize("name", OURS)
def test_an_update_leaves_its_arguments_alone(name):
    """Else a member's history could reach back into another's."""
    params, state = OURS[name].update(first(), gradients(0), OURS[name].init(first()), hyper_at(0))
    held = [params, gradients(1), *state.values()]
    before = [{key: value.clone() for key, value in tensors.items()} for tensors in held]
    OURS[name].update(params, held[1], state, hyper_at(1))
    for tensors, copies in zip(held, before, strict=True):
        assert all(torch.equal(tensors[key], copies[key]) for key in copies)


def test_sgd_without_momentum_has_no_state():
    assert make_optimizer("sgd", 0.0) is PLAIN_SGD and make_optimizer("sgd", 0.1) is SGD
    assert make_optimizer("sgd", 0.1, nesterov=True) is NESTEROV_SGD
    assert make_optimizer("adam", 0.0) is ADAM and make_optimizer("muon", 0.0) is MUON
    assert make_optimizer("adam", 0.0, "bf16") is ADAM and make_optimizer("muon", 0.9, "bf16") is MUON_BF16
    assert PLAIN_SGD.init(first()) == {}


def test_broadcast_aligns_values_with_members():
    values = broadcast(torch.tensor([1.0, 2.0, 3.0]), torch.zeros(3, 4, 5))
    assert torch.equal((torch.ones(3, 4, 5) * values)[:, 0, 0], torch.tensor([1.0, 2.0, 3.0]))
    assert broadcast(torch.tensor(2.0), torch.zeros(4, 5)).dim() == 0


def test_gradients_are_clipped_as_torch_does():
    """By the norm over all parameters, of each member alone; in a trace, too."""
    for scale in (1.0, 1e-4):  # of which the second is short enough for the first member
        grads = {key: value * scale for key, value in gradients(0).items()}
        clip_norms = torch.tensor(CLIP_NORMS)
        clipped = clip_gradients(grads, clip_norms)
        traced = make_fx(clip_gradients)(grads, torch.ones(3))(grads, clip_norms)
        for member, clip_norm in enumerate(CLIP_NORMS):
            params = [torch.nn.Parameter(value) for value in of_member(grads, member).values()]
            for param in params:
                param.grad = param.detach().clone()
            torch.nn.utils.clip_grad_norm_(params, clip_norm)
            single = clip_gradients(of_member(grads, member), torch.tensor(clip_norm))
            for key, param in zip(grads, params, strict=True):
                torch.testing.assert_close(clipped[key][member], param.grad, rtol=1e-6, atol=0)
                assert torch.equal(single[key], clipped[key][member])
                assert torch.equal(traced[key][member], clipped[key][member])


def test_a_gradient_that_is_not_clipped_keeps_its_bits():
    grads = {"scalar": torch.tensor([1e-3, 7.0, 0.0]), **gradients(1)}
    for clip_norm in (math.inf, 1e6):
        clipped = clip_gradients(grads, torch.full((3,), clip_norm))
        assert all(torch.equal(clipped[key], grads[key]) for key in grads)


def with_values(values: Tensor, rows: int, columns: int) -> Tensor:
    """`(..., rows, columns)` matrices with these singular values and singular vectors drawn at random."""
    rng = torch.Generator().manual_seed(3)
    shapes = ((*values.shape[:-1], side, values.shape[-1]) for side in (rows, columns))
    left, right = (
        torch.linalg.qr(torch.randn(shape, generator=rng, dtype=torch.float64)).Q for shape in shapes
    )
    return (left * values[..., None, :]) @ right.mT


class TestOrthogonalize:
    @pytest.mark.parametrize("shape", [(5, 5), (3, 8), (8, 3), (2, 1), (4, 6, 27), (2, 3, 7, 2)], ids=str)
    @pytest.mark.parametrize("n_iterations", [1, 3, 5])
    def test_singular_vectors_stay_and_values_go_through_the_polynomial(self, shape, n_iterations):
        matrix = torch.randn(shape, generator=torch.Generator().manual_seed(1))
        expected = orthogonalized_by_svd(matrix, n_iterations)
        torch.testing.assert_close(orthogonalize(matrix, n_iterations), expected, rtol=1e-4, atol=1e-5)
        for size in (1e-2, 1e6):  # the scale does not matter
            actual = orthogonalize(matrix * size, n_iterations)
            torch.testing.assert_close(actual, expected, rtol=1e-3, atol=1e-4)

    def test_five_iterations_bring_values_near_one(self):
        angles = torch.linspace(0.02, math.pi / 4, 200, dtype=torch.float64)
        values = torch.stack([angles.cos(), angles.sin()], -1)  # of norm 1, down to 0.02
        matrix = orthogonalize(with_values(values, 4, 6).float(), n_iterations=5)
        after = torch.linalg.svdvals(matrix)[:, :2]
        assert 0.65 < float(after.min()) and float(after.max()) < 1.25
        assert after.std() > 0.01  # near 1, not at 1: that is what the polynomial is steep for

    def test_zero_stays_zero(self):
        """A unit that is inactive for a whole batch has a gradient of zero; NaN would spread from it."""
        assert torch.equal(orthogonalize(torch.zeros(2, 3, 4)), torch.zeros(2, 3, 4))


@pytest.mark.parametrize(("shape", "wide"), [((300, 500), True), ((500, 256), True), ((255, 800), False)])
def test_wide_kernels_are_orthogonalized_in_bf16_where_training_is(shape, wide):
    """The result is the same but for the rounding of three iterations; of narrow ones it is the same bits."""
    grads = {
        key: torch.randn(size, generator=torch.Generator().manual_seed(4))
        for key, size in (("hidden", (1, *shape)), ("output", (1, 10, shape[0])))
    }
    params = {key: torch.zeros_like(value) for key, value in grads.items()}
    hyper = HyperParams(torch.ones(1), torch.zeros(1), torch.zeros(1), torch.tensor(0.0, dtype=torch.float64))
    exact, quick = (
        muon.update(params, grads, muon.init(params), hyper)[0]["hidden"] for muon in (MUON, MUON_BF16)
    )
    assert quick.dtype == torch.float32
    assert torch.equal(exact, quick) is not wide
    assert (exact - quick).norm() < 0.01 * exact.norm()


@pytest.mark.parametrize("schedule", ["constant", "cosine", "linear"])
@pytest.mark.parametrize("warmup", [0.0, 0.004, 0.05, 0.3, 0.5, 0.99])
@pytest.mark.parametrize("steps", [1, 2, 3, 10, 137])
def test_a_warm_up_rises_to_the_peak_and_the_schedule_decays_from_there(steps, warmup, schedule):
    n_warmup = round(warmup * steps)  # of less than half a step it is none
    rest = steps - n_warmup
    count = steps + (rest > 0)  # one more than there are steps: where a decay would end
    factors = [schedule_factor(schedule, step, steps, warmup) for step in range(count)]
    decay = {
        "constant": lambda share: 1.0,
        "linear": lambda share: 1 - share,
        "cosine": lambda share: (1 + math.cos(math.pi * share)) / 2,
    }[schedule]
    expected = [(step + 1) / n_warmup for step in range(n_warmup)]
    expected += [decay(step / rest) for step in range(count - n_warmup)]
    assert factors == pytest.approx(expected, abs=1e-12)
    assert max(factors) == 1 and (schedule == "constant" or not rest or factors[-1] == 0.0)


def test_golden_values_of_cosine():
    """Every training with a schedule and without a warm-up depends on these."""
    cosine = [schedule_factor("cosine", step, 6) for step in range(6)]
    assert cosine == [1.0, 0.933012701892219, 0.75, 0.5, 0.25, 0.066987298107781]


def torch_rates(make_scheduler, steps: int) -> list[float]:
    """The rates of one of torch's schedulers, stepped once a step; the peak is 1."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(()))], 1.0)
    scheduler, rates = make_scheduler(optimizer), []
    for step in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if step < steps - 1:
            scheduler.step()
    return rates


@pytest.mark.parametrize("warmup", [0.05, 0.3, 0.5, 0.9])
@pytest.mark.parametrize("steps", [3, 7, 137, 4_000])
def test_one_cycle_is_that_of_torch(steps, warmup):
    def one_cycle(optimizer):
        return torch.optim.lr_scheduler.OneCycleLR(
            optimizer, max_lr=1.0, total_steps=steps, pct_start=warmup, cycle_momentum=False
        )

    factors = [schedule_factor("one-cycle", step, steps, warmup) for step in range(steps)]
    assert factors == pytest.approx(torch_rates(one_cycle, steps), rel=1e-9)
    assert max(factors) <= 1 and factors[-1] == pytest.approx(1 / 250_000)


@pytest.mark.parametrize("warmup", [0.1, 0.25])
def test_one_cycle_where_the_rise_is_a_single_step(warmup):
    """torch divides by zero there: the first step is the start and the peak."""
    factors = [schedule_factor("one-cycle", step, round(1 / warmup), warmup) for step in range(3)]
    assert factors[0] == 1 and factors == sorted(factors, reverse=True)


def test_the_default_rise_of_one_cycle_is_that_of_torch():
    schedule = HyperSchedule([Recipe(schedule="one-cycle", learning_rate=1.0)], 100, stacked=False)
    expected = torch_rates(
        lambda optimizer: torch.optim.lr_scheduler.OneCycleLR(
            optimizer, 1.0, total_steps=100, cycle_momentum=False
        ),
        100,
    )
    assert [float(schedule.at(step).learning_rate) for step in range(100)] == pytest.approx(expected)


@pytest.mark.parametrize(("step_epochs", "step_factor"), [(1, 0.5), (3, 0.1), (20, 0.3)])
def test_step_is_that_of_torch_once_an_epoch(step_epochs, step_factor):
    recipe = Recipe(
        learning_rate=1.0, schedule="step", step_epochs=step_epochs, step_factor=step_factor, epochs=8
    )
    schedule = HyperSchedule([recipe], 8 * 5, stacked=False)
    expected = torch_rates(
        lambda optimizer: torch.optim.lr_scheduler.StepLR(optimizer, step_epochs, step_factor), 8
    )
    rates = [float(schedule.at(step).learning_rate) for step in range(40)]
    assert rates == pytest.approx([rate for rate in expected for _ in range(5)], rel=1e-6)


def test_a_warm_up_comes_before_the_drops_and_does_not_move_them():
    factors = [schedule_factor("step", step, 12, warmup=1 / 3, drop_steps=6, drop=0.5) for step in range(12)]
    assert factors == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0, *[0.5] * 6]


def test_hyperparameters_of_members_may_differ_in_all_that_is_a_number():
    recipes = [
        Recipe(optimizer="adamw", weight_decay=0.1, clip_norm=2.0, ema_decay=0.9),
        Recipe(optimizer="adamw"),
    ]
    schedule = HyperSchedule(recipes, 4, stacked=True)
    hyper = schedule.at(1)
    assert hyper.weight_decay.tolist() == pytest.approx([0.1, 0.01])
    assert hyper.clip_norm.tolist() == [2.0, math.inf]
    assert hyper.ema_weight.tolist() == [torch.tensor(1 - 0.9).item(), 1.0]
    assert schedule.at(0).ema_weight.tolist() == [1.0, 1.0], "the average begins after the first step"


def test_hyperparameters_follow_the_schedule_of_each_member():
    recipes = [Recipe(learning_rate=rate, schedule="linear", l2=l2) for rate, l2 in ((0.1, 0.0), (0.2, 1e-3))]
    stacked, single = (HyperSchedule(recipes, 4, stacked=stacked) for stacked in (True, False))
    for step, factor in enumerate((1.0, 0.75, 0.5, 0.25)):
        hyper = stacked.at(step)
        torch.testing.assert_close(hyper.learning_rate, torch.tensor([0.1, 0.2]) * factor)
        assert torch.equal(hyper.l2, torch.tensor([0.0, 1e-3])) and float(hyper.step) == step
        assert float(single.at(step).learning_rate) == pytest.approx(0.1 * factor)
    assert float(stacked.at(0).learning_rate[0]) == pytest.approx(0.1), "steps may come in any order"
