"""Usage of a chat answer, its reasoning counted apart."""

from collections.abc import Callable

from ..engine.outputs import RequestOutput
from ..engine.structured import ThinkingRule
from .reasoning import ReasoningParser
from .responses import CompletionTokensDetails, Usage
from .service import UsageCounter


class ReasoningTokens:
    """Counts the tokens of one choice's reasoning, its marks among them.

    Exact where the end mark is one token, `end_token`; otherwise to the output that brings it.
    """

    def __init__(self, rule: ThinkingRule, end_token: int | None) -> None:
        self._parser = ReasoningParser(rule)
        self._end_token = end_token
        self._seen = 0
        self._is_over = False

    @property
    def count(self) -> int:
        """Tokens so far; none before it is known that this is reasoning."""
        return self._seen if self._parser.has_begun else 0

    def note(self, output: RequestOutput) -> None:
        """Take the next output of the choice into account."""
        if self._is_over:
            return
        self._parser.push(output.text)
        self._is_over = self._parser.is_over
        tokens, end = output.token_ids, self._end_token
        if self._is_over and end is not None and end in tokens:
            tokens = tokens[: tokens.index(end) + 1]
        self._seen += len(tokens)


class ChatUsageCounter(UsageCounter):
    """Counts one chat request's tokens; those of reasoning too if there is a rule for it."""

    def __init__(
        self,
        prompt: list[int],
        num_choices: int,
        rule: ThinkingRule | None,
        token_id: Callable[[str], int | None],
    ) -> None:
        super().__init__([prompt], num_choices)
        self._reasoning: list[ReasoningTokens] = []
        if rule is not None:
            end = token_id(rule.end)
            self._reasoning = [ReasoningTokens(rule, end) for _ in range(num_choices)]

    def note(self, output: RequestOutput) -> None:
        """Take an output into account."""
        super().note(output)
        if self._reasoning:
            self._reasoning[output.index].note(output)

    def usage(self) -> Usage:
        """The usage so far."""
        usage = super().usage()
        if not self._reasoning:
            return usage
        count = sum(one.count for one in self._reasoning)
        details = CompletionTokensDetails(reasoning_tokens=count)
        return usage.model_copy(update={"completion_tokens_details": details})
