"""Clients that stall, send garbage, vanish or do not read: the server outlives a thousand."""

import json
import random
import socket
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from ..conftest import TINY_CONTEXT_LENGTH, StartServer
from .drill_result import DrillResult
from .engine_faults import break_engines
from .process_memory import holding_of

NUM_CONNECTIONS = 1000
NUM_CHOICES = 5
CHOICE_TOKENS = 4000  # of each choice: 20,000 tokens in all
DEADLINE_S = 120.0
SLOW_FROM = 3000  # the position from which an engine takes its time, where a test wants that
SPARE_KIB = 24 * 1024
MOST_KIB_A_TOKEN = 4  # that waits to be written, with 20 log-probabilities; 3.0 were measured
MOST_RUNNING = 32
SPARE_DESCRIPTORS = 8

assert CHOICE_TOKENS < TINY_CONTEXT_LENGTH

HEAD = b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"


def request(**body: Any) -> bytes:
    content = json.dumps({"prompt": "Once", "ignore_eos": True, **body}).encode()
    return HEAD + b"Content-Length: %d\r\n\r\n" % len(content) + content


STREAM = request(max_tokens=3000, stream=True)
WHOLE = request(max_tokens=3000)


@pytest.fixture(scope="module")
def session_tiny(start_tiny: StartServer) -> Iterator[Any]:
    flags = ["--header-timeout", "2", "--body-timeout", "2", "--write-timeout", "2"]
    flags += ["--keep-alive-timeout", "2", "--max-num-seqs", "32"]
    with start_tiny(*flags) as server:
        answer(server)  # what is loaded with the first request is no growth
        yield server


@pytest.fixture(scope="module")
def session_patient(start_tiny: StartServer) -> Iterator[Any]:
    with start_tiny("--max-num-seqs", "32") as server:
        answer(server)
        yield server


@pytest.fixture
def tiny(session_tiny: Any, wait_until: Callable[..., None]) -> Iterator[Any]:
    """A server that waits for no client, and must be none the worse after the test."""
    yield from unharmed(session_tiny, wait_until)


@pytest.fixture
def patient(session_patient: Any, wait_until: Callable[..., None]) -> Iterator[Any]:
    """The same of one with the default timeouts."""
    yield from unharmed(session_patient, wait_until)


def unharmed(server: Any, wait_until: Callable[..., None]) -> Iterator[Any]:
    """Yield the server; then it must answer, be idle, and hold no more descriptors."""
    before = holding_of(server.process.pid).num_descriptors
    yield server
    assert server.process.poll() is None
    answer(server)
    server.wait_idle()
    most = before + SPARE_DESCRIPTORS
    wait_until(
        lambda: holding_of(server.process.pid).num_descriptors <= most,
        DEADLINE_S,
        lambda: f"{holding_of(server.process.pid)}, {before} descriptors before",
    )


def answer(server: Any) -> None:
    body = {"prompt": "Once", "max_tokens": 4, "ignore_eos": True}
    got = server.post("/v1/completions", json=body)
    assert got.status_code == 200, got.text
    assert got.json()["usage"]["completion_tokens"] == 4


def connect(server: Any, receive_bytes: int | None = None) -> socket.socket:
    address = urlsplit(server.url)
    connection = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    if receive_bytes is not None:  # before connecting: it decides the window
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    connection.settimeout(DEADLINE_S)
    connection.connect((address.hostname, address.port))
    return connection


def vanish(connection: socket.socket) -> None:
    """Close with a reset, as a client does that crashes."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def is_closed(connection: socket.socket) -> bool:
    """Whether the server has closed it; what it sent before is read and forgotten."""
    connection.setblocking(False)
    try:
        while connection.recv(65536):
            pass
    except BlockingIOError:
        return False
    except ConnectionError:
        return True
    return True


def wait_until_closed(connections: list[socket.socket], wait_until: Callable[..., None]) -> None:
    """Wait for the server to close all of them."""
    left = list(connections)

    def all_closed() -> bool:
        left[:] = [one for one in left if not is_closed(one)]
        return not left

    wait_until(all_closed, DEADLINE_S, lambda: f"{len(left)} are open still")


@pytest.mark.slow
@pytest.mark.parametrize(
    "begin",
    [b"", b"PO", HEAD, STREAM[:-10], HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\n{"],
    ids=["nothing", "request line", "head", "body", "chunk"],
)
def test_a_thousand_connections_that_stall_are_closed(
    begin: bytes, tiny: Any, wait_until: Callable[..., None]
) -> None:
    with ExitStack() as stack:
        connections = []
        for _ in range(NUM_CONNECTIONS):
            connections.append(stack.enter_context(connect(tiny)))
            connections[-1].sendall(begin)
        answer(tiny)  # while they stall, others are served
        wait_until_closed(connections, wait_until)


@pytest.mark.slow
@pytest.mark.parametrize(
    "garbage",
    [
        bytes(range(256)) * 16,
        b"\x16\x03\x01\x02\x00\x01",
        b"GET / HTTP/1.1\r\nX" * 100,
        b"\r\n" * 99,
    ],
    ids=["bytes", "tls", "headers", "blank lines"],
)
def test_a_thousand_connections_with_garbage_are_closed(
    garbage: bytes, tiny: Any, wait_until: Callable[..., None]
) -> None:
    with ExitStack() as stack:
        left = []
        for _ in range(NUM_CONNECTIONS):
            left.append(stack.enter_context(connect(tiny)))
            left[-1].sendall(garbage)
        answer(tiny)
        wait_until_closed(left, wait_until)


@pytest.mark.slow
@pytest.mark.parametrize(
    "content",
    [HEAD[:40], STREAM[:-10], STREAM, WHOLE],
    ids=["in the head", "in the body", "before the stream", "before the answer"],
)
def test_a_thousand_clients_that_vanish_leave_nothing_behind(content: bytes, patient: Any) -> None:
    for _ in range(NUM_CONNECTIONS):
        connection = connect(patient)
        connection.sendall(content)
        vanish(connection)
    answer(patient)


@pytest.mark.slow
def test_a_hundred_clients_that_vanish_in_the_middle_of_a_stream_give_their_blocks_back(
    patient: Any,
) -> None:
    for _ in range(100):
        connection = connect(patient)
        connection.sendall(STREAM)
        with connection.makefile("rb") as stream:
            line = b""
            while not line.startswith(b"data: "):
                line = stream.readline()
                assert line, "the stream ended early"
        vanish(connection)
    answer(patient)


@pytest.mark.parametrize("num_readers", [1, 20])
def test_clients_that_never_read_their_streams_are_cut_and_cost_little_memory(
    num_readers: int,
    start_tiny: StartServer,
    wait_until: Callable[..., None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Log-probabilities make each token hundreds of bytes: more than all buffers hold. When these
    # are full, the last 1,000 steps take 20 s, so that no stream ends before it is cut.
    is_late = f"any(item.start > {SLOW_FROM} for item in batch)"
    monkeypatch.setenv("PYTHONPATH", break_engines(tmp_path, is_late, "time.sleep(0.02)"))
    long = request(max_tokens=CHOICE_TOKENS, n=NUM_CHOICES, stream=True, logprobs=20)
    most_kib = 0
    with (
        start_tiny("--write-timeout", "2", "--max-num-seqs", str(MOST_RUNNING)) as tiny,
        ExitStack() as stack,
    ):
        answer(tiny)  # what is loaded with the first request is no growth
        memory_before = holding_of(tiny.process.pid).anonymous_kib
        for _ in range(num_readers):
            stack.enter_context(connect(tiny, receive_bytes=4096)).sendall(long)

        def all_cut() -> bool:
            nonlocal most_kib
            most_kib = max(most_kib, holding_of(tiny.process.pid).anonymous_kib)
            answer(tiny)  # others are served meanwhile
            return num_gone(tiny) == num_readers * NUM_CHOICES

        wait_until(all_cut, 4 * DEADLINE_S, lambda: f"{num_gone(tiny)} were cut")
        tiny.wait_idle()
        num_tokens = tiny.gauge("octavo_generation_tokens_total")
        told = tiny.log_path.read_text()
    assert told.count("a client left its answer unread") == num_readers
    # No choice waits longer than it runs: when it is cut, it has not ended.
    most_tokens = min(num_tokens, MOST_RUNNING * CHOICE_TOKENS)
    assert most_kib - memory_before < SPARE_KIB + MOST_KIB_A_TOKEN * most_tokens


def test_a_client_that_reads_slowly_gets_its_whole_stream(
    start_tiny: StartServer, wait_until: Callable[..., None]
) -> None:
    """It begins to read when all is computed, of which much is left to be written."""
    num_tokens = NUM_CHOICES * CHOICE_TOKENS
    options = {"include_usage": True}
    body = request(
        max_tokens=CHOICE_TOKENS, n=NUM_CHOICES, stream=True, logprobs=20, stream_options=options
    )
    lines, last = [], b""
    with start_tiny() as server, connect(server, receive_bytes=4096) as connection:
        connection.sendall(body)
        wait_until(lambda: server.gauge("octavo_generation_tokens_total") >= num_tokens, DEADLINE_S)
        with connection.makefile("rb", buffering=512) as stream:
            while not last.startswith(b"data: [DONE]"):
                last = stream.readline()
                assert last, "the stream ended early"
                lines.append(last)
    chunks = [json.loads(line[6:]) for line in lines if line.startswith(b"data: {")]
    assert chunks[-1]["usage"]["completion_tokens"] == num_tokens
    drawn = [c["logprobs"] for chunk in chunks for c in chunk["choices"] if c["logprobs"]]
    assert sum(len(one["tokens"]) for one in drawn) == num_tokens


def drill(connections: int, seed: int, start_tiny: StartServer) -> DrillResult:
    """Open connections that each do one of the above; honest requests come between them."""
    choose = random.Random(seed)
    beginnings = (b"", HEAD[:40], HEAD, STREAM[:-10], STREAM, WHOLE, choose.randbytes(4096))
    num_closed = num_asked = num_lost = 0
    with start_tiny("--header-timeout", "2", "--body-timeout", "2", "--max-num-seqs", "32") as tiny:
        answer(tiny)
        before = holding_of(tiny.process.pid)
        stalling: list[socket.socket] = []
        for number in range(connections):
            content, connection = choose.choice(beginnings), connect(tiny)
            connection.sendall(content)
            if choose.random() < 0.5 or content in (STREAM, WHOLE):
                vanish(connection)
                num_closed += 1
            else:
                stalling.append(connection)
            if number % 50 == 0:
                num_asked += 1
                try:
                    answer(tiny)
                except AssertionError:
                    num_lost += 1
        end = time.monotonic() + DEADLINE_S
        while stalling and time.monotonic() < end:
            left = [one for one in stalling if not is_closed(one)]
            num_closed += len(stalling) - len(left)
            stalling = left
        for one in stalling:
            one.close()
        tiny.wait_idle()
        after = holding_of(tiny.process.pid)
        return DrillResult(
            name="hostile clients",
            tried=connections,
            survived=num_closed,
            requests_lost=num_lost,
            blocks_leaked=int(tiny.gauge("octavo_kv_blocks_used")),
            seeds=(seed,) if num_lost or num_closed < connections else (),
            note=f"connections that stall, send garbage or half a request, or vanish; {num_asked} "
            f"honest requests between them; memory {after.anonymous_kib - before.anonymous_kib:+,} "
            f"KiB, descriptors {after.num_descriptors - before.num_descriptors:+d}",
        )


@pytest.mark.slow
def test_hostile_clients_of_all_kinds_at_once(start_tiny: StartServer) -> None:
    result = drill(300, 1, start_tiny)
    assert result.is_passed, result


def num_gone(server: Any) -> float:
    name = "octavo_requests_aborted_total"
    samples = server.metrics().items()
    return next(v for k, v in samples if k.startswith(name) and 'reason="client_gone"' in k)
