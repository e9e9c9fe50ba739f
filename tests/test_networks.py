"""Models: counts, how weights begin, what layers cost, and one battery for every registered model."""

import copy
import math
from collections import OrderedDict

import pytest
import torch
from synthetic_training import glyphs, same_bits, settings, train_one, training_data
from torch import nn

from inklab.errors import ConfigError, ModelMismatchError, UnknownNameError
from inklab.model import TrainedModel
from inklab.networks.layer_table import features_before_last, layer_table
from inklab.networks.layers import (
    LOW_BITS,
    Dropout,
    Flatten,
    Normalize,
    NormalizedModel,
    key_names,
    keyed_bits,
)
from inklab.networks.network import build_net, check_model, models
from inklab.seeding import Seed
from inklab.training.preflight import preflight

MNIST, SHAPES = (1, 28, 28), [(1, 28, 28), (3, 32, 32), (1, 12, 12)]
STUDY = {
    "mlp-64-64": ({"name": "mlp", "hidden": [64, 64]}, 55_050),
    "mlp-500-300": ({"name": "mlp", "hidden": [500, 300]}, 545_810),
    "cnn": ({"name": "cnn"}, 1_250_926),
    "denoiser": ({"name": "autoencoder"}, 226_416),
}


def built(model: dict | str, shape=MNIST, classes=10, seed=0) -> nn.Module:
    told = {"name": model, **small_enough(model, shape)} if isinstance(model, str) else model
    return build_net(told, shape, classes, Seed(seed))


def images(shape, count=6) -> torch.Tensor:
    return torch.rand(count, *shape, generator=Seed(1).generator())


# ---------------------------------------------------------------- the study's networks


@pytest.mark.parametrize("name", STUDY)
def test_parameters_are_those_of_the_study(name):
    model, count = STUDY[name]
    assert sum(p.numel() for p in built(model).parameters()) == count


def test_parameters_of_mlp_64_64_layer_by_layer():
    rows = [row for row in layer_table(built(STUDY["mlp-64-64"][0]), MNIST) if row.parameters]
    assert [row.parameters for row in rows] == [50_240, 4_160, 650]
    assert [row.multiply_adds for row in rows] == [784 * 64, 64 * 64, 64 * 10]
    assert [row.activation for row in rows] == ["ReLU", "ReLU", None]


def test_layer_table_of_the_cnn_by_hand():
    rows = {row.layer: row for row in layer_table(built("cnn"), MNIST)}
    wanted = {  # output of one image, parameters, multiply-adds
        "features.0": ([32, 26, 26], 1 * 9 * 32 + 32, 26 * 26 * 32 * 1 * 9),
        "features.2": ([64, 24, 24], 32 * 9 * 64 + 64, 24 * 24 * 64 * 32 * 9),
        "features.3": ([64, 8, 8], 0, 0),
        "flatten": ([4096], 0, 0),
        "dropout": ([4096], 0, 0),
        "hidden.0": ([300], 4096 * 300 + 300, 4096 * 300),
        "output": ([10], 300 * 10 + 10, 300 * 10),
    }
    assert {name: (row.output, row.parameters, row.multiply_adds) for name, row in rows.items()} == wanted
    assert [row.kind for row in rows.values()] == [
        "Conv2d", "Conv2d", "MaxPool", "Flatten", "Dropout", "Linear", "Linear",
    ]  # fmt: skip
    assert {name: row.activation for name, row in rows.items() if row.parameters} == {
        "features.0": "ReLU", "features.2": "ReLU", "hidden.0": "ReLU", "output": None,
    }  # fmt: skip
    assert preflight(settings("cnn"), MNIST, 10).multiply_adds == sum(
        row.multiply_adds for row in rows.values()
    )


def test_layer_table_leaves_the_network_as_it_was():
    net = built("cnn").train()
    before = {name: value.clone() for name, value in [*net.named_parameters(), *net.named_buffers()]}
    layer_table(net, MNIST)
    assert all(module.training for module in net.modules())
    assert all(not module._forward_hooks for module in net.modules())
    for name, value in [*net.named_parameters(), *net.named_buffers()]:
        assert torch.equal(value, before[name])


def test_layer_table_counts_groups_and_strides():
    net = nn.Sequential(nn.Conv2d(4, 8, (3, 5), stride=2, groups=2), nn.Identity(), nn.Tanh())
    (row,) = layer_table(net, (4, 11, 13))
    assert (row.output, row.activation) == ([8, 5, 5], "Tanh")
    assert row.multiply_adds == 5 * 5 * 8 * (4 // 2) * 3 * 5


def test_encoder_and_decoder_apart_are_the_whole():
    net = built("autoencoder").eval()
    shown = images(MNIST)
    code = net.encoder(shown)
    assert code.shape == (6, 96) and bool((code >= 0).all())
    assert torch.equal(net.decoder(code), net(shown))
    assert net.decoder(torch.zeros(2, 96)).shape == (2, 1, 28, 28)


def test_features_before_the_last_layer_give_its_logits():
    net = built("cnn", (1, 12, 12)).eval()
    features = features_before_last(net)(images((1, 12, 12)))
    assert features.shape == (6, 300)
    torch.testing.assert_close(net.output(features), net(images((1, 12, 12))))
    assert not net.output._forward_pre_hooks
    with pytest.raises(ValueError, match="no nn.Linear"):
        features_before_last(nn.Flatten())


def test_pooling_before_relu_is_the_function_of_pooling_after_it():
    """Forward and every gradient, against a net built the other way round."""
    ours = built({"name": "cnn", "channels": [4, 8], "dropout": 0.0, "hidden": 16})
    features = OrderedDict(
        [("0", nn.Conv2d(1, 4, 3)), ("1", nn.ReLU()), ("2", nn.Conv2d(4, 8, 3)), ("3", nn.ReLU())]
    )
    parts = OrderedDict(features=nn.Sequential(features), pool=nn.MaxPool2d(3), flatten=Flatten())
    parts["hidden"] = nn.Sequential(nn.Linear(8 * 8 * 8, 16), nn.ReLU())
    parts["output"] = nn.Linear(16, 10)
    textbook = nn.Sequential(parts)
    textbook.load_state_dict(ours.state_dict())
    kinds = [type(layer).__name__ for layer in ours.features]
    assert kinds.index("MaxPool") == len(kinds) - 2  # else the comparison would be of a thing with itself
    assert_same_function_and_gradients(ours, textbook)


@pytest.mark.parametrize(
    ("told", "order"),
    [
        ({"pool": 2}, "CRCRMCRCR"),
        ({"pool": 3}, "CRCRCRMCR"),
        ({"pool": 3, "batch_norm": True}, "CBRCBRCBRMCBR"),
    ],
    ids=str,
)
def test_compact_strides_first_then_pools_after_the_relu_and_takes_each_maps_maximum(told, order):
    ours = built({"name": "compact", "channels": [4, 4, 6, 8], "first": 2, **told})
    layers = list(copy.deepcopy(ours.features))
    for place, layer in enumerate(layers):
        if type(layer).__name__ == "MaxPool":
            layers[place : place + 2] = [nn.ReLU(), nn.MaxPool2d(2)]
    kinds = "".join(type(layer).__name__[0] for layer in layers)
    assert kinds == order, "the asked convolution is followed by pooling"
    convolutions = [layer for layer in layers if isinstance(layer, nn.Conv2d)]
    assert all((layer.bias is None) == ("batch_norm" in told) for layer in convolutions)
    assert [layer.stride[0] for layer in convolutions] == [2, 1, 1, 1]
    parts = OrderedDict(
        features=nn.Sequential(*layers), largest=nn.AdaptiveMaxPool2d(1), flatten=nn.Flatten()
    )
    parts["output"] = copy.deepcopy(ours.output)
    assert_same_function_and_gradients(ours, nn.Sequential(parts))


def assert_same_function_and_gradients(ours: nn.Module, textbook: nn.Module) -> None:
    shown, weights = images(MNIST), torch.randn(6, 10, generator=Seed(2).generator())
    for net in (ours, textbook):
        (net(shown) * weights).sum().backward()
    torch.testing.assert_close(ours(shown), textbook(shown))
    wanted = dict(textbook.named_parameters())
    for name, value in ours.named_parameters():
        torch.testing.assert_close(value.grad, wanted[name].grad, rtol=1e-4, atol=1e-6)
        assert float(value.grad.abs().max()) > 0


def test_compact_silences_features_only_where_it_is_asked_to():
    told = {"name": "compact", "channels": [4, 6, 8]}
    assert key_names(built(told)) == [] and len(key_names(built({**told, "dropout": 0.3}))) == 1


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ({"name": "cnn", "channels": [4] * 14}, "too small for 14 convolutions"),
        ({"name": "cnn", "pool": 0}, "'cnn' can't be built with"),
        ({"name": "cnn", "channels": []}, "'cnn' can't be built with"),
        ({"name": "cnn", "dropout": 1.0}, r"dropout must lie in \[0, 1\), but is 1.0"),
        ({"name": "compact", "channels": [4] * 9}, "too small for 9 convolutions.*; shorten channels"),
        ({"name": "compact", "first": 27}, "the first of 27x27.* take a smaller first"),
        ({"name": "compact", "channels": []}, "not after number 2 of 0; pool is at least 2"),
        ({"name": "compact", "pool": 1}, "not after number 1 of 3; pool is at least 2"),
        ({"name": "compact", "pool": 4}, "not after number 4 of 3; .* channels has at least as many"),
        ({"name": "unet", "channels": [4] * 5}, "too small for 5 scales, folded by 2; shorten channels"),
        ({"name": "unet", "fold": 16}, "folded by 16; .* take a smaller fold"),
        ({"name": "unet", "fold": -1}, "fold must be 1 or more"),
        ({"name": "unet", "depth": 0}, "depth lie in 1 to 16, but they are 2, 0"),
        ({"name": "unet", "channels": []}, "'unet' can't be built with"),
        ({"name": "mlp", "dropout": -0.1}, r"dropout must lie in \[0, 1\)"),
        ({"name": "mlp", "hidden": 64}, "'mlp' can't be built with"),
        ({"name": "mlp", "hidden": [-3]}, "'mlp' can't be built with"),
        ({"name": "mlp", "hidden": ["many"]}, "'mlp' can't be built with"),
    ],
)
def test_settings_that_make_no_network_are_told_in_one_line(told, message):
    with pytest.raises(ModelMismatchError, match=message) as caught:
        build_net(told, MNIST, 10, Seed(0))
    assert "\n" not in str(caught.value)


def test_names_and_settings_are_checked_without_building():
    with pytest.raises(UnknownNameError, match="no model is called 'mpl'. Did you mean 'mlp'"):
        check_model({"name": "mpl"})
    with pytest.raises(ConfigError, match="model 'cnn' has no setting 'chanels'. Did you mean 'channels'"):
        check_model({"name": "cnn", "chanels": [3]})
    assert check_model({"name": "cnn", "channels": [3]}) is None


# ---------------------------------------------------------------- every registered model

SMALLER = {
    "mlp": {"hidden": [12]},
    "cnn": {"channels": [4], "hidden": 12},
    "autoencoder": {"hidden": [12], "code": 6},
    "compact": {"channels": [4, 6], "first": 3},
    "unet": {"channels": [4, 8]},
}
CONVOLUTIONAL = {"cnn", "compact", "unet"}
HE = {"compact", "unet"}
"""Networks whose convolutions begin He normal."""


def small_enough(model: str, shape: tuple[int, int, int]) -> dict:
    """Settings with which a model bears images that are smaller than it was made for."""
    return SMALLER["compact"] if model == "compact" and min(shape[1:]) < 28 else {}


def objective_of(model: str) -> str:
    """What a model can be trained for, told from its output."""
    return "classify" if built(model, (1, 12, 12))(images((1, 12, 12))).shape == (6, 10) else "reconstruct"


def test_the_models_were_found():
    assert len(models) >= 5 and {"mlp", "cnn", "autoencoder", "compact", "unet"} <= set(models)


@pytest.mark.parametrize("model", sorted(models))
class TestEveryModel:
    @pytest.mark.parametrize("shape", SHAPES, ids=str)
    def test_is_built_for_any_shape_and_gives_logits(self, model, shape):
        out = built(model, shape, classes=7).eval()(images(shape))
        assert out.shape in {(6, 7), (6, *shape)}
        assert out.dtype == torch.float32 and bool(torch.isfinite(out).all())

    def test_it_gives_what_it_says(self, model):
        shape = (6, 10) if models[model].target == "labels" else (6, *MNIST)
        assert built(model).eval()(images(MNIST)).shape == shape

    def test_the_same_seed_gives_the_same_bits_and_another_others(self, model):
        one, same, other = (built(model, seed=seed) for seed in (3, 3, 4))
        assert same_bits(one, same)
        for (name, value), (_, moved) in zip(one.named_parameters(), other.named_parameters(), strict=True):
            assert value.dim() == 1 or not torch.equal(value, moved), name

    def test_weights_begin_glorot_uniform_or_he_normal_and_biases_zero(self, model):
        """Glorot: +-sqrt(6 / (fan_in + fan_out)), filling it. He: a deviation of sqrt(2 / fan_in)."""
        for name, value in built(model).state_dict().items():
            if value.dim() == 1:
                assert name.endswith("bias") and not value.any()
                continue
            field, largest = math.prod(value.shape[2:]), float(value.abs().max())
            if model in HE and value.dim() == 4:
                spread = math.sqrt(2 / (value.shape[1] * field))
                assert 2.2 * spread < largest < 5.5 * spread, "as far as a normal distribution goes"
            else:
                bound = math.sqrt(6 / ((value.shape[0] + value.shape[1]) * field))
                assert 0.97 * bound < largest <= bound * (1 + 1e-6)
                spread = bound / math.sqrt(3)
            error = 4 * spread / math.sqrt(value.numel())
            assert abs(float(value.mean())) < error
            assert abs(float(value.std()) - spread) < error

    def test_starts_in_training_mode_with_a_line_about_it(self, model):
        assert built(model).training
        assert models[model].about.endswith(".") and models[model].name == model
        assert "shape" not in models[model].settings and "classes" not in models[model].settings

    def test_is_rehearsed_and_liftable(self, model):
        told = {"name": model, **small_enough(model, (1, 12, 12))}
        facts = preflight(settings(told, objective=objective_of(model)), (1, 12, 12), 10)
        assert facts.liftable and not facts.random
        assert facts.convolutional == (model in CONVOLUTIONAL)
        assert facts.parameters == sum(p.numel() for p in built(model, (1, 12, 12)).parameters())
        assert facts.multiply_adds > 0

    @pytest.mark.parametrize("shape", [(1, 12, 12), (3, 12, 12)], ids=str)
    def test_is_trained_and_its_bundle_says_the_same(self, model, shape, tmp_path):
        pixels, labels = glyphs(60, seed=4)
        data = training_data(pixels.repeat(shape[0], axis=1), labels, train=40, validation=10)
        told = settings({"name": model, **SMALLER.get(model, {})}, objective=objective_of(model))
        trained = train_one(told, data, lifted=model not in CONVOLUTIONAL)
        begun = build_net(told["model"], shape, 10, Seed(0) / "replicate" / 0 / "weights")
        for (name, value), (_, first) in zip(
            trained.net.net.named_parameters(), begun.named_parameters(), strict=True
        ):
            assert not torch.equal(value, first), f"{name} was not trained"
        target = "labels" if objective_of(model) == "classify" else "images"
        bundle = TrainedModel(trained.net, told["model"], shape, data.labels, target, {})
        bundle.save(tmp_path)
        loaded = TrainedModel.load(tmp_path)
        shown = data.test.images(torch.arange(10))
        ask = TrainedModel.probabilities if target == "labels" else TrainedModel.cleaned
        assert torch.equal(ask(loaded, shown), ask(bundle, shown))


# ---------------------------------------------------------------- parts


def test_scaling_is_part_of_the_network():
    net = NormalizedModel(Normalize(0.25, 0.5), nn.Flatten())
    torch.testing.assert_close(net(torch.full((1, 1, 1, 2), 0.75)), torch.tensor([[1.0, 1.0]]))
    assert set(net.state_dict()) == {"scaling.mean", "scaling.spread"}
    same = torch.rand(3, 1, 4, 4)
    assert torch.equal(Normalize()(same), same)  # the identity, to the bit


def test_a_bf16_network_is_shown_scaled_images_in_bf16():
    net = NormalizedModel(Normalize(0.1, 0.3), nn.Sequential(nn.Flatten(), nn.Linear(4, 2))).bfloat16()
    assert net(torch.rand(3, 1, 2, 2)).dtype == torch.bfloat16


@pytest.mark.parametrize("share", [0.1, 0.5, 0.8])
def test_dropout_silences_its_share_and_keeps_the_expectation(share):
    layer = Dropout(share).train()
    layer.key.copy_(torch.tensor([123, 456]))
    out = layer(torch.ones(200, 500))
    silent = float((out == 0).float().mean())
    assert silent == pytest.approx(share, abs=4 * math.sqrt(share * (1 - share) / out.numel()))
    assert float(out.max()) == pytest.approx(1 / (1 - share))
    assert set(out.unique().tolist()) == {0.0, float(out.max())}
    assert float(out.mean()) == pytest.approx(1.0, abs=4 * math.sqrt(share / (1 - share) / out.numel()))
    for axis in (0, 1):  # no row or column is treated differently: their counts spread as a binomial's
        counts = (out == 0).sum(axis).double()
        n = out.shape[axis]
        assert float(counts.std()) == pytest.approx(math.sqrt(n * share * (1 - share)), rel=0.25)


def test_dropout_is_the_identity_in_evaluation_and_at_share_zero():
    features = torch.randn(5, 6, generator=Seed(0).generator())
    assert Dropout(0.5).eval()(features) is features
    assert Dropout(0.0).train()(features) is features


def test_a_mask_is_a_function_of_key_and_place():
    layer = Dropout(0.5).train()
    masks = []
    for key in ([1, 2], [1, 3], [2, 2], [2, 1], [1, 2]):
        layer.key.copy_(torch.tensor(key))
        masks.append(layer(torch.ones(100, 100)) == 0)
    assert torch.equal(masks[0], masks[-1])
    for place, one in enumerate(masks[:-1]):
        for other in masks[place + 1 : -1]:  # independent: they agree in half of the places, within 4 SD
            assert float((one == other).float().mean()) == pytest.approx(0.5, abs=0.02)
        moved = one.flatten()
        for lag in (1, 2, 7, 100, 4096):  # and so do places of one mask with each other
            assert float((moved[lag:] == moved[:-lag]).float().mean()) == pytest.approx(0.5, abs=0.03)


def test_keys_of_successive_steps_give_independent_masks():
    """Keys as the loop makes them; a correlation here would be dropout that repeats itself."""
    halves = lambda number: [number & LOW_BITS, (number >> 31) & LOW_BITS]  # noqa: E731
    keys = [halves((Seed(0) / "dropout" / "layer" / 0 / step).number) for step in range(40)]
    masks = torch.stack(
        [keyed_bits(torch.tensor(key, dtype=torch.int32), 4000) >= LOW_BITS // 2 for key in keys]
    )
    correlation = torch.corrcoef(masks.double()) - torch.eye(40)
    assert float(correlation.abs().max()) < 5 / math.sqrt(4000)
    assert float(masks.double().mean(0).std()) == pytest.approx(0.5 / math.sqrt(40), rel=0.1)


def test_bits_are_uniform():
    bits = keyed_bits(torch.tensor([7, 9], dtype=torch.int32), 100_000)
    assert int(bits.min()) >= 0 and int(bits.max()) <= LOW_BITS
    counts = torch.histc((bits.double() / (LOW_BITS + 1)).float(), bins=64, min=0, max=1)
    chi = float(((counts - 100_000 / 64) ** 2 / (100_000 / 64)).sum())
    assert 25 < chi < 115  # 63 degrees of freedom: beyond this once in 10,000
    for bit in range(31):
        assert float((bits >> bit & 1).float().mean()) == pytest.approx(0.5, abs=0.01)


def test_vmapped_keys_are_each_alone():
    keys = torch.tensor([[1, 2], [3, 4], [-5, 6]], dtype=torch.int32)
    layer, features = Dropout(0.3).train(), torch.randn(3, 8, 20, generator=Seed(0).generator())
    lifted = torch.func.vmap(lambda key, x: torch.func.functional_call(layer, {"key": key}, (x,)))(
        keys, features
    )
    for place, key in enumerate(keys):
        layer.key.copy_(key)
        assert torch.equal(lifted[place], layer(features[place]))


def test_key_names_find_every_dropout():
    net = built({"name": "mlp", "hidden": [3, 3], "dropout": 0.2}, (1, 4, 4))
    assert key_names(net) == ["hidden.2.key", "hidden.5.key"]
    assert key_names(Dropout(0.1)) == ["key"]
    assert key_names(built("mlp")) == []
    assert not any("key" in name for name in net.state_dict())  # a key is no part of a network for use
