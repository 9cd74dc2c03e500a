"""Whole streams, byte for byte but for what must differ: ids, the date, and noise in the digits.

A server that stood still joins the outputs of several steps in one event, and is asked again.

`golden/NAME.json` is the path and body of a request (with a salt, so that nothing is cached),
`golden/NAME.sse` the stream it gives. After a change that is meant, run this file with
REWRITE_GOLDEN=1 to write them anew, and read the difference before you commit it.
"""

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).parent / "golden"
NAMES = sorted(path.stem for path in FOLDER.glob("*.json"))
THINKING_TEMPLATE = """{% for message in messages %}<|im_start|>{{ message.role }}
{{ message.content }}<|im_end|>
{% endfor %}<|im_start|>assistant
<think>
"""
NUM_TRIES = 10
NUMBER = re.compile(r"-?\d+(?:\.\d+(?:e-?\d+)?|e-\d+)")
REASONING_TOKENS = re.compile(r'(?<="reasoning_tokens":)\d+')
TOLERANCE = 0.011  # the files have two decimals


@pytest.fixture(scope="module")
def thinking_server(start_server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The model in float32, with a template that opens its reasoning."""
    template: Path = tmp_path_factory.mktemp("template") / "thinking.jinja"
    template.write_text(THINKING_TEMPLATE)
    flags = ("--chat-template", str(template), "--reasoning-parser", "qwen3")
    with start_server("--dtype", "float32", *flags) as running:
        yield running
        running.wait_idle()


def normalised(stream: str) -> str:
    """Without what differs from run to run."""
    stream = re.sub(r'"id":"(cmpl|chatcmpl)-[0-9a-f]{32}"', r'"id":"\1-ID"', stream)
    stream = re.sub(r'"id":"call_[A-Za-z0-9_-]{24}"', '"id":"call_ID"', stream)
    return re.sub(r'"created":\d{10}\b', '"created":0', stream)


def rounded(stream: str) -> str:
    """With numbers about as exact as machines agree on."""
    return re.sub(r"-?\d+\.\d{3,}(e-\d+)?", lambda match: f"{float(match[0]):.2f}", stream)


def is_joined(stream: str, expected: str) -> bool:
    """Whether it shows that steps came together in one event."""
    if stream.count("\n\n") < expected.count("\n\n"):
        return True
    # Steps that spell the end of the reasoning give no event of their own. Where one is joined to
    # the next, only the usage tells: reasoning is counted to the end of the output that ends it.
    counts = [list(map(int, REASONING_TOKENS.findall(text))) for text in (stream, expected)]
    return counts[0] > counts[1] and len(counts[0]) == len(counts[1])


def assert_alike(stream: str, expected: str) -> None:
    """The same bytes, but for numbers with a fraction: these may differ a little."""
    found, wanted = ([float(n) for n in NUMBER.findall(text)] for text in (stream, expected))
    texts = [NUMBER.sub("NUMBER", text) for text in (stream, expected)]
    assert texts[0] == texts[1]
    assert found == pytest.approx(wanted, rel=0, abs=TOLERANCE)


def by_choice(stream: str) -> str:
    """Choice after choice: how the chunks of several interleave depends on when each began."""
    events = stream.removesuffix("\n\n").split("\n\n")
    indices = [re.match(r'.*"choices":\[\{"index":(\d+)', event) for event in events]
    order = [int(found[1]) if found else len(events) for found in indices]
    return (
        "\n\n".join(events[i] for i in sorted(range(len(events)), key=order.__getitem__)) + "\n\n"
    )


def test_there_are_streams_of_every_kind() -> None:
    assert {name.split("-")[0] for name in NAMES} == {"completion", "chat", "tools", "reasoning"}
    assert {path.stem for path in FOLDER.glob("*.sse")} == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_stream_is_as_it_was(name: str, request: pytest.FixtureRequest) -> None:
    asked = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    thinks = name.startswith("reasoning")
    server = request.getfixturevalue("thinking_server" if thinks else "server")
    path = FOLDER / f"{name}.sse"
    for attempt in range(NUM_TRIES):
        salt = asked["body"]["cache_salt"] + (f" {attempt}" if attempt else "")
        body = {**asked["body"], "stream": True, "cache_salt": salt}
        answer = server.post(asked["path"], json=body)
        assert answer.status_code == 200, answer.text
        assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
        stream = normalised(answer.content.decode())
        if asked["body"].get("n", 1) > 1:
            stream = by_choice(stream)
        if os.environ.get("REWRITE_GOLDEN"):
            path.write_bytes(rounded(stream).encode())
        expected = path.read_bytes().decode()
        if not is_joined(stream, expected):
            break
    assert_alike(stream, expected)
