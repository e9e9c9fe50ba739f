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
    replicates_of,
    same_bits,
    train,
    train_one,
    trial_config,
)

from inklab.errors import ModelMismatchError
from inklab.records.components import NetworkConfig
from inklab.training.preflight import preflight
from inklab.usercode import short_name

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


DENSE = "self.dense(images.flatten(1))"
WRONG = {
    "output width": (module(f"return {DENSE}[:, :7]"), ["(4, 7)", "(4, 10)"]),
    "missing flatten": (module("return self.dense(images)"), ["(4, 1, 12, 12)", "nn.Flatten"]),
    "not a tensor": (module("return [images]"), []),
    "unreached parameters": (
        module(f"return {DENSE}", "self.idle = nn.Linear(3, 2)"), ["net.idle.weight, net.idle.bias"],
    ),
    "detached": (module(f"return {DENSE}.detach()"), ["gradient", "net.dense.weight"]),
    "nothing to train": (module("return images.flatten(1)[:, :10]", "del self.dense"), ["any parameter"]),
    "NaN": (module(f"return {DENSE} * float('nan')"), ["loss", "nan"]),
    "infinite": (module(f"return {DENSE} * float('inf')"), ["loss"]),
    "raises": (module("raise KeyError('no such\\nthing')"), ["no such"]),
}  # fmt: skip


def assert_refused(facts, key, **config) -> None:
    with pytest.raises(ModelMismatchError) as caught:
        preflight(trial_config(**config), SHAPE, 10)
    message = str(caught.value)
    assert caught.value.key == key and "\n" not in message and all(fact in message for fact in facts)


@pytest.mark.parametrize("mistake", WRONG)
def test_mistakes_are_reported_in_one_line(mistake, user_net):
    source, facts = WRONG[mistake]
    name = user_net(source)
    assert_refused(facts, short_name(name), network=name)


def test_objective_and_network_must_fit():
    shapes = ["(4, 10)", "(4, 1, 12, 12)"]
    assert_refused(["'mlp'", "'reconstruct'", *shapes], "mlp", objective="reconstruct")
    assert_refused(["'autoencoder'", "'classify'", *shapes], "autoencoder", network=SMALL_AUTOENCODER)


def test_a_shift_must_leave_something_to_see():
    assert_refused([], "augmentation.shift", augmentation={"shift": 12})
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
    convolutional = {name for name, network in traits.items() if network.has_convolutions}
    assert convolutional == {"cnn", "compact", "unet"}
    assert traits["mlp"].parameters == 144 * 16 + 16 + 16 * 12 + 12 + 12 * 10 + 10
    assert traits["mlp"].macs == 144 * 16 + 16 * 12 + 12 * 10


BRANCHING = module(f"return {DENSE} if images.sum() > 1 else -{DENSE}")
DROPPING = module("return self.dense(functional.dropout(images.flatten(1), 0.3, self.training))")
RARE = module(f"return {DENSE} * (self.training and float(torch.rand(())) > 1e-4 or 1)")


def test_control_flow_that_depends_on_the_data_is_trained_alone(user_net, data):
    config = trial_config(user_net(BRANCHING), epochs=2)
    traits = preflight(config, SHAPE, 10)
    assert not traits.vmappable and not traits.uses_global_rng
    first, second = train(replicates_of(config, 0, 1), data, stacked=False)
    assert second.history.train_loss[1] < second.history.train_loss[0]
    assert same_bits(second, train_one(config, data, replicate=1, stacked=False))
    assert not same_bits(first.net, second.net)


def test_dropout_of_its_own_is_trained_alone_and_reseeded(user_net, data):
    config = trial_config(user_net(DROPPING), epochs=2)
    traits = preflight(config, SHAPE, 10)
    assert traits.uses_global_rng and not traits.vmappable
    first, second = train(replicates_of(config, 3, 1), data, stacked=False, reseed_each_step=True)
    torch.manual_seed(99)
    assert same_bits(second, train_one(config, data, replicate=1, stacked=False, reseed_each_step=True))
    without = train_one(trial_config(user_net(module(f"return {DENSE}")), epochs=2), data, replicate=1)
    assert not same_bits(second.net, without.net) and not same_bits(first.net, second.net)


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
    together = train(replicates_of(config, 0, 1, 2), data)
    single = train_one(config, data, replicate=1, stacked=False)
    assert_near(together[1], single)
    assert same_bits(single, train(replicates_of(config, 0, 1), data, stacked=False)[1])
    buffers = dict(single.net.named_buffers())
    assert int(buffers["net.norm.num_batches_tracked"]) == 2 * 7
    assert buffers["net.norm.running_mean"].any()
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
    name = user_net(source)
    assert_refused(["bf16"], short_name(name), network=name, precision="bf16")


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
    config = trial_config(user_net(WITH_BOTH, "make"))
    assert preflight(config, SHAPE, 10).parameters == 1450
    result = train(replicates_of(config, 0, 4), data)[1]
    assert same_bits(result, train_one(config, data, replicate=4))


@pytest.mark.parametrize(
    ("name", "kwargs", "fact"),
    [
        ("sentence", {}, "str"),
        ("number", {}, "int"),
        ("broken", {}, "KeyError"),
        ("Net", {"depth": 3}, "depth"),
    ],
)
def test_what_is_no_network_is_reported_in_one_line(name, kwargs, fact, user_net):
    with pytest.raises(ModelMismatchError) as caught:
        preflight(trial_config(NetworkConfig.of(user_net(WITH_BOTH, name), **kwargs)), SHAPE, 10)
    assert fact in str(caught.value) and "\n" not in str(caught.value)
