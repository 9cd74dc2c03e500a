"""What the scheduler tells the runner to compute, and what it tells the engine afterwards."""

from dataclasses import dataclass
from typing import NamedTuple

from .request import FinishReason

PENDING = -1
"""Stands in `token_ids` for a token that a step in flight samples: the device alone knows it."""


# Each request of each step takes one of these and a `RequestUpdate`. A named tuple is made in a
# fraction of the time of a frozen dataclass.
class ScheduledRequest(NamedTuple):
    """One request's share of a step.

    `token_ids` are to be computed now; `token_ids[0]` stands at position `start`, which is also the
    number of the request's tokens that the cache already holds. The last may be `PENDING`.
    `new_block_ids` go into the request's row of block ids from index `first_block` on;
    `first_block == 0` with new blocks means a new row (the request is new, or comes back after
    preemption). `samples` says that the chunk reaches the last token, so that a token is sampled
    after its last position.
    """

    request_id: str
    token_ids: list[int]
    start: int
    first_block: int
    new_block_ids: list[int]
    samples: bool


class RequestUpdate(NamedTuple):
    """What a step brought to one request that sampled in it.

    `token_ids` are the new tokens, the one that stopped the request included. `stop_reason` is the
    stop token's id, or None if the end-of-sequence token or a length limit ended it.
    `num_cached_tokens` is the prefix hit of the first admission.
    """

    request_id: str
    token_ids: list[int]
    finish_reason: FinishReason | None
    stop_reason: int | None
    num_cached_tokens: int


@dataclass(frozen=True, slots=True)
class Batch:
    """One step: what to compute (decodes first, then prefills) and what was decided.

    `admitted` holds first admissions and resumptions alike. Of the `num_tokens` computed,
    `recomputed_tokens` had been computed before and were lost to preemption, `num_prompt_tokens`
    are tokens of prompts computed for the first time, and the rest were sampled. The prefix
    counters are in tokens and count a request once, at its first admission.
    """

    scheduled: tuple[ScheduledRequest, ...]
    preempted: tuple[str, ...]
    admitted: tuple[str, ...]
    num_tokens: int
    num_prompt_tokens: int
    prefix_query_tokens: int
    prefix_hit_tokens: int
    recomputed_tokens: int
