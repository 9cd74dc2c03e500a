"""Outputs of one request, as an async iterator."""

from collections.abc import Callable

from .output_inbox import OutputInbox
from .outputs import RequestOutput


class RequestStream:
    """Outputs of a request as they are made, those of its choices interleaved.

    What nobody has taken yet is one output for each choice.
    Iterate it to the end or `close` it: what is not finished then is cancelled within one step.
    Iterating raises EngineDeadError or RequestFailedError, and closes it.
    """

    def __init__(
        self,
        inbox: OutputInbox,
        num_choices: int,
        abandon: Callable[[], None],
    ) -> None:
        self._inbox = inbox
        self._num_open = num_choices
        self._abandon = abandon

    def __aiter__(self) -> "RequestStream":
        return self

    async def __anext__(self) -> RequestOutput:
        if self._num_open == 0:
            raise StopAsyncIteration
        output = await self._inbox.get()
        if isinstance(output, Exception):
            self.close()
            raise output
        self._num_open -= output.finish_reason is not None
        return output

    def close(self) -> None:
        """Cancel what is not finished; closing twice does nothing more."""
        self._num_open = 0
        self._abandon()
