"""Log-probabilities of a prompt's own tokens, for the sequences that ask for them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from .batch import StepItem
from .sampler import finite
from .sequences import Ints, SequenceTable, StepLayout

# Logits of so many positions are held at a time: a whole chunk's take hundreds of megabytes.
_ROWS_AT_ONCE = 64

Score = tuple[float, tuple[tuple[int, float], ...]]
"""A token's log-probability, and the likeliest (id, log-probability) in its place, best first."""


@dataclass(frozen=True, slots=True)
class PromptSpan:
    """Consecutive prompt tokens of one sequence, each judged by the state before it."""

    request_id: str
    first: int  # position of the first of them
    row: int  # flat index in the step of the state before it
    token_ids: Sequence[int]
    num_best: int


@dataclass(frozen=True, slots=True)
class PromptScores:
    """What a step says of a prompt's tokens from position `first` on."""

    request_id: str
    first: int
    scores: Sequence[Score]


def prompt_spans(
    known: SequenceTable, batch: Sequence[StepItem], layout: StepLayout
) -> list[PromptSpan]:
    """The prompt tokens that a step is to judge."""
    spans = []
    for item, row in zip(batch, layout.firsts, strict=True):
        sequence = known[item.request_id]
        num_best = sequence.spec.prompt_logprobs
        if num_best is None:
            continue
        first = item.start + 1
        token_ids = sequence.prompt_token_ids[first : first + len(item.token_ids)]
        if token_ids:
            spans.append(PromptSpan(item.request_id, first, int(row), token_ids, num_best))
    return spans


def rows_of(spans: Sequence[PromptSpan]) -> Ints:
    """The flat indexes of the states that `score_prompts` wants, in order."""
    rows = [np.arange(span.row, span.row + len(span.token_ids)) for span in spans]
    return np.concatenate([np.empty(0, dtype=np.int64), *rows]).astype(np.int64)


def score_prompts(
    spans: Sequence[PromptSpan], states: Tensor, to_logits: Callable[[Tensor], Tensor]
) -> list[PromptScores]:
    """Judge the spans' tokens by the states [rows of the spans, hidden]."""
    results, begin = [], 0
    for span in spans:
        end = begin + len(span.token_ids)
        scores: list[Score] = []
        for at in range(begin, end, _ROWS_AT_ONCE):
            part = states[at : min(at + _ROWS_AT_ONCE, end)]
            ids = span.token_ids[at - begin : at - begin + len(part)]
            scores.extend(_scores(to_logits(part), ids, span.num_best))
        results.append(PromptScores(span.request_id, span.first, scores))
        begin = end
    return results


def _scores(logits: Tensor, token_ids: Sequence[int], num_best: int) -> list[Score]:
    logprobs = logits.log_softmax(dim=-1)
    own = logprobs.gather(1, torch.tensor(token_ids, device=logits.device)[:, None])
    best = logprobs.topk(num_best, dim=-1)
    return [
        (finite(value), tuple(zip(ids, map(finite, values), strict=True)))
        for value, ids, values in zip(
            own.flatten().tolist(), best.indices.tolist(), best.values.tolist(), strict=True
        )
    ]
