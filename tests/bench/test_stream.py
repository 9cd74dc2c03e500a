import pytest

from octavo.bench import BenchError
from octavo.bench.stream import EventLines, parse_chunk

WHOLE = 'data: {"a": "é"}\n\n: comment\r\nevent: x\r\ndata:{"b":1}\r\n\r\ndata: [DONE]\n\n'.encode()
PAYLOADS = ['{"a": "é"}'.encode(), b'{"b":1}', b"[DONE]"]


@pytest.mark.parametrize("size", range(1, len(WHOLE) + 1))
def test_pieces_may_end_anywhere(size: int) -> None:
    lines = EventLines()
    pieces = [WHOLE[start : start + size] for start in range(0, len(WHOLE), size)]
    assert [payload for piece in pieces for payload in lines.feed(piece)] == PAYLOADS


def test_text_of_completions_and_chat() -> None:
    assert parse_chunk(b'{"choices":[{"index":0,"text":" a"}]}').text == " a"
    assert parse_chunk(b'{"choices":[{"delta":{"content":"b"}}]}').text == "b"
    assert parse_chunk(b'{"choices":[{"delta":{"reasoning_content":"c"}}]}').text == "c"


def test_a_role_chunk_has_a_choice_but_no_text() -> None:
    chunk = parse_chunk(b'{"choices":[{"delta":{"role":"assistant","content":""}}],"usage":null}')
    assert (chunk.text, chunk.has_choice, chunk.finish_reason, chunk.usage) == (
        "",
        True,
        None,
        None,
    )


def test_usage_with_and_without_cached_tokens() -> None:
    usage = parse_chunk(b'{"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":5}}').usage
    assert usage is not None
    assert (usage.prompt_tokens, usage.completion_tokens, usage.cached_tokens) == (3, 5, None)
    details = b'{"usage":{"prompt_tokens":3,"prompt_tokens_details":{"cached_tokens":2}}}'
    usage = parse_chunk(details).usage
    assert usage is not None and usage.cached_tokens == 2


@pytest.mark.parametrize(
    ("payload", "words"),
    [
        (b'{"error": {"message": "out of blocks", "code": 500}}', "out of blocks"),
        (b'{"error": "plain"}', "plain"),
        (b"{not json", "not a completion chunk"),
        (b'{"choices": 3}', "not a completion chunk"),
        (b"\xff", "not a completion chunk"),
    ],
)
def test_errors_and_nonsense_are_told(payload: bytes, words: str) -> None:
    with pytest.raises(BenchError, match=words):
        parse_chunk(payload)
