"""Which sequences have not proved yet that an engine survives them, and who knows of it."""

from collections.abc import Iterable

from ..scheduler import Batch
from .flight_recorder import FlightRecorder

# One token of its prompt, which may be computed otherwise than token by token, and one of a step
# like all that follow.
TRIAL_TOKENS = 2


class Trials:
    """A sequence is on trial until it has got `TRIAL_TOKENS`; the record outlives the engine."""

    def __init__(self, recorder: FlightRecorder | None) -> None:
        self._recorder = recorder
        self._num_tokens: dict[str, int] = {}

    def begin(self, request_id: str) -> None:
        """A sequence was handed to this engine."""
        if self._recorder is not None:
            self._num_tokens[request_id] = 0

    def end(self, request_id: str) -> None:
        """It is gone."""
        self._num_tokens.pop(request_id, None)

    def note_tokens(self, request_ids: Iterable[str]) -> None:
        """Each of these got a token."""
        if not self._num_tokens:
            return
        for request_id in request_ids:
            num_tokens = self._num_tokens.get(request_id)
            if num_tokens is None:
                continue
            if num_tokens + 1 < TRIAL_TOKENS:
                self._num_tokens[request_id] = num_tokens + 1
            else:
                del self._num_tokens[request_id]

    def record(self, batches: Iterable[Batch]) -> None:
        """Leave word of who is on trial in the steps in flight, should they be the end."""
        if self._recorder is None:
            return
        if not self._num_tokens:
            self._recorder.write(())
            return
        scheduled = {item.request_id for batch in batches for item in batch.scheduled}
        self._recorder.write(scheduled & self._num_tokens.keys())
