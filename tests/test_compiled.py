"""Compiled steps compute what they compute uncompiled, for each member alone, and are compiled only once.

Each of the four compilations takes some 12 s; tests share them.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from synthetic_training import (
    SMALL_CNN,
    SMALL_MLP,
    assert_near,
    members,
    same_bits,
    settings,
    stopped_and_resumed,
    training_data,
)
from torch import Tensor, nn
from torch.fx.experimental.proxy_tensor import make_fx

from inklab.io.atomic import cache_dir
from inklab.networks.layers import Normalize, NormalizedModel
from inklab.seeding import Seed
from inklab.study.resources import COMPILERS
from inklab.training import compiled as program
from inklab.training.compiled import CompiledStep, compiled_name
from inklab.training.objectives import Batch, objectives
from inklab.training.optimizers import HyperParams, make_optimizer
from inklab.training.population import single_member
from inklab.training.recipe import Recipe
from inklab.training.step import TrainStep
from inklab.training.trainer import PopulationJob, TrainingResult, train_population

needs_compiler = pytest.mark.skipif(
    not any(map(shutil.which, COMPILERS)), reason=f"no C++ compiler: none of {', '.join(COMPILERS)} is here"
)


def resolved(model: dict, precision: str, **recipe) -> dict:
    """A trial's settings with every field of the recipe, as plans spell them out."""
    told = settings(model, precision, epochs=2, **recipe)
    return {**told, "recipe": Recipe.model_validate(told["recipe"]).model_dump()}


DENSE = resolved(
    {**SMALL_MLP, "dropout": 0.4}, "bf16", rate=0.05, momentum=0.9, l2=1e-3, l2_on=("hidden.*.weight",)
)
CONVOLVING = resolved(SMALL_CNN, "fp32", optimiser="adam", rate=1e-3)


def changed(told: dict, **recipe) -> dict:
    return {**told, "recipe": {**told["recipe"], **recipe}}


@pytest.fixture(scope="module")
def data(digits):
    """Three batches of 32, which are compiled for, and a ragged one of 8."""
    return training_data(*(part[:124] for part in digits), train=104, validation=20)


def dense(data, *told: tuple[int, dict], slots: int = 3, compiled: bool = True) -> list[TrainingResult]:
    """A population of `(replicate, settings)`."""
    return train_population(PopulationJob(members(*told), True, False, 0, slots, compiled), data)


def convolving(data, *replicates: int, compiled: bool = True) -> list[TrainingResult]:
    trials = members(*((replicate, CONVOLVING) for replicate in replicates))
    return train_population(PopulationJob(trials, False, False, 0, compiled=compiled), data)


@pytest.fixture(scope="module")
def three(data) -> list[TrainingResult]:
    """Replicates 0, 1, 2 in a compiled population of three."""
    return dense(data, *((replicate, DENSE) for replicate in range(3)))


@pytest.fixture(scope="module")
def cnns(data) -> list[TrainingResult]:
    """Replicates 0 and 1 of a compiled cnn, one after the other."""
    return convolving(data, 0, 1)


def programs() -> dict[Path, int]:
    """The compiled programs that are kept, and when each was written."""
    return {path: path.stat().st_mtime_ns for path in cache_dir("programs").glob("*.pt2")}


@needs_compiler
class TestAPopulation:
    COMPANIES = ((2, 0, 1), (1, 0), (3, 4, 2), (1,), (4, 4, 0))

    def test_it_says_that_it_was_compiled(self, three, data):
        assert all(each.compiled for each in three)
        assert not any(each.compiled for each in dense(data, (0, DENSE), compiled=False))

    @pytest.mark.parametrize("company", COMPANIES, ids=str)
    def test_members_do_not_notice_their_company(self, company, three, data):
        """Other order, other neighbours, fewer trials than slots; the ragged batch runs uncompiled."""
        before = programs()
        for each in dense(data, *((replicate, DENSE) for replicate in company)):
            assert each.compiled
            if each.trial.replicate < 3:
                assert same_bits(each, three[each.trial.replicate])
        assert programs() == before, "one program for all companies"

    def test_replicates_differ(self, three):
        """Else the test above would prove nothing."""
        assert not same_bits(three[0].net, three[1].net) and not same_bits(three[1].net, three[2].net)

    def test_neighbours_may_have_another_rate_l2_and_momentum(self, three, data):
        others = changed(DENSE, rate=0.01, l2=0.0, momentum=0.0), changed(DENSE, rate=0.2, l2=0.1)
        before = programs()
        found = dense(data, (5, others[0]), (1, DENSE), (1, others[1]))
        assert same_bits(found[1], three[1]) and not same_bits(found[2].net, three[1].net)
        assert programs() == before, "rates, L2 and momenta are not compiled in"

    def test_a_neighbour_that_diverges_is_not_noticed(self, three, data):
        found = dense(data, (0, DENSE), (1, changed(DENSE, rate=1e30)), (2, DENSE))
        assert found[1].diverged and not found[0].diverged
        assert same_bits(found[0], three[0]) and same_bits(found[2], three[2])

    def test_it_comes_out_near_the_uncompiled_one(self, three, data):
        """In bf16 a compiled step rounds less often."""
        uncompiled = dense(data, *((replicate, DENSE) for replicate in range(3)), compiled=False)
        for one, other in zip(three, uncompiled, strict=True):
            for key in ("train_loss", "validation_loss"):
                assert one.history[key] == pytest.approx(other.history[key], rel=2e-3), key

    def test_a_program_with_other_slots_gives_the_same_bits(self, three, data):
        """Else a study that is extended, and gets larger populations, would move its numbers."""
        for each in dense(data, (1, DENSE), (0, DENSE), slots=2):
            assert each.compiled and same_bits(each, three[each.trial.replicate])

    @pytest.mark.parametrize("stops", [[2], [4], [5, 1, 1]], ids=str)
    def test_stopped_and_gone_on_with_it_ends_in_the_same_bits(self, stops, three, data, tmp_path):
        """At a full batch, after the ragged one, at the ends of epochs."""
        trials = members(*((replicate, DENSE) for replicate in range(3)))
        group = PopulationJob(trials, True, False, 0, 3, compiled=True)
        for one, other in zip(stopped_and_resumed(group, data, tmp_path, stops), three, strict=True):
            assert same_bits(one, other) and one.compiled


@needs_compiler
class TestANetworkAlone:
    @pytest.mark.parametrize("stops", [[3], [4, 1]], ids=str)
    def test_stopped_and_gone_on_with_it_ends_in_the_same_bits(self, stops, cnns, data, tmp_path):
        group = PopulationJob(members((0, CONVOLVING)), False, False, 0, compiled=True)
        (found,) = stopped_and_resumed(group, data, tmp_path, stops)
        assert same_bits(found, cnns[0]) and found.compiled

    def test_it_comes_out_near_the_uncompiled_one(self, cnns, data):
        for one, other in zip(cnns, convolving(data, 0, 1, compiled=False), strict=True):
            assert one.compiled and not other.compiled
            assert_near(one, other, rtol=1e-3)

    def test_the_same_training_twice_gives_the_same_bits(self, cnns, data):
        """Also in other company: a program keeps nothing of the network that it trained before."""
        again = convolving(data, 1, 2, 0)
        assert all(each.compiled for each in again)
        assert same_bits(again[0], cnns[1]) and same_bits(again[2], cnns[0])
        assert not same_bits(again[0].net, again[2].net)

    def test_a_networks_memory_is_its_own(self, cnns):
        first, second = (dict(each.net.named_parameters()) for each in cnns)
        assert not {each.data_ptr() for each in first.values()} & {
            each.data_ptr() for each in second.values()
        }


class Largest(nn.Module):
    """The largest of each of 4 rows of 16 scaled features. (Up to 8, the compiler needs no loop.)"""

    def forward(self, features: Tensor) -> Tensor:
        return (features.unflatten(-1, (4, 16)) * 1.1).amax(-1)


@needs_compiler
class TestAMaximum:
    def test_its_gradient_in_bf16_is_that_of_the_uncompiled_one(self):
        """If the compiler may, it compares it with values that are not rounded: then none is the largest."""
        with Seed(0).as_global():
            layers = nn.Flatten(), nn.Linear(36, 64), Largest(), nn.Linear(4, 10)
        net = NormalizedModel(Normalize(0.0, 1.0), nn.Sequential(*layers))
        maker = TrainStep(net, objectives["classify"], make_optimizer("sgd", 0.5), frozenset(), False, "bf16")
        images = torch.rand(16, 1, 6, 6, generator=torch.Generator().manual_seed(0))
        rate, taken = torch.tensor(0.1), torch.tensor(0, dtype=torch.float64)
        given = Batch(images, torch.arange(16) % 10, images), {}, HyperParams(rate, rate, rate, taken)
        compiled, plain = (
            CompiledStep(maker.step(), maker.init_state(*single_member(net))) for _ in range(2)
        )
        compiled.compile(*given)
        for each in (compiled, plain):
            each(*given)
        for name, expected in plain.state.params.items():
            torch.testing.assert_close(compiled.state.params[name], expected, rtol=0, atol=1e-4, msg=name)


AGAIN = """
import sys
sys.path[:0] = [{tests!r}, {tests!r} + "/support"]
import torch
torch.set_num_threads(1)
import test_program
from synthetic_training import glyphs, training_data
data = training_data(*(part[:124] for part in glyphs(300, seed=1)), train=104, validation=20)
trained = test_program.dense(data, *((replicate, test_program.DENSE) for replicate in range(3)))
print(all(each.compiled for each in trained), [each.history["train_loss"] for each in trained])
"""


@needs_compiler
class TestKept:
    def test_a_program_that_is_kept_is_found_and_not_compiled_again(self, three, cnns, data, monkeypatch):
        """As by a worker that has compiled nothing yet."""
        before = programs()
        monkeypatch.setattr(program, "_LOADED", {})
        monkeypatch.setattr(program, "_compile", refuse)
        for found, known in zip(dense(data, *((k, DENSE) for k in range(3))), three, strict=True):
            assert found.compiled and same_bits(found, known)
        for found, known in zip(convolving(data, 0, 1), cnns, strict=True):
            assert found.compiled and same_bits(found, known)
        assert programs() == before

    def test_a_trace_is_saved_too_where_a_name_is_known(self, three, data, monkeypatch):
        monkeypatch.setattr(program, "_traced", refuse)
        assert dense(data, (0, DENSE))[0].compiled

    def test_another_process_finds_it(self, three):
        """Whose sets come in another order, as always with another hash seed."""
        before = programs()
        code = AGAIN.format(tests=str(Path(__file__).parent))
        environment = {**os.environ, "PYTHONHASHSEED": "4711"}
        said = subprocess.check_output([sys.executable, "-c", code], text=True, env=environment)
        assert said.strip() == f"True {[each.history['train_loss'] for each in three]}"
        assert programs() == before

    def test_the_folder_is_the_users_own(self, three):
        folder = cache_dir("programs")
        assert folder.stat().st_mode & 0o777 == 0o700, "what lies there is run"
        assert not [path for path in folder.glob("*.pt2") if path.name.count(".") > 1], "no drafts are left"


def refuse(*_: object) -> None:
    """Stands for a compiler that breaks."""
    raise RuntimeError("g++: internal compiler error")


class TestWithoutACompiler:
    TOLD = resolved({**SMALL_MLP, "dropout": 0.3}, "bf16", l2=1e-4)

    @pytest.fixture
    def cache(self, tmp_path, monkeypatch) -> Path:
        """An empty cache, to which nothing can be added."""
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        monkeypatch.setattr(program, "_LOADED", {})
        monkeypatch.setattr(program, "_compile", refuse)
        return tmp_path

    @pytest.mark.parametrize("lifted", [True, False])
    def test_training_goes_on_with_the_same_bits(self, lifted, cache, data):
        """Tracing has run the step once; nothing of that may be left."""
        told = self.TOLD if lifted else CONVOLVING
        trials = members((0, told), (1, told))
        found, plain = (
            train_population(PopulationJob(trials, lifted, False, 0, compiled=compiled), data)
            for compiled in (True, False)
        )
        for one, other in zip(found, plain, strict=True):
            assert not one.compiled and one.diverged is None and same_bits(one, other)

    def test_nothing_half_is_kept_and_the_next_one_tries_again(self, cache, data, monkeypatch):
        tried: list[int] = []
        monkeypatch.setattr(program, "_compile", lambda *_: tried.append(1) or refuse())
        for _ in range(2):
            assert not dense(data, (0, self.TOLD))[0].compiled
        assert len(tried) == 2 and not list(cache.rglob("*.pt2"))

    def test_a_folder_that_others_may_write_to_is_closed(self, cache, data):
        folder = cache_dir("programs")
        folder.mkdir(parents=True)
        folder.chmod(0o777)
        dense(data, (0, self.TOLD))
        assert folder.stat().st_mode & 0o777 == 0o700

    def test_a_damaged_program_is_not_run(self, cache, data, monkeypatch):
        monkeypatch.setattr(program, "_compile", lambda graph, given, path: path.write_bytes(b"PK\3\4 half"))
        assert not dense(data, (0, self.TOLD))[0].compiled

    def test_no_place_to_keep_programs_is_no_error(self, cache, data):
        (cache / "inklab").write_text("a file where the folder should be", encoding="utf-8")
        assert not dense(data, (0, self.TOLD))[0].compiled


def named(function, *given: Tensor) -> str:
    return compiled_name(make_fx(function)(*given), given)


ROW = torch.zeros(3)
MAPS = torch.zeros(2, 3, 8, 8)
KERNEL = torch.zeros(4, 3, 3, 3)


def sloped(*slopes: float):
    """A function with a tensor built in."""
    return lambda row: row * torch.tensor(slopes)


class TestTheName:
    def test_equal_programs_have_one_name(self):
        assert named(lambda row: row * 2 + 1, ROW) == named(lambda row: row * 2 + 1, ROW + 5)
        assert named(sloped(1.0, 2.0, 3.0), ROW) == named(sloped(1.0, 2.0, 3.0), ROW)

    def test_it_can_name_a_file(self):
        name = named(lambda row: row * 2, ROW)
        assert len(name) == 32 and set(name) <= set("0123456789abcdef")

    @pytest.mark.parametrize(
        ("one", "other"),
        [
            (lambda row: row * 2, lambda row: row + 2),
            (lambda row: row * 2, lambda row: row * 3),
            (lambda row: row * 0.1, lambda row: row * 0.10000001),
            (sloped(1.0, 2.0, 3.0), sloped(1.0, 2.0, 3.0000002)),
        ],
        ids=["operation", "number", "last digit", "tensor"],
    )
    def test_what_is_computed_changes_it(self, one, other):
        assert named(one, ROW) != named(other, ROW)

    @pytest.mark.parametrize(
        "other", [torch.zeros(4), torch.zeros(1, 3), ROW.double(), ROW.bfloat16(), torch.zeros(6)[::2]],
        ids=["length", "dimensions", "float64", "bfloat16", "strides"],
    )  # fmt: skip
    def test_what_it_is_given_changes_it(self, other):
        assert named(lambda row: row * 2, other) != named(lambda row: row * 2, ROW)

    def test_layout_changes_it(self):
        turned = MAPS.contiguous(memory_format=torch.channels_last)
        assert named(torch.relu, MAPS) != named(torch.relu, turned)

    def test_how_it_is_compiled_changes_it_where_it_convolves(self, monkeypatch):
        def names() -> tuple[str, str]:
            return named(nn.functional.conv2d, MAPS, KERNEL), named(lambda row: row * 2, ROW)

        before = names()
        monkeypatch.setattr(program, "REALIZE_THRESHOLD", program.REALIZE_THRESHOLD + 1)
        after = names()
        assert before[0] != after[0] and before[1] == after[1]

    def test_threads_torch_and_processor_change_it(self, monkeypatch):
        def name() -> str:
            return named(lambda row: row * 2, ROW)

        names = [name()]
        for home, key, other in (
            (torch, "get_num_threads", lambda: 77),
            (torch, "__version__", "0.1"),
            (program, "processor", lambda key: "Z80"),
        ):
            with monkeypatch.context() as patch:
                patch.setattr(home, key, other)
                names.append(name())
        assert len(set(names)) == 4 and name() == names[0]
