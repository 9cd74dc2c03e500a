"""Reasoning set apart from the answer: text between two marks at the beginning."""

from dataclasses import dataclass

from ..engine.structured import ThinkingRule
from .message_parts import MessageDelta
from .tools.parser import overlap


@dataclass(frozen=True)
class ReasoningFormat:
    """The marks that a model puts around its reasoning.

    `is_always_open`: an answer begins with reasoning, whether or not anything opens it.
    """

    start: str
    end: str
    is_always_open: bool = False

    def rule(
        self, prompt: str, budget: int | None, *, continued: str | None = None
    ) -> ThinkingRule | None:
        """How the answer to a prompt reasons; None if the prompt has closed the block already.

        `continued` is the message that the answer is to go on with, if it is not a new one.
        """
        if continued is None:
            shown = prompt.rstrip()
            is_closed = shown.endswith(self.end)
            is_open = self.is_always_open or shown.endswith(self.start)
        else:
            is_open = continued.rfind(self.start) > continued.rfind(self.end)
            is_closed = not is_open
        return None if is_closed else ThinkingRule(self.start, self.end, budget, is_open=is_open)


REASONING_FORMATS = {
    "qwen3": ReasoningFormat("<think>", "</think>"),
    "deepseek_r1": ReasoningFormat("<think>", "</think>", is_always_open=True),
    "mistral": ReasoningFormat("[THINK]", "[/THINK]"),
}


def choose_reasoning(name: str, template: str) -> ReasoningFormat | None:
    """The format of that name; `auto` tells it by the chat template, `none` is none."""
    if name == "none":
        return None
    if name != "auto":
        return REASONING_FORMATS[name]
    for one in (REASONING_FORMATS["qwen3"], REASONING_FORMATS["mistral"]):
        if one.end in template or (one.start in template and "enable_thinking" in template):
            return one
    return None


class ReasoningParser:
    """Parses one answer that comes in pieces; the cut changes nothing.

    White space around the reasoning, and before what follows it, is dropped. `has_begun` says that
    there is reasoning, `is_over` that what comes is the answer.
    """

    def __init__(self, rule: ThinkingRule) -> None:
        self._rule = rule
        self._state = self._at_start
        self._held = ""
        self._has_said = False
        self._is_ending = False
        self.has_begun = rule.is_open
        self.is_over = False

    def push(self, text: str) -> MessageDelta:
        """Take a piece; `content` of the result is for other parsers to read on."""
        self._held += text
        return self._state()

    def flush(self) -> MessageDelta:
        """The end of the text."""
        self._is_ending = True
        return self._state()

    def _at_start(self) -> MessageDelta:
        text, start = self._held.lstrip(), self._rule.start
        if text.startswith(start):
            self._held = text[len(start) :]  # also of a block that the prompt has opened already
            self.has_begun = True
            self._state = self._within
            return self._within()
        if start.startswith(text) and not self._is_ending:
            return MessageDelta()
        if self._rule.is_open:
            self._state = self._within
            return self._within()
        self._state, self.is_over = self._behind, True
        self._has_said = True  # no reasoning: the white space is the answer's own
        return self._behind()

    def _within(self) -> MessageDelta:
        before, mark, after = self._held.partition(self._rule.end)
        if mark:
            reasoning = self._strip(before).rstrip()
            self._held, self._has_said = after, False
            self._state, self.is_over = self._behind, True
            return MessageDelta(reasoning, self._behind().content)
        if self._is_ending:
            return MessageDelta(self._strip(self._held).rstrip())
        cut = len(self._held) - overlap(self._held, self._rule.end)
        cut = len(self._held[:cut].rstrip())
        reasoning = self._strip(self._held[:cut])
        self._held = self._held[cut:]
        return MessageDelta(reasoning)

    def _behind(self) -> MessageDelta:
        content = self._strip(self._held)
        self._held = ""
        return MessageDelta(content=content)

    def _strip(self, text: str) -> str:
        """Without white space at the beginning of a part."""
        if not self._has_said:
            text = text.lstrip()
            self._has_said = bool(text)
        return text
