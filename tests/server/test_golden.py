"""Whole streams, byte for byte but for what must differ: ids, the date, and noise in the digits.

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
    """Without what differs from run to run, and with numbers as exact as machines agree on."""
    stream = re.sub(r'"id":"(cmpl|chatcmpl)-[0-9a-f]{32}"', r'"id":"\1-ID"', stream)
    stream = re.sub(r'"id":"call_[A-Za-z0-9_-]{24}"', '"id":"call_ID"', stream)
    stream = re.sub(r'"created":\d{10}\b', '"created":0', stream)
    return re.sub(r"-?\d+\.\d{3,}(e-\d+)?", lambda match: f"{float(match[0]):.2f}", stream)


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
    answer = server.post(asked["path"], json={**asked["body"], "stream": True})
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    stream = normalised(answer.content.decode())
    if asked["body"].get("n", 1) > 1:
        stream = by_choice(stream)
    path = FOLDER / f"{name}.sse"
    if os.environ.get("REWRITE_GOLDEN"):
        path.write_bytes(stream.encode())
    assert stream == path.read_bytes().decode()
