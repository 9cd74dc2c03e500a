"""Reasoning set apart from the answer: text between two marks at the beginning."""

from dataclasses import dataclass

from ..engine.structured import ThinkingRule
from .message_parts import MessageDelta
from .tools.parser import overlap

REASONING_FORMATS = {
    # Both may or may not open the block themselves; the prompt shows what the template did.
    "qwen3": ("<think>", "</think>"),
    "deepseek_r1": ("<think>", "</think>"),
    "mistral": ("[THINK]", "[/THINK]"),
}


@dataclass(frozen=True)
class ReasoningFormat:
    """The marks that a model puts around its reasoning."""

    start: str
    end: str

    def rule(self, prompt: str, budget: int | None) -> ThinkingRule | None:
        """How the answer to a prompt reasons; None if the prompt has closed the block already."""
        shown = prompt.rstrip()
        if shown.endswith(self.end):
            return None
        return ThinkingRule(self.start, self.end, budget, is_open=shown.endswith(self.start))


def choose_reasoning(name: str, template: str) -> ReasoningFormat | None:
    """The format of that name; `auto` tells it by the chat template, `none` is none."""
    if name == "none":
        return None
    if name != "auto":
        return ReasoningFormat(*REASONING_FORMATS[name])
    for start, end in dict.fromkeys(REASONING_FORMATS.values()):
        if end in template or (start in template and "enable_thinking" in template):
            return ReasoningFormat(start, end)
    return None


class ReasoningParser:
    """Parses one answer that comes in pieces; the cut changes nothing.

    White space around the reasoning, and before what follows it, is dropped.
    """

    def __init__(self, rule: ThinkingRule) -> None:
        self._rule = rule
        self._state = self._within if rule.is_open else self._at_start
        self._held = ""
        self._has_said = False
        self._is_ending = False

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
            self._held = text[len(start) :]
            self._state = self._within
            return self._within()
        if start.startswith(text) and not self._is_ending:
            return MessageDelta()
        self._state = self._behind
        self._has_said = True  # no reasoning: the white space is the answer's own
        return self._behind()

    def _within(self) -> MessageDelta:
        before, mark, after = self._held.partition(self._rule.end)
        if mark:
            reasoning = self._strip(before).rstrip()
            self._held, self._has_said = after, False
            self._state = self._behind
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
