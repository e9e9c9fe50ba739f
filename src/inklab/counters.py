"""Random numbers by counter: each one is a function of a key, its image, its position and its draw alone.

There is no state to advance, so numbers can be drawn on any device, in any order, inside a compiled
program, and under `vmap` with one key for each member. Uniform numbers are made of integers, and are the same
to the bit everywhere; normal and Poisson numbers are computed in float64, so that devices agree but for a
rounding in about 10**8 numbers.

The bits come from `lowbias32`, a mixer of 32 bits (C. Wellons, "Prospecting for Hash Functions", 2018,
nullprogram.com), of hashes of the image and the position. Philox (Salmon et al., 2011), NumPy's, needs ten
rounds of 64-bit products; torch has neither the high half of a product nor shifts of all unsigned types.
"""

import math

import torch
from jaxtyping import Float32, Int, Int32, Int64
from torch import Tensor

LOW_BITS = 0x7FFFFFFF
MULTIPLIERS = (0x7FEB352D, 0x846CA68B - (1 << 32))
WEYL = 0x9E3779B9  # 2**32 / golden ratio: tells apart what would get equal words otherwise

MAX_SEARCHED_RATE = 5.0  # Poisson rates up to it are inverted term by term, larger ones by an expansion
SEARCH_BLOCK = 1 << 14  # numbers searched at once, so that they stay in the cache: a tenth of the time


class Draws:
    """Random numbers for a batch of images, drawn by counter.

    Corruptions and augmentations draw from it. The first dimension of what is drawn counts images, and the
    numbers of an image depend on the key, on the number of that image, and on how many draws were made
    before; not on the other images. So an image gets the same noise alone and in a batch.

    Args:
        key: two int32 on the device that numbers are drawn on, as of `Seed.key`.
        first: the number of the first image, for a part of a larger batch.

    Example:
        >>> key = torch.tensor([7, 9], dtype=torch.int32)
        >>> batch, last = Draws(key).uniform(3, 1, 2, 2), Draws(key, first=2).uniform(1, 1, 2, 2)
        >>> torch.equal(batch[2:], last)
        True
    """

    def __init__(self, key: Int32[Tensor, "2"], first: int = 0) -> None:
        self.key, self.first = key, first
        self.count = 0

    @property
    def device(self) -> torch.device:
        """The device that numbers are drawn on."""
        return self.key.device

    def uniform(self, *shape: int) -> Float32[Tensor, "..."]:
        """Uniform on [0, 1): multiples of 2**-24, each exact in float32.

        Example:
            >>> Draws(torch.tensor([7, 9], dtype=torch.int32)).uniform(2, 2)
            tensor([[0.5000, 0.7453],
                    [0.3183, 0.6088]])
        """
        return self._bits24(*shape).float().mul_(2.0**-24)

    def integers(self, low: int, high: int, *shape: int) -> Int64[Tensor, "..."]:
        """Integers from `low` to `high - 1`, whose difference is at most 2**24, with equal chance.

        Raises:
            ValueError: there is no such integer.
        """
        if not 0 < high - low <= 1 << 24:
            raise ValueError(f"no integers to draw from {low} to {high - 1}; give 1 to 2**24 of them")
        return (self._bits24(*shape).long() * (high - low) >> 24) + low

    def normal(self, *shape: int) -> Float32[Tensor, "..."]:
        """Normal with mean 0 and standard deviation 1, at most 6.8 in size (Box and Muller, 1958)."""
        n, size = shape[0], math.prod(shape[1:])
        half = -(-size // 2)
        radius, angle = (self._open_uniform(n, half) for _ in range(2))
        radius, angle = radius.log_().mul_(-2).sqrt_(), angle.mul_(2 * math.pi)
        both = torch.cat([radius * angle.cos(), radius * angle.sin()], 1)
        return both[:, :size].float().reshape(shape)

    def poisson(
        self, rates: Float32[Tensor, "n ..."], max_rate: float = math.inf
    ) -> Float32[Tensor, "n ..."]:
        """Poisson numbers with these rates, each at least 0 and at most `max_rate`, which saves time.

        By inversion: term by term for rates up to 5. Above, the quantile is the first four terms of its
        expansion around the normal's (M. Giles, "Algorithm 955: approximation of the inverse Poisson
        cumulative distribution function", 2016): one number in 1,000 is off by one.
        """
        uniform = self._open_uniform(len(rates), math.prod(rates.shape[1:])).reshape(rates.shape)
        rates = rates.to(uniform.dtype)
        small = rates.clamp(max=MAX_SEARCHED_RATE)
        rows = max(SEARCH_BLOCK * len(rates) // max(rates.numel(), 1), 1)
        counts = torch.cat(
            [
                _search_poisson(*parts, min(max_rate, MAX_SEARCHED_RATE))
                for parts in zip(torch.split(uniform, rows), torch.split(small, rows), strict=True)
            ]
        )
        if max_rate > MAX_SEARCHED_RATE:
            large = _expand_poisson(uniform, rates.clamp(min=MAX_SEARCHED_RATE))
            counts = torch.where(rates <= MAX_SEARCHED_RATE, counts, large)
        return counts.float()

    def _bits24(self, *shape: int) -> Int32[Tensor, "..."]:
        bits = self._bits(shape[0], math.prod(shape[1:]))
        return (bits >> 8).bitwise_and_(0xFFFFFF).reshape(shape)

    def _open_uniform(self, n: int, size: int) -> Tensor:
        """Uniform on (0, 1), of all 32 bits as a signed number, in float64 where the device has it."""
        dtype = torch.float32 if self.device.type == "mps" else torch.float64
        return self._bits(n, size).to(dtype).add_(2.0**31 + 0.5).mul_(2.0**-32)

    def _bits(self, n: int, size: int) -> Int32[Tensor, "n size"]:
        """All 32 bits for `size` positions of each image: a hash of the hashes of image and position.

        Each of these two has the whole key and the number of the draw. They take no time; what is done for
        each number is the rest of the hash, whose first step commutes with `^`.
        """
        draw = _signed(self.count * WEYL)
        self.count += 1
        first, second = self.key[0], self.key[1]
        image = torch.arange(self.first, self.first + n, dtype=torch.int32, device=self.device)
        position = torch.arange(size, dtype=torch.int32, device=self.device)
        rows = _fold(_mix(_mix(image ^ first) ^ second ^ draw))
        columns = _fold(_mix(_mix(position ^ second ^ _signed(WEYL)) ^ first ^ draw))
        return _mix_folded(rows[:, None] ^ columns)


def keyed_bits(key: Int[Tensor, " 2"], count: int) -> Int[Tensor, " count"]:
    """Random integers in [0, 2**31), a function of the key and the position alone.

    For draws that belong to no image, such as dropout's. Costs about half of `bernoulli_` on a CPU.
    """
    positions = torch.arange(count, dtype=torch.int32, device=key.device)
    return _mix(_mix(positions ^ key[0]).bitwise_xor_(key[1])).bitwise_and_(LOW_BITS)


def _mix(bits: Int32[Tensor, "*any"]) -> Int32[Tensor, "*any"]:
    """The mixer `lowbias32`, in place: without copies it takes two thirds of the time.

    int32 arithmetic wraps; `>>` carries the sign down, so the mask makes it a logical shift.
    """
    return _mix_folded(_fold(bits))


def _fold(bits: Int32[Tensor, "*any"]) -> Int32[Tensor, "*any"]:
    """The first step of the mixer, in place."""
    bits ^= (bits >> 16).bitwise_and_(0xFFFF)
    return bits


def _mix_folded(bits: Int32[Tensor, "*any"]) -> Int32[Tensor, "*any"]:
    """All other steps of the mixer, in place."""
    bits *= MULTIPLIERS[0]
    bits ^= (bits >> 15).bitwise_and_(0x1FFFF)
    bits *= MULTIPLIERS[1]
    bits ^= (bits >> 16).bitwise_and_(0xFFFF)
    return bits


def _search_poisson(uniform: Tensor, rates: Tensor, max_rate: float) -> Tensor:
    """How many partial sums of a Poisson distribution lie below a uniform number.

    It is compared with sums without the common factor exp(-rate).
    """
    rest = uniform * rates.exp() - 1
    power, counts = torch.ones_like(rest), torch.zeros_like(rest)
    # The sum of later terms is below 2**-33, the least difference between a uniform number and 1.
    for number in range(1, int(max_rate + 7 * math.sqrt(max_rate) + 9) + 1):
        counts += rest > 0
        power *= rates
        rest.sub_(power, alpha=1 / math.factorial(number))
    return counts


def _expand_poisson(uniform: Tensor, rates: Tensor) -> Tensor:
    """Approximate quantiles of Poisson distributions with rates that are not small."""
    w, root = torch.erfinv(2 * uniform - 1) * math.sqrt(2), rates.sqrt()
    square = w * w
    quantile = rates + root * w + (1 / 3 + square / 6) - w * (1 + square / 2) / (36 * root)
    return (quantile + (-8 / 405 + square * (7 / 810 + square / 270)) / rates).floor().clamp(min=0)


def _signed(word: int) -> int:
    """The low 32 bits of a number, as an int32 holds them."""
    return (word + (1 << 31)) % (1 << 32) - (1 << 31)
