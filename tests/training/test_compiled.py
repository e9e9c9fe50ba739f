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
    same_bits,
    stopped_and_resumed,
    training_data,
    trial_config,
    trials_of,
    with_recipe,
)
from torch import Tensor, nn
from torch.fx.experimental.proxy_tensor import make_fx

from inklab import hardware
from inklab.io.files import cache_dir
from inklab.networks.layers import Normalize, NormalizedModel
from inklab.records.recipe import TrialConfig
from inklab.seeding import Seed
from inklab.study.resources import COMPILERS
from inklab.training import compiled
from inklab.training.compiled import TESTED_TORCH, CompiledStep, CompileError, compiled_name
from inklab.training.objectives import Batch, objectives
from inklab.training.optimizers import HyperParams, make_optimizer
from inklab.training.population import PopulationSpec, single_member
from inklab.training.step import TrainStep
from inklab.training.trainer import TrainingResult, train_population

needs_compiler = pytest.mark.skipif(
    not any(map(shutil.which, COMPILERS)), reason=f"no C++ compiler: none of {', '.join(COMPILERS)} is here"
)

DENSE = trial_config(
    DROPOUT_MLP, "bf16", epochs=2, learning_rate=0.05, momentum=0.9, l2=1e-3, l2_params=("hidden.*.weight",)
)
CNN = trial_config(SMALL_CNN, epochs=2, optimizer="adam", learning_rate=1e-3)


@pytest.fixture(scope="module")
def data(digits):
    """Three batches of 32, which steps are compiled for, and a smaller one of 8."""
    return training_data(*(part[:124] for part in digits), train=104, validation=20)


def train_dense(
    data, *settings: tuple[int, TrialConfig], population_size: int = 3, compiled: bool = True
) -> list[TrainingResult]:
    """A population of `(replicate, configuration)`."""
    job = PopulationSpec(trials_of(*settings), True, False, 0, population_size, compiled)
    return train_population(job, data)


def train_cnns(
    data, *replicates: int, compiled: bool = True, config: TrialConfig = CNN
) -> list[TrainingResult]:
    trials = trials_of(*((replicate, config) for replicate in replicates))
    return train_population(PopulationSpec(trials, False, False, 0, compiled=compiled), data)


@pytest.fixture(scope="module")
def three(data) -> list[TrainingResult]:
    """Replicates 0, 1, 2 in a compiled population of three."""
    return train_dense(data, *((replicate, DENSE) for replicate in range(3)))


@pytest.fixture(scope="module")
def cnns(data) -> list[TrainingResult]:
    """Replicates 0 and 1 of a compiled cnn, one after the other."""
    return train_cnns(data, 0, 1)


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

    def test_results_say_whether_they_were_compiled(self, three, data):
        assert all(result.compiled and result.compile_error is None for result in three)
        assert not any(result.compiled for result in train_dense(data, (0, DENSE), compiled=False))

    @pytest.mark.parametrize("replicates", POPULATIONS, ids=str)
    def test_members_are_independent(self, replicates, three, data):
        """Other order, other members, fewer trials than room; the smaller batch runs uncompiled."""
        before = programs()
        for result in train_dense(data, *((replicate, DENSE) for replicate in replicates)):
            assert result.compiled
            if result.trial.replicate < 3:
                assert same_bits(result, three[result.trial.replicate])
        assert programs() == before, "one program for all populations"

    def test_replicates_differ(self, three):
        """Otherwise the test above would prove nothing."""
        assert not same_bits(three[0].net, three[1].net) and not same_bits(three[1].net, three[2].net)

    def test_other_members_may_have_another_learning_rate_l2_and_momentum(self, three, data):
        others = (
            with_recipe(DENSE, learning_rate=0.01, l2=0.0, momentum=0.0),
            with_recipe(DENSE, learning_rate=0.2, l2=0.1),
        )
        before = programs()
        results = train_dense(data, (5, others[0]), (1, DENSE), (1, others[1]))
        assert same_bits(results[1], three[1]) and not same_bits(results[2].net, three[1].net)
        assert programs() == before, "learning rates, L2 and momenta are not compiled in"

    def test_a_member_that_diverges_does_not_affect_others(self, three, data):
        results = train_dense(data, (0, DENSE), (1, with_recipe(DENSE, learning_rate=1e30)), (2, DENSE))
        assert results[1].divergence and not results[0].divergence
        assert same_bits(results[0], three[0]) and same_bits(results[2], three[2])

    def test_results_are_near_the_uncompiled_ones(self, three, data):
        """In bf16 a compiled step rounds less often."""
        uncompiled = train_dense(data, *((replicate, DENSE) for replicate in range(3)), compiled=False)
        for result, expected in zip(three, uncompiled, strict=True):
            assert result.history.train_loss == pytest.approx(expected.history.train_loss, rel=2e-3)
            assert result.history.validation_loss == pytest.approx(expected.history.validation_loss, rel=2e-3)

    def test_a_program_of_another_size_gives_the_same_bits(self, three, data):
        """Otherwise a study that is extended, and gets larger populations, would change its numbers."""
        for result in train_dense(data, (1, DENSE), (0, DENSE), population_size=2):
            assert result.compiled and same_bits(result, three[result.trial.replicate])

    @pytest.mark.parametrize("stops", [[2], [4], [5, 1, 1]], ids=str)
    def test_stopped_and_resumed_it_ends_in_the_same_bits(self, stops, three, data, tmp_path):
        """After a full batch, after the smaller one, at the ends of epochs."""
        trials = trials_of(*((replicate, DENSE) for replicate in range(3)))
        job = PopulationSpec(trials, True, False, 0, 3, compiled=True)
        for result, expected in zip(stopped_and_resumed(job, data, tmp_path, stops), three, strict=True):
            assert same_bits(result, expected) and result.compiled


@pytest.mark.integration
@needs_compiler
class TestSingleNetwork:
    @pytest.mark.parametrize("stops", [[3], [4, 1]], ids=str)
    def test_stopped_and_resumed_it_ends_in_the_same_bits(self, stops, cnns, data, tmp_path):
        job = PopulationSpec(trials_of((0, CNN)), False, False, 0, compiled=True)
        (result,) = stopped_and_resumed(job, data, tmp_path, stops)
        assert same_bits(result, cnns[0]) and result.compiled

    def test_results_are_near_the_uncompiled_ones(self, cnns, data):
        for result, expected in zip(cnns, train_cnns(data, 0, 1, compiled=False), strict=True):
            assert result.compiled and not expected.compiled
            assert_near(result, expected, rtol=1e-3)

    def test_the_same_training_twice_gives_the_same_bits(self, cnns, data):
        """Also after another one: a program keeps nothing of the network that it trained before."""
        again = train_cnns(data, 1, 2, 0)
        assert all(result.compiled for result in again)
        assert same_bits(again[0], cnns[1]) and same_bits(again[2], cnns[0])
        assert not same_bits(again[0].net, again[2].net)

    def test_a_networks_memory_is_its_own(self, cnns):
        first, second = ({value.data_ptr() for _, value in result.net.named_parameters()} for result in cnns)
        assert not first & second


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
import test_compiled
from synthetic_training import glyphs, training_data
data = training_data(*(part[:124] for part in glyphs(300, seed=1)), train=104, validation=20)
results = test_compiled.train_dense(data, *((replicate, test_compiled.DENSE) for replicate in range(3)))
results += test_compiled.train_cnns(data, 0, 1)
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
    def test_training_continues_with_the_same_bits_and_says_why(self, stacked, data, tmp_path, monkeypatch):
        """Tracing has run the step once; that must have no effect."""
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        (tmp_path / "inklab").write_text("a file where the cache should be", encoding="utf-8")
        config = self.CONFIGS[stacked]
        results, plain = (
            train_population(
                PopulationSpec(trials_of((0, config), (1, config)), stacked, False, 0, compiled=compiled),
                data,
            )
            for compiled in (True, False)
        )
        for result, expected in zip(results, plain, strict=True):
            assert not result.compiled and result.divergence is None and same_bits(result, expected)
            assert "NotADirectoryError" in result.compile_error and expected.compile_error is None


def name_of(function, *arguments: Tensor) -> str:
    return compiled_name(make_fx(function)(*arguments), arguments)


ROW = torch.zeros(3)
MAPS = torch.zeros(2, 3, 8, 8)
KERNEL = torch.zeros(4, 3, 3, 3)


def scale_by(*factors: float):
    """A function with a constant tensor."""
    return lambda row: row * torch.tensor(factors)


def double(row: Tensor) -> Tensor:
    return row * 2


class TestCompiledName:
    def test_equal_programs_have_one_name(self):
        assert name_of(lambda row: row * 2 + 1, ROW) == name_of(lambda row: row * 2 + 1, ROW + 5)
        assert name_of(scale_by(1.0, 2.0, 3.0), ROW) == name_of(scale_by(1.0, 2.0, 3.0), ROW)

    def test_it_can_name_a_file(self):
        name = name_of(double, ROW)
        assert len(name) == 32 and set(name) <= set("0123456789abcdef")

    @pytest.mark.parametrize(
        ("first", "other"),
        [
            (double, lambda row: row + 2),
            (double, lambda row: row * 3),
            (lambda row: row * 0.1, lambda row: row * 0.10000001),
            (scale_by(1.0, 2.0, 3.0), scale_by(1.0, 2.0, 3.0000002)),
        ],
        ids=["operation", "number", "last digit", "tensor"],
    )
    def test_it_depends_on_the_computation(self, first, other):
        assert name_of(first, ROW) != name_of(other, ROW)

    @pytest.mark.parametrize(
        "other", [torch.zeros(4), torch.zeros(1, 3), ROW.double(), ROW.bfloat16(), torch.zeros(6)[::2]],
        ids=["length", "dimensions", "float64", "bfloat16", "strides"],
    )  # fmt: skip
    def test_it_depends_on_the_arguments(self, other):
        assert name_of(double, other) != name_of(double, ROW)

    def test_it_depends_on_the_layout(self):
        channels_last = MAPS.contiguous(memory_format=torch.channels_last)
        assert name_of(torch.relu, MAPS) != name_of(torch.relu, channels_last)

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
