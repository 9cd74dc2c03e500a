"""Calls are found in what models write, however the text comes; what is no call stays text."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from octavo.server.message_parts import MessageDelta
from octavo.server.tools.formats import TOOL_FORMATS
from octavo.server.tools.parser import ToolParser

NAMES = {"add", "get_weather"}
ADD = '{"a": 1, "b": [2, {"c": "}]\\""}]}'
Calls = list[tuple[str, Any]]


def parse(name: str, pieces: list[str], max_calls: int = 128) -> tuple[str, Calls]:
    """Content and calls of a text that comes in pieces, joined as a client joins them."""
    parser = ToolParser(TOOL_FORMATS[name].frame, NAMES, max_calls)
    deltas: list[MessageDelta] = [*map(parser.push, pieces), parser.flush()]
    content, calls, ids = "", [], []
    for delta in deltas:
        content += delta.content
        assert len({call.index for call in delta.tool_calls}) == len(delta.tool_calls)
        for call in delta.tool_calls:
            if call.name is not None:
                assert call.index == len(calls)
                calls.append((call.name, ""))
                ids.append(call.call_id)
            else:
                assert call.call_id is None
            known, arguments = calls[call.index]
            calls[call.index] = (known, arguments + call.arguments)
    assert all(one.startswith("call_") and len(one) == 29 for one in ids)
    assert len(set(ids)) == len(ids)
    return content, calls


CASES: list[tuple[str, str, str, Calls]] = [
    (
        "hermes",
        f'<tool_call>\n{{"name": "add", "arguments": {ADD}}}\n</tool_call>',
        "",
        [("add", ADD)],
    ),
    (
        "hermes",
        'Let me see.\n<tool_call>{"name": "add", "arguments": {}}</tool_call>\n<tool_call>\n'
        '{"name":"get_weather","arguments":{"city":"Köln 😀"}}</tool_call>',
        "Let me see.",
        [("add", "{}"), ("get_weather", '{"city":"Köln 😀"}')],
    ),
    (
        "hermes",
        '<tool_call>{"arguments": {"a": 1}, "name": "add"}</tool_call>',
        "",
        [("add", '{"a": 1}')],
    ),
    (
        "hermes",
        '<tool_call>{"name": "add", "arguments": "{\\"a\\": 1}"}</tool_call>',
        "",
        [("add", '{"a": 1}')],
    ),
    (
        "hermes",
        '<tool_call>[{"name": "add", "arguments": {}}]</tool_call> Done.',
        " Done.",
        [("add", "{}")],
    ),
    ("hermes", '<tool_call>{"name": "add", "arguments": {"a": ', "", [("add", '{"a": ')]),
    (  # a bracket missing, and one too many
        "hermes",
        'Hi <tool_call>\n{"name": "add", "arguments": {"a": 1}\n</tool_call>\n'
        '<tool_call>{"name": "add", "arguments": {}}}\n</tool_call>\nbye',
        "Hi\nbye",
        [("add", '{"a": 1}'), ("add", "{}")],
    ),
    ("llama3_json", '{"name": "add", "parameters": {"a": 1}}', "", [("add", '{"a": 1}')]),
    (
        "llama3_json",
        '<|python_tag|>{"name": "add", "parameters": {}}; '
        '{"name": "get_weather", "parameters": {"x": 1}}',
        "",
        [("add", "{}"), ("get_weather", '{"x": 1}')],
    ),
    ("llama3_json", '{"type": "function", "name": "add", "parameters": {}}', "", [("add", "{}")]),
    (
        "mistral",
        '[TOOL_CALLS] [{"name": "add", "arguments": {"a": 1}}, '
        '{"name": "get_weather", "arguments": {}}]',
        "",
        [("add", '{"a": 1}'), ("get_weather", "{}")],
    ),
    (
        "mistral",
        'Hm. [TOOL_CALLS]add[ARGS]{"a": 1}[TOOL_CALLS]get_weather[CALL_ID]abc123[ARGS]{}',
        "Hm.",
        [("add", '{"a": 1}'), ("get_weather", "{}")],
    ),
    (
        "json",
        '[{"name": "add", "arguments": {}}, {"name": "get_weather", "parameters": {"a": 2}}]',
        "",
        [("add", "{}"), ("get_weather", '{"a": 2}')],
    ),
    ("json", '```json\n{"name": "add", "arguments": {"a": 1}}\n```', "", [("add", '{"a": 1}')]),
    ("json", '{"function": {"name": "add", "arguments": {}}}', "", [("add", "{}")]),
    (
        "pythonic",
        "[add(a=1, b='x'), "
        "get_weather(days=[1, -2.5], on=True, off=false, none=None, d={'k': (1,)})]",
        "",
        [
            ("add", '{"a": 1, "b": "x"}'),
            (
                "get_weather",
                '{"days": [1, -2.5], "on": true, "off": false, "none": null, "d": {"k": [1]}}',
            ),
        ],
    ),
    ("pythonic", '[{"name": "add", "parameters": {}}]', "", [("add", "{}")]),
]

TEXTS = [
    ("hermes", "No call at all. 1 < 2 <tool"),
    ("hermes", "<tool_call>not json</tool_call> and on"),
    ("hermes", '<tool_call>\n{"name": "unknown", "arguments": {}}\n</tool_call>'),
    ("hermes", '<tool_call>{"name": 5, "arguments": {}}</tool_call>'),
    ("hermes", '<tool_call>{"name": "add", "arguments": [1]}</tool_call>'),
    ("hermes", "<tool_call>{"),
    ("hermes", '<tool_call>{"arguments": {"a": NaN}, "name": "add"}</tool_call>'),
    ("hermes", '<tool_call>{"name": "add"'),
    ("hermes", "  \n white space \n "),
    ("llama3_json", "The answer is {42}."),
    ("llama3_json", '{"answer": 42}'),
    ("llama3_json", "<|python_tag|>print(1)"),
    ("mistral", "[TOOL_CALLS] nothing of the kind"),
    ("mistral", "[TOOL_CALLS]unknown[ARGS]{}"),
    ("mistral", "a list [1, 2] and [TOOL"),
    ("json", "[1, 2, 3]"),
    ("json", '{"name": "unknown", "arguments": {}}'),
    ("json", "```python\nprint()\n```"),
    ("pythonic", "[1, 2]"),
    ("pythonic", "[add(1)]"),
    ("pythonic", "[unknown(a=1)]"),
    ("pythonic", "[add(a=open('x'))]"),
    ("pythonic", "[add(**{'a': 1})]"),
    ("pythonic", "[" * 5000),
    ("pythonic", "[add(a=1)"),
]


@pytest.mark.parametrize(("name", "text", "content", "calls"), CASES)
def test_calls_are_found(name: str, text: str, content: str, calls: Calls) -> None:
    assert parse(name, [text]) == (content, calls)
    assert parse(name, list(text)) == (content, calls)


@pytest.mark.parametrize(("name", "text"), TEXTS)
def test_what_is_no_call_is_text_to_the_last_character(name: str, text: str) -> None:
    assert parse(name, [text]) == (text, [])
    assert parse(name, list(text)) == (text, [])


FRAGMENTS = st.sampled_from(
    [
        "<tool_call>",
        "</tool_call>",
        "[TOOL_CALLS]",
        "[ARGS]",
        "<|python_tag|>",
        "```json",
        "```",
        "{",
        "}",
        "[",
        "]",
        '{"name": "add", "arguments": ',
        '{"name": "add", "parameters": {}}',
        '{"a": 1}',
        "add",
        "add(a=1)",
        " ",
        "\n",
        ",",
        ";",
        '"',
        "\\",
        "text",
        "é😀",
    ]
)


@given(
    name=st.sampled_from(sorted(TOOL_FORMATS)),
    parts=st.lists(FRAGMENTS, max_size=12),
    data=st.data(),
)
def test_the_cut_into_pieces_changes_nothing(name: str, parts: list[str], data: Any) -> None:
    text = "".join(parts)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=8)))
    pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    content, calls = parse(name, [text])
    assert parse(name, pieces) == (content, calls)
    if not calls:
        assert content == text


def test_arguments_are_given_out_while_they_come() -> None:
    parser = ToolParser(TOOL_FORMATS["hermes"].frame, NAMES, 1)
    assert parser.push('<tool_call>\n{"name": "add", "argu').is_empty
    (first,) = parser.push('ments": {"a"').tool_calls
    assert (first.name, first.arguments) == ("add", '{"a"')
    (second,) = parser.push(": 1").tool_calls
    assert (second.index, second.name, second.call_id, second.arguments) == (0, None, None, ": 1")


def test_calls_beyond_the_most_are_dropped() -> None:
    one = '<tool_call>{"name": "add", "arguments": {}}</tool_call>'
    assert parse("hermes", [one * 3], max_calls=1) == ("", [("add", "{}")])


def test_half_a_surrogate_pair_in_arguments_stays_an_escape() -> None:
    text = '<tool_call>{"arguments": {"a": "\\ud800"}, "name": "add"}</tool_call>'
    _, ((_, arguments),) = parse("hermes", [text])
    arguments.encode()
    assert json.loads(arguments) == {"a": "\ud800"}
