"""A counter-based generator: a random number is a function of (seed, position, token id) alone.

So a request draws the same tokens whatever else is in the batch, after preemption and after replay
("Parallel Random Numbers: As Easy as 1, 2, 3", Salmon et al., 2011, for the idea). The mixing is
SplitMix64's finalizer for the key and twice MurmurHash3's 32-bit finalizer for each token id.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

_MASK_64 = 2**64 - 1
_MASK_32 = 2**32 - 1
_LARGEST_BELOW_ONE = 1.0 - 2.0**-24


def gumbel_noise(keys: Sequence[tuple[int, int]], vocab_size: int, device: torch.device) -> Tensor:
    """Standard Gumbel noise [rows, vocab] in float32, one row for each (seed, position).

    argmax(logits + noise) is a draw from softmax(logits) (the Gumbel-max trick).
    """
    mixed = [mix_key(seed, position) for seed, position in keys]
    low = torch.tensor([[key & _MASK_32] for key in mixed], dtype=torch.int64, device=device)
    high = torch.tensor([[key >> 32] for key in mixed], dtype=torch.int64, device=device)
    ids = torch.arange(vocab_size, dtype=torch.int64, device=device)[None, :]
    bits = _finalize(_finalize(ids ^ low) ^ high)
    # Resolution matters near 0, where -log1p(-u) becomes the largest noise; u = 1 must not occur.
    uniform = (bits.float() + 0.5).mul_(2.0**-32).clamp_(max=_LARGEST_BELOW_ONE)
    return uniform.neg_().log1p_().neg_().log_().neg_()


def mix_key(seed: int, position: int) -> int:
    """The 64-bit key of all random numbers of one seed and position."""
    value = (seed + 0x9E3779B97F4A7C15 * (position + 1)) & _MASK_64
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK_64
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK_64
    return value ^ (value >> 31)


def _finalize(bits: Tensor) -> Tensor:
    """MurmurHash3's fmix32 on 32-bit values held in int64."""
    bits = bits ^ (bits >> 16)
    bits = (bits * 0x85EBCA6B).bitwise_and_(_MASK_32)
    bits ^= bits >> 13
    bits = bits.mul_(0xC2B2AE35).bitwise_and_(_MASK_32)
    bits ^= bits >> 16
    return bits
