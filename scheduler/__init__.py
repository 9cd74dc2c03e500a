"""Which tokens run in the next step: admission, chunking, preemption, stopping.

Pure Python on the bookkeeping half of `paged_cache`. Torch, text, clocks and sockets must never
come in, so that the scheduler can be simulated, fuzzed and read on its own.
"""

from .batch import PENDING, Batch, RequestUpdate, ScheduledRequest
from .block_watch import BlockState, BlockWatch
from .request import Finish, FinishReason, Request, RequestStatus, StopRule
from .scheduler import Scheduler

__all__ = [
    "PENDING",
    "Batch",
    "BlockState",
    "BlockWatch",
    "Finish",
    "FinishReason",
    "Request",
    "RequestStatus",
    "RequestUpdate",
    "ScheduledRequest",
    "Scheduler",
    "StopRule",
]
