"""The engine's step loop without the engine: scheduler, block pool, runner, and one step ahead.

`engine/core.py` adds clients, errors and statistics to the same; it needs msgspec, this does not.
"""

import time
from collections import deque
from dataclasses import dataclass, field

from decode_steps import queued_seconds
from random_models import BLOCK_SIZE

from octavo.models.batch import SequenceInput
from octavo.models.gpu_runner import GpuRunner
from octavo.models.sampling_spec import SamplingSpec
from octavo.models.step import PendingTokens
from octavo.paged_cache import BlockPool
from octavo.scheduler import Batch, Request, Scheduler, StopRule


@dataclass
class Served:
    """What became of one request; times in seconds of one clock."""

    prompt_tokens: int
    submitted_at: float
    token_times: list[float] = field(default_factory=list)
    token_ids: list[int] = field(default_factory=list)

    @property
    def ttft_s(self) -> float:
        return self.token_times[0] - self.submitted_at


class StepLoop:
    """Requests in, tokens out. Prefix caching is off: no two prompts share anything by chance."""

    def __init__(
        self,
        runner: GpuRunner,
        *,
        num_blocks: int,
        max_num_seqs: int,
        max_model_len: int,
        max_num_batched_tokens: int,
    ) -> None:
        self._runner = runner
        self._max_model_len = max_model_len
        self._scheduler = Scheduler(
            BlockPool(num_blocks, enable_prefix_caching=False),
            BLOCK_SIZE,
            max_num_batched_tokens=max_num_batched_tokens,
            max_num_seqs=max_num_seqs,
            max_model_len=max_model_len,
            watermark_blocks=(num_blocks - 1) // 100,
        )
        self._flights: deque[tuple[Batch, PendingTokens]] = deque()
        self.served: dict[str, Served] = {}

    def submit(self, name: str, prompt: list[int], max_tokens: int, spec: SamplingSpec) -> None:
        rule = StopRule(max_tokens=max_tokens, max_total_tokens=self._max_model_len)
        self._scheduler.add(Request(name, prompt, rule, arrival_time=time.monotonic()))
        self._runner.add_request(name, prompt, spec)
        self.served[name] = Served(len(prompt), time.perf_counter())

    @property
    def has_work(self) -> bool:
        return self._scheduler.has_work or bool(self._flights)

    @property
    def num_waiting(self) -> int:
        return self._scheduler.num_waiting

    def step(self) -> list[str]:
        """Bring one step to its end while the next runs. Returns the requests that finished."""
        if not self._flights:
            self._launch()
        if len(self._flights) == 1 and self._scheduler.can_run_ahead:
            self._launch()
        return self._land() if self._flights else []

    def _launch(self) -> None:
        batch = self._scheduler.schedule()
        if not batch.scheduled:
            return
        for name in batch.preempted:
            self._runner.release_row(name)
        pending = self._runner.launch(
            [
                SequenceInput(
                    request_id=item.request_id,
                    token_ids=item.token_ids,
                    start=item.start,
                    first_block=item.first_block,
                    new_block_ids=item.new_block_ids,
                    samples=item.samples,
                )
                for item in batch.scheduled
            ]
        )
        self._flights.append((batch, pending))

    def _land(self) -> list[str]:
        batch, pending = self._flights.popleft()
        sampled = {token.request_id: token.token_id for token in pending.wait()}
        finished = []
        now = time.perf_counter()
        for update in self._scheduler.update(batch, sampled):
            served = self.served[update.request_id]
            served.token_times.extend([now] * len(update.token_ids))
            served.token_ids.extend(update.token_ids)
            if update.finish_reason is not None:
                finished.append(update.request_id)
                self._runner.remove_request(update.request_id)
        return finished

    def queued_step_seconds(self) -> float:
        """GPU seconds of a step behind others that wait already (see `queued_seconds`)."""
        self.drain()

        def launch() -> list[PendingTokens]:
            self._launch()
            self._launch()
            return []

        return queued_seconds(launch, 2, self.drain)

    def drain(self) -> None:
        """Wait for what runs."""
        while self._flights:
            self._land()
