"""Activations, filters and occlusion are those of the network itself, whatever it is made of."""

import numpy as np
import pytest
import torch
import toy_run
from pad_runs import pad_run
from torch import nn
from torch.nn import functional

from inklab.errors import ModelMismatchError
from inklab.evaluation.inspection import (
    MAX_LAYERS,
    MAX_MAP_SIDE,
    MAX_MAPS,
    first_filters,
    inspect,
    layer_activations,
    occlusion,
    occlusion_squares,
)
from inklab.networks.classifiers import cnn, compact, mlp
from inklab.records.components import NetworkConfig
from inklab.runs import Run

SHAPE = (1, 12, 12)


@pytest.fixture(autouse=True)
def _seed():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def image(shape=SHAPE):
    return torch.rand(1, *shape)


def values(layer):
    """Of a layer's maps, in the order of its units."""
    return layer.maps.values[np.argsort(layer.maps.units)].squeeze(1)


class Residual(nn.Module):
    """Functions beside modules, a module that works in place, one that is used twice, two outputs inside."""

    def __init__(self):
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(inplace=True))
        self.twice = nn.Conv2d(4, 4, 3, padding=1)
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)
        self.last = nn.Linear(4, 3)

    def forward(self, images):
        features = self.first(images)
        features += self.twice(features)
        tokens = torch.relu(self.twice(features)).flatten(2).transpose(1, 2)
        return self.last(self.attention(tokens, tokens, tokens)[0].mean(1))


class TestActivations:
    def test_of_a_convolutional_network_equal_its_forward_pass(self):
        net = cnn(SHAPE, 10, channels=(3, 5), pool=2, hidden=7).eval()
        pixels = image()
        first, second, pooled, hidden, last = layer_activations(net, pixels)
        with torch.no_grad():
            x = net.features[0](pixels).relu()
            assert np.abs(values(first) - x[0].numpy()).max() < 1e-6
            x = net.features[2](x)
            assert np.abs(values(second) - x[0].numpy()).max() < 1e-6
            x = functional.max_pool2d(x, 2).relu()
            assert np.abs(values(pooled) - x[0].numpy()).max() < 1e-6
            assert np.abs(hidden.maps.values.ravel() - net.hidden(net.flatten(x))[0].numpy()).max() < 1e-6
            assert np.abs(last.maps.values.ravel() - net(pixels)[0].numpy()).max() < 1e-6
        assert [layer.types for layer in (first, second, pooled, hidden)] == [
            ("Conv2d", "ReLU"), ("Conv2d",), ("MaxPool", "ReLU"), ("Linear", "ReLU"),
        ]  # fmt: skip
        means = np.abs(first.maps.values).mean((1, 2, 3))
        assert (np.diff(means) <= 0).all() and sorted(first.maps.units) == [0, 1, 2]

    def test_of_a_users_network_are_recorded_by_module_and_the_network_stays_as_it_was(self):
        net = Residual().eval()
        pixels = image()
        before = net(pixels)
        layers = layer_activations(net, pixels)
        names = [layer.name for layer in layers]
        assert names[:3] == ["first.0", "twice", "twice"] and names[-1] == "last"
        assert layers[0].types == ("Conv2d", "BatchNorm2d", "ReLU")
        expected = net.first(pixels)[0].detach().numpy()  # before something is added to it in place
        assert np.abs(values(layers[0]) - expected).max() < 1e-6
        assert torch.equal(net(pixels), before)
        assert not any(module._forward_hooks for module in net.modules())

    def test_many_and_large_maps_are_limited(self):
        net = nn.Sequential(nn.Conv2d(3, 40, 3, padding=1), *(nn.Conv2d(40, 40, 1) for _ in range(30)))
        pixels = torch.rand(1, 3, 64, 48)
        layers = layer_activations(net, pixels)
        assert len(layers) == 31 and layers[0].output_shape == (40, 64, 48)
        maps = layers[0].maps
        assert maps.values.shape == (MAX_MAPS, 1, MAX_MAP_SIDE, 24)
        full = net[0](pixels)[0, list(maps.units)].detach()
        assert np.abs(maps.values.mean((1, 2, 3)) - full.mean((1, 2)).numpy()).max() < 1e-5


class TestFilters:
    @pytest.mark.parametrize("shape", [(1, 12, 12), (3, 12, 12)])
    def test_of_a_convolution_are_its_kernels(self, shape):
        net = compact(shape, 10, channels=(20, 8), stem_kernel=5)
        filters = first_filters(net, shape, layer_activations(net, image(shape))[0])
        kernels = net.features[0].weight.detach().numpy()
        assert filters.values.shape == (MAX_MAPS, shape[0], 5, 5)
        assert (filters.values == kernels[list(filters.units)]).all()

    def test_of_a_dense_layer_are_images_of_the_most_active_units(self):
        net, pixels = mlp(SHAPE, 10, hidden=(30,)), image()
        first = layer_activations(net, pixels)[0]
        filters = first_filters(net, SHAPE, first)
        units = list(filters.units)
        activity = np.abs(first.maps.values).ravel()
        assert activity[units].min() >= np.delete(activity, units).max() and len(units) == MAX_MAPS
        with torch.no_grad():
            sums = (torch.from_numpy(filters.values) * pixels).sum((1, 2, 3)) + net.hidden[0].bias[units]
        assert np.abs(sums.relu().numpy() - activity[units]).max() < 1e-5

    def test_of_a_layer_that_does_not_receive_the_image_are_none(self):
        net = nn.Sequential(nn.PixelUnshuffle(2), nn.Conv2d(4, 5, 3))
        assert first_filters(net, SHAPE, layer_activations(net, image())[0]) is None


class TestOcclusion:
    def test_it_is_the_mean_fall_over_the_squares_of_a_pixel(self):
        net, pixels = mlp(SHAPE, 10, hidden=(8,)), image()
        pixels[..., :5, :] = 0  # squares in there change nothing

        def probabilities(images):
            with torch.no_grad():
                return net(images).softmax(1)

        falls, counts = np.zeros(SHAPE[1:]), np.zeros(SHAPE[1:])
        for rows, columns in occlusion_squares(*SHAPE[1:]):
            occluded = pixels.clone()
            occluded[..., rows, columns] = 0
            falls[rows, columns] += float(probabilities(pixels)[0, 3] - probabilities(occluded)[0, 3])
            counts[rows, columns] += 1
        explained = occlusion(probabilities, pixels, 3, 0.0)
        assert counts.min() >= 1 and np.abs(explained - falls / counts).max() < 1e-6
        assert np.abs(falls).max() > 1e-3

    @pytest.mark.parametrize("size", [(28, 28), (1, 1), (3, 50), (64, 48)])
    def test_squares_cover_the_image_and_are_few(self, size):
        covered = np.zeros(size)
        for rows, columns in occlusion_squares(*size):
            covered[rows, columns] += 1
        assert covered.min() >= 1 and len(occlusion_squares(*size)) <= 300

    def test_it_ends_when_it_takes_too_long(self):
        assert occlusion(lambda images: torch.ones(len(images), 2), image(), 0, 0.0, seconds=-1.0) is None


class TestInspect:
    def test_a_trained_model_explains_its_own_prediction(self):
        model = Run(toy_run.finished()).model("cnn")
        pixels, labels = toy_run.images(1, 2)
        inside = inspect(model, pixels[None].astype(np.float32) / 255, int(labels[0]))
        assert [layer.name for layer in inside.layers][0] == "features.0" and not inside.notes
        logits = model.logits(torch.from_numpy(pixels[None])).numpy().ravel()
        assert np.abs(inside.layers[-1].maps.values.ravel() - logits).max() < 1e-4
        assert inside.filters.values.shape[1:] == (1, 3, 3) and inside.occlusion.shape == pixels.shape[1:]

    def test_of_a_deep_network_the_first_layers_are_kept_and_the_rest_is_counted(self, tmp_path):
        run = pad_run(tmp_path, NetworkConfig.of("mlp", hidden=[4] * 30), shape=SHAPE)
        inside = inspect(run.model("e0"), image().numpy(), 0)
        assert len(inside.layers) == MAX_LAYERS
        assert inside.notes == (f"The first {MAX_LAYERS} of 31 layers.",)

    def test_a_denoiser_has_no_class_to_explain(self):
        model = Run(toy_run.finished()).model("denoiser")
        with pytest.raises(ModelMismatchError):
            inspect(model, np.zeros((1, 1, 12, 12), np.float32), 0)
