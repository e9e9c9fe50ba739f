"""The preflight check names what is wrong with a network, and determines how a correct one may be trained."""

import itertools
import textwrap

import pytest
import torch
from synthetic_training import (
    SMALL_AUTOENCODER,
    SMALL_CNN,
    SMALL_COMPACT,
    SMALL_MLP,
    SMALL_UNET,
    assert_near,
    same_bits,
    train,
    train_one,
    trial_config,
    trials_of,
)

from inklab.errors import ConfigError, ModelMismatchError
from inklab.records.components import NetworkConfig
from inklab.training.preflight import preflight

SHAPE = (1, 12, 12)
HEAD = "import torch\nfrom torch import nn\nfrom torch.nn import functional\n\n"


def module(forward: str, layers: str = "", arguments: str = "", name: str = "Net") -> str:
    """Source of a module; `self.dense` is there already."""
    return HEAD + textwrap.dedent(
        f"""
        class {name}(nn.Module):
            def __init__(self{arguments}):
                super().__init__()
                self.dense = nn.Linear(144, 10)
                {layers}

            def forward(self, images):
                {forward}
        """
    )


@pytest.fixture
def user_net(tmp_path):
    """Writes a user's file; returns the name under which a study refers to its `Net`."""
    numbers = itertools.count()

    def write(source: str, name: str = "Net") -> str:
        path = tmp_path / f"user_{next(numbers)}.py"
        path.write_text(source, encoding="utf-8")
        return f"{path}:{name}"

    return write


WRONG = {
    "output width": (
        module("return self.dense(images.flatten(1))[:, :7]"),
        r"\(4, 7\).*\(4, 10\)",
    ),
    "missing flatten": (
        module("return self.dense(images)"),
        r"\(4, 1, 12, 12\).*nn.Flatten",
    ),
    "not a tensor": (module("return [images]"), r"list.*\(4, 10\)|fails on a batch"),
    "unreached parameters": (
        module("return self.dense(images.flatten(1))", "self.idle = nn.Linear(3, 2)"),
        r"net.idle.weight, net.idle.bias",
    ),
    "detached": (
        module("return self.dense(images.flatten(1)).detach()"),
        r"gradient.*net.dense.weight",
    ),
    "nothing to train": (
        module("return images.flatten(1)[:, :10]", "del self.dense"),
        r"gradient.*any parameter",
    ),
    "NaN": (module("return self.dense(images.flatten(1)) * float('nan')"), r"loss.*nan"),
    "infinite": (
        module("return self.dense(images.flatten(1)) * float('inf')"),
        r"loss.*(nan|inf)",
    ),
    "raises": (module("raise KeyError('no such\\nthing')"), r"no such"),
}


@pytest.mark.parametrize("mistake", WRONG)
def test_mistakes_are_reported_in_one_line(mistake, user_net):
    source, facts = WRONG[mistake]
    name = user_net(source)
    with pytest.raises(ModelMismatchError, match=facts) as caught:
        preflight(trial_config(name), SHAPE, 10)
    assert caught.value.key == name and "\n" not in str(caught.value)


def test_objective_and_network_must_fit():
    with pytest.raises(ModelMismatchError, match=r"'mlp'.*\(4, 10\).*'reconstruct'.*\(4, 1, 12, 12\)"):
        preflight(trial_config(objective="reconstruct"), SHAPE, 10)
    with pytest.raises(ModelMismatchError, match=r"'autoencoder'.*'classify'.*\(4, 10\)"):
        preflight(trial_config(SMALL_AUTOENCODER), SHAPE, 10)


def test_a_shift_must_leave_something_to_see():
    with pytest.raises(ModelMismatchError) as caught:
        preflight(trial_config(augmentation={"shift": 12}), SHAPE, 10)
    assert caught.value.key == "augmentation.shift"
    preflight(trial_config(augmentation={"shift": 11}), SHAPE, 10)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_traits_of_built_in_networks(precision):
    traits = {
        network.name: preflight(trial_config(network, precision, objective=objective), SHAPE, 10)
        for network, objective in (
            (SMALL_MLP, "classify"),
            (SMALL_CNN, "classify"),
            (SMALL_AUTOENCODER, "reconstruct"),
            (SMALL_COMPACT, "classify-smoothed"),
            (SMALL_UNET, "reconstruct"),
        )
    }
    assert all(network.vmappable and not network.uses_global_rng for network in traits.values())
    assert {name for name, network in traits.items() if network.has_convolutions} == {
        "cnn",
        "compact",
        "unet",
    }
    assert traits["mlp"].parameters == 144 * 16 + 16 + 16 * 12 + 12 + 12 * 10 + 10
    assert traits["mlp"].macs == 144 * 16 + 16 * 12 + 12 * 10


BRANCHING = module(
    "return self.dense(images.flatten(1)) if images.sum() > 1 else self.dense(-images.flatten(1))"
)
DROPPING = module("return self.dense(functional.dropout(images.flatten(1), 0.3, self.training))")
RARE = module("return self.dense(images.flatten(1)) * (self.training and float(torch.rand(())) > 1e-4 or 1)")


def test_control_flow_that_depends_on_the_data_is_trained_alone(user_net, data):
    config = trial_config(user_net(BRANCHING), epochs=2)
    traits = preflight(config, SHAPE, 10)
    assert not traits.vmappable and not traits.uses_global_rng
    first, second = train(trials_of((0, config), (1, config)), data, stacked=False)
    assert second.history.train_loss[1] < second.history.train_loss[0]
    assert same_bits(second, train_one(config, data, replicate=1, stacked=False))
    assert not same_bits(first.net, second.net)


def test_dropout_of_its_own_is_trained_alone_and_reseeded(user_net, data):
    config = trial_config(user_net(DROPPING), epochs=2)
    traits = preflight(config, SHAPE, 10)
    assert traits.uses_global_rng and not traits.vmappable
    together = train(trials_of((3, config), (1, config)), data, stacked=False, reseed_each_step=True)
    torch.manual_seed(99)
    assert same_bits(together[1], train_one(config, data, replicate=1, stacked=False, reseed_each_step=True))
    plain = user_net(module("return self.dense(images.flatten(1))"))
    without = train_one(trial_config(plain, epochs=2), data)
    assert not same_bits(together[1].net, without.net)


def test_randomness_that_rarely_has_an_effect_is_detected(user_net):
    """A layer that is dropped once in ten thousand steps draws in every one of them."""
    assert preflight(trial_config(user_net(RARE)), SHAPE, 10).uses_global_rng


NORMED = {
    "dense": module(
        "return self.out(functional.relu(self.norm(self.dense(images.flatten(1)))))",
        "self.norm, self.out = nn.BatchNorm1d(10), nn.Linear(10, 10)",
    ),
    "first": module("return self.dense(self.norm(images).flatten(1))", "self.norm = nn.BatchNorm2d(1)"),
    "convolution": module(
        "return self.dense(functional.pad(self.norm(self.conv(images)), (1, 1, 1, 1)).flatten(1))",
        "self.norm, self.conv = nn.BatchNorm2d(1), nn.Conv2d(1, 1, 3, bias=False)",
    ),
}


@pytest.mark.parametrize("kind", NORMED)
def test_batchnorm_is_not_stacked(kind, user_net, data):
    """Stacked, it agrees to rounding but not to the bit: its sums depend on the number of members."""
    config = trial_config(user_net(NORMED[kind]), epochs=2)
    assert not preflight(config, SHAPE, 10).vmappable
    together = train(trials_of((0, config), (1, config), (2, config)), data)
    single = train_one(config, data, replicate=1, stacked=False)
    assert_near(together[1], single)
    assert same_bits(single, train(trials_of((0, config), (1, config)), data, stacked=False)[1])
    buffers = dict(single.net.named_buffers())
    assert int(buffers["net.norm.num_batches_tracked"]) == 2 * 7
    assert not torch.equal(
        buffers["net.norm.running_mean"], torch.zeros_like(buffers["net.norm.running_mean"])
    )
    assert not same_bits(together[0].net, together[1].net)


@pytest.mark.parametrize("kind", NORMED)
def test_batchnorm_is_trained_in_bf16(kind, user_net, data):
    """Its statistics and weights stay fp32; the rest computes in bf16."""
    config = trial_config(user_net(NORMED[kind]), "bf16", epochs=2)
    preflight(config, SHAPE, 10)
    result = train_one(config, data, stacked=False)
    fp32 = train_one(trial_config(user_net(NORMED[kind]), epochs=2), data, stacked=False)
    assert result.history.train_loss == pytest.approx(fp32.history.train_loss, rel=0.03)
    assert {value.dtype for value in result.net.state_dict().values()} == {torch.float32, torch.int64}


def test_an_operation_without_bf16_is_reported_before_training(user_net):
    source = module("return self.dense(torch.linalg.qr(images[:, 0]).R.flatten(1))", "self.depth = 12")
    assert preflight(trial_config(user_net(source)), SHAPE, 10).parameters == 1450
    with pytest.raises(ModelMismatchError, match="bf16.*fp32"):
        preflight(trial_config(user_net(source), "bf16"), SHAPE, 10)


WITH_BOTH = HEAD + textwrap.dedent(
    """
    class Net(nn.Module):
        def __init__(self, shape, classes, width=5):
            super().__init__()
            pixels = shape[0] * shape[1] * shape[2]
            hidden = (nn.Linear(pixels, width), nn.ReLU())
            self.layers = nn.Sequential(nn.Flatten(), *hidden, nn.Linear(width, classes))

        def forward(self, images):
            return self.layers(images)

    def make(classes):
        return nn.Sequential(nn.Flatten(), nn.Linear(144, classes))

    def sentence():
        return "a net"

    number = 3

    def broken():
        return {}["missing\\nkey"]
    """
)


@pytest.mark.parametrize("shape", [(1, 12, 12), (3, 8, 10)], ids=str)
def test_a_user_class_gets_shape_and_classes_if_it_has_such_parameters(shape, user_net):
    name = user_net(WITH_BOTH)
    pixels = shape[0] * shape[1] * shape[2]
    assert preflight(trial_config(name), shape, 7).parameters == pixels * 5 + 5 + 5 * 7 + 7
    wider = preflight(trial_config(NetworkConfig.of(name, width=9)), shape, 7)
    assert wider.parameters == pixels * 9 + 9 + 9 * 7 + 7


def test_a_function_may_build_the_network(user_net, data):
    name = user_net(WITH_BOTH, "make")
    assert preflight(trial_config(name), SHAPE, 10).parameters == 1450
    config = trial_config(name)
    result = train(trials_of((0, config), (4, config)), data)[1]
    assert same_bits(result, train_one(config, data, replicate=4))


@pytest.mark.parametrize(
    ("name", "fact"), [("sentence", "str"), ("number", "int"), ("broken", "KeyError.*missing")]
)
def test_what_is_no_network_is_reported_in_one_line(name, fact, user_net):
    with pytest.raises(ModelMismatchError, match=fact) as caught:
        preflight(trial_config(user_net(WITH_BOTH, name)), SHAPE, 10)
    assert "\n" not in str(caught.value)


def test_an_unknown_argument_of_a_user_class_is_refused(user_net):
    with pytest.raises(ModelMismatchError, match="'depth'"):
        preflight(trial_config(NetworkConfig.of(user_net(WITH_BOTH), depth=3)), SHAPE, 10)


def test_arguments_of_built_in_networks_are_checked_by_name():
    with pytest.raises(ConfigError) as caught:
        preflight(trial_config(NetworkConfig.of("mlp", hiden=[3])), SHAPE, 10)
    assert caught.value.suggestion == "hidden"
