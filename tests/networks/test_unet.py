"""The U-Net: what it computes, written out; images of any size keep their size."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from inklab.networks.layer_table import layer_table
from inklab.networks.network import build_network
from inklab.records.components import NetworkConfig
from inklab.seeding import Seed

Shape = tuple[int, int, int]


def unet(shape: Shape, **kwargs) -> nn.Module:
    """With biases that are not zero, so that a missing one is detected."""
    net = build_network(NetworkConfig.of("unet", **kwargs), shape, 10, Seed(0))
    with torch.no_grad():
        for value in net.parameters():
            value.add_(0.1 * torch.randn(value.shape, generator=Seed(2).generator()))
    return net


def images(shape: Shape, count: int = 3) -> torch.Tensor:
    return torch.rand(count, *shape, generator=Seed(1).generator())


def written_out(net: nn.Module, inputs: torch.Tensor) -> torch.Tensor:
    """Two scales, one convolution each, space to depth by two, by PyTorch's own operations."""
    kernels = list(net.parameters())
    down, deeper, narrow, up, output = ((kernels[k], kernels[k + 1]) for k in range(0, 10, 2))
    blocks = functional.pixel_unshuffle(inputs, 2)
    grayness = functional.pixel_unshuffle(4 * (inputs - inputs**2), 2)
    fine = functional.conv2d(torch.cat([blocks, grayness], 1), *down, padding=1).relu()
    coarse = functional.conv2d(functional.max_pool2d(fine, 2), *deeper, padding=1).relu()
    upward = functional.interpolate(functional.conv2d(coarse, *narrow), scale_factor=2.0, mode="nearest")
    whole = functional.conv2d(upward + fine, *up, padding=1).relu()
    return functional.pixel_shuffle(functional.conv2d(whole, *output), 2)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
def test_it_is_what_is_drawn_in_the_paper_with_the_ways_added(layout):
    """Value and gradient of every kernel."""
    net, inputs = unet((3, 16, 24), channels=[6, 10], depth=1), images((3, 16, 24))
    assert len(list(net.parameters())) == 10
    actual, expected = net(inputs.contiguous(memory_format=layout)), written_out(net, inputs)
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-5)
    weights = torch.randn(expected.shape, generator=Seed(3).generator())
    outs = (actual, expected)
    slopes = [torch.autograd.grad((out * weights).sum(), list(net.parameters())) for out in outs]
    for slope, expected in zip(*slopes, strict=True):
        torch.testing.assert_close(slope, expected, rtol=1e-3, atol=1e-3)
        assert float(expected.abs().max()) > 0


@pytest.mark.parametrize("space_to_depth", [1, 2, 3])
@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 33, 30), (1, 12, 14), (2, 13, 47)], ids=str)
def test_images_of_any_size_come_back_in_their_size(shape, space_to_depth):
    """As if they stood in the middle of an empty image whose sides are whole numbers of coarsest places."""
    kwargs = {"channels": [4, 6, 8], "space_to_depth": space_to_depth, "depth": 1}
    sides = [-(-side // (4 * space_to_depth)) * 4 * space_to_depth for side in shape[1:]]
    top, left = ((whole - side) // 2 for whole, side in zip(sides, shape[1:], strict=True))
    window = (..., slice(top, top + shape[1]), slice(left, left + shape[2]))
    larger = torch.zeros(3, shape[0], *sides)
    larger[window] = images(shape)
    out = unet(shape, **kwargs)(images(shape))
    assert out.shape == (3, *shape)
    torch.testing.assert_close(out, unet((shape[0], *sides), **kwargs)(larger)[window], rtol=1e-4, atol=1e-5)


def test_the_smallest_image_is_one_place_of_the_coarsest_scale():
    for shape in ((1, 8, 8), (1, 9, 11)):
        assert unet(shape)(images(shape)).shape == (3, *shape)


@pytest.mark.parametrize("size", [(112, 112), (109, 118)], ids=str)
def test_what_is_moved_by_the_coarsest_stride_comes_back_moved_by_it(size):
    """In the middle, where no border is seen: nothing in it knows where it looks."""
    net, spot = unet((1, *size), channels=[4, 6, 8], depth=1), torch.zeros(1, 1, *size)
    spot[..., 52:60, 52:60] = images((1, 8, 8), 1)
    for down, right in ((8, 0), (0, -8), (-8, 8)):
        moved = spot.roll((down, right), (2, 3))
        back = net(moved).roll((-down, -right), (2, 3))
        middle = (..., slice(44, 68), slice(44, 68))
        torch.testing.assert_close(back[middle], net(spot)[middle], rtol=1e-4, atol=1e-5)
        assert float(net(spot)[middle].detach().std()) > 0.01, "else there is nothing to be moved"


def test_each_scale_has_half_the_side_and_skips_reach_the_output():
    net = unet((1, 32, 32), channels=[4, 6, 8], depth=1)
    sides = [row.output_shape[1] for row in layer_table(net, (1, 32, 32)) if row.type == "Conv2d"]
    assert sides == [16, 8, 4, 4, 8, 8, 16, 16]
    fine = dict(net.named_parameters())["down.0.0.weight"]
    with torch.no_grad():
        for name, value in net.named_parameters():  # nothing comes up from below the finest scale
            if name.startswith("narrow.1"):
                value.zero_()
    (slope,) = torch.autograd.grad(net(images((1, 32, 32))).square().sum(), fine)
    assert float(slope.abs().max()) > 0


def test_parameters_by_hand():
    def convolutions(before: int, after: int, side: int = 3) -> int:
        return before * after * side**2 + after

    expected = [
        convolutions(2 * 12, 5), convolutions(5, 5), convolutions(5, 7), convolutions(7, 7),  # in
        convolutions(7, 5, 1), convolutions(5, 5), convolutions(5, 5),  # and back
        convolutions(5, 12, 1),
    ]  # fmt: skip
    assert sum(p.numel() for p in unet((3, 16, 16), channels=[5, 7]).parameters()) == sum(expected)
