"""Objects of a session: what their identity depends on, how they travel, what registries make of them."""

import functools
import os
import sys

import numpy as np
import pytest
import torch
from notebook_cells import NETWORK, run_cell
from source_tree import run_python
from torch import nn

from inklab.corruptions.corruption import Corruption, corruption, corruptions, get_corruption
from inklab.errors import ConfigError, ModelMismatchError
from inklab.live_objects import (
    install_live,
    is_live,
    live_object,
    live_problem,
    live_sha256,
    pickle_live,
    register_live,
)
from inklab.networks.network import build_network, check_network, networks
from inklab.records.components import NetworkConfig
from inklab.records.recipe import CorruptionConfig, Recipe
from inklab.seeding import Seed
from inklab.study.spec import RobustnessExperiment, StudySpec, TrainingExperiment
from inklab.training.objectives import objectives
from inklab.usercode import is_user_code, load_object, reference, short_name, source_sha256


def named(source, name="Net", **options):
    """The reference of an object of a cell."""
    return register_live(run_cell(source, **options)[name])


FACTORY = """
import functools
import torch
LAYERS = {"sizes": (3, 5), "bias": True}
WEIGHTS = torch.arange(3.0)
def helper(x): return x + 1
def outer(k, *, flag=False):
    def inner(shape, n=2):
        return [helper(k) for _ in range(n)], LAYERS, WEIGHTS, flag
    return inner
Net = functools.partial(outer(4), n=3)
"""


class TestIdentity:
    def test_a_cell_that_is_run_again_gives_the_same_reference(self):
        for source in (NETWORK, FACTORY):
            name = named(source)
            assert named(source) == named("# moved down\n\n" + source + "\nunrelated = 3\n") == name
            assert is_live(name) and is_user_code(name) and not live_problem(name)
            assert name.rpartition("@")[2] == live_sha256(name)[:16] == source_sha256(name)[:16]

    @pytest.mark.parametrize(
        ("source", "old", "new"),
        [
            (NETWORK, "self.out(self.body(images))", "self.out(2 * self.body(images))"),
            (NETWORK, "width=8", "width=9"),
            (NETWORK, "SCALE = 1.0", "SCALE = 2.0"),
            (NETWORK, "torch.relu", "torch.tanh"),
            (NETWORK, "class Body(nn.Module)", "class Base(nn.Module): x = 1\nclass Body(Base)"),
            (NETWORK, "class Net(nn.Module):", "class Net(nn.Module):\n    extra = (1, 2)"),
            (FACTORY, "return x + 1", "return x + 2"),
            (FACTORY, "outer(4)", "outer(5)"),
            (FACTORY, "n=3", "n=4"),
            (FACTORY, '"bias": True', '"bias": False'),
            (FACTORY, "(3, 5)", "(5, 3)"),
            (FACTORY, "arange(3.0)", "arange(1.0, 4.0)"),
            (FACTORY, "arange(3.0)", "arange(3)"),
            (FACTORY, "outer(4)", "outer(4, flag=True)"),
        ],
    )
    @pytest.mark.parametrize("has_source", [True, False], ids=["source", "pipe"])
    def test_whatever_changes_what_it_computes_changes_it(self, source, old, new, has_source):
        assert source.count(old) >= 1
        changed = source.replace(old, new)
        assert named(source, has_source=has_source) == named(source, has_source=has_source)
        assert named(changed, has_source=has_source) != named(source, has_source=has_source)

    @pytest.mark.integration
    def test_another_session_gives_the_same(self, tmp_path):
        code = (
            f"import sys; sys.path.insert(0, {os.path.dirname(run_cell.__code__.co_filename)!r})\n"
            "from notebook_cells import NETWORK, run_cell\n"
            "from inklab.live_objects import register_live\n"
            "cell = run_cell(NETWORK)\n"
            "print(register_live(cell['Net']), register_live(lambda shape: cell and 3))"
        )
        first, second = run_python(code), run_python(code)
        assert first.split()[0] == named(NETWORK)
        assert first.split()[0] == second.split()[0]

    def test_lambdas_of_one_line_differ(self):
        cell = run_cell(
            "pair = (lambda x: x + 1, lambda x: x + 2)\nsame = [lambda x: x + 1 for _ in range(2)]\n"
        )
        first, second = map(register_live, cell["pair"])
        assert first != second
        assert len(set(map(register_live, cell["same"]))) == 1

    def test_the_call_around_a_lambda_does_not_count(self):
        texts = [f"keep = dict(net=lambda shape: shape, epochs={epochs})\n" for epochs in (1, 2)]
        assert len({register_live(run_cell(text)["keep"]["net"]) for text in texts}) == 1

    def test_values_that_can_be_named(self):
        def reading(value):
            return lambda: value

        module, sentinel = np, object()
        values = [
            1, 1.0, True, "1", b"1", None, ..., (1,), [1], {1}, frozenset({1}), {"a": 1}, {"a": 2}, 1j,
            nn.Linear, nn.functional.relu, torch.relu, np.add, module, torch.float32, torch.device("cpu"),
            np.zeros(2), np.zeros(3), np.zeros(2, np.float32), torch.zeros(2),
            torch.zeros(2, dtype=torch.bfloat16), nn.Parameter(torch.zeros(2)), range(3), slice(3),
            functools.partial(int, base=2), sentinel,
        ]  # fmt: skip
        names = [register_live(reading(value)) for value in values]
        assert [live_problem(name) for name in names] == [""] * len(values)
        assert len(set(names)) == len(values)
        assert [register_live(reading(value)) for value in values] == names

    def test_recursion_and_classes_that_refer_to_each_other(self):
        source = "def Net(n):\n    return n and Other(n - 1)\ndef Other(n):\n    return n and Net(n - 1)\n"
        assert named(source) == named(source) != named(source.replace("n - 1)\n", "n - 2)\n"))

    @pytest.mark.parametrize("holder", ["file", "generator"])
    def test_an_identity_that_cannot_be_established_is_not_guessed(self, holder, tmp_path):
        path = tmp_path / "open.txt"
        path.touch()
        with path.open() as file:
            value = {"file": file, "generator": (n for n in range(3))}[holder]

            def net(shape):
                return value

            name = register_live(net)
            assert name.startswith("live:net@unknown-") and is_live(name)
            assert register_live(net) == name, "the same object"
            assert live_problem(name)
            assert register_live(lambda shape: value) != name

    def test_names_are_short(self):
        def make():
            class Inner:
                pass

            return Inner

        assert short_name(register_live(make())) == "Inner"
        assert short_name(register_live(lambda: 0)) == "lambda"
        assert short_name(register_live(functools.partial(functools.partial(make)))) == "make"


class TestReferences:
    def test_records_take_objects(self):
        cell = run_cell(NETWORK)
        name = reference(cell["Net"])

        def fog(images, strength, draws):
            return images

        assert NetworkConfig.of(cell["Net"], width=3) == NetworkConfig.of(name, width=3)
        assert NetworkConfig.parse(cell["Net"]).name == name
        training = TrainingExperiment(network=cell["Net"], recipe=Recipe(objective=lambda net, batch: 0))
        assert training.network.name == name and is_live(training.recipe.objective)
        assert CorruptionConfig(name=fog, strength=0.1).name == reference(fog)
        robustness = RobustnessExperiment(corruption=fog, pipelines=("a",), baseline="a")
        study = StudySpec(name="x", title="live: a demo", experiments={"a": training, "r": robustness})
        assert set(study.live_objects) == {name, training.recipe.objective, reference(fog)}
        assert StudySpec.model_validate_json(study.model_dump_json()) == study

    @pytest.mark.parametrize("value", [3, None, [1]])
    def test_other_values_are_refused(self, value):
        with pytest.raises(ConfigError):
            reference(value)

    def test_an_object_of_another_session(self):
        name = "live:Net@0123456789abcdef"
        for use in (load_object, source_sha256, lambda name: pickle_live([name])):
            with pytest.raises(ConfigError, match="'Net'.*another Python session") as caught:
                use(name)
            assert caught.value.key == name


class TestTravelling:
    def test_a_worker_gets_the_object_and_its_identity(self, tmp_path):
        cell = run_cell(NETWORK)
        name = register_live(cell["Net"])
        (tmp_path / "pickle").write_bytes(pickle_live([name])[name])
        code = (
            "import pathlib, torch\n"
            "from inklab.live_objects import install_live\n"
            "from inklab.networks.network import build_network, check_network\n"
            "from inklab.records.components import NetworkConfig\n"
            "from inklab.seeding import Seed\n"
            f"name = {name!r}\n"
            f"install_live({{name: pathlib.Path({str(tmp_path / 'pickle')!r}).read_bytes()}})\n"
            "config = NetworkConfig.of(name, width=3)\n"
            "net = build_network(config, (1, 2, 2), 5, Seed(0))\n"
            "print(check_network(config), net(torch.ones(1, 1, 2, 2)).tolist())"
        )
        sha256, _, output = run_python(code).partition(" ")
        net = build_network(NetworkConfig.of(name, width=3), (1, 2, 2), 5, Seed(0))
        assert sha256 == live_sha256(name)
        assert output == str(net(torch.ones(1, 1, 2, 2)).tolist())

    def test_what_cannot_be_sent_is_refused_in_one_line(self):
        class Refuses:
            def __reduce_ex__(self, protocol):
                raise RuntimeError("not\nmine")

        value = Refuses()
        name = register_live(lambda: value)
        with pytest.raises(ConfigError, match="lambda.*not mine") as caught:
            pickle_live([name])
        assert "\n" not in str(caught.value)

    def test_what_changed_after_the_study_was_made_is_refused(self):
        cell = run_cell(NETWORK)
        name = register_live(cell["Net"])
        assert pickle_live([name])
        cell["SCALE"] = 3.0
        with pytest.raises(ConfigError, match="changed"):
            pickle_live([name])
        assert register_live(cell["Net"]) != name

    def test_a_module_that_a_worker_would_not_find_travels_too(self, tmp_path, monkeypatch):
        (tmp_path / "gone_module.py").write_text("K = 3\ndef net(shape):\n    return shape * K\n")
        monkeypatch.syspath_prepend(tmp_path)
        import gone_module

        name = register_live(gone_module.net)
        monkeypatch.undo()
        pickled = pickle_live([name])[name]
        monkeypatch.delitem(sys.modules, "gone_module", raising=False)
        other = name.replace("net@", "copy@")
        install_live({other: pickled})
        assert live_object(other)(2) == 6


class TestRegistries:
    def test_plain_functions_work_undecorated(self):
        def fog(images, strength, draws):
            return torch.lerp(images, torch.ones_like(images), strength)

        images = torch.zeros(2, 1, 3, 3)
        entry = get_corruption(reference(fog))
        assert isinstance(entry, Corruption) and entry.strengths[0] == 0
        assert entry(images, 0.25, Seed(0).draws()).unique().tolist() == [0.25]

        def loss(net, batch):
            """Mine."""

        objective = objectives.resolve(reference(loss))
        assert (objective.task, objective.loss, objective.label) == ("classification", loss, "loss")
        assert objective.description == "Mine."

    def test_decorated_ones_keep_what_the_decorator_says(self):
        source = (
            "from inklab.training.objectives import objective\n"
            "from inklab.corruptions.corruption import corruption\n"
            "@objective('my-loss', task='denoising', label='mine', cost=5)\n"
            "def loss(net, batch): ...\n"
            "@corruption('my-fog', unit='share', strengths=(0.0, 0.5), max_strength=0.5)\n"
            "def fog(images, strength, draws): return images\n"
        )
        with objectives.temporary(), corruptions.temporary():
            cell = run_cell(source)
            again = run_cell(source.replace("cost=5", "cost=6"))  # a cell that is run again replaces its own
            assert objectives["my-loss"].cost == 6
            assert corruptions["my-fog"].fn is again["fog"].fn
            assert reference(cell["loss"]) != reference(again["loss"])
            assert reference(cell["fog"]) == reference(again["fog"])
        name = reference(cell["loss"])
        pickled = pickle_live([name])[name]
        install_live({"live:copy@" + "0" * 16: pickled})
        for entry in map(objectives.resolve, (name, "live:copy@" + "0" * 16)):
            assert (entry.task, entry.label, entry.cost) == ("denoising", "mine", 5)
        assert get_corruption(reference(cell["fog"])).max_strength == 0.5

    def test_a_users_entry_does_not_replace_one_of_inklab(self):
        with pytest.raises(Exception, match="two corruptions"):
            corruption("shot", unit="", strengths=(0.0,), max_strength=1.0)(
                lambda images, strength, draws: images
            )

    def test_a_module_in_place_of_its_class_is_refused(self):
        config = NetworkConfig.of(nn.Flatten())
        with pytest.raises(ModelMismatchError, match="class or a function"):
            check_network(config)

    @pytest.mark.parametrize(
        "make", [lambda: nn.Flatten(), functools.partial(nn.Flatten, start_dim=1), nn.Flatten]
    )
    def test_functions_partials_and_classes_make_networks(self, make):
        net = build_network(NetworkConfig.of(make), (1, 2, 2), 3, Seed(0))
        assert isinstance(net, nn.Flatten)

    def test_a_registry_without_users_entries_says_so(self):
        from inklab.evaluation.samplers import samplers

        with pytest.raises(ConfigError, match="registered name"):
            samplers.resolve(reference(lambda: 0))
        assert networks.resolve("mlp") is networks["mlp"]
