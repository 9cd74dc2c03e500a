"""What the runner is given for a step and what it gives back. No torch."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol


class StepItem(Protocol):
    """One sequence's share of a step: `ScheduledRequest` of the scheduler is one.

    `token_ids` are computed at positions from `start` on; a negative one is the token that the
    sequence drew in the step before, which the host need not know yet. `new_block_ids` go into its
    block table from index `first_block`; 0 there with new blocks begins a new table. If `samples`,
    the next token is drawn after the last of them.
    """

    @property
    def request_id(self) -> str:
        """The sequence's name."""

    @property
    def token_ids(self) -> Sequence[int]:
        """What is computed, at least one."""

    @property
    def start(self) -> int:
        """Position of the first of them."""

    @property
    def first_block(self) -> int:
        """Index in the block table where new blocks go."""

    @property
    def new_block_ids(self) -> Sequence[int]:
        """Blocks that join the table; mostly none."""

    @property
    def samples(self) -> bool:
        """Whether the next token is drawn."""


@dataclass(frozen=True, slots=True)
class SequenceInput:
    """A `StepItem` for who drives a runner without a scheduler."""

    request_id: str
    token_ids: Sequence[int]
    start: int
    first_block: int
    new_block_ids: Sequence[int]
    samples: bool


# One is made for each sequence in every step, and a named tuple is made fast.
class SampledToken(NamedTuple):
    """A drawn token; log-probabilities (natural log, of the unchanged logits) where asked for."""

    request_id: str
    token_id: int
    logprob: float | None = None
    top_logprobs: tuple[tuple[int, float], ...] | None = None
