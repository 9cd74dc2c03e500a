"""How long a request may wait, and take: by the server's settings, and by the client's header.

The server may stand still for seconds: what is to be cut short, or waited for, is 8,000 tokens
long, and where something must happen within a time, longer ones are tried.
"""

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from ..conftest import StartServer

pytestmark = pytest.mark.slow

LONG = {"prompt": "A long tale", "max_tokens": 8000, "ignore_eos": True, "temperature": 0}
DEADLINE_S = 60.0
TIMES_S = (1, 2, 4, 8, 16)


def counted(server: Any, reason: str) -> float:
    """Choices that were aborted for this reason."""
    found = [
        v for k, v in server.metrics().items() if "requests_aborted_total{" in k and reason in k
    ]
    assert len(found) == 1
    return float(found[0])


def test_what_waits_too_long_is_told_to_come_again(
    start_server: StartServer, wait_until: Callable[..., None]
) -> None:
    with start_server("--max-num-seqs", "1", "--queue-timeout", "5") as server:

        def is_refused_behind_another() -> bool:
            before = counted(server, "queue_timeout")
            with httpx.stream(
                "POST", f"{server.url}/v1/completions", json=LONG | {"stream": True}, timeout=60
            ) as running:
                assert running.status_code == 200
                lines = running.iter_lines()  # kept: without it the stream is closed
                if '"error"' in next(lines):
                    return False  # a server that stood still: this one waited too long
                wait_until(lambda: server.gauge("octavo_num_requests_running") == 1, DEADLINE_S)
                waiting = server.post("/v1/completions", json=LONG)
                assert waiting.status_code == 503
                assert waiting.headers["Retry-After"]
                assert "--queue-timeout" in waiting.json()["error"]["message"]
                assert counted(server, "queue_timeout") == before + 1
            return True

        wait_until(is_refused_behind_another, DEADLINE_S)
        server.wait_idle()


def test_prompts_that_wait_are_bounded_by_their_tokens(
    start_server: StartServer, wait_until: Callable[..., None]
) -> None:
    with start_server("--max-num-seqs", "1", "--max-queued-tokens", "100") as server:
        ids = list(range(1000, 1060))
        with httpx.stream(
            "POST", f"{server.url}/v1/completions", json=LONG | {"stream": True}, timeout=60
        ) as running:
            assert running.status_code == 200
            wait_until(lambda: server.gauge("octavo_num_requests_running") == 1, DEADLINE_S)
            body = {"prompt": ids, "max_tokens": 2, "stream": True}
            with httpx.stream("POST", f"{server.url}/v1/completions", json=body, timeout=60):
                wait_until(lambda: server.gauge("octavo_num_requests_waiting") == 1, DEADLINE_S)
                refused = server.post("/v1/completions", json=body)
                assert refused.status_code == 503
                assert "--max-queued-tokens" in refused.json()["error"]["message"]
                assert refused.headers["Retry-After"]
        server.wait_idle()
        # Longer than the limit, but nobody waits before it.
        alone = server.post("/v1/completions", json={"prompt": ids * 3, "max_tokens": 2})
        assert alone.status_code == 200


def test_a_client_may_say_how_long_it_will_wait(server: Any) -> None:
    for seconds in TIMES_S:
        before = counted(server, "deadline")
        cut = server.post("/v1/completions", json=LONG, headers={"X-Request-Timeout": str(seconds)})
        if cut.status_code == 200:
            break
        assert cut.status_code == 504  # not even a first token in that time
    assert cut.status_code == 200
    choice = cut.json()["choices"][0]
    assert choice["finish_reason"] == "abort"
    assert choice["text"]
    assert counted(server, "deadline") == before + 1
    server.wait_idle()


def test_a_deadline_before_the_first_token_is_a_504(server: Any) -> None:
    body = {"prompt": list(range(100, 4100)), "max_tokens": 2}
    late = server.post("/v1/completions", json=body, headers={"X-Request-Timeout": "0.05"})
    assert late.status_code == 504
    assert "time was over" in late.json()["error"]["message"]
    server.wait_idle()


@pytest.mark.parametrize("value", ["soon", "0", "-3", "nan", "inf", "1e99", ""])
def test_a_time_that_is_none_is_refused(value: str, server: Any) -> None:
    body = {"prompt": "Hi", "max_tokens": 2}
    refused = server.post("/v1/completions", json=body, headers={"X-Request-Timeout": value})
    assert refused.status_code == 400
    assert "X-Request-Timeout" in refused.json()["error"]["message"]


def test_the_server_has_a_limit_of_its_own(start_server: StartServer) -> None:
    def answers(seconds: int) -> list[httpx.Response]:
        with start_server("--request-timeout", str(seconds), "--dtype", "float32") as server:
            every = [
                server.post("/v1/completions", json=LONG, headers=headers)
                for headers in ({}, {"X-Request-Timeout": "500"})
            ]
            server.wait_idle()
        return every

    cut: list[httpx.Response] = []
    for seconds in TIMES_S:
        cut = answers(seconds)
        if {one.status_code for one in cut} == {200}:
            break
        assert {one.status_code for one in cut} <= {200, 504}  # or no first token in that time
    for one in cut:
        assert one.json()["choices"][0]["finish_reason"] == "abort"
