"""A request as the scheduler sees it: tokens known, tokens computed, blocks held, when to stop."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from ..paged_cache import BlockTable

SchedulingKey = tuple[int, float, int]
"""(priority, arrival time, number of the arrival); the smallest goes first, no two are equal."""


class FinishReason(str, Enum):
    """Why a request ended."""

    STOP = "stop"
    LENGTH = "length"
    ABORT = "abort"
    ERROR = "error"


class RequestStatus(Enum):
    """Where a request is in its life. Only RUNNING requests hold blocks."""

    WAITING = "waiting"
    RUNNING = "running"
    PREEMPTED = "preempted"  # waits again, and will compute its tokens anew
    FINISHED = "finished"


@dataclass(frozen=True, slots=True)
class Finish:
    """The end of a request; `stop_reason` is the stop token's id where one ended it."""

    reason: FinishReason
    stop_reason: int | None = None


COMPLETE = Finish(FinishReason.STOP)
"""The end of a request whose grammar lets nothing follow."""


@dataclass(frozen=True, slots=True)
class StopRule:
    """When a request ends by its tokens. Stop strings are the front end's business.

    `eos_token_ids` is empty for a request that ignores the end of sequence. `max_total_tokens`
    bounds prompt and output together.
    """

    max_tokens: int
    max_total_tokens: int
    min_tokens: int = 0
    eos_token_ids: frozenset[int] = frozenset()
    stop_token_ids: frozenset[int] = frozenset()

    def check(self, token_id: int, num_output_tokens: int, num_tokens: int) -> Finish | None:
        """Judge the newest token, with the counts that include it.

        End of sequence goes before stop ids, both before the length limits. Below `min_tokens` only
        the limits count: they bound memory and the model's positions.
        """
        if num_output_tokens >= self.min_tokens:
            if token_id in self.eos_token_ids:
                return Finish(FinishReason.STOP)
            if token_id in self.stop_token_ids:
                return Finish(FinishReason.STOP, token_id)
        if num_tokens >= self.max_total_tokens or num_output_tokens >= self.max_tokens:
            return Finish(FinishReason.LENGTH)
        return None


class Request:
    """One sequence to continue. Made by the engine, then changed by the scheduler alone.

    There is no prefill and no decode: `num_computed_tokens` chases `num_tokens`. Some of these may
    be pending: a step in flight samples them, and only the device knows them so far.
    `reads_output` says that sampling looks at the tokens sampled before (penalties, say), so none
    of them may be pending then. `hash_extra` is all that decides the content of its blocks besides
    the tokens (model, LoRA, tenant salt). `use_prefix_cache=False` keeps it from reading cached
    prefixes; it still fills the cache. Lower `priority` goes first; `arrival_time` (seconds, any
    clock) orders equals. With `output_token_ids`, sampled elsewhere, it is as one that was
    preempted after them.
    """

    __slots__ = (
        "__weakref__",
        "ending_token_ids",
        "key",
        "max_num_tokens",
        "num_announced_blocks",
        "num_cached_tokens",
        "num_computed_tokens",
        "num_lost_tokens",
        "num_preemptions",
        "num_prompt_tokens",
        "num_tokens",
        "reads_output",
        "request_id",
        "status",
        "stop_rule",
        "table",
        "token_ids",
        "use_prefix_cache",
    )

    def __init__(
        self,
        request_id: str,
        prompt_token_ids: Sequence[int],
        stop_rule: StopRule,
        *,
        priority: int = 0,
        arrival_time: float = 0.0,
        hash_extra: bytes = b"",
        use_prefix_cache: bool = True,
        reads_output: bool = False,
        output_token_ids: Sequence[int] = (),
    ) -> None:
        self.request_id = request_id
        self.stop_rule = stop_rule
        self.use_prefix_cache = use_prefix_cache
        self.reads_output = reads_output
        self.key: SchedulingKey = (priority, arrival_time, 0)
        self.status = RequestStatus.PREEMPTED if output_token_ids else RequestStatus.WAITING
        self.token_ids = [*prompt_token_ids, *output_token_ids]
        self.table = BlockTable(hash_extra)
        self.num_prompt_tokens = len(prompt_token_ids)
        self.max_num_tokens = min(  # with so many it ends
            self.num_prompt_tokens + stop_rule.max_tokens, stop_rule.max_total_tokens
        )
        self.ending_token_ids = stop_rule.eos_token_ids | stop_rule.stop_token_ids
        self.num_tokens = len(self.token_ids)  # known (prompt and output so far) and pending
        self.num_computed_tokens = 0
        # The most that were computed when it was preempted.
        self.num_lost_tokens = self.num_tokens - 1 if output_token_ids else 0
        self.num_announced_blocks = 0  # blocks of the table that a batch has told the runner of
        self.num_cached_tokens = 0  # prefix hit of the first admission
        self.num_preemptions = 0

    @property
    def num_pending_tokens(self) -> int:
        """Tokens that a step in flight samples."""
        return self.num_tokens - len(self.token_ids)

    @property
    def num_output_tokens(self) -> int:
        """Tokens generated so far, pending ones included."""
        return self.num_tokens - self.num_prompt_tokens

    @property
    def num_uncomputed_tokens(self) -> int:
        """Tokens whose keys and values are not in the cache yet."""
        return self.num_tokens - self.num_computed_tokens
