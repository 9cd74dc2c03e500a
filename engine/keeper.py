"""An engine that is always there: what died is started again, and its sequences go on."""

import asyncio
import logging
import time
from collections.abc import Callable

import msgspec

from .client import Death, EngineClient
from .engine_link import AbortHere
from .kept_sequence import KeptSequence
from .launch import EngineProcess
from .messages import Answer, Asking, EngineStatus, SequenceDelta, StepResult, Submit
from .plan import EngineConfig
from .replay import Quarantine, Replay
from .supervisor import Supervisor

logger = logging.getLogger(__name__)


class EngineKeeper:
    """The engine's one owner, an `EngineLink`. It keeps what every sequence needs to be replayed.

    An engine that has work and ends no step for `timeout_s` is taken for hung.
    """

    def __init__(self, process: EngineProcess, config: EngineConfig, timeout_s: float) -> None:
        self._kept: dict[str, KeptSequence] = {}
        self._busy_since: float | None = None
        self._last_step_at = time.monotonic()
        self._on_step: Callable[[StepResult], None]
        self._tell_end: Callable[[str], None]
        self._replay = Replay(self._send)
        self._quarantine = Quarantine()
        self._supervisor = Supervisor(
            timeout_s, lambda: self._last_step_age_s, self._on_lost, self._on_back, self._on_end
        )
        self._client = EngineClient(process, config, self._take, self._supervisor.note_death)

    @property
    def status(self) -> EngineStatus:
        """How the engine is now."""
        client = self._client
        ready = client.ready
        return EngineStatus(
            is_ready=client.is_ready,
            takes_requests=self.takes_requests,
            num_restarts=self._supervisor.num_restarts,
            num_open=len(self._kept),
            num_blocks=client.num_blocks,
            last_step_age_s=self._last_step_age_s,
            resident_bytes=client.resident_bytes,
            startup_seconds=ready.result() if client.is_loaded and ready is not None else {},
        )

    @property
    def takes_requests(self) -> bool:
        """Whether sequences can be handed over: while a lost engine is replaced they wait."""
        return self._client.is_loaded or self._supervisor.is_restarting

    @property
    def _last_step_age_s(self) -> float:
        if self._busy_since is None:
            return 0.0
        return time.monotonic() - max(self._last_step_at, self._busy_since)

    async def start(
        self,
        on_step: Callable[[StepResult], None],
        on_end: Callable[[str], None],
        abort_here: AbortHere | None = None,
    ) -> None:
        """Let the engine load its model, and return before it has."""
        self._on_step, self._tell_end = on_step, on_end
        await self._client.start()
        self._supervisor.start(self._client)

    async def wait_ready(self) -> dict[str, float]:
        """Wait for the model. Returns start-up seconds by phase; raises EngineDeadError."""
        assert self._client.ready is not None
        return await asyncio.shield(self._client.ready)

    async def stop(self) -> None:
        """End the engine's process."""
        self._supervisor.stop()
        await self._client.stop()

    def check(self, submits: list[Submit]) -> None:
        """Raise BadRequestError if one of them is known to make engines die."""
        self._quarantine.check(submits)

    def submit(self, submits: list[Submit]) -> None:
        """Compute these sequences, now or when there is an engine again."""
        sequences = [KeptSequence(submit) for submit in submits]
        self._busy_since = self._busy_since or time.monotonic()
        self._kept.update((one.submit.request_id, one) for one in sequences)
        if not self._supervisor.is_restarting:
            self._replay.submit(sequences)

    def cancel(self, request_ids: list[str]) -> None:
        """Stop sequences within one step; nothing comes of them any more."""
        self._client.cancel(request_ids)
        for request_id in request_ids:
            self._close(request_id)

    async def ask(self, asking: Asking, timeout_s: float) -> Answer:
        """The answer, after the present step. Raises EngineDeadError without one in time."""
        return await self._client.ask(asking, timeout_s)

    async def abort_elsewhere(self, public_ids: tuple[str, ...] | None, reason: str) -> int:
        """There is no other front end."""
        return 0

    def _send(self, sequences: list[KeptSequence]) -> None:
        if self._client.is_ready:  # else they are submitted when there is an engine again
            self._client.submit([one.to_submit() for one in sequences])

    def _take(self, result: StepResult) -> None:
        self._last_step_at = time.monotonic()
        if result.step_seconds > 0.0:  # else it only tells that it lives, or has refused something
            self._supervisor.note_progress()
        known = [delta for delta in result.deltas if delta.request_id in self._kept]
        if len(known) < len(result.deltas):  # some were cancelled while the step ran
            result = msgspec.structs.replace(result, deltas=tuple(known))
        for delta in known:
            sequence = self._kept[delta.request_id]
            if delta.token_ids:
                sequence.token_ids.extend(delta.token_ids)
                self._replay.note_tokens(sequence, len(delta.token_ids))
            if delta.finish_reason is not None:
                self._close(delta.request_id)
        self._on_step(result)

    def _close(self, request_id: str) -> None:
        sequence = self._kept.pop(request_id, None)
        if sequence is None:
            return
        if not self._kept:
            self._busy_since = None
        sequence.is_closed = True
        self._replay.note_end(sequence)

    def _on_lost(self, death: Death) -> None:
        """An engine is gone; another one will go on with what is open."""
        tried = self._client.tried_ids & self._kept.keys()  # without those that have ended
        guilty = self._replay.note_death(
            list(self._kept.values()), tried, was_killed=death.was_killed
        )
        logger.warning(
            "%d choices wait for another engine; on trial in the last step: %s",
            len(self._kept),
            ", ".join(sorted(tried)) or "none",
        )
        for sequence in guilty:
            request_id = sequence.submit.request_id
            logger.error("%s: ended: %d engines died of it", request_id, sequence.num_deaths)
            self._quarantine.add(sequence.submit)
            self._close(request_id)
            reason = "This request made the engine fail several times."
            end = SequenceDelta(request_id, finish_reason="error", error=reason)
            self._on_step(StepResult((end,), finished_at=time.monotonic(), step_seconds=0.0))

    def _on_back(self) -> None:
        self._last_step_at = time.monotonic()
        self._replay.begin(list(self._kept.values()))

    def _on_end(self, reason: str) -> None:
        logger.error("the engine is dead: %s", reason)
        self._tell_end(reason)
