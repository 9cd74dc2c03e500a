"""What a front end needs of an engine, be it its own or one that several share."""

from collections.abc import Callable
from typing import Protocol

from .messages import Answer, Asking, EngineStatus, StepResult, Submit

AbortHere = Callable[[tuple[str, ...] | None, str], int]
"""Ends requests by their public ids (None: all) for a reason; returns how many choices."""


class EngineLink(Protocol):
    """An engine that goes on after its process died. All methods belong to one event loop."""

    @property
    def status(self) -> EngineStatus:
        """How it is now."""

    @property
    def takes_requests(self) -> bool:
        """Whether sequences can be handed over: they may wait while a lost engine is replaced."""

    async def start(
        self,
        on_step: Callable[[StepResult], None],
        on_end: Callable[[str], None],
        abort_here: AbortHere,
    ) -> None:
        """Let the engine load its model, and return before it has.

        `on_step` is called with what each step gave this front end's sequences, `on_end` with the
        reason when there will be no engine any more.
        """

    async def wait_ready(self) -> dict[str, float]:
        """Wait for the model. Returns start-up seconds by phase; raises EngineDeadError."""

    async def stop(self) -> None:
        """Let go of the engine; one's own ends."""

    def check(self, submits: list[Submit]) -> None:
        """Raise BadRequestError if one of them is known to make engines die."""

    def submit(self, submits: list[Submit]) -> None:
        """Hand sequences over. What comes of them, comes to `on_step`, and their end too."""

    def cancel(self, request_ids: list[str]) -> None:
        """Stop sequences within one step; nothing comes of them any more."""

    async def ask(self, asking: Asking, timeout_s: float) -> Answer:
        """The answer, after the present step. Raises EngineDeadError without one in time."""

    async def abort_elsewhere(self, public_ids: tuple[str, ...] | None, reason: str) -> int:
        """End requests that came in by other front ends. Returns how many choices."""
