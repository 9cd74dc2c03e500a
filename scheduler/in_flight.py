"""Steps that were scheduled and whose sampled tokens are not known yet, oldest first."""

from collections import deque
from dataclasses import dataclass, field

from ..paged_cache import Block
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

    def __init__(self) -> None:
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
        """Take out the oldest step, which must be that of `batch`."""
        assert self._steps and self._steps[0].batch is batch, "steps land in order"
        return self._steps.popleft()

    def withdraw(self, batch: Batch) -> StepInFlight:
        """Take out the newest step, which must be that of `batch`: nothing builds upon it."""
        assert self._steps and self._steps[-1].batch is batch, "a later step builds upon it"
        return self._steps.pop()
