"""What one API key may ask for: the middleware with a clock of its own, then a real server."""

import asyncio
import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import httpx
import openai
import pytest
from openai import OpenAI
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from octavo.server.key_limit import FEW_CLIENTS, KeyLimit, duration
from octavo.server.token_bucket import TokenBucket

COMPLETIONS = "/v1/completions"
DEADLINE_S = 20.0


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Door:
    """A KeyLimit before an application that answers when it is let; requests come with a key."""

    def __init__(self, max_concurrent: int | None = None, per_minute: int | None = None) -> None:
        self.clock = Clock()
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.rejections: list[str] = []
        self.num_inside = 0
        self.limit = KeyLimit(self._answer, max_concurrent, per_minute, self.clock)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.num_inside += 1
        try:
            await self.may_answer.wait()
            if scope["path"] == "/fails":
                raise RuntimeError("inside")
            await PlainTextResponse("answered")(scope, receive, send)
        finally:
            self.num_inside -= 1

    async def ask(
        self, key: bytes = b"a", path: str = COMPLETIONS, method: str = "POST", admin: bool = False
    ) -> httpx.Response:
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            scope["state"] = {"key_digest": key, "is_admin": admin}
            await self.limit(scope, receive, send)
            if "rejection" in scope["state"]:
                self.rejections.append(scope["state"]["rejection"])

        transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.request(method, path)

    async def statuses(self, number: int, **options: Any) -> list[int]:
        return [(await self.ask(**options)).status_code for _ in range(number)]


def test_a_bucket_gives_its_burst_and_then_evenly() -> None:
    bucket = TokenBucket(60, now=0.0)
    assert [bucket.take(0.0) for _ in range(61)] == [True] * 60 + [False]
    assert bucket.seconds_to_next(0.0) == pytest.approx(1.0)
    assert not bucket.take(0.99)
    assert bucket.take(1.0)
    assert not bucket.take(1.5)
    assert bucket.remaining(1e6) == 60  # and no more, however long one waits


@pytest.mark.parametrize("per_minute", [1, 7, 60, 999, 100_000])
def test_waiting_exactly_as_long_as_told_is_enough(per_minute: int) -> None:
    now = 12_345.678
    bucket = TokenBucket(per_minute, now)
    while bucket.take(now):
        pass
    for _ in range(50):
        now += bucket.seconds_to_next(now)
        assert bucket.take(now)
        assert not bucket.take(now)


def test_a_clock_that_goes_back_gives_nothing_away() -> None:
    bucket = TokenBucket(2, now=100.0)
    assert bucket.take(100.0) and bucket.take(50.0)
    assert not bucket.take(60.0)
    assert not bucket.take(100.0)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0ms"), (0.0851, "86ms"), (1, "1s"), (8.64, "8.64s"), (60, "1m0s"), (363.5, "6m3.5s")],
)
def test_durations_are_written_as_openai_does(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_beyond_the_rate_a_key_is_told_when_to_come_back_and_others_are_served() -> None:
    async def run() -> None:
        door = Door(per_minute=4)
        assert await door.statuses(4) == [200] * 4
        refused = await door.ask()
        assert refused.status_code == 429
        assert refused.headers["retry-after"] == "15"
        assert refused.headers["retry-after-ms"] == "15000"
        error = refused.json()["error"]
        assert (error["type"], error["code"]) == ("RateLimitError", "rate_limit_exceeded")
        assert "--rate-limit-per-key" in error["message"]
        assert (await door.ask(key=b"b")).status_code == 200
        door.clock.now += 14.9
        assert (await door.ask()).status_code == 429
        door.clock.now += 0.1
        assert await door.statuses(2) == [200, 429]
        assert door.rejections == ["rate_limited"] * 3

    asyncio.run(run())


def test_every_answer_tells_what_is_left_of_the_rate() -> None:
    async def run() -> None:
        door = Door(per_minute=6)
        seen = []
        for _ in range(3):
            headers = (await door.ask()).headers
            names = ("limit", "remaining", "reset")
            seen.append([headers[f"x-ratelimit-{name}-requests"] for name in names])
        assert seen == [["6", "5", "10s"], ["6", "4", "20s"], ["6", "3", "30s"]]
        assert "x-ratelimit-limit-requests" not in (await Door(max_concurrent=1).ask()).headers

    asyncio.run(run())


def test_beyond_its_open_requests_a_key_is_refused_until_one_ends() -> None:
    async def run() -> None:
        door = Door(max_concurrent=2, per_minute=100)
        door.may_answer.clear()
        open_ones = [asyncio.create_task(door.ask()) for _ in range(2)]
        while door.num_inside < 2:
            await asyncio.sleep(0)
        refused = await door.ask()
        assert refused.status_code == 429
        assert "--max-concurrent-requests-per-key" in refused.json()["error"]["message"]
        assert int(refused.headers["retry-after"]) >= 1
        # A refusal costs nothing of the rate.
        assert refused.headers["x-ratelimit-remaining-requests"] == "98"
        other = asyncio.create_task(door.ask(key=b"b"))
        while door.num_inside < 3:
            await asyncio.sleep(0)
        door.may_answer.set()
        assert [(await one).status_code for one in (*open_ones, other)] == [200] * 3
        assert await door.statuses(3) == [200] * 3
        assert door.rejections == ["too_many_concurrent"]

    asyncio.run(run())


def test_a_request_that_fails_or_is_cancelled_gives_its_place_back() -> None:
    async def run() -> None:
        door = Door(max_concurrent=1)
        for _ in range(3):
            await door.ask(path="/fails")
        door.may_answer.clear()
        cancelled = asyncio.create_task(door.ask())
        while not door.num_inside:
            await asyncio.sleep(0)
        cancelled.cancel()
        await asyncio.gather(cancelled, return_exceptions=True)
        door.may_answer.set()
        assert (await door.ask()).status_code == 200

    asyncio.run(run())


def test_probes_looks_and_operators_do_not_count() -> None:
    async def run() -> None:
        door = Door(max_concurrent=1, per_minute=1)
        assert await door.statuses(3, method="GET", path="/v1/models") == [200] * 3
        assert await door.statuses(3, path="/abort_requests") == [200] * 3
        assert await door.statuses(3, admin=True) == [200] * 3
        assert await door.statuses(2) == [200, 429]

    asyncio.run(run())


def test_keys_that_say_nothing_any_more_are_forgotten() -> None:
    async def run() -> None:
        door = Door(per_minute=60)
        for number in range(FEW_CLIENTS):
            await door.ask(key=str(number).encode())
        assert door.limit.num_clients == FEW_CLIENTS
        door.clock.now += 0.5  # their buckets are not full again: forgetting would be a gift
        await door.ask(key=b"one more")
        assert door.limit.num_clients == FEW_CLIENTS + 1
        door.clock.now += 0.6
        await door.ask(key=b"another")
        assert door.limit.num_clients == 2  # `one more`, whose bucket is not full, and this

    asyncio.run(run())


@pytest.fixture(scope="module")
def strict_server(start_server: Callable[..., AbstractContextManager]) -> Iterator[Any]:
    flags = ["--api-key", "ann,ben", "--admin-key", "root", "--max-model-len", "512"]
    flags += ["--rate-limit-per-key", "6", "--max-concurrent-requests-per-key", "2"]
    with start_server(*flags) as server:
        yield server


def test_openais_client_sees_its_limits_on_a_real_server(strict_server: Any) -> None:
    with OpenAI(base_url=strict_server.url + "/v1", api_key="ann", max_retries=0) as client:
        models = client.models.list().data  # not counted

        def ask() -> httpx.Headers:
            call = client.completions.with_raw_response.create
            return call(model=models[0].id, prompt="Hi", max_tokens=1).headers

        remaining = [int(ask()["x-ratelimit-remaining-requests"]) for _ in range(6)]
        assert remaining[0] == 5 and remaining == sorted(remaining, reverse=True)
        for _ in range(6):  # what a slow machine has filled up meanwhile
            try:
                ask()
            except openai.RateLimitError as error:
                refusal = error
                break
        response = refusal.response
        assert 1 <= int(response.headers["retry-after"]) <= 10
        exact = int(response.headers["retry-after-ms"])
        assert math.ceil(exact / 1000) == int(response.headers["retry-after"])
        assert response.headers["x-ratelimit-limit-requests"] == "6"
        assert refusal.code == "rate_limit_exceeded"
    for key in ("ben", "root"):
        headers = {"Authorization": f"Bearer {key}"}
        body = {"prompt": "Hi", "max_tokens": 1}
        assert strict_server.post(COMPLETIONS, json=body, headers=headers).status_code == 200
    assert _rejected(strict_server, "rate_limited") >= 1


def test_a_key_with_two_streams_gets_no_third_until_one_is_left(
    start_server: Callable[..., AbstractContextManager], wait_until: Callable
) -> None:
    long = {"prompt": "Hi", "max_tokens": 7000, "ignore_eos": True, "stream": True}
    short = {"prompt": "Hi", "max_tokens": 1}
    with start_server("--max-concurrent-requests-per-key", "2") as server:
        url = server.url + COMPLETIONS
        with httpx.stream("POST", url, json=long, timeout=60) as first:
            ours = first.iter_lines()  # kept: one that is dropped closes its stream
            assert next(ours).startswith("data: ")
            with httpx.stream("POST", url, json=long, timeout=60) as second:
                theirs = second.iter_lines()
                assert next(theirs).startswith("data: ")
                refused = server.post(COMPLETIONS, json=short)
                assert refused.status_code == 429
                assert "2 requests open" in refused.json()["error"]["message"]
            wait_until(lambda: server.post(COMPLETIONS, json=short).status_code == 200, DEADLINE_S)
        server.wait_idle()
        assert _rejected(server, "too_many_concurrent") >= 1


def _rejected(server: Any, reason: str) -> float:
    return next(
        value
        for name, value in server.metrics().items()
        if name.startswith("octavo_requests_rejected_total") and f'reason="{reason}"' in name
    )
