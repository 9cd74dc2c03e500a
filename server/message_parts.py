"""What a chat answer is made of, piece by piece: reasoning, text, calls of functions."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ToolCallDelta:
    """What comes next of call `index`: at first its id and the function's name, then arguments.

    `arguments` is a piece of JSON text, the model's own.
    """

    index: int
    call_id: str | None = None
    name: str | None = None
    arguments: str = ""


@dataclass(frozen=True, slots=True)
class MessageDelta:
    """What comes next of an answer; of each call there is at most one entry."""

    reasoning: str = ""
    content: str = ""
    tool_calls: tuple[ToolCallDelta, ...] = ()

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing in it."""
        return not (self.reasoning or self.content or self.tool_calls)
