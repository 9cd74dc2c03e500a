"""Which sequences have not proved yet that an engine survives them, and who knows of it."""

from collections.abc import Iterable

from ..scheduler import Batch
from .flight_recorder import FlightRecorder

# One token of its prompt, which may be computed otherwise than token by token, and one of a step
# like all that follow.
TRIAL_TOKENS = 2


class Trials:
    """A sequence is on trial until it has got `TRIAL_TOKENS`; the record outlives the engine.

    Named there are those for whom something is done: who enters the queue (a grammar is built, or
    old tokens are read), and who is in a step in flight. To wait in the queue is harmless.
    """

    def __init__(self, recorder: FlightRecorder | None) -> None:
        self._recorder = recorder
        self._entering: set[str] = set()
        self._num_tokens: dict[str, int] = {}
        self._in_steps: set[str] = set()

    def begin(self, request_id: str) -> None:
        """A sequence was handed to this engine, which has done nothing for it yet."""
        if self._recorder is not None:
            self._entering.add(request_id)
            self._write()

    def note_queued(self, request_id: str) -> None:
        """It waits for its first step."""
        if self._recorder is not None:
            self._entering.discard(request_id)
            self._num_tokens[request_id] = 0
            self._write()

    def end(self, request_id: str) -> None:
        """It is gone."""
        self._entering.discard(request_id)
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
        self._in_steps.clear()
        if self._num_tokens:
            scheduled = {item.request_id for batch in batches for item in batch.scheduled}
            self._in_steps = scheduled & self._num_tokens.keys()
        self._write()

    def _write(self) -> None:
        if self._recorder is not None:
            self._recorder.write(self._in_steps | self._entering)
