"""Networks: parameter counts, initial weights, costs of layers, and one battery for every registered one."""

import copy
import math
from collections import OrderedDict
from typing import Any

import numpy as np
import pytest
import scipy.stats
import torch
from synthetic_training import glyphs, same_bits, train_one, training_data, trial_config
from torch import nn

from inklab.counters import LOW_BITS, keyed_bits
from inklab.errors import ConfigError, ModelMismatchError, UnknownNameError
from inklab.model import TrainedModel
from inklab.networks.layer_table import features_before_last, layer_table
from inklab.networks.layers import (
    CodeNoise,
    Dropout,
    Normalize,
    NormalizedModel,
    key_names,
)
from inklab.networks.network import build_network, check_network, networks
from inklab.records.components import NetworkConfig, Preprocessing
from inklab.seeding import Seed
from inklab.training.preflight import preflight

MNIST = (1, 28, 28)
STUDY = {
    "mlp-64-64": ({"name": "mlp", "hidden": [64, 64]}, 55_050),
    "mlp-500-300": ({"name": "mlp", "hidden": [500, 300]}, 545_810),
    "cnn": ({"name": "cnn"}, 1_250_926),
    "denoiser": ({"name": "autoencoder"}, 226_416),
}


def build(network: dict | str, shape=MNIST, classes=10, seed=0) -> nn.Module:
    table = {"name": network, **small_enough(network, shape)} if isinstance(network, str) else network
    return build_network(NetworkConfig.parse(table), shape, classes, Seed(seed))


def images(shape, count=6) -> torch.Tensor:
    return torch.rand(count, *shape, generator=Seed(1).generator())


# ---------------------------------------------------------------- the study's networks


def test_parameters_are_those_of_the_study():
    for table, count in STUDY.values():
        assert sum(p.numel() for p in build(table).parameters()) == count
    rows = [row for row in layer_table(build(STUDY["mlp-64-64"][0]), MNIST) if row.parameters]
    assert [row.parameters for row in rows] == [50_240, 4_160, 650]
    assert [row.macs for row in rows] == [784 * 64, 64 * 64, 64 * 10]
    assert [row.activation for row in rows] == ["ReLU", "ReLU", None]


def test_layer_table_of_the_cnn_by_hand():
    rows = {row.name: row for row in layer_table(build("cnn"), MNIST)}
    expected = {  # output shape, parameters, multiply-accumulates
        "features.0": ((32, 26, 26), 1 * 9 * 32 + 32, 26 * 26 * 32 * 1 * 9),
        "features.2": ((64, 24, 24), 32 * 9 * 64 + 64, 24 * 24 * 64 * 32 * 9),
        "features.3": ((64, 8, 8), 0, 0),
        "flatten": ((4096,), 0, 0),
        "dropout": ((4096,), 0, 0),
        "hidden.0": ((300,), 4096 * 300 + 300, 4096 * 300),
        "output": ((10,), 300 * 10 + 10, 300 * 10),
    }
    assert {name: (row.output_shape, row.parameters, row.macs) for name, row in rows.items()} == expected
    assert [row.type for row in rows.values()] == [
        "Conv2d", "Conv2d", "MaxPool", "Flatten", "Dropout", "Linear", "Linear",
    ]  # fmt: skip
    assert {name: row.activation for name, row in rows.items() if row.parameters} == {
        "features.0": "ReLU", "features.2": "ReLU", "hidden.0": "ReLU", "output": None,
    }  # fmt: skip
    assert preflight(trial_config("cnn"), MNIST, 10).macs == sum(row.macs for row in rows.values())


def test_layer_table_does_not_change_the_network():
    net = build("cnn").train()
    held = [*net.parameters(), *net.buffers()]
    before = [value.clone() for value in held]
    layer_table(net, MNIST)
    assert all(module.training and not module._forward_hooks for module in net.modules())
    assert all(map(torch.equal, held, before))


def test_layer_table_counts_groups_and_strides():
    net = nn.Sequential(nn.Conv2d(4, 8, (3, 5), stride=2, groups=2), nn.Identity(), nn.Tanh())
    (row,) = layer_table(net, (4, 11, 13))
    assert (row.output_shape, row.activation) == ((8, 5, 5), "Tanh")
    assert row.macs == 5 * 5 * 8 * (4 // 2) * 3 * 5


def test_encoder_and_decoder_together_are_the_network():
    net = build("autoencoder").eval()
    inputs = images(MNIST)
    code = net.encoder(inputs)
    assert code.shape == (6, 96) and bool((code >= 0).all())
    assert torch.equal(net.decoder(code), net(inputs))
    assert net.decoder(torch.zeros(2, 96)).shape == (2, 1, 28, 28)


def test_codes_of_the_convolutional_autoencoder_have_one_length_and_noise_in_training():
    net = build({"name": "conv-autoencoder", "channels": [4, 6], "code": 2000, "noise": 0.3}, (3, 27, 13))
    inputs = images((3, 27, 13))
    with torch.no_grad():
        codes = net.eval().encoder(inputs)
        assert codes.shape == (6, 2000) and torch.equal(net.decoder(codes), net(inputs))
        torch.testing.assert_close(codes.square().mean(1), torch.ones(6), rtol=1e-3, atol=0)
        torch.testing.assert_close(net.decoder(3 * codes), net.decoder(codes), rtol=1e-3, atol=1e-4)
        (layer,) = (module for module in net.modules() if isinstance(module, CodeNoise))
        assert key_names(net) == ["encoder.13.key"]
        layer.key.copy_(torch.tensor([5, 7]))
        noise = net.train().encoder(inputs) - codes
        assert torch.equal(net.encoder(inputs) - codes, noise), "a function of the key"
        layer.key.copy_(torch.tensor([5, 8]))
        other = net.encoder(inputs) - codes
    assert scipy.stats.kstest(noise.flatten() / 0.3, "norm").pvalue > 0.01
    assert abs(np.corrcoef(noise.flatten(), other.flatten())[0, 1]) < 0.05


def test_features_before_the_last_layer_give_its_logits():
    net = build("cnn", (1, 12, 12)).eval()
    features = features_before_last(net)(images((1, 12, 12)))
    assert features.shape == (6, 300)
    torch.testing.assert_close(net.output(features), net(images((1, 12, 12))))
    assert not net.output._forward_pre_hooks
    with pytest.raises(ValueError):
        features_before_last(nn.Flatten())


@pytest.mark.parametrize(
    ("kwargs", "order"),
    [
        ({"pool_after": 2}, "CRCRMCRCR"), ({"pool_after": 3}, "CRCRCRMCR"),
        ({"pool_after": 3, "batch_norm": True}, "CBRCBRCBRMCBR"),
    ],
    ids=str,
)  # fmt: skip
def test_compact_strides_first_then_pools_after_the_relu_and_takes_each_maps_maximum(kwargs, order):
    built = build({"name": "compact", "channels": [4, 4, 6, 8], "stem_kernel": 2, **kwargs})
    layers = list(copy.deepcopy(built.features))
    for index, layer in enumerate(layers):
        if type(layer).__name__ == "MaxPool":
            layers[index : index + 2] = [nn.ReLU(), nn.MaxPool2d(2)]
    kinds = "".join(type(layer).__name__[0] for layer in layers)
    assert kinds == order, "the chosen convolution is followed by pooling"
    convolutions = [layer for layer in layers if isinstance(layer, nn.Conv2d)]
    assert all((layer.bias is None) == ("batch_norm" in kwargs) for layer in convolutions)
    assert [layer.stride[0] for layer in convolutions] == [2, 1, 1, 1]
    parts = {"features": nn.Sequential(*layers), "pool": nn.AdaptiveMaxPool2d(1), "flatten": nn.Flatten()}
    textbook = nn.Sequential(OrderedDict(parts, output=copy.deepcopy(built.output)))
    inputs, weights = images(MNIST), torch.randn(6, 10, generator=Seed(2).generator())
    for net in (built, textbook):
        (net(inputs) * weights).sum().backward()
    torch.testing.assert_close(built(inputs), textbook(inputs))
    expected = dict(textbook.named_parameters())
    for name, value in built.named_parameters():
        torch.testing.assert_close(value.grad, expected[name].grad, rtol=1e-4, atol=1e-6)
        assert float(value.grad.abs().max()) > 0


def test_compact_has_dropout_only_if_it_is_configured():
    table = {"name": "compact", "channels": [4, 6, 8]}
    assert key_names(build(table)) == [] and len(key_names(build({**table, "dropout": 0.3}))) == 1


@pytest.mark.parametrize(
    ("name", "kwargs"),
    [
        ("cnn", {"channels": [4] * 14}), ("cnn", {"pool": 0}), ("cnn", {"channels": []}),
        ("cnn", {"dropout": 1.0}), ("compact", {"channels": [4] * 9}), ("compact", {"stem_kernel": 27}),
        ("compact", {"channels": []}), ("compact", {"pool_after": 1}), ("compact", {"pool_after": 4}),
        ("unet", {"channels": [4] * 5}), ("unet", {"space_to_depth": 16}), ("unet", {"space_to_depth": -1}),
        ("unet", {"depth": 0}), ("unet", {"channels": []}), ("mlp", {"dropout": -0.1}),
        ("conv-autoencoder", {"channels": [4] * 5}), ("conv-autoencoder", {"noise": -0.1}),
        ("conv-autoencoder", {"channels": []}), ("conv-autoencoder", {"code": -1}),
        ("mlp", {"hidden": [-3]}), ("mlp", {"hidden": ["many"]}), ("autoencoder", {"code": 0}),
    ],
    ids=str,
)  # fmt: skip
def test_arguments_that_make_no_network_are_refused_in_one_line(name, kwargs):
    with pytest.raises((ConfigError, ModelMismatchError)) as caught:
        build_network(NetworkConfig.of(name, **kwargs), MNIST, 10, Seed(0))
    assert "\n" not in str(caught.value)


def test_names_and_arguments_are_checked_without_building():
    for config, key, suggestion in (
        (NetworkConfig.of("mpl"), "mpl", "mlp"),
        (NetworkConfig.of("cnn", chanels=[3]), "chanels", "channels"),
    ):
        with pytest.raises(UnknownNameError) as caught:
            check_network(config)
        assert (caught.value.key, caught.value.suggestion) == (key, suggestion)
    assert check_network(NetworkConfig.of("cnn", channels=[3])) is None
    for hidden in (64, [0], ["many"], "64"):  # one layer or no unit
        with pytest.raises(ConfigError, match=r"'hidden' is .*; its default is \[64, 64\]"):
            check_network(NetworkConfig.of("mlp", hidden=hidden))
    for beyond_all_bounds in ([1] * 100_000, [10**30]):
        with pytest.raises(ConfigError):
            check_network(NetworkConfig.of("mlp", hidden=beyond_all_bounds))


# ---------------------------------------------------------------- every registered network

SMALLER: dict[str, Any] = {
    "mlp": {"hidden": [12]},
    "cnn": {"channels": [4], "hidden": 12},
    "autoencoder": {"hidden": [12], "code": 6},
    "compact": {"channels": [4, 6], "stem_kernel": 3},
    "unet": {"channels": [4, 8]},
    "conv-autoencoder": {"channels": [8, 12], "code": 6},
}
CONVOLUTIONAL = {"cnn", "compact", "unet", "conv-autoencoder"}
HE = {"compact", "unet", "conv-autoencoder"}
"""Networks whose convolutions start He normal."""


def small_enough(network: str, shape: tuple[int, int, int]) -> dict[str, Any]:
    """Arguments with which a network accepts images that are smaller than it is made for."""
    return SMALLER["compact"] if network == "compact" and min(shape[1:]) < 28 else {}


def objective_of(name: str) -> str:
    return "classify" if networks[name].task == "classification" else "reconstruct"


def test_all_networks_are_registered():
    assert {*SMALLER} <= set(networks) and len(SMALLER) == 6


@pytest.mark.parametrize("name", sorted(networks))
class TestEveryNetwork:
    @pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32), (1, 12, 12)], ids=str)
    def test_is_built_for_any_shape_and_gives_what_its_task_needs(self, name, shape):
        out = build(name, shape, classes=7).eval()(images(shape))
        assert out.shape == ((6, 7) if networks[name].task == "classification" else (6, *shape))
        assert out.dtype == torch.float32 and bool(torch.isfinite(out).all())

    def test_the_same_seed_gives_the_same_bits_and_another_others(self, name):
        first, same, other = (build(name, seed=seed) for seed in (3, 3, 4))
        assert same_bits(first, same)
        for (key, value), (_, moved) in zip(first.named_parameters(), other.named_parameters(), strict=True):
            assert value.dim() == 1 or not torch.equal(value, moved), key

    def test_weights_begin_glorot_uniform_or_he_normal_and_biases_zero(self, name):
        """Glorot: +-sqrt(6 / (fan_in + fan_out)), filling it. He: a deviation of sqrt(2 / fan_in)."""
        for key, value in build(name).state_dict().items():
            if value.dim() == 1:
                assert key.endswith("bias") and not value.any()
                continue
            field, largest = math.prod(value.shape[2:]), float(value.abs().max())
            if name in HE and value.dim() == 4:
                std = math.sqrt(2 / (value.shape[1] * field))
                assert 2.2 * std < largest < 5.5 * std, "as far as a normal distribution goes"
            else:
                bound = math.sqrt(6 / ((value.shape[0] + value.shape[1]) * field))
                assert 0.97 * bound < largest <= bound * (1 + 1e-6)
                std = bound / math.sqrt(3)
            error = 4 * std / math.sqrt(value.numel())
            assert abs(float(value.mean())) < error
            assert abs(float(value.std()) - std) < error

    def test_starts_in_training_mode_with_a_description(self, name):
        assert build(name).training
        assert networks[name].description.endswith(".") and networks[name].name == name
        assert not {"shape", "classes"} & set(networks[name].defaults)

    def test_passes_the_preflight_check_and_is_vmappable(self, name):
        table = {"name": name, **small_enough(name, (1, 12, 12))}
        traits = preflight(trial_config(table, objective=objective_of(name)), (1, 12, 12), 10)
        assert traits.vmappable and not traits.uses_global_rng
        assert traits.has_convolutions == (name in CONVOLUTIONAL)
        assert traits.parameters == sum(p.numel() for p in build(name, (1, 12, 12)).parameters())
        assert traits.macs > 0

    @pytest.mark.parametrize("shape", [(1, 12, 12), (3, 12, 12)], ids=str)
    def test_is_trained_and_its_saved_model_computes_the_same(self, name, shape, tmp_path):
        pixels, labels = glyphs(60, seed=4)
        data = training_data(pixels.repeat(shape[0], axis=1), labels, train=40, validation=10)
        config = trial_config({"name": name, **SMALLER.get(name, {})}, objective=objective_of(name))
        result = train_one(config, data, stacked=name not in CONVOLUTIONAL)
        initial = build_network(config.network, shape, 10, Seed(0) / "replicate" / 0 / "weights")
        pairs = zip(result.net.net.named_parameters(), initial.parameters(), strict=True)
        assert [key for (key, value), first in pairs if torch.equal(value, first)] == [], "all are trained"
        model = TrainedModel.of(
            result.net, config.network, networks[name].task, data.labels, Preprocessing.resize_only(shape)
        )
        model.save(tmp_path)
        images = data.test.images(torch.arange(10))
        assert torch.equal(TrainedModel.load(tmp_path).logits(images), model.logits(images))


# ---------------------------------------------------------------- parts


def test_normalization_is_part_of_the_network():
    net = NormalizedModel(Normalize(0.25, 0.5), nn.Flatten())
    torch.testing.assert_close(net(torch.full((1, 1, 1, 2), 0.75)), torch.tensor([[1.0, 1.0]]))
    assert set(net.state_dict()) == {"normalize.mean", "normalize.std"}
    same = torch.rand(3, 1, 4, 4)
    assert torch.equal(Normalize()(same), same)  # the identity, to the bit
    net = NormalizedModel(Normalize(0.1, 0.3), nn.Sequential(nn.Flatten(), nn.Linear(4, 2))).bfloat16()
    assert net(torch.rand(3, 1, 2, 2)).dtype == torch.bfloat16


@pytest.mark.parametrize("normalize", [Normalize(), Normalize(0.1, 0.3)])
def test_inference_skips_no_normalization_that_changes_something(normalize):
    net = NormalizedModel(normalize, nn.Sequential(nn.Flatten(), nn.Linear(16, 2)))
    images = torch.rand(3, 1, 4, 4)
    assert torch.equal(net.infer(images), net(images))


@pytest.mark.parametrize(
    "pixels", [torch.rand(3, 1, 4, 4) - 0.5, torch.arange(48, dtype=torch.uint8).reshape(3, 1, 4, 4)]
)
def test_prediction_leaves_images_as_they_are(pixels):
    config = NetworkConfig.of("mlp", hidden=[2])
    net = NormalizedModel(Normalize(), nn.Sequential(nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(16, 2)))
    model = TrainedModel.of(net, config, "classification", ("a", "b"), Preprocessing.resize_only((1, 4, 4)))
    before = pixels.clone()
    model.logits(pixels)
    assert torch.equal(pixels, before)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.8])
def test_dropout_zeroes_its_share_and_keeps_the_expectation(share):
    layer = Dropout(share).train()
    layer.key.copy_(torch.tensor([123, 456]))
    out = layer(torch.ones(200, 500))
    silent = float((out == 0).float().mean())
    assert silent == pytest.approx(share, abs=4 * math.sqrt(share * (1 - share) / out.numel()))
    assert float(out.max()) == pytest.approx(1 / (1 - share))
    assert set(out.unique().tolist()) == {0.0, float(out.max())}
    assert float(out.mean()) == pytest.approx(1.0, abs=4 * math.sqrt(share / (1 - share) / out.numel()))
    for axis in (0, 1):  # no row or column is treated differently: their counts std as a binomial's
        counts = (out == 0).sum(axis).double()
        n = out.shape[axis]
        assert float(counts.std()) == pytest.approx(math.sqrt(n * share * (1 - share)), rel=0.25)


def test_dropout_is_the_identity_in_evaluation_and_at_share_zero():
    features = torch.randn(5, 6, generator=Seed(0).generator())
    assert Dropout(0.5).eval()(features) is features
    assert Dropout(0.0).train()(features) is features


def test_a_mask_is_a_function_of_key_and_position():
    layer = Dropout(0.5).train()
    masks = []
    for key in ([1, 2], [1, 3], [2, 2], [2, 1], [1, 2]):
        layer.key.copy_(torch.tensor(key))
        masks.append(layer(torch.ones(100, 100)) == 0)
    assert torch.equal(masks[0], masks[-1])
    for index, first in enumerate(masks[:-1]):
        for other in masks[index + 1 : -1]:  # independent: they agree in half of the positions, within 4 SD
            assert float((first == other).float().mean()) == pytest.approx(0.5, abs=0.02)
        moved = first.flatten()
        for lag in (1, 2, 7, 100, 4096):  # and so do positions of one mask with each other
            assert float((moved[lag:] == moved[:-lag]).float().mean()) == pytest.approx(0.5, abs=0.03)


def test_keys_of_successive_steps_give_independent_masks():
    """Keys as the loop makes them; a correlation here would be dropout that repeats itself."""
    keys = [(Seed(0) / "dropout" / "layer" / 0 / step).key for step in range(40)]
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


def test_vmapped_keys_are_independent():
    keys = torch.tensor([[1, 2], [3, 4], [-5, 6]], dtype=torch.int32)
    layer, features = Dropout(0.3).train(), torch.randn(3, 8, 20, generator=Seed(0).generator())
    stacked = torch.func.vmap(lambda key, x: torch.func.functional_call(layer, {"key": key}, (x,)))(
        keys, features
    )
    for index, key in enumerate(keys):
        layer.key.copy_(key)
        assert torch.equal(stacked[index], layer(features[index]))


def test_key_names_find_every_dropout():
    net = build({"name": "mlp", "hidden": [3, 3], "dropout": 0.2}, (1, 4, 4))
    assert key_names(net) == ["hidden.2.key", "hidden.5.key"]
    assert key_names(Dropout(0.1)) == ["key"]
    assert key_names(build("mlp")) == []
    assert not any("key" in name for name in net.state_dict())  # a key is not part of the trained network
