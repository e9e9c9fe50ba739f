"""Compiled steps compute what they compute uncompiled, for each member alone, and are compiled only once.

Each of the four compilations takes some 12 s; tests share them.
"""

import os
import shutil
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from synthetic_training import (
    DROPOUT_MLP,
    SMALL_CNN,
    SMALL_MLP,
    assert_near,
    job_of,
    replicates_of,
    same_bits,
    stopped_and_resumed,
    train,
    trial_config,
    trials_of,
    with_recipe,
)
from torch import Tensor, nn
from torch.fx.experimental.proxy_tensor import make_fx

from inklab import hardware
from inklab.io.files import cache_dir
from inklab.networks.layers import Normalize, NormalizedModel
from inklab.seeding import Seed
from inklab.study.resources import COMPILERS
from inklab.training import compiled
from inklab.training.compiled import TESTED_TORCH, CompiledStep, CompileError, compiled_name
from inklab.training.objectives import Batch, objectives
from inklab.training.optimizers import HyperParams, make_optimizer
from inklab.training.population import single_member
from inklab.training.step import TrainStep

needs_compiler = pytest.mark.skipif(
    not any(map(shutil.which, COMPILERS)), reason=f"no C++ compiler: none of {', '.join(COMPILERS)} is here"
)

DENSE = trial_config(
    DROPOUT_MLP, "bf16", epochs=2, learning_rate=0.05, momentum=0.9, l2=1e-3, l2_params=("hidden.*.weight",)
)
CLIPPED = trial_config(
    DROPOUT_MLP, epochs=2, optimizer="adamw", weight_decay=0.1, learning_rate=0.01, clip_norm=0.5,
    ema_decay=0.7, schedule="one-cycle", class_weights="balanced", label_smoothing=0.2,
)  # fmt: skip
CNN = trial_config(SMALL_CNN, epochs=2, optimizer="adam", learning_rate=1e-3)


THREE, TWO = replicates_of(DENSE, 0, 1, 2), replicates_of(CNN, 0, 1)
CLIPPED_THREE = replicates_of(CLIPPED, 0, 1, 2)
COMPILED = {"population_size": 3, "compiled": True}
SINGLY = {"stacked": False, "compiled": True}


@pytest.fixture(scope="module")
def three(small_data):
    """A compiled population of three. Steps are compiled for batches of 32, not for the last one of 8."""
    return train(THREE, small_data, **COMPILED)


@pytest.fixture(scope="module")
def clipped(small_data):
    """A compiled population of three that has all that a step may have."""
    return train(CLIPPED_THREE, small_data, **COMPILED)


@pytest.fixture(scope="module")
def cnns(small_data):
    """Two compiled cnns, one after the other."""
    return train(TWO, small_data, **SINGLY)


def programs() -> dict[Path, int]:
    """The compiled programs in the cache, and when each was written."""
    return {path: path.stat().st_mtime_ns for path in cache_dir("programs").glob("*.pt2")}


@contextmanager
def broken_compiler():
    """torch finds no C++ compiler."""
    from torch._inductor import config

    with config.patch({"cpp.cxx": ("no-such-compiler",)}):
        yield


def test_torch_is_the_version_that_compiling_was_tested_with():
    """On a new one: check what `compiled.py` uses of its private parts, then raise TESTED_TORCH."""
    assert torch.__version__.startswith(f"{TESTED_TORCH}.")


@pytest.mark.integration
@needs_compiler
class TestPopulation:
    POPULATIONS = ((2, 0, 1), (1, 0), (3, 4, 2), (1,), (4, 4, 0))

    @pytest.mark.parametrize("replicates", POPULATIONS, ids=str)
    def test_members_are_independent(self, replicates, three, small_data):
        """Other order, other members, fewer trials than room; the smaller batch runs uncompiled."""
        before = programs()
        for result in train(replicates_of(DENSE, *replicates), small_data, **COMPILED):
            assert result.compiled and result.compile_error is None
            if result.trial.replicate < 3:
                assert same_bits(result, three[result.trial.replicate])
        assert programs() == before, "one program for all populations"
        assert not same_bits(three[0].net, three[1].net) and not same_bits(three[1].net, three[2].net)

    def test_other_members_may_have_another_learning_rate_l2_and_momentum(self, three, small_data):
        slow, fast = (
            with_recipe(DENSE, learning_rate=0.01, l2=0.0, momentum=0.0),
            with_recipe(DENSE, learning_rate=0.2, l2=0.1),
        )
        before = programs()
        results = train(trials_of((5, slow), (1, DENSE), (1, fast)), small_data, **COMPILED)
        assert same_bits(results[1], three[1]) and not same_bits(results[2].net, three[1].net)
        assert programs() == before, "learning rates, L2 and momenta are not compiled in"

    def test_a_member_that_diverges_does_not_affect_others(self, three, small_data):
        huge = with_recipe(DENSE, learning_rate=1e30)
        results = train(trials_of((0, DENSE), (1, huge), (2, DENSE)), small_data, **COMPILED)
        assert results[1].divergence and not results[0].divergence
        assert same_bits(results[0], three[0]) and same_bits(results[2], three[2])

    def test_results_are_near_the_uncompiled_ones(self, three, small_data):
        """In bf16 a compiled step rounds less often."""
        for result, expected in zip(three, train(THREE, small_data, population_size=3), strict=True):
            assert result.compiled and not expected.compiled
            for column in ("train_loss", "validation_loss"):
                actual, plain = (getattr(end.history, column) for end in (result, expected))
                assert actual == pytest.approx(plain, rel=2e-3)

    @pytest.mark.slow
    def test_a_program_of_another_size_gives_the_same_bits(self, three, small_data):
        """Otherwise a study that is extended, and gets larger populations, would change its numbers."""
        for result in train(replicates_of(DENSE, 1, 0), small_data, population_size=2, compiled=True):
            assert result.compiled and same_bits(result, three[result.trial.replicate])

    @pytest.mark.parametrize("stops", [[2], [4], [5, 1, 1]], ids=str)
    def test_stopped_and_resumed_it_ends_in_the_same_bits(self, stops, three, small_data, tmp_path):
        """After a full batch, after the smaller one, at the ends of epochs."""
        results = stopped_and_resumed(job_of(THREE, **COMPILED), small_data, tmp_path, stops)
        for result, expected in zip(results, three, strict=True):
            assert same_bits(result, expected) and result.compiled


@pytest.mark.slow
@needs_compiler
class TestClippingAndAverage:
    """Also what is summed over all parameters, what is kept beside them, and weights of classes."""

    def test_results_are_near_the_uncompiled_ones(self, clipped, small_data):
        for result, expected in zip(
            clipped, train(CLIPPED_THREE, small_data, population_size=3), strict=True
        ):
            assert result.compiled and not expected.compiled
            assert_near(result, expected, rtol=1e-3)

    def test_members_are_independent_and_their_numbers_not_compiled_in(self, clipped, small_data):
        other = with_recipe(CLIPPED, clip_norm=0.1, ema_decay=0.2, weight_decay=1.0, learning_rate=0.1)
        before = programs()
        first, *rest = train(trials_of((4, other), (2, CLIPPED), (0, CLIPPED)), small_data, **COMPILED)
        assert same_bits(rest[0], clipped[2]) and same_bits(rest[1], clipped[0])
        assert same_bits(train(trials_of((4, other)), small_data, **COMPILED)[0], first)
        assert programs() == before

    @pytest.mark.parametrize("stops", [[1], [4, 1], [7]], ids=str)
    def test_stopped_and_resumed_it_ends_in_the_same_bits(self, stops, clipped, small_data, tmp_path):
        results = stopped_and_resumed(job_of(CLIPPED_THREE, **COMPILED), small_data, tmp_path, stops)
        for result, expected in zip(results, clipped, strict=True):
            assert same_bits(result, expected) and result.compiled


@pytest.mark.integration
@needs_compiler
class TestSingleNetwork:
    @pytest.mark.parametrize("stops", [[3], [4, 1]], ids=str)
    def test_stopped_and_resumed_it_ends_in_the_same_bits(self, stops, cnns, small_data, tmp_path):
        (result,) = stopped_and_resumed(job_of(TWO[:1], **SINGLY), small_data, tmp_path, stops)
        assert same_bits(result, cnns[0]) and result.compiled

    def test_results_are_near_the_uncompiled_ones(self, cnns, small_data):
        for result, expected in zip(cnns, train(TWO, small_data, stacked=False), strict=True):
            assert result.compiled and not expected.compiled
            assert_near(result, expected, rtol=1e-3)

    def test_the_same_training_twice_gives_the_same_bits(self, cnns, small_data):
        """Also after another one: a program keeps nothing of the network that it trained before."""
        again = train(replicates_of(CNN, 1, 2, 0), small_data, **SINGLY)
        assert all(result.compiled for result in again)
        assert same_bits(again[0], cnns[1]) and same_bits(again[2], cnns[0])
        assert not same_bits(again[0].net, again[2].net)
        first, second = ({value.data_ptr() for value in result.net.parameters()} for result in again[:2])
        assert not first & second, "a network's memory is its own"


class RowMaximum(nn.Module):
    """The maximum of each of 4 rows of 16 scaled features. (Up to 8, the compiler needs no loop.)"""

    def forward(self, features: Tensor) -> Tensor:
        return (features.unflatten(-1, (4, 16)) * 1.1).amax(-1)


def maximum_step() -> tuple[TrainStep, CompiledStep, tuple[Batch, dict[str, Tensor], HyperParams]]:
    """A bf16 step of a network with a maximum, the same to be compiled, and its arguments."""
    with Seed(0).as_global():
        layers = nn.Flatten(), nn.Linear(36, 64), RowMaximum(), nn.Linear(4, 10)
    net = NormalizedModel(Normalize(0.0, 1.0), nn.Sequential(*layers))
    step = TrainStep(net, objectives["classify"], make_optimizer("sgd", 0.5), frozenset(), False, "bf16")
    images = torch.rand(16, 1, 6, 6, generator=torch.Generator().manual_seed(0))
    rate, number = torch.tensor(0.1), torch.tensor(0, dtype=torch.float64)
    keys: dict[str, Tensor] = {}
    arguments = Batch(images, torch.arange(16) % 10, images), keys, HyperParams(rate, rate, rate, number)
    return step, CompiledStep(step, step.init_state(*single_member(net))), arguments


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Holds the program of `maximum_step`."""
    folder = tmp_path_factory.mktemp("programs")
    _, step, arguments = maximum_step()
    step.compile(*arguments, cache_key="maximum", folder=folder)
    return folder


@pytest.mark.integration
@needs_compiler
class TestCompiledStep:
    def test_the_gradient_of_a_maximum_in_bf16_is_the_uncompiled_one(self, folder):
        """A compiler that is free to compares it with values that are not rounded, and finds no maximum."""
        step, compiled_step, arguments = maximum_step()
        compiled_step.compile(*arguments, folder=folder)
        compiled_step(*arguments)
        _, plain_step, _ = maximum_step()
        plain_step(*arguments)
        for name, expected in plain_step.state.params.items():
            torch.testing.assert_close(
                compiled_step.state.params[name], expected, rtol=0, atol=1e-4, msg=name
            )

    def test_a_program_in_the_cache_needs_no_compiler(self, folder):
        _, step, arguments = maximum_step()
        with broken_compiler():
            step.compile(*arguments, folder=folder)
        assert step.compiled

    def test_a_program_in_this_process_needs_no_trace(self, folder):
        """With the same key the step is not called."""
        train_step, _, arguments = maximum_step()
        state = train_step.init_state(*single_member(train_step.net))
        step = CompiledStep(lambda *_: pytest.fail("it was traced"), state)
        step.compile(*arguments, cache_key="maximum", folder=folder / "empty")
        assert step.compiled and not (folder / "empty").exists()

    def test_a_damaged_program_is_compiled_again(self, folder, tmp_path):
        """Here that fails. A folder that others may write to is closed before."""
        for path in folder.glob("*.pt2"):
            (tmp_path / path.name).write_bytes(b"PK\3\4 half")
        tmp_path.chmod(0o777)
        _, step, arguments = maximum_step()
        with broken_compiler(), pytest.raises(CompileError):
            step.compile(*arguments, folder=tmp_path)
        assert not step.compiled and tmp_path.stat().st_mode & 0o777 == 0o700
        assert not list(tmp_path.glob("*.*.pt2")), "no drafts are left"


RUN_AGAIN = """
import sys
sys.path[:0] = [{tests!r}, {tests!r} + "/../support"]
import torch
torch.set_num_threads(1)
import test_compiled as t
from synthetic_training import glyphs, train, training_data
data = training_data(*(part[:124] for part in glyphs(300, seed=1)), train=104, validation=20)
results = train(t.THREE, data, **t.COMPILED) + train(t.TWO, data, **t.SINGLY)
print(all(result.compiled for result in results), [result.history.train_loss for result in results])
"""


@pytest.mark.integration
@needs_compiler
class TestCache:
    def test_another_process_uses_it(self, three, cnns):
        """Its sets have another order, as always with another hash seed."""
        before = programs()
        code = RUN_AGAIN.format(tests=str(Path(__file__).parent))
        environment = {**os.environ, "PYTHONHASHSEED": "4711"}
        output = subprocess.check_output([sys.executable, "-c", code], text=True, env=environment)
        assert output.strip() == f"True {[result.history.train_loss for result in [*three, *cnns]]}"
        assert programs() == before

    def test_the_folder_belongs_to_the_user(self, three):
        folder = cache_dir("programs")
        assert folder.stat().st_mode & 0o777 == 0o700, "its content is run"
        assert not [path for path in folder.glob("*.pt2") if path.name.count(".") > 1], "no drafts are left"


class TestWithoutACompiler:
    CONFIGS = {
        True: trial_config(SMALL_MLP.with_kwargs({"dropout": 0.3}), "bf16", epochs=2, l2=1e-4),
        False: trial_config(SMALL_CNN.with_kwargs({"hidden": 12}), epochs=2),
    }

    @pytest.mark.parametrize("stacked", [True, False])
    def test_training_continues_with_the_same_bits_and_says_why(
        self, stacked, small_data, tmp_path, monkeypatch
    ):
        """Tracing has run the step once; that must have no effect."""
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        (tmp_path / "inklab").mkdir()
        (tmp_path / "inklab" / "programs").write_text("a file where the cache should be", encoding="utf-8")
        trials = replicates_of(self.CONFIGS[stacked], 0, 1)
        results, plain = (
            train(trials, small_data, stacked=stacked, compiled=compiled_too)
            for compiled_too in (True, False)
        )
        for result, expected in zip(results, plain, strict=True):
            assert not result.compiled and result.divergence is None and same_bits(result, expected)
            assert "FileExistsError" in result.compile_error and expected.compile_error is None


def name_of(function, *arguments: Tensor) -> str:
    return compiled_name(make_fx(function)(*arguments), arguments)


ROW, MAPS, KERNEL = torch.zeros(3), torch.zeros(2, 3, 8, 8), torch.zeros(4, 3, 3, 3)


def scale_by(*factors: float):
    """A function with a constant tensor."""
    return lambda row: row * torch.tensor(factors)


def double(row: Tensor) -> Tensor:
    return row * 2


OTHERS = {
    "operation": (double, ROW, lambda row: row + 2, ROW),
    "number": (double, ROW, lambda row: row * 3, ROW),
    "last digit": (lambda row: row * 0.1, ROW, lambda row: row * 0.10000001, ROW),
    "tensor": (scale_by(1.0, 2.0, 3.0), ROW, scale_by(1.0, 2.0, 3.0000002), ROW),
    "length": (double, ROW, double, torch.zeros(4)),
    "dimensions": (double, ROW, double, torch.zeros(1, 3)),
    "float64": (double, ROW, double, ROW.double()),
    "bfloat16": (double, ROW, double, ROW.bfloat16()),
    "strides": (double, ROW, double, torch.zeros(6)[::2]),
    "layout": (torch.relu, MAPS, torch.relu, MAPS.contiguous(memory_format=torch.channels_last)),
}


class TestCompiledName:
    def test_equal_programs_have_one_name_which_can_name_a_file(self):
        name = name_of(lambda row: row * 2 + 1, ROW)
        assert name == name_of(lambda row: row * 2 + 1, ROW + 5)
        assert name_of(scale_by(1.0, 2.0, 3.0), ROW) == name_of(scale_by(1.0, 2.0, 3.0), ROW)
        assert len(name) == 32 and set(name) <= set("0123456789abcdef")

    @pytest.mark.parametrize("difference", OTHERS)
    def test_it_depends_on_the_computation_and_its_arguments(self, difference):
        first, argument, other, other_argument = OTHERS[difference]
        assert name_of(first, argument) != name_of(other, other_argument)

    def test_it_depends_on_compiler_options_where_it_has_convolutions(self, monkeypatch):
        def names() -> tuple[str, str]:
            return name_of(nn.functional.conv2d, MAPS, KERNEL), name_of(double, ROW)

        before = names()
        monkeypatch.setattr(compiled, "REALIZE_THRESHOLD", compiled.REALIZE_THRESHOLD + 1)
        after = names()
        assert before[0] != after[0] and before[1] == after[1]

    def test_it_depends_on_threads_torch_and_processor(self, monkeypatch, tmp_path):
        names = [name_of(double, ROW)]
        torch.set_num_threads(2)
        names.append(name_of(double, ROW))
        torch.set_num_threads(1)
        with monkeypatch.context() as patch:
            patch.setattr(torch, "__version__", "0.1")
            names.append(name_of(double, ROW))
        with monkeypatch.context() as patch:
            (tmp_path / "cpuinfo").write_text("model name : Z80\n", encoding="utf-8")
            patch.setattr(hardware, "CPUINFO", tmp_path / "cpuinfo")
            names.append(name_of(double, ROW))
        assert len(set(names)) == 4 and name_of(double, ROW) == names[0]
