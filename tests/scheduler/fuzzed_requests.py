"""What the state machine is fed with, and what it knows of each request and step."""

from dataclasses import dataclass

from hypothesis import strategies as st

from octavo.scheduler import Batch, FinishReason, Request

VOCABULARY = 30
EOS, STOP_ID = 0, 1
TENANTS = (b"", b"red", b"blue")
MAX_MODEL_LEN = 40

Slot = tuple[int, int]
"""Block id, and index within the block."""


@dataclass(frozen=True)
class Config:
    num_blocks: int
    block_size: int
    max_num_batched_tokens: int
    max_num_seqs: int
    long_prefill_token_threshold: int
    watermark_blocks: int
    policy: str
    enable_prefix_caching: bool


CONFIGS = st.builds(
    Config,
    num_blocks=st.integers(5, 22),
    block_size=st.integers(1, 4),
    max_num_batched_tokens=st.integers(1, 40),
    max_num_seqs=st.integers(1, 6),
    long_prefill_token_threshold=st.sampled_from([0, 0, 1, 3, 8]),
    watermark_blocks=st.integers(0, 2),
    policy=st.sampled_from(["fcfs", "priority"]),
    enable_prefix_caching=st.sampled_from([True, True, True, False]),
)


@dataclass(frozen=True)
class Submission:
    prompt: list[int]
    tenant: int
    priority: int
    max_tokens: int
    min_tokens: int
    max_total_tokens: int
    honours_eos: bool
    use_prefix_cache: bool


# Prompts begin alike, so that they often meet in the cache.
SUBMISSIONS = st.builds(
    Submission,
    prompt=st.builds(
        lambda shared, own: [2, 3, 4, 5, 2, 3, 4, 5, 6, 6, 6, 6][:shared] + own,
        st.integers(0, 12),
        st.lists(st.integers(2, 4), max_size=6),
    ),
    tenant=st.sampled_from([0, 0, 0, 1, 2]),
    priority=st.integers(0, 2),
    max_tokens=st.integers(1, 20),
    min_tokens=st.integers(0, 3),
    max_total_tokens=st.sampled_from([MAX_MODEL_LEN, MAX_MODEL_LEN, 14]),
    honours_eos=st.booleans(),
    use_prefix_cache=st.sampled_from([True, True, True, False]),
)


@dataclass(frozen=True)
class Flight:
    """A step that was computed and not delivered: what it sampled, and the slots it wrote."""

    batch: Batch
    sampled: dict[str, int]
    written: list[Slot]


class Life:
    """What the runner knows of a request: its own tokens, and how it must end."""

    def __init__(self, request: Request, tenant: int, priority: int, number: int) -> None:
        self.request = request
        self.tokens = list(request.token_ids)
        self.num_prompt_tokens = len(self.tokens)
        self.num_known = len(self.tokens)  # to the scheduler
        self.key = (priority, number)
        self.row: list[int] = []  # block ids, as the runner knows them
        self.digests: list[int] = []  # of each prefix of tokens
        self._tenant = tenant

    def digest(self, position: int) -> int:
        """Of the tenant and all tokens up to and including this position."""
        while len(self.digests) <= position:
            parent = self.digests[-1] if self.digests else self._tenant
            self.digests.append(hash((parent, self.tokens[len(self.digests)])))
        return self.digests[position]

    def sample(self) -> int:
        """The next token: it depends on nothing but the request's own tokens."""
        return self.digest(len(self.tokens) - 1) % VOCABULARY

    def expected_end(self) -> tuple[FinishReason | None, int | None]:
        """Reason and stop token after the newest known token, by the words of the stop rule."""
        stop_rule = self.request.stop_rule
        num_output = self.num_known - self.num_prompt_tokens
        last = self.tokens[self.num_known - 1]
        if num_output >= stop_rule.min_tokens and last in stop_rule.eos_token_ids:
            return FinishReason.STOP, None
        if num_output >= stop_rule.min_tokens and last in stop_rule.stop_token_ids:
            return FinishReason.STOP, last
        if num_output == stop_rule.max_tokens or self.num_known == stop_rule.max_total_tokens:
            return FinishReason.LENGTH, None
        return None, None

    @property
    def is_at_limit(self) -> bool:
        """Whether tokens that a step in flight has sampled are the last that are wanted."""
        is_pending = len(self.tokens) > self.num_known
        stop_rule = self.request.stop_rule
        num_output = len(self.tokens) - self.num_prompt_tokens
        return is_pending and (
            num_output >= stop_rule.max_tokens or len(self.tokens) >= stop_rule.max_total_tokens
        )

    def forget_newest(self) -> None:
        """The step that sampled the newest token was taken back."""
        self.tokens.pop()
        del self.digests[len(self.tokens) :]
