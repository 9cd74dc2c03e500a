"""Reasoning is set apart from the answer, however the text comes."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from octavo.engine.outputs import RequestOutput
from octavo.engine.structured import ThinkingRule
from octavo.server.message_parser import MessageParser
from octavo.server.reasoning import ReasoningFormat, ReasoningParser, choose_reasoning
from octavo.server.reasoning_usage import ReasoningTokens
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
        ("<think>\nTwo and two.</think>Four.", True, ("Two and two.", "Four.")),
        ("<thought", True, ("<thought", "")),
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


def test_deepseek_reasons_even_if_nothing_opens_the_block() -> None:
    deepseek = choose_reasoning("deepseek_r1", "")
    assert deepseek is not None
    assert deepseek.rule("<|Assistant|>", 5) == ThinkingRule("<think>", "</think>", 5, is_open=True)
    assert deepseek.rule("<|Assistant|><think>\n\n</think>\n", 5) is None


@pytest.mark.parametrize(
    ("continued", "is_open"),
    [("<think>\nTwo and", True), ("<think>Two.</think> Fo", False), ("Fo", False)],
)
def test_a_continued_message_says_where_it_is(continued: str, is_open: bool) -> None:
    rule = ThinkingRule("<think>", "</think>", is_open=True) if is_open else None
    prompt = f"What does <think> do?<|Assistant|>{continued}"
    assert choose_reasoning("qwen3", "").rule(prompt, None, continued=continued) == rule


def output(text: str, *token_ids: int) -> RequestOutput:
    return RequestOutput(0, text, token_ids, None, None, None, 3, 0, 0)


def test_tokens_of_reasoning_are_counted_to_the_end_mark() -> None:
    counter = ReasoningTokens(ThinkingRule("<think>", "</think>"), end_token=9)
    counter.note(output("", 1))
    assert counter.count == 0  # it may yet be an answer
    for piece in (output("<think>Two", 8, 2), output(" and</think>4", 3, 9, 4), output("5", 5)):
        counter.note(piece)
    assert counter.count == 5


def test_an_answer_without_reasoning_counts_none() -> None:
    counter = ReasoningTokens(ThinkingRule("<think>", "</think>"), end_token=9)
    counter.note(output("Four", 4, 5))
    assert counter.count == 0


def test_calls_are_looked_for_behind_the_reasoning_only() -> None:
    call = '<tool_call>{"name": "f", "arguments": {}}</tool_call>'
    parser = MessageParser(
        ReasoningParser(ThinkingRule("<think>", "</think>")),
        ToolParser(TOOL_FORMATS["hermes"].frame, {"f"}, 1),
    )
    parsed = parser.push(f"<think>I might {call}</think>{call}", is_last=True)
    assert parsed.reasoning == f"I might {call}"
    assert (parsed.content, [c.name for c in parsed.tool_calls]) == ("", ["f"])
