"""MaxPool has the bits of PyTorch's, run and traced; GlobalMaxPool is a maximum; Flatten has Keras' order."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.fx.experimental.proxy_tensor import make_fx

from inklab.networks.layers import Flatten, GlobalMaxPool, MaxPool

Pool = Callable[[Tensor], Tensor]
SIDES = (1, 2, 3, 4)
SIZES = ((12, 12), (7, 9))
LAYOUTS = {"contiguous": torch.contiguous_format, "channels-last": torch.channels_last}


def reference_pool(side: int) -> Pool:
    """The oracle."""
    return lambda features: nn.functional.max_pool2d(features, side)


def maps(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    """Feature maps without equal values next to each other."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def many_ties(*shape: int, seed: int = 0) -> Tensor:
    """Feature maps of -1, 0 and 1: nearly every window has its largest value more than once."""
    return torch.randint(-1, 2, shape, generator=torch.Generator().manual_seed(seed)).float()


def pooled_and_gradient(pool: Pool, members: bool = False) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    """`features -> pooled values, gradient` of a loss whose gradient is different at each pooled pixel."""

    def loss(features: Tensor) -> tuple[Tensor, Tensor]:
        pooled = pool(features)
        weights = torch.arange(1, pooled.numel() + 1, dtype=pooled.dtype).reshape(pooled.shape)
        return (pooled * weights).sum(), pooled

    def both(features: Tensor) -> tuple[Tensor, Tensor]:
        gradient, pooled = torch.func.grad(loss, has_aux=True)(features)
        return pooled, gradient

    return torch.func.vmap(both) if members else both


def traced(pool: Pool, features: Tensor, members: bool = False) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    """The same, as the compiler gets it, traced with other values than it is run with."""
    graph = make_fx(pooled_and_gradient(pool, members))(torch.zeros_like(features))
    targets = {str(node.target) for node in graph.graph.nodes}
    assert not any("max_pool2d_with_indices_backward" in target for target in targets), "no sweep was traced"
    return graph


def assert_same_bits(features: Tensor, side: int, *, members: bool = False, gradient: bool = True) -> None:
    """Ours, run and traced, and theirs: equal values and gradients."""
    expected = pooled_and_gradient(reference_pool(side), members)(features)
    variants = {
        "run": pooled_and_gradient(MaxPool(side), members),
        "traced": traced(MaxPool(side), features, members),
    }
    for variant, function in variants.items():
        actual = function(features)
        for part, result, expected_part in zip(
            ("value", "gradient")[: 1 + gradient], actual, expected, strict=False
        ):
            assert result.dtype == expected_part.dtype == features.dtype, (variant, part)
            assert torch.equal(result.nan_to_num(9e9), expected_part.nan_to_num(9e9)), (variant, part)


class TestMaxPool:
    @pytest.mark.parametrize("layout", LAYOUTS)
    @pytest.mark.parametrize("size", SIZES, ids=str)
    @pytest.mark.parametrize("side", SIDES)
    def test_it_is_pytorchs_to_the_bit(self, side, size, layout):
        for features in (maps(3, 4, *size), many_ties(3, 4, *size), maps(3, 4, *size).bfloat16()):
            assert_same_bits(features.contiguous(memory_format=LAYOUTS[layout]), side)

    def test_the_largest_window_in_bf16(self):
        """256 positions: as many as bf16 tells apart."""
        features = maps(2, 1, 33, 32, dtype=torch.bfloat16)
        features[0, 0, 15, 15], features[0, 0, 15, 30] = 100, 100  # positions 255 and 254 of their windows
        assert_same_bits(features, 16)

    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
    @pytest.mark.parametrize("side", SIDES)
    def test_members_of_a_population(self, side, dtype):
        for make in (maps, many_ties):
            assert_same_bits(make(2, 3, 4, 7, 9).to(dtype), side, members=True)

    def test_of_equal_values_the_first_gets_all(self):
        features = torch.zeros(1, 1, 2, 4)
        expected = torch.tensor([[[[1.0, 0, 2, 0], [0, 0, 0, 0]]]])
        assert torch.equal(traced(MaxPool(2), features)(features)[1], expected)

    def test_nothing_but_negative_or_infinite(self):
        for features in (maps(2, 3, 6, 6) - 100, torch.full((2, 3, 6, 6), -torch.inf)):
            assert_same_bits(features, 3)

    def test_nan_passes_through(self):
        """Else a network that diverged would look well."""
        features = maps(2, 3, 6, 6)
        features[0, 1, 2, 3] = features[1, 0, 0, 0] = torch.nan
        assert_same_bits(features, 2, gradient=False)
        for pool in (MaxPool(2), lambda x: traced(MaxPool(2), x)(x)[0]):
            pooled = pool(features)
            assert pooled.isnan().sum() == 2 and pooled[0, 1, 1, 1].isnan() and pooled[1, 0, 0, 0].isnan()

    @pytest.mark.parametrize("size", [(12, 12), (13, 11)], ids=str)
    def test_channels_last_stays_channels_last(self, size):
        """Else the convolution before it would get a gradient that it has to turn over first."""
        features = maps(3, 4, *size).contiguous(memory_format=torch.channels_last)
        gradient = traced(MaxPool(3), features)(features)[1]
        assert gradient.is_contiguous(memory_format=torch.channels_last)

    @pytest.mark.parametrize("side", [-1, 0, 17])
    def test_a_window_that_is_none_or_too_large_is_refused(self, side):
        with pytest.raises(ValueError):
            MaxPool(side)
        assert repr(MaxPool(3)) == "MaxPool(side=3)"


class TestGlobalMaxPool:
    @pytest.mark.parametrize("layout", LAYOUTS)
    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
    def test_it_is_the_maximum_and_its_gradient_goes_to_where_that_is(self, dtype, layout):
        values = torch.randperm(2 * 3 * 5 * 4, generator=torch.Generator().manual_seed(0))  # no two alike
        features = values.reshape(2, 3, 5, 4).to(dtype).contiguous(memory_format=LAYOUTS[layout])
        actual, gradient = pooled_and_gradient(GlobalMaxPool())(features)
        expected, slope = pooled_and_gradient(lambda x: nn.functional.adaptive_max_pool2d(x, 1).flatten(1))(
            features
        )
        assert actual.dtype == dtype and torch.equal(actual, expected) and torch.equal(gradient, slope)

    def test_equal_maxima_share_the_gradient(self):
        """Half of a map of zeros would otherwise hang on which one is looked at first."""
        _, gradient = pooled_and_gradient(GlobalMaxPool())(torch.tensor([[[[1.0, 0, 1], [0, 1, 1]]]]))
        assert torch.equal(gradient, torch.tensor([[[[0.25, 0, 0.25], [0, 0.25, 0.25]]]]))

    def test_nan_passes_through(self):
        features = maps(2, 3, 4, 4)
        features[1, 2, 3, 0] = torch.nan
        assert GlobalMaxPool()(features).isnan().nonzero().tolist() == [[1, 2]]


class TestFlatten:
    @pytest.mark.parametrize("layout", LAYOUTS)
    def test_the_order_is_kerass(self, layout):
        """Keras's maps lie as `(n, h, w, c)`, and its Flatten reads them as they lie, without a copy."""
        features = maps(3, 4, 5, 6).contiguous(memory_format=LAYOUTS[layout])
        expected = np.transpose(features.numpy(), (0, 2, 3, 1)).reshape(3, -1)
        actual = Flatten()(features)
        assert np.array_equal(actual.numpy(), expected)
        assert layout == "contiguous" or actual.data_ptr() == features.data_ptr()


@pytest.mark.parametrize("layer", [Flatten(), GlobalMaxPool()], ids=repr)
def test_members_of_a_population(layer):
    features = maps(2, 3, 4, 5, 6)
    together = torch.func.vmap(layer)(features)
    assert all(torch.equal(together[k], layer(features[k])) for k in range(2))
