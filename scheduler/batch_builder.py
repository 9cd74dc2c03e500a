"""A step while it is being put together."""

from .batch import PENDING, Batch, ScheduledRequest
from .request import Request


class BatchBuilder:
    """Collects what runs in one step and counts it against the token budget."""

    def __init__(self, max_num_tokens: int) -> None:
        self.tokens_left = max_num_tokens
        self.preempted: list[str] = []
        self.admitted: list[str] = []
        self.requests: list[Request] = []  # one for each that is scheduled
        self._scheduled: list[ScheduledRequest] = []
        self._num_tokens = 0
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
        self._scheduled.append(
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
        self._num_tokens += num_tokens
        first_new_token = min(max(start, request.num_ever_computed_tokens), end)
        self._recomputed_tokens += first_new_token - start
        self._num_prompt_tokens += max(0, min(end, request.num_prompt_tokens) - first_new_token)

    def count_prefix(self, query_tokens: int, hit_tokens: int) -> None:
        """Note what a request asked of the prefix index, and what it got."""
        self._prefix_query_tokens += query_tokens
        self._prefix_hit_tokens += hit_tokens

    def build(self) -> Batch:
        """The finished step."""
        return Batch(
            scheduled=tuple(self._scheduled),
            preempted=tuple(self.preempted),
            admitted=tuple(self.admitted),
            num_tokens=self._num_tokens,
            num_prompt_tokens=self._num_prompt_tokens,
            prefix_query_tokens=self._prefix_query_tokens,
            prefix_hit_tokens=self._prefix_hit_tokens,
            recomputed_tokens=self._recomputed_tokens,
        )
