"""A rehearsal says in one line what is wrong with a module, and finds out how a sound one may be trained."""

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
    members,
    same_bits,
    settings,
    train,
    train_one,
)

from inklab.errors import ConfigError, ModelMismatchError
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
def written(tmp_path):
    """Writes a user's file; gives the name under which a study asks for its `Net`."""
    numbers = itertools.count()

    def write(source: str, thing: str = "Net") -> str:
        path = tmp_path / f"user_{next(numbers)}.py"
        path.write_text(source, encoding="utf-8")
        return f"{path}:{thing}"

    return write


WRONG = {
    "output width": (
        module("return self.dense(images.flatten(1))[:, :7]"),
        r"\(4, 7\).*\(4, 10\).*last layer",
    ),
    "missing flatten": (
        module("return self.dense(images)"),
        r"fails on a batch of shape \(4, 1, 12, 12\).*nn.Flatten",
    ),
    "not a tensor": (module("return [images]"), r"gives list.*\(4, 10\)|fails on a batch"),
    "unreached parameters": (
        module("return self.dense(images.flatten(1))", "self.idle = nn.Linear(3, 2)"),
        r"no gradient reaches net.idle.weight, net.idle.bias.*forward\(\) never calls",
    ),
    "detached": (
        module("return self.dense(images.flatten(1)).detach()"),
        r"no gradient reaches net.dense.weight",
    ),
    "nothing to train": (
        module("return images.flatten(1)[:, :10]", "del self.dense"),
        r"no gradient reaches any parameter",
    ),
    "NaN": (module("return self.dense(images.flatten(1)) * float('nan')"), r"loss nan.*first batch"),
    "infinite": (
        module("return self.dense(images.flatten(1)) * float('inf')"),
        r"loss (nan|inf).*first batch",
    ),
    "raises": (module("raise KeyError('no such\\nthing')"), r"fails on a batch.*no such"),
}


@pytest.mark.parametrize("mistake", WRONG)
def test_what_is_wrong_is_told_in_one_line(mistake, written):
    source, message = WRONG[mistake]
    with pytest.raises(ModelMismatchError, match=message) as caught:
        preflight(settings(written(source)), SHAPE, 10)
    assert "\n" not in str(caught.value)


def test_objective_and_network_must_fit():
    with pytest.raises(
        ModelMismatchError, match=r"'mlp' gives \(4, 10\).*'reconstruct' needs \(4, 1, 12, 12\)"
    ):
        preflight(settings(objective="reconstruct"), SHAPE, 10)
    with pytest.raises(ModelMismatchError, match=r"'autoencoder' gives .* 'classify' needs \(4, 10\)"):
        preflight(settings(SMALL_AUTOENCODER), SHAPE, 10)


def test_a_shift_must_leave_something_to_see():
    def shifted(by):
        found = settings()
        return {**found, "recipe": {**found["recipe"], "augmentation": {"shift": by}}}

    with pytest.raises(ModelMismatchError, match=r"shift is 12, but images are 12x12.*0 to 11"):
        preflight(shifted(12), SHAPE, 10)
    preflight(shifted(11), SHAPE, 10)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_facts_of_our_own_models(precision):
    found = {
        model["name"]: preflight(settings(model, precision, objective=objective), SHAPE, 10)
        for model, objective in (
            (SMALL_MLP, "classify"),
            (SMALL_CNN, "classify"),
            (SMALL_AUTOENCODER, "reconstruct"),
            (SMALL_COMPACT, "classify-smoothed"),
            (SMALL_UNET, "reconstruct"),
        )
    }
    assert all(facts.liftable and not facts.random for facts in found.values())
    assert {name for name, facts in found.items() if facts.convolutional} == {"cnn", "compact", "unet"}
    assert found["mlp"].parameters == 144 * 16 + 16 + 16 * 12 + 12 + 12 * 10 + 10
    assert found["mlp"].multiply_adds == 144 * 16 + 16 * 12 + 12 * 10
    assert found["mlp"].to_json()["liftable"] is True


BRANCHING = module(
    "return self.dense(images.flatten(1)) if images.sum() > 1 else self.dense(-images.flatten(1))"
)
DROPPING = module("return self.dense(functional.dropout(images.flatten(1), 0.3, self.training))")
SELDOM = module(
    "return self.dense(images.flatten(1)) * (self.training and float(torch.rand(())) > 1e-4 or 1)"
)


def test_control_flow_that_depends_on_the_data_is_trained_alone(written, data):
    told = settings(written(BRANCHING), epochs=2)
    facts = preflight(told, SHAPE, 10)
    assert not facts.liftable and not facts.random
    first, second = train(members((0, told), (1, told)), data, lifted=False)
    assert second.history["train_loss"][1] < second.history["train_loss"][0]
    assert same_bits(second, train_one(told, data, replicate=1, lifted=False))
    assert not same_bits(first.net, second.net)


def test_dropout_of_its_own_is_trained_alone_and_reseeded(written, data):
    told = settings(written(DROPPING), epochs=2)
    facts = preflight(told, SHAPE, 10)
    assert facts.random and not facts.liftable
    together = train(members((3, told), (1, told)), data, lifted=False, random=True)
    torch.manual_seed(99)
    assert same_bits(together[1], train_one(told, data, replicate=1, lifted=False, random=True))
    sober = train_one(settings(written(module("return self.dense(images.flatten(1))")), epochs=2), data)
    assert not same_bits(together[1].net, sober.net)


def test_randomness_that_seldom_shows_is_found(written):
    """A layer that is dropped once in ten thousand steps draws in every one of them."""
    assert preflight(settings(written(SELDOM)), SHAPE, 10).random


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
def test_batchnorm_is_trained_alone_though_stacked_buffers_would_do(kind, written, data):
    """Lifted, it agrees to rounding but not to the bit: its sums depend on how many members there are."""
    told = settings(written(NORMED[kind]), epochs=2)
    assert not preflight(told, SHAPE, 10).liftable
    together = train(members((0, told), (1, told), (2, told)), data)
    unlifted = train_one(told, data, replicate=1, lifted=False)
    assert_near(together[1], unlifted)
    assert same_bits(unlifted, train(members((0, told), (1, told)), data, lifted=False)[1])
    buffers = dict(unlifted.net.named_buffers())
    assert int(buffers["net.norm.num_batches_tracked"]) == 2 * 7
    assert not torch.equal(
        buffers["net.norm.running_mean"], torch.zeros_like(buffers["net.norm.running_mean"])
    )
    assert not same_bits(together[0].net, together[1].net)


@pytest.mark.parametrize("kind", NORMED)
def test_batchnorm_is_trained_in_bf16(kind, written, data):
    """Its statistics and weights stay fp32; the rest computes in bf16."""
    told = settings(written(NORMED[kind]), "bf16", epochs=2)
    preflight(told, SHAPE, 10)
    result = train_one(told, data, lifted=False)
    fine = train_one(settings(written(NORMED[kind]), epochs=2), data, lifted=False)
    assert result.history["train_loss"] == pytest.approx(fine.history["train_loss"], rel=0.03)
    assert {value.dtype for value in result.net.state_dict().values()} == {torch.float32, torch.int64}


def test_what_fails_in_the_trials_precision_is_told_before_training(written):
    source = module("return self.dense(torch.linalg.qr(images[:, 0]).R.flatten(1))", "self.depth = 12")
    assert preflight(settings(written(source)), SHAPE, 10).parameters == 1450
    with pytest.raises(ModelMismatchError, match=r"fails in a training step in bf16.*try fp32"):
        preflight(settings(written(source), "bf16"), SHAPE, 10)


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

    def made(classes):
        return nn.Sequential(nn.Flatten(), nn.Linear(144, classes))

    def sentence():
        return "a net"

    number = 3

    def broken():
        return {}["missing\\nkey"]
    """
)


@pytest.mark.parametrize("shape", [(1, 12, 12), (3, 8, 10)], ids=str)
def test_a_users_class_is_given_shape_and_classes_if_it_asks(shape, written):
    name = written(WITH_BOTH)
    pixels = shape[0] * shape[1] * shape[2]
    assert preflight(settings(name), shape, 7).parameters == pixels * 5 + 5 + 5 * 7 + 7
    wider = preflight(settings({"name": name, "width": 9}), shape, 7)
    assert wider.parameters == pixels * 9 + 9 + 9 * 7 + 7


def test_a_function_of_the_user_may_build_it(written, data):
    name = written(WITH_BOTH, "made")
    assert preflight(settings(name), SHAPE, 10).parameters == 1450
    told = settings(name)
    assert same_bits(train(members((0, told), (4, told)), data)[1], train_one(told, data, replicate=4))


@pytest.mark.parametrize(
    ("thing", "message"),
    [("sentence", "gave a str, not an nn.Module"), ("number", "is a int"), ("broken", "KeyError.*missing")],
)
def test_what_is_no_network_is_told_in_one_line(thing, message, written):
    with pytest.raises(ModelMismatchError, match=message) as caught:
        preflight(settings(written(WITH_BOTH, thing)), SHAPE, 10)
    assert "\n" not in str(caught.value)


def test_an_unknown_setting_of_a_users_class_is_refused(written):
    with pytest.raises(ModelMismatchError, match="unexpected keyword argument 'depth'"):
        preflight(settings({"name": written(WITH_BOTH), "depth": 3}), SHAPE, 10)


def test_settings_of_ours_are_checked_by_name():
    with pytest.raises(ConfigError, match="no setting 'hiden'. Did you mean 'hidden'"):
        preflight(settings({"name": "mlp", "hiden": [3]}), SHAPE, 10)
