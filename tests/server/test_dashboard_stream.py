"""The dashboard's stream and its single blocks, from a real server."""

import itertools
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

from octavo import LLM, SamplingParams
from octavo.engine.live_view import PATIENCE_S
from octavo.engine.messages import GetFrame
from octavo.paged_cache import cells_of_runs, hash_block

STATES = ["free", "cached", "used", "shared"]
DEADLINE_S = 60.0


class Watcher:
    """Reads the stream on a thread and keeps what it shows."""

    def __init__(self, url: str, **options: Any) -> None:
        self.hello: dict[str, Any] = {}
        self.cells: list[int] = []
        self.frames: list[dict[str, Any]] = []
        self.samples: list[list[Any]] = []
        self.troubles: list[str] = []
        self.has_ended = False
        self._url = url
        self._options = options
        self._stop = False
        self._thread = threading.Thread(target=self._read)

    def _read(self) -> None:
        with httpx.stream("GET", self._url, timeout=60, **self._options) as answer:
            for line in answer.iter_lines():
                if self._stop:
                    return
                if line:
                    self._take(json.loads(line.removeprefix("data: ")))
        self.has_ended = True

    def _take(self, message: dict[str, Any]) -> None:
        match message["type"]:
            case "hello":
                self.hello = message
                self.cells = [-1] * message["num_blocks"]
            case "frame":
                for index, value in cells_of_runs(message["runs"], len(self.cells)):
                    self.cells[index] = value
                self.frames.append(message)
            case "sample":
                self.samples.append(message["values"])
            case "trouble":
                self.troubles.append(message["message"])

    def states(self) -> list[str]:
        return [STATES[value % 4] for value in self.cells]

    def counts(self) -> dict[str, int]:
        return self.frames[-1]["counts"] if self.frames else {}


@contextmanager
def watching(server, **options: Any) -> Iterator[Watcher]:
    watcher = Watcher(server.url + "/dashboard/events", **options)
    watcher._thread.start()
    try:
        yield watcher
    finally:
        watcher._stop = True
        watcher._thread.join(DEADLINE_S)
        assert not watcher._thread.is_alive()


@pytest.fixture(scope="module")
def small(start_server):
    """Its own, with few blocks: what it holds is known."""
    with start_server(
        *("--num-blocks", "33", "--max-model-len", "256", "--dtype", "float32"),
        *("--api-key", "k", "--admin-key", "a"),
    ) as server:
        yield server


KEY = {"Authorization": "Bearer k"}
ADMIN = {"Authorization": "Bearer a"}


def truth(server, num_blocks: int = 32) -> list[str]:
    """Each block's state as the pool itself has it."""
    with httpx.Client(base_url=server.url, headers=KEY) as client:
        return [client.get(f"/dashboard/blocks/{n + 1}").json()["state"] for n in range(num_blocks)]


def complete(server, prompt: str, max_tokens: int, **options: Any) -> dict[str, Any]:
    body = {"prompt": prompt, "max_tokens": max_tokens, "ignore_eos": True, "temperature": 0}
    answer = server.post("/v1/completions", json=body | options, headers=KEY)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_frames_put_together_are_what_the_pool_holds(small, wait_until):
    with watching(small, headers=KEY) as watcher:
        wait_until(lambda: bool(watcher.frames), DEADLINE_S)
        assert watcher.states() == truth(small)
        complete(small, "A long time ago there lived a king who had three daughters.", 60)
        wait_until(lambda: not watcher.frames[-1]["requests"], DEADLINE_S)
        wait_until(lambda: "cached" in watcher.states(), DEADLINE_S)
        assert watcher.states() == truth(small)

        def is_shown_at_work() -> bool:
            """With most blocks in use. A server that stands still has no frame of that."""
            seen = len(watcher.frames)
            prompt = "Something else entirely: the sea, the ships, and the wind."
            complete(small, prompt, 200, n=2, temperature=1)
            wait_until(lambda: watcher.states() == truth(small), DEADLINE_S)
            return any(frame["counts"]["used"] > 20 for frame in watcher.frames[seen:])

        wait_until(is_shown_at_work, DEADLINE_S)
        gauges = {k: small.gauge(f"octavo_kv_blocks_{k}") for k in ("free", "cached", "used")}
        wait_until(lambda: {k: watcher.counts()[k] for k in gauges} == gauges, DEADLINE_S)
        counted = {state: watcher.states().count(state) for state in STATES}
        assert counted == watcher.counts()


def test_a_running_request_is_shown_with_its_blocks_and_its_progress(small, wait_until):
    with watching(small, headers=KEY) as watcher:
        wait_until(lambda: bool(watcher.frames), DEADLINE_S)
        columns = watcher.hello["request_columns"]
        answers: list[dict[str, Any]] = []

        def shown() -> list[dict[str, Any]]:
            rows = [row for frame in watcher.frames for row in frame["requests"]]
            rows = [dict(zip(columns, row, strict=True)) for row in rows]
            # Without the digits that make it unique it is the id that the client knows.
            return [row | {"id": row["id"].rpartition("-")[0]} for row in rows]

        def is_seen_decoding() -> bool:
            """A server that stands still shows nothing of a request, or only its beginning."""
            answers.append(complete(small, "Once upon a time", 100))
            wait_until(lambda: not watcher.frames[-1]["requests"], DEADLINE_S)
            rows = [row for row in shown() if row["id"] == answers[-1]["id"]]
            return bool(rows) and rows[-1]["stage"] == "decode"

        wait_until(is_seen_decoding, DEADLINE_S)
        assert {row["id"] for row in shown()} <= {answer["id"] for answer in answers}
        usage, request_id = answers[-1]["usage"], answers[-1]["id"]
        assert request_id.startswith("cmpl-")
        rows = [row for row in shown() if row["id"] == request_id]
        last = rows[-1]
        assert (last["prompt_tokens"], last["max_tokens"]) == (usage["prompt_tokens"], 100)
        assert 0 < last["output_tokens"] <= 100
        assert last["decode_s"] > 0 and last["prefill_s"] > 0
        assert [row["output_tokens"] for row in rows] == sorted(
            row["output_tokens"] for row in rows
        )
        for row in shown():
            assert (row["owner"] > 0) == (row["stage"] != "queue")
            assert row["num_blocks"] == -(-row["computed_tokens"] // 16)


def test_a_block_tells_its_holders_and_its_text_to_admins_alone(small, wait_until):
    body = {"prompt": "The king of the hill said", "max_tokens": 240, "ignore_eos": True}
    shown: list[tuple[int, dict[str, Any], dict[str, Any]]] = []

    def is_caught() -> bool:
        """Find the first block of a request, and ask as both while it is held: it may be over."""
        wait_until(lambda: "used" not in watcher.states(), DEADLINE_S)
        with httpx.stream(
            "POST",
            small.url + "/v1/completions",
            json=body | {"stream": True},
            headers=KEY,
            timeout=60,
        ) as answer:
            assert answer.status_code == 200
            lines = answer.iter_lines()  # kept: without it the stream is closed
            assert next(lines).startswith("data: ")
            wait_until(lambda: "used" in watcher.states() or not small.busy(), DEADLINE_S)
            for number in [n for n, state in enumerate(watcher.states(), 1) if state == "used"]:
                one, other = (
                    small.get(f"/dashboard/blocks/{number}", headers=headers).json()
                    for headers in (KEY, ADMIN)
                )
                if [holder["position"] for holder in one["holders"]] == [0] and other["holders"]:
                    shown.append((number, one, other))
        small.wait_idle()
        return bool(shown)

    with watching(small, headers=KEY) as watcher:
        wait_until(is_caught, DEADLINE_S)
    number, for_client, for_admin = shown[0]
    assert for_client["state"] == for_admin["state"] == "used"
    (holder,) = for_client["holders"]
    assert holder["position"] == 0 and holder["id"].startswith("cmpl-")
    assert for_client["text"] is None
    assert for_admin["text"].startswith("The king of the hill said")
    wait_until(
        lambda: small.get(f"/dashboard/blocks/{number}", headers=ADMIN).json()["text"] is None,
        DEADLINE_S,
    )


def test_nobody_can_try_out_texts_by_the_hash_of_a_block(small, wait_until):
    prompt = "The secret number of this house is 4711, and no neighbour is ever to know of it. " * 3
    complete(small, prompt, 1)
    small.wait_idle()
    shown: dict[str, dict[int, str]] = {}
    for name, key in (("client", KEY), ("admin", ADMIN)):
        found = [
            small.get(f"/dashboard/blocks/{n}", headers=key).json()["hash"] for n in range(1, 33)
        ]
        shown[name] = {n: one for n, one in enumerate(found) if one is not None}
    tokens = small.post("/tokenize", json={"prompt": prompt}, headers=KEY).json()["tokens"]

    def confirmed(hashes: dict[int, str]) -> int:
        """How many blocks of the prompt show that they follow another, to who knows the text."""
        known = {bytes.fromhex(one) for one in hashes.values()}
        blocks = [tokens[at : at + 16] for at in range(0, len(tokens) - 15, 16)]
        return sum(hash_block(one, block) in known for one in known for block in blocks)

    assert len(shown["client"]) == len(shown["admin"]) >= 3
    assert shown["client"].keys() == shown["admin"].keys()
    assert confirmed(shown["admin"]) >= 2, "the hashes are not made as this test believes"
    assert confirmed(shown["client"]) == 0
    assert not set(shown["client"].values()) & set(shown["admin"].values())
    again = small.get(f"/dashboard/blocks/{min(shown['client']) + 1}", headers=KEY).json()["hash"]
    assert again == shown["client"][min(shown["client"])], "the same content, another hash"


def test_sums_of_samples_are_what_the_metrics_count(small, wait_until):
    with watching(small, headers=KEY) as watcher:
        wait_until(lambda: len(watcher.samples) >= 1, DEADLINE_S)
        names = watcher.hello["sample_columns"]
        before = small.gauge("octavo_generation_tokens_total")
        first = len(watcher.samples)
        complete(small, "Count the stars", 64)
        expected = small.gauge("octavo_generation_tokens_total") - before
        assert expected == 64

        def counted() -> float:
            at, rate = names.index("at"), names.index("generation_tokens_per_s")
            # A sample's rate is over the time since the one before it, which load can draw out.
            pairs = itertools.pairwise(watcher.samples[first - 1 :])
            return sum(now[rate] * (now[at] - before[at]) for before, now in pairs)

        # The last tokens come with a later sample than most: wait for all, then see none is twice.
        wait_until(lambda: counted() > expected * 0.98, DEADLINE_S)
        seen = len(watcher.samples)
        wait_until(lambda: len(watcher.samples) >= seen + 2, DEADLINE_S)
        assert counted() == pytest.approx(expected, rel=0.02)
        assert any(s[names.index("ttft_p50")] for s in watcher.samples)
        assert any(s[names.index("itl_p95")] for s in watcher.samples)
    with watching(small, headers=KEY) as later:
        wait_until(lambda: bool(later.hello), DEADLINE_S)
        assert later.hello["history"][-len(watcher.samples) :][:1], "the history is kept"
        kept = [tuple(sample) for sample in later.hello["history"]]
        assert all(tuple(sample) in kept for sample in watcher.samples)


def test_streams_are_counted_and_the_limit_is_told(small):
    with httpx.Client(base_url=small.url, headers=KEY, timeout=30) as client:
        opened = []
        try:
            for _ in range(100):
                answer = client.send(client.build_request("GET", "/dashboard/events"), stream=True)
                if answer.status_code != 200:
                    break
                opened.append(answer)
            assert (answer.status_code, len(opened)) == (503, 32)
            answer.read()
            assert "limit" in answer.json()["error"]["message"]
            assert answer.headers["Retry-After"]
            assert answer.json()["error"]["code"] == 503
        finally:
            for one in opened:
                one.close()


def test_keys_and_numbers_out_of_range(small):
    assert small.get("/dashboard/events").status_code == 401
    assert small.get("/dashboard/blocks/1").status_code == 401
    assert small.get("/dashboard").status_code == 200  # holds nothing of the server's own
    for number in ("0", "33", "-1", "99999999999999999999"):
        answer = small.get(f"/dashboard/blocks/{number}", headers=KEY)
        assert answer.status_code == 404, answer.text
        assert "blocks are 1 to 32" in answer.json()["error"]["message"]
    assert small.get("/dashboard/blocks/x", headers=KEY).status_code == 400


def test_no_ui_serves_no_page(start_server):
    with start_server("--no-ui", "--num-blocks", "33", "--max-model-len", "256") as server:
        for path in ("/", "/dashboard", "/dashboard/events", "/dashboard/blocks/1", "/ui/icon.svg"):
            assert server.get(path).status_code == 404, path
        assert server.get("/v1/models").status_code == 200


def test_streams_end_with_the_server_and_are_nothing_it_waits_for(start_server, wait_until):
    arguments = ("--num-blocks", "33", "--max-model-len", "256", "--drain-timeout", "600")
    with start_server(*arguments) as server, watching(server) as watcher:
        wait_until(lambda: bool(watcher.frames), DEADLINE_S)
        assert server.stop() == 0
        wait_until(lambda: watcher.has_ended, DEADLINE_S)
        assert "draining: 0 requests are under way" in server.log_path.read_text()


def test_who_views_long_after_another_sees_every_cell(small, wait_until):
    with watching(small, headers=KEY) as watcher:
        wait_until(lambda: bool(watcher.frames), DEADLINE_S)
        assert watcher.frames[0]["full"]
    ended = time.monotonic()
    while time.monotonic() - ended < PATIENCE_S:
        complete(small, "tick", 8)
    with watching(small, headers=KEY) as watcher:
        wait_until(lambda: bool(watcher.frames), DEADLINE_S)
        assert watcher.frames[0]["full"]
        wait_until(lambda: watcher.states() == truth(small), DEADLINE_S)


def test_the_engine_follows_blocks_only_while_somebody_asks(tiny_model, wait_until):
    """The watch ends by itself: a later one begins anew, with every cell."""
    llm = LLM(str(tiny_model), num_blocks=33)
    view = llm.core.live_view
    assert not view.is_watched
    known = view.frame(GetFrame(since=0, ticket=1))
    assert view.is_watched and known.is_full
    assert not view.frame(GetFrame(since=known.version, ticket=2)).is_full

    def has_ended() -> bool:
        llm.generate(["tick"], SamplingParams(max_tokens=8))  # steps look at the clock
        return not view.is_watched

    wait_until(has_ended, DEADLINE_S)
    anew = view.frame(GetFrame(since=known.version, ticket=3))
    assert anew.is_full and anew.version > known.version
