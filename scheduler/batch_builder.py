"""A step while it is being put together."""

from .batch import PENDING, Batch, ScheduledRequest
from .request import Request


class BatchBuilder:
    """Collects what runs in one step and counts it against the token budget."""

    __slots__ = (
        "_max_num_tokens",
        "_num_prompt_tokens",
        "_prefix_hit_tokens",
        "_prefix_query_tokens",
        "_recomputed_tokens",
        "admitted",
        "preempted",
        "prefills",
        "requests",
        "scheduled",
        "tokens_left",
    )

    def __init__(self, max_num_tokens: int) -> None:
        self.tokens_left = max_num_tokens
        self.preempted: list[str] = []
        self.admitted: list[str] = []
        self.scheduled: list[ScheduledRequest] = []
        self.requests: list[Request] = []  # one for each that is scheduled
        self.prefills: list[Request] = []  # running, and more than one token is to be computed
        self._max_num_tokens = max_num_tokens
        self._num_prompt_tokens = 0
        self._prefix_query_tokens = 0
        self._prefix_hit_tokens = 0
        self._recomputed_tokens = 0

    def compute(self, request: Request, num_tokens: int) -> None:
        """Schedule the next tokens of a request, and announce its new blocks to the runner."""
        assert 0 < num_tokens <= self.tokens_left
        start = request.num_computed_tokens
        end = start + num_tokens
        token_ids = request.token_ids[start:end]
        token_ids.extend([PENDING] * (num_tokens - len(token_ids)))
        self.requests.append(request)
        self.scheduled.append(
            ScheduledRequest(
                request_id=request.request_id,
                token_ids=token_ids,
                start=start,
                first_block=request.num_announced_blocks,
                new_block_ids=request.table.block_ids(request.num_announced_blocks),
                samples=end == request.num_tokens,
            )
        )
        self.tokens_left -= num_tokens
        self.count_origin(request, start, end)

    def count_origin(self, request: Request, start: int, end: int) -> None:
        """Note which of the tokens `start` to `end` (exclusive) were not sampled just now."""
        first_new_token = min(max(start, request.num_lost_tokens), end)
        self._recomputed_tokens += first_new_token - start
        self._num_prompt_tokens += max(0, min(end, request.num_prompt_tokens) - first_new_token)

    def count_prefix(self, query_tokens: int, hit_tokens: int) -> None:
        """Note what a request asked of the prefix index, and what it got."""
        self._prefix_query_tokens += query_tokens
        self._prefix_hit_tokens += hit_tokens

    def build(self) -> Batch:
        """The finished step."""
        return Batch(
            scheduled=tuple(self.scheduled),
            preempted=tuple(self.preempted),
            admitted=tuple(self.admitted),
            num_tokens=self._max_num_tokens - self.tokens_left,
            num_prompt_tokens=self._num_prompt_tokens,
            prefix_query_tokens=self._prefix_query_tokens,
            prefix_hit_tokens=self._prefix_hit_tokens,
            recomputed_tokens=self._recomputed_tokens,
        )
