"""Steps that were scheduled and whose sampled tokens are not known yet, oldest first.

What a step may still write, nobody else may have: blocks that are given up meanwhile wait for it.
"""

from collections import deque
from dataclasses import dataclass, field

from ..paged_cache import Block, BlockPool
from .batch import Batch
from .request import Request

MAX_IN_FLIGHT = 2


@dataclass(slots=True)
class StepInFlight:
    """One of them.

    `requests` are those behind the batch's items, in the same order. `filled` are blocks that it
    computes and that others may find by hash already. `given_up` are blocks whose owner ended while
    this was the newest step: it may still write them, so they stay held until it lands.
    """

    batch: Batch
    requests: list[Request]
    filled: list[Block]
    given_up: list[Block] = field(default_factory=list)


class StepsInFlight:
    """At most `MAX_IN_FLIGHT` steps, which land in the order in which they were scheduled."""

    def __init__(self, pool: BlockPool) -> None:
        self._pool = pool
        self._steps: deque[StepInFlight] = deque()

    def __len__(self) -> int:
        return len(self._steps)

    @property
    def newest(self) -> StepInFlight | None:
        """The step scheduled last, None if none is in flight."""
        return self._steps[-1] if self._steps else None

    def launch(self, step: StepInFlight) -> None:
        """Add a step."""
        assert len(self._steps) < MAX_IN_FLIGHT, "too many steps are in flight"
        self._steps.append(step)

    def land(self, batch: Batch) -> StepInFlight:
        """Take out the oldest step, which must be that of `batch`, and release what it held."""
        assert self._steps and self._steps[0].batch is batch, "steps land in order"
        step = self._steps.popleft()
        self._pool.release(step.given_up)
        return step

    def withdraw(self, batch: Batch) -> StepInFlight:
        """Take out the newest step, which must be that of `batch`: nothing builds upon it.

        What it was to fill goes out of the prefix index.
        """
        assert self._steps and self._steps[-1].batch is batch, "a later step builds upon it"
        step = self._steps.pop()
        for block in step.filled:
            self._pool.drop(block)
        self.give_up(step.given_up)
        return step

    def give_up(self, blocks: list[Block]) -> None:
        """Release blocks, last first, when no step in flight can write them any more."""
        newest = self.newest
        if newest is None:
            self._pool.release(blocks)
        else:
            newest.given_up.extend(blocks)
