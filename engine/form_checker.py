"""Structured outputs of a front end, compiled beside its event loop before anything runs."""

import asyncio
import threading

from .errors import BadRequestError, OverloadedError
from .grammars import Grammars
from .side_threads import SideThreads
from .structured import StructuredOutput

TIMEOUT_S = 10.0
MAX_COMPILING = 64


class FormChecker:
    """Finds out whether forms are usable. All methods belong to one event loop."""

    def __init__(self, grammars: Grammars) -> None:
        self._grammars = grammars
        self._threads = SideThreads(2, "grammars")
        self._num_compiling = 0

    def is_known(self, wanted: StructuredOutput) -> bool:
        """Whether a form was found usable not long ago."""
        return self._grammars.is_known(wanted)

    async def check(self, wanted: StructuredOutput) -> None:
        """Compile a form. Raises BadRequestError if it is no grammar, or takes too long;
        OverloadedError if too many others are being compiled.
        """
        if self._num_compiling >= MAX_COMPILING:
            raise OverloadedError("too many structured outputs are being compiled; try again later")
        has_begun = threading.Event()

        def compile_it() -> None:
            has_begun.set()
            self._grammars.compile(wanted)

        self._num_compiling += 1
        try:
            await asyncio.wait_for(self._threads.run(compile_it), TIMEOUT_S)
        except asyncio.TimeoutError:
            if not has_begun.is_set():
                raise OverloadedError(
                    "the structured output waited too long to be compiled; try again later"
                ) from None
            raise BadRequestError(
                f"the structured output was not compiled within {TIMEOUT_S:.0f} seconds.",
                "response_format",
            ) from None
        finally:
            self._num_compiling -= 1

    def stop(self) -> None:
        """Begin no further compilation."""
        self._threads.close()
