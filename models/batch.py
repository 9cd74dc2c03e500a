"""What the runner is given for a step and what it gives back. No torch."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SequenceInput:
    """One sequence's share of a step.

    `token_ids` are computed at positions from `start` on; a negative one is the token that the
    sequence drew in the step before, which the host need not know yet. `new_block_ids` go into its
    block table from index `first_block`; 0 there with new blocks begins a new table. If `samples`,
    the next token is drawn after the last of them.
    """

    request_id: str
    token_ids: Sequence[int]
    start: int
    first_block: int
    new_block_ids: Sequence[int]
    samples: bool


@dataclass(frozen=True, slots=True)
class SampledToken:
    """A drawn token; log-probabilities (natural log, of the unchanged logits) where asked for."""

    request_id: str
    token_id: int
    logprob: float | None = None
    top_logprobs: tuple[tuple[int, float], ...] | None = None
