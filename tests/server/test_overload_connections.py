"""Connections that bring too much, too little, or are too many, on a server with short limits."""

import json
import socket
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from octavo.cli.open_files import NUM_OWN_FILES

from ..conftest import running_server

COMPLETIONS = "/v1/completions"
DEADLINE_S = 30.0
MAX_CONNECTIONS = 12
JSON_TYPE = b"Content-Type: application/json\r\n"


@pytest.fixture(scope="module")
def strict_server(start_server: Callable[..., AbstractContextManager]) -> Iterator[Any]:
    # Three seconds: an honest request, too, may come from a process that stands still.
    flags = ["--header-timeout", "3", "--body-timeout", "3", "--keep-alive-timeout", "2"]
    flags += ["--max-header-bytes", "4096", "--max-connections", str(MAX_CONNECTIONS)]
    with start_server(*flags) as server:
        yield server


@pytest.fixture
def strict(strict_server: Any, wait_until: Callable[..., None]) -> Iterator[Any]:
    yield strict_server
    # Places of the test's connections may be taken for a moment yet.
    wait_until(lambda: strict_server.get("/v1/models").status_code == 200, DEADLINE_S)
    strict_server.wait_idle()


def connect(server: Any) -> socket.socket:
    address = urlsplit(server.url)
    return socket.create_connection((address.hostname, address.port), timeout=DEADLINE_S)


def read_all(connection: socket.socket) -> bytes:
    """Everything until the server closes, which it must do before the socket's time-out."""
    pieces = []
    while True:
        try:
            piece = connection.recv(65536)
        except ConnectionResetError:  # it had more of ours to read
            piece = b""
        if not piece:
            return b"".join(pieces)
        pieces.append(piece)


def answer_to(server: Any, *pieces: bytes) -> tuple[int, dict[str, str], Any]:
    """Send these and parse the one answer, after which the connection must be closed."""
    with connect(server) as connection:
        for piece in pieces:
            connection.sendall(piece)
        return parse(read_all(connection))


def parse(answer: bytes) -> tuple[int, dict[str, str], Any]:
    head, _, body = answer.partition(b"\r\n\r\n")
    status, *lines = head.decode().split("\r\n")
    headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
    assert headers["connection"] == "close"
    return int(status.split(" ")[1]), headers, json.loads(body)


def rejected(server: Any, reason: str) -> float:
    return sum(
        value
        for name, value in server.metrics().items()
        if name.startswith("octavo_requests_rejected_total") and f'reason="{reason}"' in name
    )


def head(length: int, *more: bytes) -> bytes:
    lines = (b"POST /v1/completions HTTP/1.1\r\nHost: x\r\n", JSON_TYPE, *more)
    return b"".join(lines) + b"Content-Length: %d\r\n\r\n" % length


@pytest.mark.parametrize(
    "begin", [b"P", b"POST /v1/completions HTTP/1.1\r\n", b"GET /v1/models HTTP/1.1\r\nHost: "]
)
def test_a_head_that_stops_halfway_is_a_408(begin: bytes, strict: Any) -> None:
    before = rejected(strict, "header_timeout")
    status, _, body = answer_to(strict, begin)
    assert (status, body["error"]["type"]) == (408, "RequestTimeoutError")
    assert "--header-timeout" in body["error"]["message"]
    assert rejected(strict, "header_timeout") == before + 1


def test_a_connection_that_brings_nothing_is_closed_without_a_word(strict: Any) -> None:
    with connect(strict) as connection:
        assert read_all(connection) == b""


def test_a_used_connection_is_closed_when_it_idles(strict: Any) -> None:
    with connect(strict) as connection:
        connection.sendall(b"GET /version HTTP/1.1\r\nHost: x\r\n\r\n")
        answer = read_all(connection)
    assert answer.startswith(b"HTTP/1.1 200") and answer.count(b"HTTP/1.1") == 1


@pytest.mark.parametrize("body", [b"", b'{"prompt": "Hi"'])
def test_a_body_that_does_not_come_is_a_408(body: bytes, strict: Any) -> None:
    before = rejected(strict, "body_timeout")
    status, headers, answer = answer_to(strict, head(1000), body)
    assert (status, answer["error"]["type"]) == (408, "RequestTimeoutError")
    assert "--body-timeout" in answer["error"]["message"]
    assert headers["x-request-id"]
    assert rejected(strict, "body_timeout") == before + 1


def test_a_body_that_comes_byte_by_byte_ends_as_well(strict: Any) -> None:
    before = rejected(strict, "body_timeout")
    with connect(strict) as connection:
        connection.sendall(head(100_000))
        connection.settimeout(0.05)
        answer = b""
        for _ in range(600):  # half a minute at most
            try:
                connection.sendall(b" ")
                answer = connection.recv(65536)
                break
            except TimeoutError:
                continue
        assert answer.startswith(b"HTTP/1.1 408")
    assert rejected(strict, "body_timeout") == before + 1


def test_a_body_whose_route_does_not_read_it_does_not_keep_the_connection(strict: Any) -> None:
    with connect(strict) as connection:
        connection.sendall(
            b"GET /version HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nhalf of it"
        )
        assert read_all(connection).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize(
    "pieces",
    [
        [b"GET / HTTP/1.1\r\nX: " + b"a" * 5000 + b"\r\n\r\n"],
        [b"GET /" + b"a" * 5000 + b" HTTP/1.1\r\n\r\n"],
        [b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 300 + b"\r\n"],
        [b"GET / HTTP/1.1\r\nX: ", b"a" * 5000],
        [b"GET /", b"a" * 5000],
    ],
    ids=["header", "request line", "number", "unfinished header", "unfinished line"],
)
def test_a_head_that_is_too_large_is_a_431(pieces: list[bytes], strict: Any) -> None:
    before = rejected(strict, "headers_too_large")
    status, _, body = answer_to(strict, *pieces)
    assert (status, body["error"]["type"]) == (431, "HeadersTooLargeError")
    assert rejected(strict, "headers_too_large") == before + 1


def test_headers_after_the_body_are_bounded_too(strict: Any) -> None:
    chunked = b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    status, _, _ = answer_to(strict, chunked, b"2\r\n{}\r\n0\r\n", b"X: " + b"a" * 300_000)
    assert status == 431


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # TLS to a server without
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"\x00" * 100,
        head(10).replace(b"10", b"ten"),
        head(10, b"Transfer-Encoding: chunked\r\n") + b"zz\r\n",
    ],
)
def test_what_is_not_http_is_a_400_in_openais_shape(garbage: bytes, strict: Any) -> None:
    before = rejected(strict, "invalid")
    status, _, body = answer_to(strict, garbage)
    assert (status, body["error"]["type"]) == (400, "BadRequestError")
    assert rejected(strict, "invalid") == before + 1


def test_a_broken_body_is_refused_and_its_request_forgotten(strict: Any) -> None:
    begin = b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    status, _, _ = answer_to(strict, begin, b"2\r\n{}\r\n", b"not a length\r\n")
    assert status == 400


def test_garbage_behind_a_request_does_not_get_into_its_answer(strict: Any) -> None:
    body = json.dumps({"prompt": "Hi", "max_tokens": 8000, "ignore_eos": True, "stream": True})
    with connect(strict) as connection, connection.makefile("rb") as answer:
        connection.sendall(head(len(body)) + body.encode())
        while not answer.readline().startswith(b"data: "):
            pass
        connection.sendall(b"\x00\x01 garbage\r\n\r\n")
        rest = answer.read()
    assert b"HTTP/1.1" not in rest


def test_a_hundred_pipelined_requests_are_not_kept(strict: Any) -> None:
    body = json.dumps({"prompt": "Hi", "max_tokens": 8000, "ignore_eos": True}).encode()
    with connect(strict) as connection:
        connection.sendall(head(len(body)) + body)
        connection.sendall(b"GET /version HTTP/1.1\r\nHost: x\r\n\r\n" * 100)
        assert read_all(connection).count(b"HTTP/1.1 200") <= 17


def test_a_client_that_pipelines_and_leaves_takes_its_running_request_with_it(
    strict: Any, wait_until: Callable
) -> None:
    def num_gone() -> float:
        return next(v for k, v in strict.metrics().items() if 'reason="client_gone"' in k)

    before = num_gone()
    body = json.dumps({"prompt": "Hi", "max_tokens": 8000, "ignore_eos": True}).encode()
    with connect(strict) as connection:
        connection.sendall(head(len(body)) + body + b"GET /version HTTP/1.1\r\nHost: x\r\n\r\n")
        wait_until(lambda: strict.gauge("octavo_num_requests_running") == 1, DEADLINE_S)
    wait_until(lambda: num_gone() == before + 1, DEADLINE_S)


def test_some_pipelined_requests_are_answered_in_order(strict: Any) -> None:
    with connect(strict) as connection:
        paths = (b"/version", b"/livez", b"/nowhere")
        connection.sendall(b"".join(b"GET %b HTTP/1.1\r\nHost: x\r\n\r\n" % one for one in paths))
        answer = read_all(connection)
    statuses = [piece[:3] for piece in answer.split(b"HTTP/1.1 ")[1:]]
    assert statuses == [b"200", b"200", b"404"]


def test_an_offer_to_speak_http_2_is_answered_in_http_1(strict: Any) -> None:
    upgrade = b"Connection: Upgrade, HTTP2-Settings, close\r\nUpgrade: h2c\r\nHTTP2-Settings: A\r\n"
    with connect(strict) as connection:
        connection.sendall(b"GET /version HTTP/1.1\r\nHost: x\r\n" + upgrade + b"\r\n")
        assert read_all(connection).startswith(b"HTTP/1.1 200")


def test_beyond_the_limit_of_connections_one_gets_503_and_probes_are_answered(strict: Any) -> None:
    before = rejected(strict, "too_many_connections")
    body = json.dumps({"prompt": "Hi", "max_tokens": 8000, "ignore_eos": True, "stream": True})
    with ExitStack() as stack:
        streams = []
        for _ in range(MAX_CONNECTIONS):
            connection = stack.enter_context(connect(strict))
            connection.sendall(head(len(body)) + body.encode())
            streams.append(stack.enter_context(connection.makefile("rb")))
        for stream in streams:
            assert stream.readline().startswith(b"HTTP/1.1 200")
        assert strict.get("/livez").status_code == 200
        refused = strict.post(COMPLETIONS, json={"prompt": "Hi", "max_tokens": 1})
        assert refused.status_code == 503
        assert int(refused.headers["retry-after"]) >= 1
        assert refused.headers["connection"] == "close"
        error = refused.json()["error"]
        assert error["type"] == "ServiceUnavailableError"
        assert "--max-connections" in error["message"]
        assert rejected(strict, "too_many_connections") == before + 1


def test_places_of_closed_connections_are_free_again(strict: Any, wait_until: Callable) -> None:
    with ExitStack() as stack:
        for _ in range(MAX_CONNECTIONS):
            stack.enter_context(connect(strict))

    def is_served() -> bool:
        with httpx.Client(base_url=strict.url, verify=False) as client:
            return client.get("/v1/models").status_code == 200

    wait_until(is_served, DEADLINE_S)


def test_a_refusal_names_the_limit_that_the_system_leaves(
    tmp_path: Path, smollm2_gguf: Path
) -> None:
    files = ("sh", "-c", f'ulimit -n {NUM_OWN_FILES + 2}; exec "$0" "$@"')
    with (
        running_server(tmp_path / "log", "--max-connections", "4096", prefix=files) as server,
        ExitStack() as stack,
    ):
        for _ in range(2):
            stack.enter_context(connect(server))
        refused = server.get("/v1/models")
    assert refused.status_code == 503
    assert "has 2 connections open" in refused.json()["error"]["message"]
