"""Grammars of structured outputs, compiled by llguidance. Imported only where one is asked for."""

import contextlib
import json
import re
import threading
from collections import OrderedDict

from llguidance import LLMatcher, LLParserLimits, LLTokenizer, StructTag
from llguidance.gbnf_to_lark import any_to_lark

from .errors import BadRequestError
from .json_schemas import check_bounds, prepare_schema
from .large_stack import on_large_stack
from .structured import StructuredOutput
from .tokenizer import Tokenizer

MAX_REMEMBERED = 64
MAX_REMEMBERED_CHARACTERS = 64 * 1024  # of each: its tables may take a thousand times as much
_SCHEMA_IN_LARK = re.compile(r"%json\s*")


class GrammarCompiler:
    """Compiles grammars for one tokenizer, and remembers the latest. For use by any thread.

    `vocab_size` is the model's, which may be larger than the tokenizer's by padding.
    """

    def __init__(self, tokenizer: Tokenizer, vocab_size: int) -> None:
        self._vocabulary = LLTokenizer(
            tokenizer.to_json(), n_vocab=vocab_size, eos_token=list(tokenizer.eos_token_ids)
        )
        self._special_texts = {tokenizer.token_text(i) for i in tokenizer.special_ids}
        self._compiled: OrderedDict[StructuredOutput, LLMatcher] = OrderedDict()
        self._lock = threading.Lock()

    def is_known(self, wanted: StructuredOutput) -> bool:
        """Whether `compile` has nothing left to do for it."""
        with self._lock:
            return wanted in self._compiled

    def compile(self, wanted: StructuredOutput) -> LLMatcher:
        """A matcher at its beginning. Raises BadRequestError for a source that is no grammar, says
        more than llguidance can hold to, or is too complex.
        """
        with self._lock:
            known = self._compiled.get(wanted)
            if known is not None:
                self._compiled.move_to_end(wanted)
                return known.deep_copy()
        try:
            matcher = on_large_stack(lambda: self._begin(self._to_llguidance(wanted)))
        except Exception as error:  # the library's translators raise whatever comes to them
            raise _refusal(wanted, str(error)) from None
        if len(wanted.source) > MAX_REMEMBERED_CHARACTERS:
            return matcher
        with self._lock:
            self._compiled[wanted] = matcher
            if len(self._compiled) > MAX_REMEMBERED:
                self._compiled.popitem(last=False)
            return matcher.deep_copy()

    def _begin(self, grammar: str) -> LLMatcher:
        """A matcher whose first mask is computed. Raises ValueError if that is an error, or empty.

        So what nothing satisfies is refused, and copies find the tables of the first token made.
        """
        matcher = LLMatcher(self._vocabulary, grammar, log_level=0, limits=_limits())
        is_empty = not matcher.is_error() and not any(matcher.compute_bitmask())
        if matcher.is_error():
            raise ValueError(matcher.get_error().split("<backtrace>")[0])
        if is_empty:
            raise ValueError("nothing satisfies it")
        return matcher

    def _to_llguidance(self, wanted: StructuredOutput) -> str:
        source = wanted.source
        match wanted.kind:
            case "json_object":
                return _json_grammar({"type": "object"})
            case "json_schema":
                return _json_grammar(json.loads(source))
            case "regex":
                return LLMatcher.grammar_from_regex(source)
            case "choice":
                return _choice_grammar(json.loads(source))
            case "grammar":
                return _lark_grammar(source)
            case "structural_tag":
                return self._tag_grammar(json.loads(source))

    def _tag_grammar(self, tag: object) -> str:
        """Free text, but what a trigger begins must be one of the structures (xgrammar's form)."""
        if not isinstance(tag, dict):
            raise ValueError("a structural tag is a JSON object")
        structures, triggers = tag.get("structures"), tag.get("triggers")
        if not (isinstance(structures, list) and structures):
            raise ValueError("a structural tag needs `structures`, a list that is not empty")
        if not (isinstance(triggers, list) and all(isinstance(t, str) and t for t in triggers)):
            raise ValueError("a structural tag needs `triggers`, a list of texts")
        tags = [_struct_tag(structure, triggers) for structure in structures]
        is_special = all(one.trigger in self._special_texts for one in tags)
        return StructTag.to_grammar(tags, assume_special=is_special)


def _struct_tag(structure: object, triggers: list[str]) -> StructTag:
    if not isinstance(structure, dict):
        raise ValueError("each of `structures` is a JSON object with begin, schema and end")
    begin, end = structure.get("begin"), structure.get("end", "")
    if not (isinstance(begin, str) and isinstance(end, str)):
        raise ValueError("`begin` and `end` of a structure are texts")
    trigger = next((text for text in triggers if begin.startswith(text)), None)
    if trigger is None:
        raise ValueError(f"no trigger begins {begin!r}")
    schema = structure.get("schema", {})
    if not isinstance(schema, dict):
        raise ValueError("`schema` of a structure is a JSON schema")
    return StructTag(trigger=trigger, begin=begin, grammar=prepare_schema(schema), end=end)


def _json_grammar(schema: object) -> str:
    if not isinstance(schema, dict | bool):
        raise ValueError("a JSON schema is an object or a boolean")
    return LLMatcher.grammar_from_json_schema(json.dumps(prepare_schema(schema)))


def _lark_grammar(source: str) -> str:
    """Lark or GBNF; the schemas in it are bounded as others are."""
    grammar = any_to_lark(source)
    decoder = json.JSONDecoder()
    for match in _SCHEMA_IN_LARK.finditer(grammar):
        with contextlib.suppress(json.JSONDecodeError):  # in a comment, say
            check_bounds(decoder.raw_decode(grammar, match.end())[0])
    return LLMatcher.grammar_from_lark(grammar)


def _choice_grammar(choices: object) -> str:
    """One regular expression: a rule of a thousand alternatives would be slow, and then refused."""
    if not (isinstance(choices, list) and choices and all(isinstance(c, str) for c in choices)):
        raise ValueError("a choice needs a list of texts that is not empty")
    for choice in choices:
        choice.encode()  # half a surrogate pair is no text
    return LLMatcher.grammar_from_regex("|".join(map(_literally, choices)))


def _literally(text: str) -> str:
    """A regular expression for just this text."""
    return "".join(
        character if character.isalnum() or ord(character) > 127 else f"\\x{{{ord(character):x}}}"
        for character in text
    )


def _limits() -> LLParserLimits:
    """Bounds of the work for a mask: above some 50 ms the sequence ends with an error."""
    return LLParserLimits(max_lexer_states=50_000, step_lexer_fuel=100_000, verbose_errors=False)


def _refusal(wanted: StructuredOutput, why: str) -> BadRequestError:
    what = wanted.kind.replace("_", " ")
    return BadRequestError(
        f"the {what} cannot be used as a structured output: {why.strip()[:1000]}",
        "response_format",
    )
