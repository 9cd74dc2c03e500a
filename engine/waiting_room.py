"""Choices between arrival and their first step: how many may wait, and how long."""

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from .errors import BadRequestError, OctavoError, OverloadedError, TimedOutError
from .open_choice import OpenChoice

QUEUE_TIMEOUT = "queue_timeout"
DEADLINE = "deadline"


class WaitingRoom:
    """Keeps the limits on what waits. `expire` is called with a choice and the reason.

    `max_open` choices may be open at once, running ones and those included whose prompts are being
    made; `max_tokens` (0: no limit) is for the prompts of those that wait; `timeout_s` (0: none)
    for how long one waits for its first step.
    """

    def __init__(
        self,
        max_open: int,
        max_tokens: int,
        timeout_s: float,
        expire: Callable[[OpenChoice, str], None],
    ) -> None:
        self._max_open = max_open
        self._max_tokens = max_tokens
        self._timeout_s = timeout_s
        self._expire = expire
        self._num_preparing = 0
        self.num_tokens = 0  # of prompts that wait

    @contextmanager
    def preparing(self, num_open: int, num_choices: int) -> Iterator[None]:
        """Keep room for choices while their prompts are made. Raises as `check` does."""
        self.check(num_open, num_choices, 0)
        self._num_preparing += num_choices
        try:
            yield
        finally:
            self._num_preparing -= num_choices

    def check(self, num_open: int, num_choices: int, num_tokens: int) -> None:
        """Raise OverloadedError if there is no room for a request of so many choices, with prompts
        of so many tokens together; BadRequestError if there never is.
        """
        if num_choices > self._max_open:
            raise BadRequestError(
                f"prompts times n are {num_choices} choices, and a server with these settings "
                f"never has room for more than {self._max_open} (--max-num-seqs and "
                "--max-queued-requests).",
                "n",
            )
        num_open += self._num_preparing
        if num_open + num_choices > self._max_open:
            raise OverloadedError(
                f"the queue is full: {num_open} sequences are open and {num_choices} more exceed "
                f"the limit of {self._max_open} (--max-num-seqs and --max-queued-requests); try "
                "again later"
            )
        # Whatever its length, one that nobody waits before is let in: else it never could be.
        if self._max_tokens and self.num_tokens and self.num_tokens + num_tokens > self._max_tokens:
            raise OverloadedError(
                f"the queue is full: prompts of {self.num_tokens} tokens wait and {num_tokens} "
                f"more exceed the limit of {self._max_tokens} (--max-queued-tokens); try again "
                "later"
            )

    def enter(self, choice: OpenChoice, deadline: float | None) -> None:
        """A choice waits from now on; `deadline` is the monotonic instant at which it must end."""
        self.num_tokens += choice.prompt.prompt_tokens
        choice.is_waiting = True
        loop = asyncio.get_running_loop()
        if self._timeout_s:
            timer = loop.call_later(self._timeout_s, self._expire, choice, QUEUE_TIMEOUT)
            choice.timers[QUEUE_TIMEOUT] = timer
        if deadline is not None:
            delay_s = max(0.0, deadline - time.monotonic())
            choice.timers[DEADLINE] = loop.call_later(delay_s, self._expire, choice, DEADLINE)

    def explain(self, reason: str) -> OctavoError:
        """What a choice is told that is given up for this reason."""
        if reason == DEADLINE:
            return TimedOutError()
        return OverloadedError(
            f"The request waited for {self._timeout_s:g} s without being run (--queue-timeout); "
            "try again later."
        )

    def note_scheduled(self, choice: OpenChoice) -> None:
        """It has had its first step."""
        if choice.is_waiting:
            choice.is_waiting = False
            self.num_tokens -= choice.prompt.prompt_tokens
            if timer := choice.timers.pop(QUEUE_TIMEOUT, None):
                timer.cancel()

    def leave(self, choice: OpenChoice) -> None:
        """It is closed, for whatever reason."""
        self.note_scheduled(choice)
        for timer in choice.timers.values():
            timer.cancel()
        choice.timers.clear()
