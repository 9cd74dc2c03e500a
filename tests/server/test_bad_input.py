"""Whatever a client sends, it is told what is wrong, and nobody else notices.

That the server goes on and has every block back is checked by the `server` fixture after each test.
"""

import json
from typing import Any

import httpx
import pytest

COMPLETIONS, CHAT = "/v1/completions", "/v1/chat/completions"
USER = [{"role": "user", "content": "Hello"}]
HALF = "\ud800"  # half of a surrogate pair: JSON can spell it, UTF-8 cannot
IMAGE = {"type": "image_url", "image_url": {"url": "https://example.org/cat.png"}}
MIB = 2**20


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (b"", "empty"),
        (b"{", "not valid JSON"),
        (b'{"prompt": "a",}', "at character"),
        (b"{'prompt': 'a'}", "not valid JSON"),
        (b'{"prompt": "a"} and more', "Extra data"),
        (b"null", "null"),
        (b"[1]", "[1]"),
        (b'"text"', "text"),
        (b"3", "3"),
        (b"true", "true"),
        (b'{"prompt": "\xff"}', "not valid UTF-8"),
        (b'{"x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "nested too deeply"),
        (b'{"x": ' + b"9" * 5000 + b"}", "4300 digits"),
    ],
    ids=lambda value: value[:20].decode("latin-1") if isinstance(value, bytes) else value,
)
def test_a_body_that_is_no_json_object_is_refused_everywhere(
    content: bytes, word: str, refuse
) -> None:
    for path in (COMPLETIONS, CHAT, "/tokenize", "/detokenize"):
        refuse(path, content, word)


@pytest.mark.parametrize(
    "content_type", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data"]
)
def test_a_body_of_another_type_is_refused(content_type: str, refuse) -> None:
    body = b'{"prompt": "Hello"}'
    refuse(COMPLETIONS, body, "Content-Type: application/json", content_type=content_type)


def test_a_body_beyond_the_limit_is_refused_by_its_declared_length(refuse) -> None:
    body = b'{"prompt": "' + b"a" * (10 * MIB) + b'"}'
    refuse(COMPLETIONS, body, "8,388,608", "--max-body-bytes", status=413)


def test_a_body_beyond_the_limit_is_refused_while_it_arrives_in_chunks(refuse) -> None:
    pieces = (b"a" * 65536 for _ in range(10 * MIB // 65536))
    refuse(COMPLETIONS, pieces, "8,388,608", "--max-body-bytes", status=413)


NOTHING = "must be provided and non-empty"


@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        (None, NOTHING),
        ("", NOTHING),
        ([], NOTHING),
        ([[]], NOTHING),
        (["a", ""], NOTHING),
        ([[1], []], NOTHING),
        ([49152], "Token id 49152 is out of vocabulary. Vocabulary size: 49152"),
        ([1, -1], "Token id -1 is out of vocabulary"),
        ([[1], [60_000]], "Token id 60000"),
        ([2**40], "1099511627776"),
        (["a"] * 1025, "at most 1024 prompts in a request, got 1025"),
        ([7] * 8192, "prompt contains 8192 input tokens"),
        ("very " * 9000, "maximum context length is 8192 tokens"),
        (["a", 1], "prompt"),
        ([True], "true"),
        ([1.5], "1.5"),
        (5, "5"),
        ({"text": "a"}, "text"),
        ([["a"]], "prompt"),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_a_prompt_that_cannot_be_continued_is_refused(prompt: Any, words: str, refuse) -> None:
    refuse(COMPLETIONS, {"prompt": prompt}, words, param="prompt")


@pytest.mark.parametrize("body", [{"prompt": HALF}, {"prompt": ["a", f"b{HALF}"]}])
def test_half_a_surrogate_pair_in_a_prompt_is_refused(body: dict, refuse) -> None:
    refuse(COMPLETIONS, body, "surrogate")


@pytest.mark.parametrize("name", ["model", HALF])
def test_an_unknown_model_is_not_found_whatever_its_name(name: str, refuse) -> None:
    shown = "\\ud800" if name == HALF else name
    words = f"The model `{shown}` does not exist."
    refuse(COMPLETIONS, {"prompt": "a", "model": name}, words, status=404, param="model")


@pytest.mark.parametrize(
    ("path", "name", "value"),
    [
        (COMPLETIONS, "suffix", "the end"),
        (COMPLETIONS, "prompt_embeds", "AAAA"),
        (COMPLETIONS, "use_beam_search", True),
        (COMPLETIONS, "best_of", 3),
        (CHAT, "logits_processors", ["x"]),
        (CHAT, "audio", {"voice": "alloy", "format": "wav"}),
    ],
)
def test_what_is_not_supported_is_refused_and_not_ignored(
    path: str, name: str, value: Any, refuse
) -> None:
    body = {"prompt": "a", "messages": USER, name: value}
    refuse(path, body, name, "not supported", param=name)


@pytest.mark.parametrize(
    ("messages", "words"),
    [
        ([], "at least 1"),
        ("Hello", "Hello"),
        ([5], "5"),
        ([{"content": "Hello"}], "messages.0.role"),
        ([{"role": "user", "content": 5}], "messages.0.content"),
        ([{"role": 5, "content": "Hello"}], "messages.0.role"),
        ([{"role": "user", "content": [IMAGE]}], "'image_url' are not supported"),
        ([{"role": "user", "content": [{"type": HALF, "text": "a"}]}], "\\ud800"),
        ([{"role": "user", "content": [{"type": "text"}]}], "'text'"),
        ([{"role": "user", "content": ["Hello"]}], "messages.0.content"),
    ],
)
def test_messages_that_cannot_be_read_are_refused(messages: Any, words: str, refuse) -> None:
    refuse(CHAT, {"messages": messages}, words, param="messages")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"continue_final_message": True}, "Cannot set both"),
        (
            {
                "messages": [{"role": "assistant", "content": " "}],
                "continue_final_message": True,
                "add_generation_prompt": False,
            },
            "final message",
        ),
    ],
)
def test_a_final_message_that_cannot_be_continued_is_refused(
    options: dict, words: str, refuse
) -> None:
    refuse(CHAT, {"messages": USER, **options}, words, param="continue_final_message")


@pytest.mark.parametrize(
    ("path", "body", "words", "param"),
    [
        ("/tokenize", {}, "exactly one of", "prompt"),
        ("/tokenize", {"prompt": "a", "messages": USER}, "exactly one of", "prompt"),
        ("/tokenize", {"prompt": 5}, "5", "prompt"),
        ("/tokenize", {"prompt": HALF}, "surrogate", None),
        ("/tokenize", {"messages": []}, "at least 1", "messages"),
        ("/tokenize", {"messages": USER, "tools": [5]}, "5", "tools"),
        ("/tokenize", {"prompt": "a", "model": "other"}, "`other`", "model"),
        ("/detokenize", {}, "required", "tokens"),
        ("/detokenize", {"tokens": "abc"}, "abc", "tokens"),
        ("/detokenize", {"tokens": [-1]}, "Token id -1", "tokens"),
        ("/detokenize", {"tokens": [49152]}, "49152", "tokens"),
        ("/detokenize", {"tokens": [1.5]}, "1.5", "tokens"),
    ],
)
def test_bad_bodies_of_the_token_routes_are_refused(
    path: str, body: dict, words: str, param: str | None, refuse
) -> None:
    refuse(path, body, words, param=param, status=404 if param == "model" else 400)


def test_bad_requests_do_not_disturb_a_stream_beside_them(server, refuse) -> None:
    body = {"prompt": "It was", "max_tokens": 12, "temperature": 0, "ignore_eos": True}
    alone = server.post(COMPLETIONS, json=body).json()["choices"][0]["text"]
    text = ""
    with httpx.stream(
        "POST", server.url + COMPLETIONS, json={**body, "stream": True}, timeout=60
    ) as stream:
        for line in stream.iter_lines():
            if line.startswith("data: {"):
                text += json.loads(line.removeprefix("data: "))["choices"][0]["text"]
                refuse(COMPLETIONS, {"prompt": [49152]}, "49152", param="prompt")
                refuse(CHAT, b"{", "not valid JSON")
    assert text == alone
