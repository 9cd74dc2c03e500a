"""From prompts as clients give them to token ids that the model has room for."""

from collections.abc import Callable
from typing import TypeVar

from ..engine.async_engine import AsyncEngine
from ..engine.errors import BadRequestError
from ..engine.side_threads import SideThreads
from ..engine.tokenizer import Tokenizer
from .protocol import GenerationRequest

Result = TypeVar("Result")

# Tokenizing this much takes a millisecond or so: more would hold up other streams.
_INLINE_SIZE = 8192
_NUM_THREADS = 4
# How a text is cut into tokens depends on what stands near, but not so far away.
_CUT_SLACK = 4096


class PromptEncoder:
    """Tokenizes for one model. Text that cannot fit is refused before it costs anything."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._tokenizer: Tokenizer = engine.tokenizer
        self._max_model_len = engine.info.max_model_len
        self._longest_token = max(1, engine.tokenizer.longest_token_bytes)
        self._threads = SideThreads(_NUM_THREADS, "tokenizer")

    async def encode(self, texts: list[str], add_special_tokens: bool) -> list[list[int]]:
        """Token ids of each text; much text is tokenized beside the event loop."""

        def encode_all() -> list[list[int]]:
            return [self._tokenizer.encode(text, add_special_tokens) for text in texts]

        return await self.apart(sum(map(len, texts)), encode_all)

    async def apart(self, size: int, work: Callable[[], Result]) -> Result:
        """What `work` on so many characters or tokens returns; beside the event loop if many."""
        return work() if size <= _INLINE_SIZE else await self._threads.run(work)

    def check_length(self, num_characters: int, param: str) -> None:
        """Raise BadRequestError for text whose tokens, however long, are too many."""
        most = self._max_model_len * self._longest_token
        if num_characters > most:
            raise BadRequestError(
                f"This model's maximum context length is {self._max_model_len} tokens. However, "
                f"your prompt has {num_characters} characters, and more than {most} cannot fit. "
                "Please reduce the length of the input prompt.",
                param,
            )

    def cut(self, text: str, body: GenerationRequest) -> str:
        """Of a text that `truncate_prompt_tokens` will cut, as much as those tokens may come from.

        So what is thrown away is not tokenized before.
        """
        limit = body.truncate_prompt_tokens
        if limit is None:
            return text
        tokens = self._max_model_len if limit < 0 else min(limit, self._max_model_len)
        most = tokens * self._longest_token + _CUT_SLACK
        return text[-most:] if body.truncation_side == "left" else text[:most]

    def truncate(
        self, token_ids: list[int], body: GenerationRequest, max_tokens: int | None
    ) -> list[int]:
        """What `truncate_prompt_tokens` leaves of a prompt; -1 stands for all that there is room
        for. Raises BadRequestError for a number out of range.
        """
        limit = body.truncate_prompt_tokens
        if limit is None:
            return token_ids
        room = max(1, self._max_model_len - (max_tokens or 1))
        if limit == -1:
            limit = room
        if not 1 <= limit <= self._max_model_len:
            raise BadRequestError(
                f"truncate_prompt_tokens must be -1 or in [1, {self._max_model_len}], got {limit}.",
                "truncate_prompt_tokens",
            )
        return token_ids[-limit:] if body.truncation_side == "left" else token_ids[:limit]
