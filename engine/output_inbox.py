"""Outputs of a request on their way to its reader, merged while the reader is elsewhere."""

import asyncio
import dataclasses

from .outputs import RequestOutput, TokenLogprob


class OutputInbox:
    """At most one output of each choice, however long nobody takes any.

    Outputs of a choice that has one here already are joined to it, so that a client that reads
    slowly gets the same text in fewer pieces. An error comes after the outputs before it; those
    after the first error are dropped, because the first one ends the reading. One reader only.
    """

    def __init__(self) -> None:
        self._waiting: dict[int, RequestOutput | _JoinedOutputs] = {}  # by choice, oldest first
        self._error: Exception | None = None
        self._news = asyncio.Event()

    def __len__(self) -> int:
        return len(self._waiting) + (self._error is not None)

    def put_nowait(self, item: RequestOutput | Exception) -> None:
        """Add an output, or the error that ends the request."""
        if isinstance(item, Exception):
            self._error = self._error or item
        else:
            waiting = self._waiting.get(item.index)
            if waiting is None:
                self._waiting[item.index] = item
            elif isinstance(waiting, _JoinedOutputs):
                waiting.add(item)
            else:
                self._waiting[item.index] = joined = _JoinedOutputs(waiting)
                joined.add(item)
        self._news.set()

    async def get(self) -> RequestOutput | Exception:
        """Take the output of the choice that has waited longest, or the error if none is left."""
        while not self._waiting and self._error is None:
            self._news.clear()
            await self._news.wait()
        if not self._waiting:
            assert self._error is not None
            error, self._error = self._error, None
            return error
        waiting = self._waiting.pop(next(iter(self._waiting)))
        return waiting.output() if isinstance(waiting, _JoinedOutputs) else waiting


class _JoinedOutputs:
    """Successive outputs of one choice, as one; adding costs no more for many than for few."""

    def __init__(self, first: RequestOutput) -> None:
        self._last = first
        self._prompt_logprobs = first.prompt_logprobs
        self._texts: list[str] = [first.text]
        self._token_ids: list[int] = [*first.token_ids]
        self._logprobs: list[TokenLogprob] = [*(first.logprobs or ())]

    def add(self, output: RequestOutput) -> None:
        self._last = output
        self._prompt_logprobs = self._prompt_logprobs or output.prompt_logprobs
        self._texts.append(output.text)
        self._token_ids.extend(output.token_ids)
        self._logprobs.extend(output.logprobs or ())

    def output(self) -> RequestOutput:
        return dataclasses.replace(
            self._last,  # whose counts, and whose end, are those of the whole
            text="".join(self._texts),
            token_ids=tuple(self._token_ids),
            logprobs=None if self._last.logprobs is None else tuple(self._logprobs),
            prompt_logprobs=self._prompt_logprobs,
        )
