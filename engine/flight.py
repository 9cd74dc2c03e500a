"""A step between being launched and being delivered."""

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..models.batch import SampledToken
from ..scheduler import Batch

if TYPE_CHECKING:
    from ..models.step import PendingTokens


@dataclass(slots=True)
class Flight:
    """A step that was launched, or could not be (`error`)."""

    batch: Batch
    launched_at: float
    schedule_seconds: float
    busy_seconds: float  # launching it and waiting for it
    pending: "PendingTokens | None"
    error: Exception | None

    @property
    def sample_seconds(self) -> float:
        """The part of `busy_seconds` that went into drawing tokens."""
        return 0.0 if self.pending is None else self.pending.sample_seconds

    def wait(self) -> list[SampledToken]:
        """The step's tokens. Raises what kept it from being computed."""
        if self.error is not None:
            raise self.error
        assert self.pending is not None
        began = time.monotonic()
        tokens = self.pending.wait()
        self.busy_seconds += time.monotonic() - began
        return tokens
