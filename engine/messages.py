"""What crosses between a front end and the engine process: msgspec structs in MessagePack.

Between them may stand a hub, which speaks the engine's part to several front ends. Instants are
seconds of the system-wide monotonic clock, so that all processes can subtract them.
"""

from collections.abc import Callable

import msgspec

from ..paged_cache import BlockLife
from .sampling_params import SamplingParams


class Hello(msgspec.Struct, frozen=True, tag="hello"):
    """A front end is there; the engine answers with Ready once it is."""


class Alive(msgspec.Struct, frozen=True, tag="alive"):
    """A front end has read the hub's status."""


class Serving(msgspec.Struct, frozen=True, tag="serving"):
    """A front end takes requests from now on; the hub is told."""


class Submit(msgspec.Struct, frozen=True, tag="submit"):
    """Compute one sequence. Everything that needs a tokenizer is token ids here already.

    `output_token_ids` were computed before, by an engine that died; the sequence goes on from them.
    """

    request_id: str
    prompt_token_ids: list[int]
    params: SamplingParams
    max_tokens: int
    seed: int
    eos_token_ids: tuple[int, ...] = ()
    bad_words_ids: tuple[tuple[int, ...], ...] = ()
    priority: int = 0
    cache_salt: str = ""
    output_token_ids: list[int] = []


class Cancel(msgspec.Struct, frozen=True, tag="cancel"):
    """Stop computing these sequences and give their blocks back; unknown ids are ignored."""

    request_ids: list[str]


class GetStats(msgspec.Struct, frozen=True, tag="get_stats"):
    """Ask for the present state; `ticket` comes back in the answer."""

    ticket: int


class ResetPrefixCache(msgspec.Struct, frozen=True, tag="reset_prefix_cache"):
    """Forget all cached prefixes; `ticket` comes back in the answer, a PrefixCacheReset."""

    ticket: int


class GetFrame(msgspec.Struct, frozen=True, tag="get_frame"):
    """Ask for what the blocks and requests do; `since`: the version of the last frame, 0 if none.

    While somebody asks, the engine follows every block's changes.
    """

    since: int
    ticket: int


class GetBlock(msgspec.Struct, frozen=True, tag="get_block"):
    """Ask who holds a block (1 to the number of blocks), and perhaps for what is in it.

    Without `with_content` there are no tokens in the answer, and its hash is keyed.
    """

    block_id: int
    with_content: bool
    ticket: int


class AbortOpen(msgspec.Struct, frozen=True, tag="abort"):
    """End the requests of these ids, or all, wherever they came in; the answer is a NumAborted.

    A front end asks the hub, and the hub all others.
    """

    public_ids: tuple[str, ...] | None
    reason: str
    ticket: int


class NumAborted(msgspec.Struct, frozen=True, tag="aborted"):
    """So many choices were ended."""

    num_choices: int
    ticket: int


class Shutdown(msgspec.Struct, frozen=True, tag="shutdown"):
    """End the engine process."""


Question = GetStats | ResetPrefixCache | GetFrame | GetBlock | AbortOpen
Asking = Callable[[int], Question]
"""Makes a question with the ticket by which its answer is known."""

ToEngine = Hello | Alive | Serving | Submit | Cancel | Question | NumAborted | Shutdown


class TokenScore(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A sampled token's log-probability and the most likely (id, log-probability) pairs."""

    logprob: float
    top: tuple[tuple[int, float], ...]


class SequenceDelta(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """What one step gave one sequence. `scores` aligns with `token_ids`, empty if not asked.

    `is_own_fault` says that an `error` is what the request asked for, and no fault of the engine.
    `prompt_scores`, if asked for, come with the first token: of every prompt token but the first.
    """

    request_id: str
    token_ids: tuple[int, ...] = ()
    scores: tuple[TokenScore, ...] = ()
    prompt_scores: tuple[TokenScore, ...] = ()
    finish_reason: str | None = None
    stop_reason: int | None = None
    num_cached_tokens: int = 0
    queued_at: float = 0.0
    scheduled_at: float = 0.0
    error: str | None = None
    is_own_fault: bool = False


class StepResult(msgspec.Struct, frozen=True, tag="step"):
    """One engine step: deltas of the front end's sequences and the step's own figures.

    On a GPU steps may overlap: the stages' seconds are what the step loop spent on each.
    """

    deltas: tuple[SequenceDelta, ...]
    finished_at: float
    step_seconds: float
    num_prompt_tokens: int = 0
    num_generation_tokens: int = 0
    prefix_query_tokens: int = 0
    prefix_hit_tokens: int = 0
    num_preemptions: int = 0
    num_recomputed_tokens: int = 0
    schedule_seconds: float = 0.0  # choosing the batch
    execute_seconds: float = 0.0  # the model; on a GPU with sampling
    sample_seconds: float = 0.0  # drawing tokens from logits
    deliver_seconds: float = 0.0  # tokens into sequences, blocks into the prefix index, deltas
    block_lives: tuple[BlockLife, ...] = ()


class EngineStats(msgspec.Struct, frozen=True, tag="stats"):
    """The engine's state between two steps. Blocks exclude the padding block."""

    num_running: int
    num_waiting: int  # those whose grammar is compiled included
    num_deferred: int  # those alone
    waiting_by_priority: dict[int, int]
    blocks_total: int
    blocks_free: int  # never used, or used and not cached
    blocks_cached: int  # unreferenced, content kept for reuse
    blocks_used: int
    block_size: int
    num_preemptions: int
    num_evictions: int
    ticket: int = 0

    @property
    def kv_usage(self) -> float:
        """Share of blocks that running requests hold, 0 to 1; cached blocks count as free."""
        return self.blocks_used / self.blocks_total


class PrefixCacheReset(msgspec.Struct, frozen=True, tag="prefix_cache_reset"):
    """So many blocks had cached content, which nobody finds any more."""

    num_blocks: int
    ticket: int


class RequestRow(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A sequence under way. Times are seconds spent in each stage so far."""

    owner: int  # its number in the blocks' cells; 0 while it holds none
    request_id: str
    stage: str  # queue, prefill or decode
    prompt_tokens: int
    computed_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    max_tokens: int = 0
    num_blocks: int = 0
    num_preemptions: int = 0
    queue_s: float = 0.0
    prefill_s: float = 0.0
    decode_s: float = 0.0


class Frame(msgspec.Struct, frozen=True, tag="frame"):
    """Blocks and requests between two steps. `runs` are `CellLog`'s, cell i being block i + 1.

    A cell's value is `owner * 4 + state` with the states of `BlockState`. `blocks_used` counts
    those that are shared too. Of requests the first ones are listed, those that run before others.
    """

    version: int
    is_full: bool
    runs: list[int]
    blocks_free: int
    blocks_cached: int
    blocks_used: int
    blocks_shared: int
    num_running: int
    num_waiting: int
    requests: tuple[RequestRow, ...]
    ticket: int

    @property
    def num_blocks(self) -> int:
        """How many cells there are."""
        return self.blocks_free + self.blocks_cached + self.blocks_used


class BlockHolder(msgspec.Struct, frozen=True, gc=False):
    """A sequence that holds a block, as the block number `position` of its table."""

    request_id: str
    position: int


class BlockDetail(msgspec.Struct, frozen=True, tag="block"):
    """One block; `token_ids` only if asked for, and while somebody holds it."""

    block_id: int
    state: str  # free, cached, used or shared
    holders: tuple[BlockHolder, ...]
    content_hash: str | None
    token_ids: tuple[int, ...]
    ticket: int


class Ready(msgspec.Struct, frozen=True, tag="ready"):
    """The model is loaded. `phases` are start-up seconds by name.

    `num_blocks` are those that requests can hold, which a GPU's memory decides while it loads.
    """

    phases: dict[str, float]
    num_blocks: int


class Failed(msgspec.Struct, frozen=True, tag="failed"):
    """The engine could not start; the process ends after this message."""

    message: str


class EngineStatus(msgspec.Struct, frozen=True, tag="status"):
    """What the hub tells its front ends of the engine, several times a second; they say `Alive`.

    `end` says why there will be no engine any more.
    """

    is_ready: bool
    takes_requests: bool
    num_restarts: int
    num_open: int  # sequences of all front ends
    num_blocks: int
    last_step_age_s: float
    resident_bytes: int
    startup_seconds: dict[str, float]
    end: str | None = None


class NoAnswer(msgspec.Struct, frozen=True, tag="no_answer"):
    """The hub got none, and says why."""

    reason: str
    ticket: int


Answer = EngineStats | PrefixCacheReset | Frame | BlockDetail | NumAborted
FromEngine = StepResult | Answer | NoAnswer | Ready | Failed | EngineStatus | AbortOpen
