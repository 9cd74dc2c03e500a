"""From the text of an answer, as it comes, to the parts of a chat message."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

from .message_parts import MessageDelta, ToolCallDelta
from .reasoning import ReasoningParser
from .tools.parser import ToolParser


class MessageParser:
    """Parses one choice: first its reasoning, then calls in what follows."""

    def __init__(self, reasoning: ReasoningParser | None, tools: ToolParser | None) -> None:
        self._reasoning = reasoning
        self._tools = tools

    @property
    def num_calls(self) -> int:
        """Calls found so far."""
        return 0 if self._tools is None else self._tools.num_calls

    def parse(self, pieces: Sequence[str]) -> MessageDelta:
        """The whole message. In pieces, since the cost of one is more than proportional to it."""
        parts = [self.push(text, is_last=False) for text in pieces]
        parts.append(self.push("", is_last=True))
        calls: dict[int, ToolCallDelta] = {}
        arguments: defaultdict[int, list[str]] = defaultdict(list)
        for call in (call for part in parts for call in part.tool_calls):
            calls.setdefault(call.index, call)
            arguments[call.index].append(call.arguments)
        return MessageDelta(
            "".join(part.reasoning for part in parts),
            "".join(part.content for part in parts),
            tuple(
                replace(call, arguments="".join(arguments[index])) for index, call in calls.items()
            ),
        )

    def push(self, text: str, *, is_last: bool) -> MessageDelta:
        """Take a piece of the text; with the last one comes all that was held back."""
        delta = MessageDelta(content=text)
        if self._reasoning is not None:
            delta = self._reasoning.push(text)
            if is_last:
                delta = _join(delta, self._reasoning.flush())
        if self._tools is None:
            return delta
        parsed = self._tools.push(delta.content)
        if is_last:
            parsed = _join(parsed, self._tools.flush())
        return MessageDelta(delta.reasoning, parsed.content, parsed.tool_calls)


def _join(first: MessageDelta, second: MessageDelta) -> MessageDelta:
    """Both as one. Only the first or the second may have calls: a flush adds none to begun ones."""
    return MessageDelta(
        first.reasoning + second.reasoning,
        first.content + second.content,
        first.tool_calls + second.tool_calls,
    )
