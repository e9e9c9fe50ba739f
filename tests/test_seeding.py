"""Seeds: the same path gives the same draws, other paths other ones, and no global state changes."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from inklab.seeding import Seed

NAMES = st.lists(st.text(max_size=5) | st.integers(), max_size=4)


def at(root: int, path) -> Seed:
    seed = Seed(root)
    for name in path:
        seed = seed / name
    return seed


def test_numbers_and_draws_are_the_same_on_every_machine():
    """Fixed here once: if one of them moves, no stored result can be repeated."""
    numbers = [Seed(0).number, (Seed(7) / "order" / 3).number, (Seed(-1) / "é").number]
    assert numbers == [7520536977032167579, 6426830189005489144, 6297570687368112359]
    seed = Seed(7) / "replicate" / 0 / "order" / 0
    assert torch.randperm(8, generator=seed.generator()).tolist() == [3, 6, 5, 2, 4, 1, 7, 0]
    assert seed.rng().integers(0, 1000, 4).tolist() == [466, 749, 32, 33]


@given(st.integers(), NAMES)
def test_the_same_path_draws_the_same(root, path):
    first, second = at(root, path), at(root, path)
    assert first == second and first.number == second.number
    assert 0 <= first.number < 2**63
    for other in (first, second):  # also of one seed: a generator is fresh each time
        assert first.rng().random() == other.rng().random()
        assert torch.equal(
            torch.rand(3, generator=first.generator()), torch.rand(3, generator=other.generator())
        )


@given(st.integers(), NAMES, st.integers(), NAMES)
def test_another_path_draws_something_else(root, path, other_root, other_path):
    same = (root, [str(name) for name in path]) == (other_root, [str(name) for name in other_path])
    assert (at(root, path).number == at(other_root, other_path).number) == same


def test_paths_are_distinct_values():
    """Names are separated, however they are split."""
    seeds = [
        Seed(1), Seed(2), Seed(1) / "ab", Seed(1) / "a" / "b", Seed(1) / "a/b", Seed(1) / 'a", "b',
        Seed(11) / "", Seed(1) / 1,
    ]  # fmt: skip
    assert len({seed.number for seed in seeds}) == len(seeds) == len({*seeds, Seed(1) / "ab"})
    assert Seed(1) / 3 == Seed(1) / "3"
    with pytest.raises(AttributeError):
        Seed(1).root = 2  # type: ignore[misc]


def test_streams_of_neighboring_paths_are_independent():
    """Replicates, epochs and steps count upwards: their draws must not resemble each other."""
    draws = np.stack([(Seed(0) / "replicate" / k).rng().random(2000) for k in range(20)])
    torch_draws = np.stack(
        [torch.rand(2000, generator=(Seed(0) / "step" / k).generator()).numpy() for k in range(20)]
    )
    for sample in (draws, torch_draws):
        correlation = np.corrcoef(sample) - np.eye(20)
        assert np.abs(correlation).max() < 5 / np.sqrt(2000)


def test_numbers_fill_their_range():
    numbers = np.array([(Seed(0) / k).number for k in range(2000)], dtype=np.float64) / 2**63
    assert abs(numbers.mean() - 0.5) < 0.03
    assert len(set(numbers.tolist())) == 2000
    assert np.histogram(numbers, 10, (0, 1))[0].min() > 140


def test_as_global_is_a_function_of_the_seed_and_restores_the_state():
    torch.manual_seed(5)
    before, draws = torch.get_rng_state(), []
    for _ in range(2):
        with (Seed(1) / "module").as_global():
            draws.append(torch.rand(4))
        torch.rand(7)
    with (Seed(1) / "other").as_global():
        other = torch.rand(4)
    assert torch.equal(*draws) and not torch.equal(draws[0], other)
    torch.set_rng_state(before)
    with pytest.raises(KeyError), (Seed(1) / "module").as_global():
        first = torch.rand(2)
        with Seed(2).as_global():
            torch.rand(5)
        assert torch.equal(torch.cat([first, torch.rand(2)]), draws[0]), "it may be nested"
        raise KeyError
    assert torch.equal(torch.get_rng_state(), before)
