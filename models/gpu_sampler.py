"""Drawing tokens with the GPU's kernels: parameters go in as arrays, tokens stay there."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..kernels.gpu.sampling import apply_penalties, sample_rows, token_logprobs
from .sampler import Draw, SamplingRow, restrict
from .token_masks import PendingMasks

_INT64 = 2**63


def parameter_arrays(rows: Sequence[SamplingRow]) -> dict[str, NDArray[np.generic]]:
    """What `sample_rows` wants to know of each row, by name."""
    specs = [row.spec for row in rows]
    # numpy has no conversion from 64 bits without a sign to as many with one.
    seeds = [(spec.seed + _INT64) % (2 * _INT64) - _INT64 for spec in specs]
    return {
        "seeds": np.array(seeds, dtype=np.int64),
        "draw_positions": np.array([row.position for row in rows], dtype=np.int64),
        "temperature": np.array(
            [0.0 if spec.greedy else spec.temperature for spec in specs], dtype=np.float32
        ),
        "top_k": np.array([spec.top_k for spec in specs], dtype=np.int32),
        "top_p": np.array([spec.top_p for spec in specs], dtype=np.float32),
        "min_p": np.array([spec.min_p for spec in specs], dtype=np.float32),
    }


def draw_tokens(
    logits: Tensor,
    rows: Sequence[SamplingRow],
    parameters: dict[str, Tensor],
    masks: PendingMasks | None = None,
) -> Draw:
    """Draw one token a row of float32 logits [rows, vocab], which are overwritten.

    `parameters` are the `parameter_arrays` on the device, `masks` what grammars allow. The result
    is on the device as well; `to_host` fetches it.
    """
    scored = [i for i, row in enumerate(rows) if row.spec.logprobs is not None]
    raw = logits[scored] if scored else None
    if masks is not None:
        masks.apply(logits)
    restrict(logits, rows)
    if any(row.spec.penalises for row in rows):
        _penalise(logits, rows)
    token_ids = sample_rows(
        logits,
        temperature=parameters["temperature"],
        top_k=parameters["top_k"],
        top_p=parameters["top_p"],
        min_p=parameters["min_p"],
        seeds=parameters["seeds"],
        positions=parameters["draw_positions"],
    )
    if raw is None:
        return Draw(rows, token_ids)
    own = token_logprobs(raw, token_ids[scored])
    width = max(rows[i].spec.logprobs or 0 for i in scored)
    if width == 0:
        return Draw(rows, token_ids, scored, own)
    best = raw.log_softmax(dim=-1).topk(width, dim=-1)
    return Draw(rows, token_ids, scored, own, best.values, best.indices)


def _penalise(logits: Tensor, rows: Sequence[SamplingRow]) -> None:
    """Penalties of all rows in one launch; the tokens seen are counted here."""
    seen: list[Counter[int]] = []
    for row in rows:
        counts: Counter[int] = Counter()
        if row.spec.penalises:
            counts.update(row.output_token_ids)
            counts.update(dict.fromkeys(row.prompt_token_ids, 0))
        seen.append(counts)
    width = max(map(len, seen))
    ids = np.full((len(rows), width), -1, dtype=np.int32)
    numbers = np.zeros((len(rows), width), dtype=np.int32)
    for line, counts in enumerate(seen):
        ids[line, : len(counts)] = list(counts.keys())
        numbers[line, : len(counts)] = list(counts.values())
    specs = [row.spec for row in rows]
    penalties = torch.tensor(
        [
            [spec.repetition_penalty for spec in specs],
            [spec.frequency_penalty for spec in specs],
            [spec.presence_penalty for spec in specs],
        ]
    ).to(logits.device)
    repetition, frequency, presence = penalties
    apply_penalties(
        logits,
        torch.from_numpy(ids).to(logits.device),
        torch.from_numpy(numbers).to(logits.device),
        repetition=repetition,
        frequency=frequency,
        presence=presence,
    )


def to_host(draw: Draw) -> Draw:
    """Begin to copy a draw to pinned memory; its `tokens` then wait for that copy alone."""
    if draw.token_ids.device.type != "cuda":
        return draw

    def copy(tensor: Tensor | None) -> Tensor | None:
        if tensor is None:
            return None
        pinned = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
        return pinned.copy_(tensor, non_blocking=True)

    token_ids = copy(draw.token_ids)
    assert token_ids is not None
    own, best, best_ids = copy(draw.own), copy(draw.best), copy(draw.best_ids)
    copied = torch.cuda.Event()
    copied.record()
    return Draw(draw.rows, token_ids, draw.scored, own, best, best_ids, copied)
