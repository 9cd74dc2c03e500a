"""Reasoning is set apart from the answer, however the text comes."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from octavo.engine.structured import ThinkingRule
from octavo.server.message_parser import MessageParser
from octavo.server.reasoning import ReasoningFormat, ReasoningParser, choose_reasoning
from octavo.server.tools.formats import TOOL_FORMATS
from octavo.server.tools.parser import ToolParser


def parse(pieces: list[str], *, is_open: bool = False) -> tuple[str, str]:
    parser = ReasoningParser(ThinkingRule("<think>", "</think>", is_open=is_open))
    deltas = [*map(parser.push, pieces), parser.flush()]
    return "".join(d.reasoning for d in deltas), "".join(d.content for d in deltas)


@pytest.mark.parametrize(
    ("text", "is_open", "expected"),
    [
        ("<think>\nTwo and\n two.\n</think>\n\nFour.", False, ("Two and\n two.", "Four.")),
        ("Two and two.</think>Four. ", True, ("Two and two.", "Four. ")),
        ("\n<think></think>\n\nFour.", False, ("", "Four.")),
        ("Four.", False, ("", "Four.")),
        (" Four, <think>no</think>", False, ("", " Four, <think>no</think>")),
        ("<thin", False, ("", "<thin")),
        ("never ends </thin", True, ("never ends </thin", "")),
        ("<think>never ends ", False, ("never ends", "")),
        ("a </think> b </think> c", True, ("a", "b </think> c")),
        ("", False, ("", "")),
    ],
)
def test_the_two_parts(text: str, is_open: bool, expected: tuple[str, str]) -> None:
    assert parse([text], is_open=is_open) == expected
    assert parse(list(text), is_open=is_open) == expected


@given(
    parts=st.lists(st.sampled_from(["<think>", "</think>", "<", "/think>", " ", "\n", "ab"])),
    is_open=st.booleans(),
    data=st.data(),
)
def test_the_cut_into_pieces_changes_nothing(parts: list[str], is_open: bool, data: Any) -> None:
    text = "".join(parts)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=6)))
    pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    assert parse(pieces, is_open=is_open) == parse([text], is_open=is_open)


@pytest.mark.parametrize(
    ("prompt", "rule"),
    [
        ("<|im_start|>assistant\n", ThinkingRule("<think>", "</think>", 5)),
        ("<|Assistant|><think>\n", ThinkingRule("<think>", "</think>", 5, is_open=True)),
        ("assistant\n<think>\n\n</think>\n\n", None),
    ],
)
def test_the_prompt_says_where_the_answer_begins(prompt: str, rule: ThinkingRule | None) -> None:
    assert ReasoningFormat("<think>", "</think>").rule(prompt, 5) == rule


def test_the_template_tells_the_format() -> None:
    assert choose_reasoning("auto", "{{ '<think>\\n\\n</think>' }}") == ReasoningFormat(
        "<think>", "</think>"
    )
    assert choose_reasoning("auto", "{{ messages }}") is None
    assert choose_reasoning("none", "</think>") is None
    assert choose_reasoning("mistral", "") == ReasoningFormat("[THINK]", "[/THINK]")


def test_calls_are_looked_for_behind_the_reasoning_only() -> None:
    call = '<tool_call>{"name": "f", "arguments": {}}</tool_call>'
    parser = MessageParser(
        ReasoningParser(ThinkingRule("<think>", "</think>")),
        ToolParser(TOOL_FORMATS["hermes"].frame, {"f"}, 1),
    )
    parsed = parser.push(f"<think>I might {call}</think>{call}", is_last=True)
    assert parsed.reasoning == f"I might {call}"
    assert (parsed.content, [c.name for c in parsed.tool_calls]) == ("", ["f"])
