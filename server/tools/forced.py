"""Grammars that leave a model no choice but to call, with arguments that fit the schema."""

import json
from collections.abc import Callable, Sequence

from ...engine.errors import BadRequestError
from ...engine.json_schemas import prepare_schema
from ...engine.structured import StructuredOutput
from .choice import Function
from .formats import ToolFormat

MAX_FORCED_CALLS = 16


def forced_calls(
    tool_format: ToolFormat,
    functions: Sequence[Function],
    *,
    is_parallel: bool,
    special_token: Callable[[str], int | None],
) -> StructuredOutput:
    """One call of one of the functions, or several if `is_parallel`, in the format's frame.

    `special_token` gives the id of a mark that is one special token. Each schema is a grammar of
    its own, so that its references keep their meaning.
    """
    rules = _rules_of_calls(tool_format, functions, is_parallel, special_token)
    return StructuredOutput("grammar", "\n".join(["start: calls", *rules]))


def strict_calls(
    tool_format: ToolFormat,
    functions: Sequence[Function],
    *,
    is_parallel: bool,
    special_token: Callable[[str], int | None],
) -> StructuredOutput | None:
    """Free text, in which calls fit the schemas once they begin: for functions that are `strict`.

    None if none is, or if nothing tells the beginning of a call from text.
    """
    trigger = tool_format.frame.begin
    if not trigger or not any(function.is_strict for function in functions):
        return None
    if special_token(trigger) is not None:  # which no text can spell
        rules = _rules_of_calls(tool_format, functions, is_parallel, special_token)
        start = ["start: TEXT | TEXT calls", r"TEXT: /(.|\n)*/"]
        return StructuredOutput("grammar", "\n".join([*start, *rules]))
    structures = [
        {
            "begin": tool_format.before_arguments % function.name,
            "schema": function.parameters,
            "end": tool_format.after_arguments,
        }
        for function in functions
    ]
    tag = {"structures": structures, "triggers": [trigger]}
    return StructuredOutput("structural_tag", json.dumps(tag))


def _rules_of_calls(
    tool_format: ToolFormat,
    functions: Sequence[Function],
    is_parallel: bool,
    special_token: Callable[[str], int | None],
) -> list[str]:
    write = _Literals(tool_format.marks, special_token)
    options, rules = [], []
    for number, function in enumerate(functions):
        before = write(tool_format.before_arguments % function.name)
        options.append(f"{before} arguments_{number} {write(tool_format.after_arguments)}")
        rules.append(f"arguments_{number}: %json {_schema(function)}")
    separator = write(tool_format.separator)
    more = f"({separator} call){{0,{MAX_FORCED_CALLS - 1}}}" if is_parallel else ""
    return [
        f"calls: {write(tool_format.begin)} call {more} {write(tool_format.end)}",
        "call: " + " | ".join(options),
        *rules,
    ]


def _schema(function: Function) -> str:
    try:
        return json.dumps(prepare_schema(function.parameters))
    except BadRequestError as error:
        raise BadRequestError(f"function {function.name!r}: {error.message}", "tools") from None


class _Literals:
    """Writes text for a Lark grammar; marks that are special tokens by their ids."""

    def __init__(self, marks: Sequence[str], special_token: Callable[[str], int | None]) -> None:
        found = {mark: special_token(mark) for mark in marks}
        self._special = {mark: number for mark, number in found.items() if number is not None}

    def __call__(self, text: str) -> str:
        parts: list[str] = []
        while text:
            at, mark = min(
                ((text.find(mark), mark) for mark in self._special if mark in text),
                default=(len(text), ""),
            )
            if at:
                parts.append(json.dumps(text[:at], ensure_ascii=False))
            if mark:
                parts.append(f"<[{self._special[mark]}]>")
            text = text[at + len(mark) :]
        return " ".join(parts)
