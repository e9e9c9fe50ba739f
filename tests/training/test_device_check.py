"""A device is trusted by its check: what trains wrong, does not repeat or mixes members is found out."""

from dataclasses import replace

import pytest
from synthetic_training import (
    DENOISE,
    DROPOUT_MLP,
    RANGED,
    SMALL_AUTOENCODER,
    SMALL_CNN,
    SMALL_MLP,
    trial_config,
    with_recipe,
)

from inklab.records.execution import DeviceCheck, DeviceChoice
from inklab.records.outcomes import History
from inklab.training.device_check import (
    STEPS,
    NetworkKind,
    check_device,
    check_path,
    device_population,
    load_or_check_device,
    relative_error,
)
from inklab.training.preflight import preflight
from inklab.training.trainer import train_population

SHAPE, CLASSES, MEMBERS = (1, 12, 12), 10, 3
CPU = DeviceChoice(reason="requested")
GPU = DeviceChoice(name="cuda:0", hardware="Fast GPU", reason="the first GPU that torch sees")


def kind(config=None, **traits) -> NetworkKind:
    config = config or trial_config(SMALL_MLP, learning_rate=0.1)
    checked = preflight(config, SHAPE, CLASSES).model_copy(update=traits)
    return NetworkKind("key", config, checked, SHAPE, CLASSES, max_members=MEMBERS)


class FakeBackend:
    """A GPU that is the processor, with a fault."""

    def __init__(self, fault=lambda call, results, spec: results):
        self.fault, self.specs = fault, []

    def __call__(self, spec, data):
        self.specs.append(spec)
        results = train_population(replace(spec, device="cpu", compiled=False), data)
        return self.fault(len(self.specs), results, spec)


def with_losses(result, change):
    history = result.history
    columns = {**history.columns, "train_loss": tuple(map(change, history.train_loss))}
    return replace(result, history=History(**columns))


def scaled(factor):
    return lambda loss: loss * factor


def wrong_kernel(call, results, spec):
    return [with_losses(result, scaled(1.01)) for result in results]


def ends_early(call, results, spec):
    short = {name: column[:3] for name, column in results[0].history.columns.items()}
    return [replace(results[0], history=History(**short), divergence="NaN"), *results[1:]]


def drifts(call, results, spec):
    return [with_losses(result, scaled(1 + 1e-6 * call)) for result in results]


def mixes_members(call, results, spec):
    return [*results[:-1], with_losses(results[-1], scaled(1.01))] if len(results) > 1 else results


def out_of_memory(call, results, spec):
    raise RuntimeError("CUDA out of memory")


def no_compiler(call, results, spec):
    return [replace(result, compile_error="no compiler" if spec.compiled else None) for result in results]


class TestCheckDevice:
    @pytest.mark.parametrize(
        "config",
        [
            trial_config(DROPOUT_MLP, corruption=RANGED, optimizer="adam", learning_rate=1e-3),
            trial_config(SMALL_AUTOENCODER, "bf16", **DENOISE),
            with_recipe(trial_config(SMALL_CNN), early_stopping={"patience": 1}, batch_size=20),
        ],
        ids=["dropout, noise, Adam", "denoiser in bf16", "cnn"],
    )
    def test_the_processor_passes_against_itself_without_an_error(self, config):
        network = kind(config)
        check = check_device(network, CPU)
        assert check.passed and check.problem == "" and check.steps == STEPS
        assert (check.loss_error, check.repeat_error) == (0, 0)
        expected = (0, MEMBERS) if network.stacked else (None, None)
        assert (check.member_error, check.members) == expected and check.compiles is None
        assert DeviceCheck.parse_json(check.model_dump_json().encode(), "check") == check
        assert "12 steps" in check.description and ("3 members" in check.description) == network.stacked

    @pytest.mark.parametrize(
        ("fault", "parts", "measured"),
        [
            (wrong_kernel, ("differ from the CPU's by 0.01", "allowed: 0.001"), {"loss_error"}),
            (ends_early, ("losses on cuda:0 differ", "by 1"), {"loss_error"}),
            (drifts, ("second training on cuda:0 differs",), {"loss_error", "repeat_error"}),
            (
                mixes_members, ("members of a population on cuda:0 differ from the same trials alone",),
                {"loss_error", "repeat_error", "member_error", "members"},
            ),
            (out_of_memory, ("it fails on cuda:0: RuntimeError: CUDA out of memory",), set()),
        ],
    )  # fmt: skip
    def test_a_faulty_one_fails_with_the_reason_and_its_numbers(self, fault, parts, measured):
        backend = FakeBackend(fault)
        check = check_device(kind(), GPU, train=backend)
        assert not check.passed and all(part in check.problem for part in parts)
        assert "trained on the CPU, because" in check.description and "\n" not in check.description
        fields = ("loss_error", "repeat_error", "member_error", "members")
        assert {name for name in fields if getattr(check, name) is not None} == measured
        assert {spec.device for spec in backend.specs} == {"cuda:0"}

    def test_a_sound_one_is_trained_with_a_tenth_of_the_rate_and_no_early_stop(self):
        backend = FakeBackend()
        check = check_device(kind(), GPU, train=backend)
        assert check.passed and (check.device, check.hardware) == ("cuda:0", "Fast GPU")
        recipe = backend.specs[0].trials[0].config.recipe
        assert recipe.learning_rate == pytest.approx(0.01) and recipe.epochs == STEPS
        assert [len(spec.trials) for spec in backend.specs] == [1, 1, MEMBERS, 1]

    def test_that_nothing_compiles_there_costs_only_the_compiling(self):
        check = check_device(kind(), GPU, compiled=True, train=FakeBackend(no_compiler))
        assert check.passed and check.compiles is False and check.compile_problem == "no compiler"
        assert "not compiled: no compiler" in check.description
        check = check_device(kind(), GPU, compiled=True, train=FakeBackend())
        assert check.compiles is True and check.compile_problem == ""

    def test_what_draws_from_the_global_generator_is_not_tried(self):
        backend = FakeBackend()
        check = check_device(kind(uses_global_rng=True), GPU, train=backend)
        assert "global generator" in check.problem and backend.specs == []

    def test_networks_that_are_not_stacked_have_no_members(self):
        backend = FakeBackend(mixes_members)
        assert check_device(kind(vmappable=False), GPU, train=backend).passed
        assert not any(spec.stacked for spec in backend.specs)


class TestCache:
    @pytest.fixture(autouse=True)
    def cache(self, tmp_path, monkeypatch):
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    @pytest.mark.parametrize("fault", [None, wrong_kernel])
    def test_a_device_is_checked_once(self, fault):
        backend = FakeBackend(fault) if fault else FakeBackend()
        checks = [load_or_check_device(kind(), GPU, train=backend)]
        calls = len(backend.specs)
        checks.append(load_or_check_device(kind(), GPU, train=backend))
        assert checks[0] == checks[1] and len(backend.specs) == calls

    def test_what_raised_an_error_is_tried_again(self):
        assert not load_or_check_device(kind(), GPU, train=FakeBackend(out_of_memory)).passed
        assert load_or_check_device(kind(), GPU, train=FakeBackend()).passed

    def test_a_damaged_file_is_measured_again(self):
        path = check_path("key", GPU, compiled=False)
        path.parent.mkdir(parents=True)
        path.write_text("{", encoding="utf-8")
        assert load_or_check_device(kind(), GPU, train=FakeBackend()).passed
        assert DeviceCheck.read(path).passed

    def test_every_kind_and_device_has_a_file_of_its_own(self):
        other = GPU.model_copy(update={"hardware": "Slow GPU"})
        arguments = [("key", GPU, False), ("other", GPU, False), ("key", other, False), ("key", GPU, True)]
        assert len({check_path(key, device, compiled=c) for key, device, c in arguments}) == len(arguments)


def test_errors_are_relative():
    assert relative_error([1.0, -2.0], [1.0, -1.0]) == 0.5
    assert relative_error([0.0], [0.0]) == 0 and relative_error([1.0], []) == 1


def test_a_population_fits_into_its_memory():
    assert [device_population(count) for count in (1, 545_810, 20_000_000, 10**9)] == [32, 32, 5, 2]
