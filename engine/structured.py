"""What a request may ask of the form of its answer: a grammar, and a bounded time to think."""

from typing import Literal

import msgspec

from .errors import BadRequestError

MAX_SOURCE_CHARACTERS = 256 * 1024  # a larger grammar takes seconds to compile

GrammarKind = Literal["json_schema", "json_object", "regex", "choice", "grammar", "structural_tag"]


class StructuredOutput(msgspec.Struct, frozen=True, omit_defaults=True):
    """A form that the whole answer must have. Raises BadRequestError for a source that is too long.

    `source` is, by kind: the JSON text of a JSON schema; nothing; a regular expression; a JSON list
    of strings; a grammar in llguidance's Lark dialect or llama.cpp's GBNF; the JSON text of a
    structural tag.
    """

    kind: GrammarKind
    source: str = ""

    def __post_init__(self) -> None:
        if len(self.source) > MAX_SOURCE_CHARACTERS:
            raise BadRequestError(
                f"the {self.kind} has {len(self.source):,} characters; at most "
                f"{MAX_SOURCE_CHARACTERS:,} are allowed.",
                "response_format",
            )


class ThinkingRule(msgspec.Struct, frozen=True, omit_defaults=True):
    """How an answer's reasoning is set apart: text between two marks, at its beginning.

    `is_open` says that the prompt already ends within it. A structured output begins after `end`.
    After `budget` tokens (None: no limit) of reasoning the end mark is forced. Raises
    BadRequestError for a negative budget or an empty mark.
    """

    start: str
    end: str
    budget: int | None = None
    is_open: bool = False

    def __post_init__(self) -> None:
        if not (self.start and self.end):
            raise BadRequestError("the marks of reasoning cannot be empty.", "thinking")
        if self.budget is not None and self.budget < 0:
            raise BadRequestError(
                f"thinking_token_budget must be at least 0, got {self.budget}.",
                "thinking_token_budget",
            )
