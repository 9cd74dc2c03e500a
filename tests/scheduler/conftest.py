from collections.abc import Sequence

import pytest

from octavo.paged_cache import BlockPool
from octavo.scheduler import Batch, Request, RequestUpdate, Scheduler, StopRule

MAX_MODEL_LEN = 4096


class Bench:
    """A scheduler and its pool, driven by hand; every sampled token is `next_token`."""

    def __init__(
        self,
        num_blocks: int = 11,
        block_size: int = 16,
        *,
        max_num_batched_tokens: int = 1024,
        max_num_seqs: int = 16,
        enable_prefix_caching: bool = True,
        **options,
    ) -> None:
        self.pool = BlockPool(num_blocks, enable_prefix_caching)
        self.scheduler = Scheduler(
            self.pool,
            block_size,
            max_num_batched_tokens=max_num_batched_tokens,
            max_num_seqs=max_num_seqs,
            max_model_len=MAX_MODEL_LEN,
            **options,
        )
        self.next_token = 7

    def add(
        self,
        request_id: str,
        prompt: int | Sequence[int],
        *,
        max_tokens: int = 16,
        max_total_tokens: int = MAX_MODEL_LEN,
        min_tokens: int = 0,
        eos: Sequence[int] = (),
        stop: Sequence[int] = (),
        **options,
    ) -> Request:
        """Queue a request. A prompt given as a number is so many tokens that nobody else has."""
        if isinstance(prompt, int):
            first = 1000 * (1 + sum(map(ord, request_id)))
            prompt = range(first, first + prompt)
        rule = StopRule(
            max_tokens=max_tokens,
            max_total_tokens=max_total_tokens,
            min_tokens=min_tokens,
            eos_token_ids=frozenset(eos),
            stop_token_ids=frozenset(stop),
        )
        request = Request(request_id, prompt, rule, **options)
        self.scheduler.add(request)
        return request

    def finish_step(self, batch: Batch) -> list[RequestUpdate]:
        sampled = {item.request_id: self.next_token for item in batch.scheduled if item.samples}
        return self.scheduler.update(batch, sampled)

    def step(self) -> Batch:
        batch = self.scheduler.schedule()
        self.finish_step(batch)
        self.pool.check_integrity()
        return batch

    def run(self, num_steps: int) -> list[Batch]:
        return [self.step() for _ in range(num_steps)]

    def assert_idle(self) -> None:
        assert not self.scheduler.has_work
        assert (self.scheduler.num_running, self.scheduler.num_waiting) == (0, 0)
        assert self.pool.num_used == 0
        assert self.pool.num_free == self.pool.num_usable
        self.pool.check_integrity()


def tokens_of(batch: Batch) -> dict[str, int]:
    """How many tokens each request computes in this step."""
    return {item.request_id: len(item.token_ids) for item in batch.scheduled}


@pytest.fixture
def make_bench():
    return Bench


@pytest.fixture
def count_tokens():
    return tokens_of
