"""Drawing tokens on the device, without a host sync (reference: `models/sampler.py`).

For each row: penalties; then the most likely token, or temperature, min_p, top_k with top_p, and a
draw by the Gumbel-max trick: argmax(logits / temperature + noise) with noise = -log(-log(1 - u)) is
a draw from the softmax. u is a function of (seed, position, token id) alone, bit for bit that of
`models/random_numbers.py`. Three launches:

1. `truncation`: the least value that a row keeps; rows that keep all of them are left at once.
2. `_pick_parts_kernel`: argmax of parts of each row, so that a few rows keep the device busy.
3. `_join_parts_kernel`: argmax over the parts.

Of equal values the smallest id wins, whatever the number of parts. NaN loses against every number,
and what is drawn is always an id of the vocabulary.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from .random_numbers import gumbel_noise, mix_key, random_bits
from .truncation import GREEDY, find_thresholds, order_of
from .variant import Variant

# (columns a tile, warps). Untuned: the noise needs registers, so it gets few columns a thread; the
# log-probability's program reads a whole row, so it gets many threads.
_PICK_TILE = (1024, 4)
_LOGPROBS_TILE = (4096, 16)
_PENALTIES_TILE = (256, 2)
_MOST_PARTS = 64  # of a row
_WANTED_PROGRAMS = 1024  # untuned: one full load of 132 multiprocessors with 8 programs each

_LOWEST = tl.constexpr(float("-inf"))


@triton.jit(do_not_specialize=["parts_stride"])
def _pick_parts_kernel(
    logits_pointer,
    temperature_pointer,
    seeds_pointer,
    positions_pointer,
    thresholds_pointer,
    parts_pointer,
    vocab,
    part_length,
    logits_stride,
    parts_stride,
    TILE: tl.constexpr,
):
    """The best of one part of a row, packed as its order (high 32 bits) and its id, inverted."""
    row = tl.program_id(0).to(tl.int64)
    part = tl.program_id(1)
    begin = part * part_length
    end = tl.minimum(begin + part_length, vocab)
    line = logits_pointer + row * logits_stride
    temperature = tl.load(temperature_pointer + row)
    best = tl.full([TILE], _LOWEST, tl.float32)
    best_ids = begin + tl.arange(0, TILE)
    if temperature < GREEDY:
        for start in range(begin, end, TILE):
            ids = start + tl.arange(0, TILE)
            x = tl.load(line + ids, mask=ids < end, other=_LOWEST)
            better = x > best
            best = tl.where(better, x, best)
            best_ids = tl.where(better, ids, best_ids)
    else:
        threshold = tl.load(thresholds_pointer + row)
        key = mix_key(tl.load(seeds_pointer + row), tl.load(positions_pointer + row))
        for start in range(begin, end, TILE):
            ids = start + tl.arange(0, TILE)
            x = tl.load(line + ids, mask=ids < end, other=_LOWEST)
            x = tl.div_rn(x, temperature)
            x = tl.where(x >= threshold, x + gumbel_noise(random_bits(key, ids)), _LOWEST)
            better = x > best
            best = tl.where(better, x, best)
            best_ids = tl.where(better, ids, best_ids)
    best = tl.where(best == 0.0, 0.0, best)  # -0.0 ties with 0.0
    packed = (order_of(best) << 32) | (0x7FFFFFFF - best_ids).to(tl.int64)
    tl.store(parts_pointer + row * parts_stride + part, tl.max(packed))


@triton.jit(do_not_specialize=["num_parts", "parts_stride"])
def _join_parts_kernel(
    parts_pointer, token_ids_pointer, num_parts, parts_stride, PARTS: tl.constexpr
):
    """The id of the best part of one row."""
    row = tl.program_id(0).to(tl.int64)
    parts = tl.arange(0, PARTS)
    # Any part is as good as a filler: the first is read again.
    packed = tl.load(parts_pointer + row * parts_stride + tl.where(parts < num_parts, parts, 0))
    tl.store(token_ids_pointer + row, 0x7FFFFFFF - (tl.max(packed) & 0x7FFFFFFF))


@triton.jit
def _token_logprobs_kernel(
    logits_pointer, token_ids_pointer, logprobs_pointer, vocab, logits_stride, TILE: tl.constexpr
):
    """x[token] - max - log(sum(exp(x - max))) of one row."""
    row = tl.program_id(0).to(tl.int64)
    line = logits_pointer + row * logits_stride
    lanes = tl.full([TILE], _LOWEST, tl.float32)
    for start in range(0, vocab, TILE):
        columns = start + tl.arange(0, TILE)
        x = tl.load(line + columns, mask=columns < vocab, other=_LOWEST)
        lanes = tl.maximum(lanes, x)
    best = tl.max(lanes)
    masses = tl.full([TILE], 0.0, tl.float32)
    for start in range(0, vocab, TILE):
        columns = start + tl.arange(0, TILE)
        x = tl.load(line + columns, mask=columns < vocab, other=_LOWEST)
        masses += tl.exp(x - best)
    own = tl.load(line + tl.load(token_ids_pointer + row).to(tl.int64))
    tl.store(logprobs_pointer + row, own - best - tl.log(tl.sum(masses)))


@triton.jit(do_not_specialize=["width", "ids_stride", "counts_stride"])
def _apply_penalties_kernel(
    logits_pointer,
    ids_pointer,
    counts_pointer,
    repetition_pointer,
    frequency_pointer,
    presence_pointer,
    width,
    logits_stride,
    ids_stride,
    counts_stride,
    TILE: tl.constexpr,
):
    """Penalise TILE of the ids of one row."""
    row = tl.program_id(0).to(tl.int64)
    columns = tl.program_id(1) * TILE + tl.arange(0, TILE)
    ids = tl.load(ids_pointer + row * ids_stride + columns, mask=columns < width, other=-1)
    counts = tl.load(counts_pointer + row * counts_stride + columns, mask=columns < width, other=0)
    repetition = tl.load(repetition_pointer + row)
    frequency = tl.load(frequency_pointer + row)
    presence = tl.load(presence_pointer + row)
    seen = ids >= 0
    place = logits_pointer + row * logits_stride + ids
    x = tl.load(place, mask=seen, other=0.0)
    x = tl.where(x > 0.0, tl.div_rn(x, repetition), x * repetition)
    x = tl.where(counts > 0, x - (frequency * counts.to(tl.float32) + presence), x)
    tl.store(place, x, mask=seen)


def sample_rows(
    logits: Tensor,
    *,
    temperature: Tensor,
    top_k: Tensor,
    top_p: Tensor,
    min_p: Tensor,
    seeds: Tensor,
    positions: Tensor,
) -> Tensor:
    """Draw one token a row: ids [rows] int64, on the device of logits [rows, vocab] float32.

    All others are [rows]: temperature (0 = the most likely token), top_p (1 = off) and min_p (0 =
    off) float32; top_k int32 (0 or the vocabulary's size = off); seeds int64, of which all 64 bits
    count; positions int32 or int64, the index in its sequence of the token to be drawn.
    """
    rows, vocab = _check_logits(logits)
    for name, vector in (("temperature", temperature), ("top_p", top_p), ("min_p", min_p)):
        _check_vector(name, vector, rows, torch.float32)
    _check_vector("top_k", top_k, rows, torch.int32)
    _check_vector("seeds", seeds, rows, torch.int64)
    _check_vector("positions", positions, rows, torch.int32, torch.int64)
    token_ids = torch.empty(rows, dtype=torch.int64, device=logits.device)
    if rows == 0:
        return token_ids
    thresholds = find_thresholds(
        logits, temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p
    )
    tile, warps = _PICK_TILE
    part_length, num_parts = _divide(rows, vocab, tile)
    parts = torch.empty((rows, num_parts), dtype=torch.int64, device=logits.device)
    _pick_parts_kernel[(rows, num_parts)](
        logits,
        temperature,
        seeds,
        positions,
        thresholds,
        parts,
        vocab,
        part_length,
        logits.stride(0),
        num_parts,
        TILE=tile,
        num_warps=warps,
    )
    _join_parts_kernel[(rows,)](
        parts, token_ids, num_parts, num_parts, PARTS=_MOST_PARTS, num_warps=1
    )
    return token_ids


def token_logprobs(logits: Tensor, token_ids: Tensor) -> Tensor:
    """log_softmax(logits)[row, token_ids[row]] of each row: [rows] float32.

    logits [rows, vocab] float32; token_ids [rows] int32 or int64, each below vocab.
    """
    rows, vocab = _check_logits(logits)
    _check_vector("token_ids", token_ids, rows, torch.int32, torch.int64)
    logprobs = torch.empty(rows, dtype=torch.float32, device=logits.device)
    if rows > 0:
        tile, warps = _LOGPROBS_TILE
        _token_logprobs_kernel[(rows,)](
            logits, token_ids, logprobs, vocab, logits.stride(0), TILE=tile, num_warps=warps
        )
    return logprobs


def apply_penalties(
    logits: Tensor,
    ids: Tensor,
    counts: Tensor,
    *,
    repetition: Tensor,
    frequency: Tensor,
    presence: Tensor,
) -> None:
    """Penalise in place the tokens that a sequence has seen.

    logits [rows, vocab] float32; ids [rows, width] int32: the distinct tokens of prompt and output,
    padded with -1; counts [rows, width] int32: how often each is in the output (0: in the prompt
    only); penalties [rows] float32. Repetition (1 = off) divides what is positive and multiplies
    the rest; frequency (times the count) and presence (0 = off) are taken off output tokens.
    """
    rows, _ = _check_logits(logits)
    for name, matrix in (("ids", ids), ("counts", counts)):
        if matrix.dim() != 2 or matrix.shape[0] != rows or matrix.dtype != torch.int32:
            raise ValueError(f"{name} must be [{rows}, width] int32")
        if matrix.shape != ids.shape or matrix.stride(1) != 1:
            raise ValueError("ids and counts must have one shape, and dense rows")
    penalties = (("repetition", repetition), ("frequency", frequency), ("presence", presence))
    for name, vector in penalties:
        _check_vector(name, vector, rows, torch.float32)
    if ids.numel() == 0:
        return
    tile, warps = _PENALTIES_TILE
    _apply_penalties_kernel[(rows, triton.cdiv(ids.shape[1], tile))](
        logits,
        ids,
        counts,
        repetition,
        frequency,
        presence,
        ids.shape[1],
        logits.stride(0),
        ids.stride(0),
        counts.stride(0),
        TILE=tile,
        num_warps=warps,
    )


def _divide(rows: int, vocab: int, tile: int) -> tuple[int, int]:
    """Columns of a part of a row (whole tiles), and how many parts that makes."""
    wanted = min(max(_WANTED_PROGRAMS // rows, 1), _MOST_PARTS)
    part_length = triton.cdiv(triton.cdiv(vocab, wanted), tile) * tile
    return part_length, triton.cdiv(vocab, part_length)


def _check_logits(logits: Tensor) -> tuple[int, int]:
    if logits.dim() != 2 or logits.dtype != torch.float32 or logits.shape[1] == 0:
        raise ValueError(
            f"logits must be [rows, vocab] float32, got {logits.dim()}-d {logits.dtype}"
        )
    if logits.stride(1) != 1:
        raise ValueError("the logits of a row must lie side by side")
    return logits.shape[0], logits.shape[1]


def _check_vector(name: str, vector: Tensor, rows: int, *dtypes: torch.dtype) -> None:
    if vector.shape != (rows,) or vector.dtype not in dtypes or not vector.is_contiguous():
        kinds = " or ".join(str(dtype).removeprefix("torch.") for dtype in dtypes)
        raise ValueError(
            f"{name} must be contiguous [{rows}] {kinds}, got {list(vector.shape)} {vector.dtype}"
        )


def variants() -> list[Variant]:
    """One a kernel: nothing depends on the model at compile time."""
    return [
        _variant("sampling_pick", _pick_parts_kernel, _PICK_TILE),
        _variant("sampling_join", _join_parts_kernel, (_MOST_PARTS, 1)),
        _variant("sampling_logprobs", _token_logprobs_kernel, _LOGPROBS_TILE),
        _variant("sampling_penalties", _apply_penalties_kernel, _PENALTIES_TILE),
    ]


_POINTER_TYPES = {
    "ids": "*i32",
    "counts": "*i32",
    "seeds": "*i64",
    "positions": "*i64",
    "parts": "*i64",
    "token_ids": "*i64",
}


def _variant(name: str, kernel: Any, tile: tuple[int, int]) -> Variant:
    """Of a kernel with one constant; pointers are `..._pointer`, all other arguments int32."""
    *arguments, constant = kernel.arg_names
    signature = {
        a: _POINTER_TYPES.get(a.removesuffix("_pointer"), "*fp32") if "_pointer" in a else "i32"
        for a in arguments
    }
    columns, warps = tile
    return Variant(
        name,
        kernel,
        signature,
        {constant: columns},
        num_warps=warps,
        aligned=frozenset({"vocab", "logits_stride", "part_length"} & set(arguments)),
        may_spill=False,
    )
