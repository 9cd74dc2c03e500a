"""The end of a server's life, with real signals and streams that are open."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import httpx
import pytest

from ..conftest import NUM_TRIES
from .conftest import paused_engine

pytestmark = pytest.mark.slow

NUM_STREAMS = 16
EXIT_DEADLINE_S = 60.0


class Reader(threading.Thread):
    """Reads one stream to its end."""

    def __init__(self, url: str, max_tokens: int) -> None:
        super().__init__(daemon=True)
        self.body = {
            "prompt": "Once upon a time",
            "max_tokens": max_tokens,
            "ignore_eos": True,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        self.url = url
        self.has_begun = threading.Event()
        self.events: list[dict[str, Any]] = []
        self.is_done = False
        self.error: Exception | None = None

    def run(self) -> None:
        try:
            with httpx.stream(
                "POST", self.url + "/v1/completions", json=self.body, timeout=120, verify=False
            ) as answer:
                for line in answer.iter_lines():
                    if line == "data: [DONE]":
                        self.is_done = True
                    elif line:
                        self.events.append(json.loads(line.removeprefix("data: ")))
                        self.has_begun.set()
        except httpx.HTTPError as error:
            self.error = error

    @property
    def finish_reasons(self) -> list[str]:
        choices = [choice for event in self.events for choice in event.get("choices", [])]
        return [choice["finish_reason"] for choice in choices if choice["finish_reason"]]

    @property
    def num_tokens(self) -> int:
        return int(self.events[-1]["usage"]["completion_tokens"])


def open_streams(url: str, count: int, max_tokens: int) -> list[Reader]:
    readers = [Reader(url, max_tokens) for _ in range(count)]
    for reader in readers:
        reader.start()
    for reader in readers:
        assert reader.has_begun.wait(60), reader.error
    return readers


def assert_refusing(server: Any, wait_until: Callable[..., None]) -> None:
    """It drains: probes of its life are answered, and one request is refused, and counted."""
    wait_until(lambda: server.get("/readyz").status_code == 503, 10)
    assert [server.get(path).status_code for path in ("/livez", "/health")] == [200, 200]
    refused = server.post("/v1/completions", json={"prompt": "Hi", "max_tokens": 1})
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
    assert refused.json()["error"]["type"] == "ServiceUnavailableError"
    samples = server.metrics()
    assert [v for k, v in samples.items() if k.startswith("octavo_draining{")] == [1]
    rejected = [v for k, v in samples.items() if "rejected" in k and '"draining"' in k]
    assert rejected == [1]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_open_streams_end_by_themselves_while_new_requests_are_refused(
    number: signal.Signals, start_server: Callable[..., AbstractContextManager], wait_until
) -> None:
    with start_server("--drain-timeout", "120") as server:
        for _ in range(NUM_TRIES):
            readers = open_streams(server.url, NUM_STREAMS, 100)
            # They must not be over while the refusals are looked at, nor before.
            with paused_engine(server):
                if server.get("/load").json()["server_load"] > 0:
                    server.process.send_signal(number)
                    assert_refusing(server, wait_until)
                    break
        for reader in readers:
            reader.join(EXIT_DEADLINE_S)
        assert [reader.error for reader in readers] == [None] * NUM_STREAMS
        assert [reader.finish_reasons for reader in readers] == [["length"]] * NUM_STREAMS
        assert [reader.num_tokens for reader in readers] == [100] * NUM_STREAMS
        assert all(reader.is_done for reader in readers)
        assert server.process.wait(EXIT_DEADLINE_S) == 0


def test_what_outlasts_the_drain_gets_a_proper_end(
    start_server: Callable[..., AbstractContextManager],
) -> None:
    with start_server("--drain-timeout", "0.5") as server:
        readers = open_streams(server.url, 4, 4000)
        server.process.send_signal(signal.SIGTERM)
        for reader in readers:
            reader.join(EXIT_DEADLINE_S)
        assert [reader.finish_reasons for reader in readers] == [["abort"]] * 4
        assert all(reader.is_done and reader.error is None for reader in readers)
        assert all(0 < reader.num_tokens < 4000 for reader in readers)
        assert server.process.wait(EXIT_DEADLINE_S) == 0
        assert "4 choices are cut short" in server.log_path.read_text()


def test_a_second_signal_ends_at_once(
    start_server: Callable[..., AbstractContextManager], wait_until
) -> None:
    with start_server("--drain-timeout", "120") as server:
        (reader,) = open_streams(server.url, 1, 4000)
        server.process.send_signal(signal.SIGTERM)
        wait_until(lambda: server.get("/readyz").status_code == 503, 10)
        wait_until(lambda: _has_ended(server, signal.SIGTERM), 20)
        assert server.process.returncode == 128 + signal.SIGTERM
        reader.join(EXIT_DEADLINE_S)
        assert not reader.is_done


def test_a_drain_of_no_time_cuts_at_once(
    start_server: Callable[..., AbstractContextManager],
) -> None:
    with start_server("--drain-timeout", "0") as server:
        (reader,) = open_streams(server.url, 1, 4000)
        server.process.send_signal(signal.SIGTERM)
        reader.join(EXIT_DEADLINE_S)
        assert (reader.finish_reasons, reader.is_done) == (["abort"], True)
        assert server.process.wait(EXIT_DEADLINE_S) == 0


def test_a_request_that_comes_in_while_the_drain_ends_is_refused_whole(
    start_server: Callable[..., AbstractContextManager], wait_until
) -> None:
    """Its head came before the signal, its body after the drain had timed out."""
    body = json.dumps({"prompt": "Hi", "max_tokens": 4000, "ignore_eos": True, "stream": True})
    with start_server("--drain-timeout", "0.2") as server:
        address = ("127.0.0.1", httpx.URL(server.url).port)
        with socket.create_connection(address, timeout=EXIT_DEADLINE_S) as connection:
            head = f"POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n"
            connection.sendall(f"{head}content-type: application/json\r\n\r\n{body[:10]}".encode())
            assert server.get("/livez").status_code == 200  # what came before is read by now
            server.process.send_signal(signal.SIGTERM)
            wait_until(lambda: "timed out" in server.log_path.read_text(), 10)
            assert "draining: 1 requests are under way" in server.log_path.read_text()
            connection.sendall(body[10:].encode())
            answer = b"".join(iter(lambda: connection.recv(65536), b""))
        assert answer.startswith(b"HTTP/1.1 503 "), answer
        assert b"the server is shutting down" in answer
        assert server.process.wait(EXIT_DEADLINE_S) == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_while_loading_ends_it_and_leaves_nothing_behind(
    number: signal.Signals, smollm2_gguf: Path, tmp_path: Path, wait_until
) -> None:
    socket_folder = tmp_path / "sockets"
    socket_folder.mkdir()
    process = subprocess.Popen(
        [sys.executable, "-m", "octavo", "serve", "--port", "0"],
        stderr=subprocess.PIPE,
        env={**os.environ, "TMPDIR": str(socket_folder)},
    )
    # The engine's process has been started.
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    wait_until(lambda: bool(children.read_text()) and any(socket_folder.iterdir()), 30)
    process.send_signal(number)
    _, errors = process.communicate(timeout=EXIT_DEADLINE_S)
    assert (process.returncode, b"Traceback" in errors) == (0, False), errors
    assert not [entry.name for entry in socket_folder.iterdir()]


def test_an_idle_server_ends_and_leaves_nothing_behind(
    start_server: Callable[..., AbstractContextManager], tmp_path, monkeypatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with start_server() as server:
        assert [entry.name for entry in tmp_path.iterdir()]  # the engine's socket
        assert server.stop() == 0
    assert not [entry.name for entry in tmp_path.iterdir()]


def _has_ended(server: Any, number: signal.Signals) -> bool:
    """Send the signal again: the very first repetitions may come too soon to count as a wish."""
    if server.process.poll() is None:
        server.process.send_signal(number)
    return server.process.poll() is not None
