"""What min_p, top_k and top_p leave of a row of logits (reference: `models/sampler.py`).

The three are one threshold: the least value that is kept. It is found without sorting. Whether the
number or the mass of the values at or above a pivot suffices is monotone in the pivot, so the pivot
is bisected over the integers that order as floats do, and each pass over the row moves the bounds
on to values that occur: some ten passes for each of top_k and top_p, never more than 32.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from .variant import Variant

GREEDY_BELOW = 1e-5  # a lower temperature means "the most likely token", as in the reference

# (columns a tile, warps). Untuned: one program reads its row again and again from the L2 cache, so
# it gets many warps and 32 bytes a thread and load.
_TILE = (4096, 16)

GREEDY = tl.constexpr(GREEDY_BELOW)
_LOWEST = tl.constexpr(float("-inf"))
_HIGHEST = tl.constexpr(float("inf"))


@triton.jit
def order_of(x):
    """An int64 that orders as the float32 x does (but -0.0 comes before 0.0)."""
    bits = x.to(tl.int32, bitcast=True)
    return (bits ^ ((bits >> 31) & 0x7FFFFFFF)).to(tl.int64)


@triton.jit
def _value_of(order):
    """The float32 whose `order_of` is this."""
    bits = order.to(tl.int32)
    return (bits ^ ((bits >> 31) & 0x7FFFFFFF)).to(tl.float32, bitcast=True)


@triton.jit
def _highest_sufficient(
    line, vocab, low, high, goal, best, sharpness, MASS: tl.constexpr, TILE: tl.constexpr
):
    """The highest value v of a row for which the amount of its values >= v reaches the goal.

    The amount is their number or, with MASS, the sum of exp((x - best) * sharpness). The value is
    given as its `order_of`, as are the bounds: low is known to suffice, high not to.
    """
    while low + 1 < high:
        middle = low + (high - low) // 2
        pivot = _value_of(middle)
        amounts = tl.full([TILE], 0.0, tl.float32)  # counts below 2^24 are exact in it
        least_kept = tl.full([TILE], _HIGHEST, tl.float32)
        most_left = tl.full([TILE], _LOWEST, tl.float32)
        for start in range(0, vocab, TILE):
            columns = start + tl.arange(0, TILE)
            x = tl.load(line + columns, mask=columns < vocab, other=_LOWEST)
            kept = x >= pivot
            if MASS:
                amounts += tl.where(kept, tl.exp((x - best) * sharpness), 0.0)
            else:
                amounts += kept.to(tl.float32)
            least_kept = tl.minimum(least_kept, tl.where(kept, x, _HIGHEST))
            most_left = tl.maximum(most_left, tl.where(kept, _LOWEST, x))
        amount = tl.sum(amounts)
        if amount >= goal:
            low = tl.maximum(order_of(tl.min(least_kept)), middle)
            if not MASS:  # exactly so many: the least of them is the value
                high = tl.where(amount == goal, low + 1, high)
        else:
            high = tl.minimum(order_of(tl.max(most_left)) + 1, middle)
    return low


@triton.jit
def _find_thresholds_kernel(
    logits_pointer,
    temperature_pointer,
    top_k_pointer,
    top_p_pointer,
    min_p_pointer,
    thresholds_pointer,
    vocab,
    logits_stride,
    TILE: tl.constexpr,
):
    """The least logits / temperature that one row keeps; -inf where it keeps all."""
    row = tl.program_id(0).to(tl.int64)
    temperature = tl.load(temperature_pointer + row)
    top_k = tl.load(top_k_pointer + row)
    top_p = tl.load(top_p_pointer + row)
    min_p = tl.load(min_p_pointer + row)
    cuts_k = (top_k > 0) & (top_k < vocab)
    cuts_p = top_p < 1.0
    threshold = tl.full([], _LOWEST, tl.float32)
    if (temperature >= GREEDY) & (cuts_k | cuts_p | (min_p > 0.0)):
        line = logits_pointer + row * logits_stride
        sharpness = 1.0 / temperature
        lanes = tl.full([TILE], _LOWEST, tl.float32)
        for start in range(0, vocab, TILE):
            columns = start + tl.arange(0, TILE)
            x = tl.load(line + columns, mask=columns < vocab, other=_LOWEST)
            lanes = tl.maximum(lanes, x)
        best = tl.max(lanes)
        high = order_of(best) + 1
        low = order_of(threshold)
        # Division by the temperature keeps order, so the search is among the logits themselves.
        floor = threshold
        if min_p > 0.0:
            threshold = tl.div_rn(best, temperature) + tl.log(min_p)
            floor = best + tl.log(min_p) * temperature
        if cuts_k:
            if top_k <= TILE:  # each lane's maximum is at least the least of them
                low = order_of(tl.min(lanes))
            goal = top_k.to(tl.float32)
            low = _highest_sufficient(line, vocab, low, high, goal, best, 0.0, False, TILE)
        if cuts_p:
            kth = _value_of(low)
            counts = tl.full([TILE], 0.0, tl.float32)
            masses = tl.full([TILE], 0.0, tl.float32)
            for start in range(0, vocab, TILE):
                columns = start + tl.arange(0, TILE)
                x = tl.load(line + columns, mask=columns < vocab, other=_LOWEST)
                kept = (x > kth) & (x >= floor)
                counts += kept.to(tl.float32)
                masses += tl.where(kept, tl.exp((x - best) * sharpness), 0.0)
            total = tl.sum(masses)
            if cuts_k & (kth >= floor):  # of those that tie with the last, only top_k in all
                rest = top_k.to(tl.float32) - tl.sum(counts)
                total += rest * tl.exp((kth - best) * sharpness)
            # What lies further below the best than this has less than 1 - top_p together.
            negligible = best + temperature * (tl.log((1.0 - top_p) / vocab) - 1.0)
            low = tl.maximum(low, tl.maximum(order_of(floor), order_of(negligible)))
            goal = top_p * total
            low = _highest_sufficient(line, vocab, low, high, goal, best, sharpness, True, TILE)
        threshold = tl.maximum(threshold, tl.div_rn(_value_of(low), temperature))
    tl.store(thresholds_pointer + row, threshold)


def find_thresholds(
    logits: Tensor, *, temperature: Tensor, top_k: Tensor, top_p: Tensor, min_p: Tensor
) -> Tensor:
    """The least logits / temperature that each row keeps [rows] float32; -inf if it keeps all.

    Arguments are those of `sampling.sample_rows`, which checks them.
    """
    rows, vocab = logits.shape
    thresholds = torch.empty(rows, dtype=torch.float32, device=logits.device)
    if rows > 0:
        tile, warps = _TILE
        _find_thresholds_kernel[(rows,)](
            logits,
            temperature,
            top_k,
            top_p,
            min_p,
            thresholds,
            vocab,
            logits.stride(0),
            TILE=tile,
            num_warps=warps,
        )
    return thresholds


def variants() -> list[Variant]:
    """One: nothing depends on the model at compile time."""
    floats = ("logits", "temperature", "top_p", "min_p", "thresholds")
    signature = {f"{name}_pointer": "*fp32" for name in floats}
    signature |= {"top_k_pointer": "*i32", "vocab": "i32", "logits_stride": "i32"}
    tile, warps = _TILE
    return [
        Variant(
            "truncation",
            _find_thresholds_kernel,
            signature,
            {"TILE": tile},
            num_warps=warps,
            aligned=frozenset({"vocab", "logits_stride"}),
            may_spill=False,
        )
    ]
