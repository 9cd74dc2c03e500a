"""Thousands of mixed requests: each ends as it should, and the server holds no more than before."""

import asyncio
import itertools
import json
from collections.abc import Callable

import httpx
import pytest

from octavo.bench.stream import DONE, EventLines

from ..conftest import StartServer
from .drill_result import DrillResult
from .engine_faults import engine_pid
from .process_memory import holding_of, slope
from .soak_requests import CHOICES, SoakRequest, make_request

pytestmark = pytest.mark.slow

FLAGS = ("--deterministic", "--num-blocks", "1024", "--log-level", "warning")
NUM_CLIENTS = 24
NUM_SAMPLES = 40
TIMEOUT_S = 120.0
# Of memory: a request that leaked its own body and answer would leave some KiB behind.
MOST_KIB_A_REQUEST = 0.25
FINISH_REASONS = ("stop", "length")


class Soak:
    """Sends the requests of a seed and checks each answer."""

    def __init__(self, url: str, seed: int) -> None:
        self._url = url
        self._seed = seed
        self._witnesses: dict[str, str] = {}
        self.num_ended = 0
        self.num_left = 0
        self.complaints: dict[int, str] = {}  # by the request's number

    async def run(self, count: int, sample: Callable[[], None]) -> None:
        """Send so many; `sample` is called now and then."""
        numbers = iter(range(count))
        every = max(1, count // NUM_SAMPLES)
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(
            base_url=self._url, timeout=TIMEOUT_S, limits=limits, verify=False
        ) as client:

            async def work() -> None:
                for number in numbers:
                    try:
                        await self._send(client, make_request(number, self._seed))
                    except Exception as error:
                        self.complaints[number] = f"{type(error).__name__}: {error}".split("\n")[0]
                    self.num_ended += 1
                    if self.num_ended % every == 0:
                        sample()

            await asyncio.gather(*[work() for _ in range(NUM_CLIENTS)])

    async def _send(self, client: httpx.AsyncClient, request: SoakRequest) -> None:
        body = request.body
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        if request.is_stream:
            async with client.stream(
                "POST", request.path, content=content, headers=headers
            ) as answer:
                assert answer.status_code == 200, (await answer.aread())[:300]
                await self._read_stream(answer, request)
            return
        post = client.post(request.path, content=content, headers=headers)
        if request.leaves_after is not None:
            try:
                answer = await asyncio.wait_for(post, request.leaves_after / 1e3)
            except asyncio.TimeoutError:
                self.num_left += 1
                return
        else:
            answer = await post
        assert answer.status_code == request.status, answer.text[:300]
        if request.status != 200:
            assert set(answer.json()["error"]) == {"message", "type", "param", "code"}
            return
        choices = answer.json()["choices"]
        texts = [c["text"] if "text" in c else c["message"]["content"] or "" for c in choices]
        self._check(request, dict(enumerate(texts)), [c["finish_reason"] for c in choices])

    async def _read_stream(self, answer: httpx.Response, request: SoakRequest) -> None:
        texts: dict[int, str] = {}
        reasons, num_events, has_usage, is_done = [], 0, False, False
        lines = EventLines()
        payloads = (p async for piece in answer.aiter_bytes() for p in lines.feed(piece))
        async for payload in payloads:
            assert not is_done, payload[:200]
            if payload == DONE:
                is_done = True
                continue
            event = json.loads(payload)
            assert "error" not in event, event
            has_usage = has_usage or event.get("usage") is not None
            for choice in event["choices"]:
                piece = choice["text"] if "text" in choice else choice["delta"].get("content")
                texts[choice["index"]] = texts.get(choice["index"], "") + (piece or "")
                if choice["finish_reason"] is not None:
                    reasons.append(choice["finish_reason"])
            num_events += 1
            if num_events == request.leaves_after:
                self.num_left += 1
                return
        assert is_done and (has_usage or request.is_witness)
        self._check(request, texts, reasons)

    def _check(self, request: SoakRequest, texts: dict[int, str], reasons: list[str]) -> None:
        assert isinstance(request.body, dict)
        assert sorted(texts) == list(range(request.num_choices)), texts
        assert len(reasons) == request.num_choices and set(reasons) <= set(FINISH_REASONS), reasons
        if "structured_outputs" in request.body and set(reasons) == {"stop"}:
            assert all(text in CHOICES for text in texts.values()), texts
        if not request.body.get("echo"):
            stop = request.body.get("stop", ())
            assert not any(word in text for word in stop for text in texts.values()), texts
        if request.is_witness:
            known = self._witnesses.setdefault(request.body["prompt"], texts[0])
            assert texts[0] == known, f"{texts[0]!r} was {known!r}"


def drill(requests: int, seed: int, start_server: StartServer) -> DrillResult:
    """So many requests; the memory of both processes over the second half of them."""
    samples: dict[str, list[tuple[float, float]]] = {"front end": [], "engine": []}
    with start_server(*FLAGS) as server:
        engine = engine_pid(server)
        assert engine is not None
        pids = {"front end": server.process.pid, "engine": engine}
        asyncio.run(Soak(server.url, seed + 1_000_000).run(min(requests, 200), lambda: None))
        server.wait_idle()
        before = {name: holding_of(pid) for name, pid in pids.items()}
        soak = Soak(server.url, seed)

        def sample() -> None:
            for name, pid in pids.items():
                samples[name].append((soak.num_ended, holding_of(pid).anonymous_kib))

        asyncio.run(soak.run(requests, sample))
        server.wait_idle()
        blocks = int(server.gauge("octavo_kv_blocks_used"))
        after = {name: holding_of(pid) for name, pid in pids.items()}
        assert server.gauge("octavo_engine_restarts_total") == 0
    for name in pids:
        more = after[name].num_descriptors - before[name].num_descriptors
        assert more <= 4, f"{name}: {more} more descriptors are open than before"
    slopes = {name: slope(points[len(points) // 2 :]) for name, points in samples.items()}
    if requests >= 5000:
        assert max(slopes.values()) <= MOST_KIB_A_REQUEST, f"memory grows: {slopes} KiB a request"
    figures = ", ".join(
        f"{name} {before[name].anonymous_kib / 1024:.0f} to {after[name].anonymous_kib / 1024:.0f} "
        f"MiB ({slopes[name] * 1024:+.0f} bytes a request in the second half)"
        for name in pids
    )
    for number, complaint in itertools.islice(sorted(soak.complaints.items()), 10):
        print(f"soak, seed {seed}, request {number}: {complaint}")
    return DrillResult(
        name="soak",
        tried=requests,
        survived=requests - len(soak.complaints),
        requests_lost=len(soak.complaints),
        blocks_leaked=blocks,
        seeds=(seed,) if soak.complaints else (),
        note=f"mixed requests, {soak.num_left} of whose clients left; memory of {figures}",
    )


def test_mixed_requests_end_as_they_should(start_tiny: StartServer) -> None:
    result = drill(300, 8, start_tiny)
    assert result.is_passed, result
