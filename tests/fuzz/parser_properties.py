"""What every parser promises for any input: only its own errors, and no cut changes the result."""

import contextlib
import json
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from octavo.bench.errors import BenchError
from octavo.bench.stream import EventLines, parse_chunk
from octavo.engine.chat_prompts import ChatPrompts
from octavo.engine.chat_template import ChatTemplate
from octavo.engine.detokenizer import Detokenizer, StopStringMatcher
from octavo.engine.errors import OctavoError
from octavo.engine.messages import Cancel, FromEngine, GetStats, Submit, ToEngine
from octavo.engine.sampling_params import SamplingParams
from octavo.engine.structured import ThinkingRule
from octavo.engine.template_input import TemplateInput
from octavo.engine.template_limits import TemplateLimitError
from octavo.engine.tokenizer import Tokenizer
from octavo.models.errors import ModelError
from octavo.models.gguf_header import read_header
from octavo.models.gguf_tokenizer import tokenizer_from_gguf
from octavo.server.chat_protocol import ChatCompletionRequest, as_mappings
from octavo.server.message_parser import MessageParser
from octavo.server.reasoning import ReasoningParser
from octavo.server.tools.choice import choose_tools
from octavo.server.tools.formats import TOOL_FORMATS
from octavo.server.tools.parser import ToolParser

from .tiny_texts import TOOL_TEMPLATE, byte_tokenizer

TOKENIZER: Tokenizer = byte_tokenizer(TOOL_TEMPLATE)
CHATS = ChatPrompts(TOKENIZER, trusts_requests=False)

TEXTS = st.text(max_size=30) | st.sampled_from(["", "<|end|>", "\ud800", "\0", "ß" * 300])
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | TEXTS
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(TEXTS, inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["type", "text", "name", "function", "arguments", "content"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)
ROLES = st.sampled_from(["system", "user", "assistant", "tool", "developer", "function"]) | TEXTS
MESSAGES = st.fixed_dictionaries(
    {"role": ROLES},
    optional={
        "content": TEXTS | st.lists(st.fixed_dictionaries({"type": TEXTS, "text": TEXTS})) | VALUES,
        "tool_calls": VALUES,
        "function_call": VALUES,
        "reasoning": TEXTS | VALUES,
        "name": TEXTS | VALUES,
    },
)
NAMES_OF_FIELDS = sorted(ChatCompletionRequest.model_fields)
BODIES = st.builds(
    lambda messages, more: {**more, "messages": messages},
    st.lists(MESSAGES, max_size=4) | VALUES,
    st.dictionaries(st.sampled_from(NAMES_OF_FIELDS) | TEXTS, VALUES, max_size=4),
)


@given(BODIES)
def chat_bodies(body: dict[str, Any]) -> None:
    """Any body of a chat is refused with a reason, or becomes a prompt."""
    try:
        read = ChatCompletionRequest.model_validate(json.loads(json.dumps(body)))
        choice = choose_tools(*read.offered_tools(), is_parallel=True)
        given = TemplateInput(
            as_mappings(read.messages),
            tools=None if choice is None else choice.tools,
            add_generation_prompt=read.add_generation_prompt,
            continue_final_message=read.continue_final_message,
            variables=read.chat_template_kwargs or {},
        )
        prompt = CHATS.render(given)
        assert isinstance(prompt, str)
        read.sampling_params(read.token_limit, read.num_logprobs())
        TOKENIZER.encode(prompt, add_special_tokens=read.add_special_tokens)
    except (ValidationError, OctavoError):
        pass


PIECES_OF_TEMPLATES = [
    *("{{ messages[0].content }}", "{% for m in messages %}", "{% endfor %}", "{% if tools %}"),
    *("{% endif %}", "{{ x.y.z }}", "{% set x = [1] %}", "{{ x * 3 }}", "{{ 'a' ~ 1/0 }}", "{%"),
    *("{{ ''.__class__ }}", "{% macro f() %}{{ f() }}{% endmacro %}", "{{ f() }}", "{#", "}}"),
    *(
        "{{ raise_exception('no') }}",
        "{{ messages | tojson }}",
        "{% include 'x' %}",
        "{{ range(9) }}",
    ),
]


@given(st.lists(st.sampled_from(PIECES_OF_TEMPLATES) | st.text(max_size=4), max_size=8))
def templates(pieces: list[str]) -> None:
    """Any template is refused when it is compiled or when it is rendered, or gives a text."""
    with contextlib.suppress(OctavoError):
        template = ChatTemplate("".join(pieces), "<|start|>", "<|end|>")
        with contextlib.suppress(TemplateLimitError):
            assert isinstance(template.render([{"role": "user", "content": "x"}]), str)


MARKS = sorted(
    {mark for one in TOOL_FORMATS.values() for mark in (*one.marks, one.begin, one.end) if mark}
)
FRAGMENTS = [
    *MARKS,
    *("<think>", "</think>", "<thi", "```json", "```", "add[ARGS]", "[add(a=1)]"),
    *('{"name": "add", "arguments": ', '{"a": 1}', "{", "}", "[", "]", ",", '"', "\\", "\n", " "),
]
ANSWERS = st.lists(st.sampled_from(FRAGMENTS) | st.text(max_size=5), max_size=14).map("".join)
CUTS = st.lists(st.integers(1, 6), min_size=1, max_size=4)


def pieces_of(text: str, sizes: Sequence[int]) -> list[str]:
    """The text in pieces of these sizes, repeated."""
    pieces, at, turn = [], 0, 0
    while at < len(text):
        size = sizes[turn % len(sizes)]
        pieces.append(text[at : at + size])
        at, turn = at + size, turn + 1
    return pieces


@given(ANSWERS, CUTS, st.sampled_from(sorted(TOOL_FORMATS)), st.booleans(), st.booleans())
def answers(text: str, sizes: list[int], name: str, has_reasoning: bool, is_open: bool) -> None:
    """Reasoning and calls of tools are the same however an answer is cut."""

    def parse(pieces: list[str]) -> tuple[str, str, list[tuple[str | None, str]]]:
        rule = ThinkingRule("<think>", "</think>", is_open=is_open)
        parser = MessageParser(
            ReasoningParser(rule) if has_reasoning else None,
            ToolParser(TOOL_FORMATS[name].frame, {"add", "get_weather"}, 128),
        )
        parsed = parser.parse(pieces)
        calls = [(call.name, call.arguments) for call in parsed.tool_calls]
        return parsed.reasoning, parsed.content, calls

    whole = parse([text])
    assert parse(pieces_of(text, sizes)) == whole
    assert all(name in ("add", "get_weather") for name, _ in whole[2])


@given(
    st.lists(st.integers(0, 300), max_size=60),
    CUTS,
    st.lists(st.text("abé\ufffd<|end|>", min_size=1, max_size=4), min_size=1, max_size=3),
    st.booleans(),
    st.booleans(),
)
def tokens_and_stop_strings(
    ids: list[int], sizes: list[int], stop: list[str], skip: bool, include: bool
) -> None:
    """Any tokens in any pieces give the same text, up to the same stop string."""

    def read(pieces: list[list[int]]) -> tuple[str, str | None]:
        detokenizer = Detokenizer(TOKENIZER, skip_special_tokens=skip)
        matcher = StopStringMatcher(tuple(stop), include=include)
        said = ""
        for text in (*map(detokenizer.push, pieces), detokenizer.flush()):
            shown, matched = matcher.push(text)
            said += shown
            if matched is not None:
                return said, matched
        return said + matcher.flush(), None

    cut = [ids[at : at + sizes[0]] for at in range(0, len(ids), sizes[0])]
    assert read(cut) == read([ids])


@given(st.binary(max_size=400), st.integers(0, 5), st.integers(0, 2**64 - 1))
def gguf_heads(rest: bytes, tensors: int, keys: int) -> None:
    """Any bytes after a GGUF file's first ones are read, or refused."""
    for count in (keys % 4, keys):
        head = b"GGUF\x03\0\0\0" + tensors.to_bytes(8, "little") + count.to_bytes(8, "little")
        with contextlib.suppress(ModelError):
            read_header(memoryview(head + rest))


METADATA = st.dictionaries(
    st.sampled_from(["tokens", "scores", "token_type", "merges", "pre", "bos_token_id"])
    | st.sampled_from(["eos_token_id", "unknown_token_id", "add_bos_token", "add_space_prefix"]),
    st.lists(TEXTS, max_size=6)
    | st.lists(st.integers(-(2**31), 2**32), max_size=6)
    | st.lists(st.floats(), max_size=6)
    | SCALARS,
)


@given(METADATA, st.sampled_from(["gpt2", "llama"]))
def gguf_vocabularies(values: dict[str, Any], kind: str) -> None:
    """Any metadata is a tokenizer, or refused."""
    metadata = {f"tokenizer.ggml.{key}": value for key, value in values.items()}
    with contextlib.suppress(ModelError):
        tokenizer_from_gguf({**metadata, "tokenizer.ggml.model": kind})


FRAMES = [
    msgspec.msgpack.encode(message)
    for message in (
        Submit("r", [1, 2, 3], SamplingParams(max_tokens=4), 4, 7),
        Cancel(["a", "b"]),
        GetStats(3),
    )
]


@given(st.sampled_from(FRAMES), st.lists(st.tuples(st.integers(0, 400), st.binary(max_size=3))))
def internal_messages(frame: bytes, changes: list[tuple[int, bytes]]) -> None:
    """Any bytes on the internal socket are a message, or refused by the decoder's own errors."""
    for at, piece in changes:
        at %= len(frame) + 1
        frame = frame[:at] + piece + frame[at + len(piece) :]
    for kind in (ToEngine, FromEngine):
        with contextlib.suppress(msgspec.MsgspecError, ValueError):
            msgspec.msgpack.decode(frame, type=kind)


EVENTS = st.lists(
    st.binary(max_size=20)
    | st.sampled_from([b"data: ", b"data:", b"\n", b"\r\n", b"\n\n", b'{"choices": [', b"[DONE]"])
    | VALUES.map(lambda value: b"data: " + json.dumps(value).encode() + b"\n\n"),
    max_size=10,
).map(b"".join)


@given(EVENTS, CUTS)
def events_of_streams(data: bytes, sizes: list[int]) -> None:
    """The client's parser finds the same events however the bytes are cut, and never breaks."""
    whole = EventLines().feed(data)
    lines = EventLines()
    cut = [data[at : at + sizes[0]] for at in range(0, len(data), sizes[0])]
    assert [payload for piece in cut for payload in lines.feed(piece)] == whole
    for payload in whole:
        with contextlib.suppress(BenchError):
            parse_chunk(payload)


PROPERTIES: dict[str, Callable[[], None]] = {
    check.__name__: check
    for check in (
        chat_bodies,
        templates,
        answers,
        tokens_and_stop_strings,
        gguf_heads,
        gguf_vocabularies,
        internal_messages,
        events_of_streams,
    )
}
