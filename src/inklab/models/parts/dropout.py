"""Dropout whose mask is a function of a key, so that it can be resumed and lifted like any buffer."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

LOW_BITS = 0x7FFFFFFF


class Dropout(nn.Module):
    """Silence a share of the features in training and scale up the rest; the identity in evaluation.

    The mask depends on the buffer `key` (two int32) and a feature's place alone. The training loop sets the
    key each step.

    Args:
        share: probability that a feature is silenced, in [0, 1).
    """

    key: Tensor

    def __init__(self, share: float) -> None:
        super().__init__()
        if not 0 <= share < 1:
            raise ValueError(f"dropout must lie in [0, 1), but is {share}")
        self.share = share
        # Not persistent: a key says where training stands; it is no part of a network for use.
        self.register_buffer("key", torch.zeros(2, dtype=torch.int32), persistent=False)

    def forward(self, features: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """Any shape in, the same shape out."""
        if not self.training or self.share == 0:
            return features
        bits = keyed_bits(self.key, features.numel()).reshape(features.shape)
        kept = (bits >= int(self.share * (LOW_BITS + 1))).to(features.dtype)
        return features * (kept / (1 - self.share))

    def extra_repr(self) -> str:
        """Shown by print(net)."""
        return f"share={self.share}"


def keyed_bits(key: Int[Tensor, " 2"], count: int) -> Int[Tensor, " count"]:
    """Random whole numbers in [0, 2**31), a function of the key and the place alone.

    Two rounds of the 32-bit mixer `lowbias32` (C. Wellons, "Prospecting for Hash Functions", 2018), one for
    each half of the key. Costs about half of `bernoulli_` on a CPU and works under vmap, a key a member.
    """
    places = torch.arange(count, dtype=torch.int32, device=key.device)
    return _mix(_mix(places ^ key[0]) ^ key[1]) & LOW_BITS


def _mix(bits: Tensor) -> Tensor:
    # int32 arithmetic wraps; `>>` carries the sign down, so the mask makes it a logical shift.
    bits = (bits ^ ((bits >> 16) & 0xFFFF)) * 0x7FEB352D
    bits = (bits ^ ((bits >> 15) & 0x1FFFF)) * (0x846CA68B - (1 << 32))
    return bits ^ ((bits >> 16) & 0xFFFF)


def key_names(net: nn.Module) -> list[str]:
    """Names of all key buffers of a network, in a fixed order."""
    return [f"{name}.key".lstrip(".") for name, module in net.named_modules() if isinstance(module, Dropout)]
