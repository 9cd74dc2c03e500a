"""A client that goes away takes its work with it, wherever that is at the moment."""

import json
import socket
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from urllib.parse import urlsplit

import httpx
import pytest

COMPLETIONS, CHAT = "/v1/completions", "/v1/chat/completions"
LONG = {"prompt": "Hello", "max_tokens": 8000, "ignore_eos": True}  # minutes of work
CANCEL_DEADLINE_S = 20.0


@contextmanager
def raw_request(server, path: str, body: dict) -> Iterator[socket.socket]:
    """Send a request over a bare socket; leaving the block closes it without a word."""
    address = urlsplit(server.url)
    content = json.dumps(body).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nHost: {address.netloc}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
    )
    with socket.create_connection((address.hostname, address.port), timeout=60) as connection:
        connection.sendall(head.encode() + content)
        yield connection


class Counts:
    """The counters of a server since this was made."""

    def __init__(self, server) -> None:
        self._server = server
        self._before = self._read()

    def _read(self) -> dict[str, float]:
        counts: dict[str, float] = {}
        for name, value in self._server.metrics().items():
            base = name.removeprefix("octavo_").split("{")[0]
            if 'finished_reason="' in name:
                base = name.split('finished_reason="')[1].split('"')[0]
            counts[base] = value
        return counts

    def __getitem__(self, name: str) -> float:
        return self._read()[name] - self._before[name]


@pytest.fixture
def counts(server) -> Counts:
    return Counts(server)


def wait_until_running(server, wait_until: Callable, number: int) -> None:
    wait_until(lambda: server.gauge("octavo_num_requests_running") == number, CANCEL_DEADLINE_S)


def assert_cancelled(server, counts: Counts, wait_until: Callable, number: int) -> None:
    """That many choices were aborted, none ended otherwise, and long before their limit."""
    wait_until(lambda: counts["abort"] >= number, CANCEL_DEADLINE_S)
    server.wait_idle()
    assert counts["abort"] == number
    assert (counts["length"], counts["stop"], counts["error"]) == (0, 0, 0)
    assert counts["generation_tokens_total"] < number * LONG["max_tokens"] / 2


@pytest.mark.parametrize(
    ("path", "question"),
    [(COMPLETIONS, {}), (CHAT, {"messages": [{"role": "user", "content": "Hello"}]})],
)
def test_a_client_that_leaves_a_stream_cancels_it(
    path: str, question: dict, server, counts: Counts, wait_until: Callable
) -> None:
    body = {**LONG, **question, "stream": True}
    with httpx.stream("POST", server.url + path, json=body, timeout=60) as answer:
        lines = (line for line in answer.iter_lines() if line)
        assert [next(lines)[:6] for _ in range(3)] == ["data: "] * 3
        assert server.gauge("octavo_num_requests_running") == 1
    assert_cancelled(server, counts, wait_until, 1)


@pytest.mark.parametrize(
    ("path", "question"),
    [(COMPLETIONS, {}), (CHAT, {"messages": [{"role": "user", "content": "Hello"}]})],
)
def test_a_client_that_does_not_wait_for_its_whole_answer_cancels_it(
    path: str, question: dict, server, counts: Counts, wait_until: Callable
) -> None:
    with raw_request(server, path, {**LONG, **question}):
        wait_until_running(server, wait_until, 1)
    assert_cancelled(server, counts, wait_until, 1)


@pytest.mark.parametrize("stream", [True, False])
def test_all_choices_are_cancelled_with_their_client(
    stream: bool, server, counts: Counts, wait_until: Callable
) -> None:
    with raw_request(server, COMPLETIONS, {**LONG, "n": 3, "stream": stream}):
        wait_until_running(server, wait_until, 3)
    assert_cancelled(server, counts, wait_until, 3)


def test_all_prompts_of_a_batch_are_cancelled_with_their_client(
    server, counts: Counts, wait_until: Callable
) -> None:
    with raw_request(server, COMPLETIONS, {**LONG, "prompt": ["Hello", "Good evening"]}):
        wait_until_running(server, wait_until, 2)
    assert_cancelled(server, counts, wait_until, 2)


def test_a_client_that_shuts_only_its_sending_side_is_gone_as_well(
    server, counts: Counts, wait_until: Callable
) -> None:
    with raw_request(server, COMPLETIONS, LONG) as connection:
        wait_until_running(server, wait_until, 1)
        connection.shutdown(socket.SHUT_WR)
        assert_cancelled(server, counts, wait_until, 1)


def test_a_client_that_leaves_while_its_long_prompt_is_read_leaves_nothing_behind(
    server, http: httpx.Client, counts: Counts, wait_until: Callable
) -> None:
    for number in range(8):
        prompt = f"Table {number}: " + "-" * 9000  # long in characters, short in tokens
        with raw_request(server, COMPLETIONS, {**LONG, "prompt": prompt, "max_tokens": 7000}):
            for _ in range(number):  # each leaves a little later than the one before
                http.get("/version")
    server.wait_idle()
    # Those that were never submitted are not counted; none may have run to its end.
    wait_until(lambda: counts["abort"] == counts["request_params_n_count"], CANCEL_DEADLINE_S)
    server.wait_idle()
    assert (counts["length"], counts["stop"], counts["error"]) == (0, 0, 0)


@pytest.mark.parametrize("num_events", [0, 1, 2, 3])
def test_around_the_final_step_a_request_ends_exactly_once(
    num_events: int, server, counts: Counts, wait_until: Callable
) -> None:
    body = {**LONG, "max_tokens": 3, "stream": True}
    with raw_request(server, COMPLETIONS, body) as connection, connection.makefile("rb") as answer:
        wait_until(lambda: counts["request_params_n_count"] == 1, CANCEL_DEADLINE_S)
        seen = 0
        line = b""
        # Events of a server that stood still are fewer.
        while seen < num_events and not line.startswith(b"data: [DONE]"):
            line = answer.readline()
            assert line, "the stream did not end properly"
            seen += line.startswith(b"data: ")
    wait_until(lambda: counts["abort"] + counts["length"] > 0, CANCEL_DEADLINE_S)
    server.wait_idle()
    assert counts["abort"] + counts["length"] == 1
    assert (counts["stop"], counts["error"]) == (0, 0)
    assert counts["e2e_request_latency_seconds_count"] == 1
    assert counts["generation_tokens_total"] <= 3


def test_a_client_that_leaves_the_queue_is_forgotten_before_its_turn(
    start_server: Callable[..., AbstractContextManager], wait_until: Callable
) -> None:
    with start_server("--dtype", "float32", "--max-num-seqs", "1") as narrow:
        counts = Counts(narrow)

        def waiting(number: int) -> Callable[[], bool]:
            return lambda: narrow.gauge("octavo_num_requests_waiting") == number

        with raw_request(narrow, COMPLETIONS, {**LONG, "stream": True}) as running:
            answer = running.makefile("rb")
            while not answer.readline().startswith(b"data: "):
                pass
            for body in (LONG, {**LONG, "stream": True}, {**LONG, "n": 2}):
                number = body.get("n", 1)
                before = counts["abort"]
                with raw_request(narrow, COMPLETIONS, body):
                    wait_until(waiting(number), CANCEL_DEADLINE_S)
                wait_until(waiting(0), CANCEL_DEADLINE_S)
                assert counts["abort"] - before == number
            # The one that ran all the while still runs, and nobody else ever did.
            assert narrow.gauge("octavo_num_requests_running") == 1
            assert answer.readline()
            assert counts["request_queue_time_seconds_count"] == 0
            answer.close()
        narrow.wait_idle()
        assert counts["abort"] == 5
        assert (counts["length"], counts["stop"], counts["error"]) == (0, 0, 0)
        assert counts["request_queue_time_seconds_count"] == 1
