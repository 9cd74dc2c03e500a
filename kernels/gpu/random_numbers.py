"""The counter-based generator inside kernels (reference: `models/random_numbers.py`).

The bits are those of the reference, one for one; the noise made of them differs in the last digits
of the logarithm at most.
"""

import triton
import triton.language as tl


@triton.jit
def mix_key(seed, position):
    """SplitMix64's finalizer of a row's seed and position: its key [uint64]."""
    step = (position.to(tl.int64) + 1).to(tl.uint64)
    value = seed.to(tl.uint64) + step * 0x9E3779B97F4A7C15
    value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9
    value = (value ^ (value >> 27)) * 0x94D049BB133111EB
    return value ^ (value >> 31)


@triton.jit
def _finalize(bits):
    """MurmurHash3's fmix32 of uint32."""
    bits = (bits ^ (bits >> 16)) * 0x85EBCA6B
    bits = (bits ^ (bits >> 13)) * 0xC2B2AE35
    return bits ^ (bits >> 16)


@triton.jit
def random_bits(key, ids):
    """32 random bits of each token id under a row's key."""
    low = key.to(tl.uint32)
    high = (key >> 32).to(tl.uint32)
    return _finalize(_finalize(ids.to(tl.uint32) ^ low) ^ high)


@triton.jit
def gumbel_noise(bits):
    """-log(-log1p(-u)) of the uniform numbers u that the bits stand for."""
    uniform = tl.minimum((bits.to(tl.float32) + 0.5) * 2.0**-32, 1.0 - 2.0**-24)
    # log1p from log: the quotient undoes the rounding of 1 - u ("What every computer scientist
    # should know about floating-point arithmetic", Goldberg, 1991, theorem 4).
    rest = 1.0 - uniform
    tiny = rest == 1.0
    ratio = tl.div_rn(tl.log(rest), tl.where(tiny, 1.0, rest - 1.0))
    return -tl.log(tl.where(tiny, uniform, uniform * ratio))
