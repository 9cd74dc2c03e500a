"""Keys that change while the server runs, and tenants that must not learn of each other."""

import json
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from ..conftest import StartServer

pytestmark = pytest.mark.slow

WaitUntil = Callable[[Callable[[], bool], float], None]
DEADLINE_S = 20.0
PROMPT = "A prompt that is long enough to fill some blocks of sixteen tokens each. " * 2
NUM_STREAMED = 1500


class Guarded:
    """A server with a file of keys, and who asks it."""

    def __init__(self, server: Any, key_file: Path) -> None:
        self.server, self.key_file = server, key_file

    def hang_up(self) -> None:
        self.server.process.send_signal(signal.SIGHUP)

    def ask(self, key: str, **fields: Any) -> httpx.Response:
        body = {"prompt": PROMPT, "max_tokens": 1, **fields}
        headers = {"Authorization": f"Bearer {key}"}
        return self.server.post("/v1/completions", json=body, headers=headers)

    def num_cached(self, key: str, **fields: Any) -> int:
        usage = self.ask(key, **fields).json()["usage"]
        return int(usage["prompt_tokens_details"]["cached_tokens"])


@pytest.fixture(scope="module")
def guarded(start_tiny: StartServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    key_file = tmp_path_factory.mktemp("keys") / "api-keys"
    key_file.write_text("alpha\nbeta\n")
    with start_tiny("--api-key-file", str(key_file), "--isolate-tenants") as server:
        yield Guarded(server, key_file)


@pytest.fixture
def two_keys(guarded: Guarded, wait_until: WaitUntil) -> Guarded:
    """The server with its first two keys, whatever the test before has done."""
    guarded.key_file.write_text("alpha\nbeta\n")
    guarded.hang_up()
    wait_until(lambda: guarded.ask("beta").status_code == 200, DEADLINE_S)
    return guarded


def test_prefixes_are_found_within_a_key_and_never_across(two_keys: Guarded) -> None:
    prompt = {"prompt": "Told by alpha first. " + PROMPT}
    assert two_keys.num_cached("alpha", **prompt) == 0
    hit = two_keys.num_cached("alpha", **prompt)
    assert hit > 100
    assert two_keys.num_cached("beta", **prompt) == 0
    assert two_keys.num_cached("beta", **prompt) == hit


def test_a_salt_of_its_own_divides_a_tenants_requests_further(two_keys: Guarded) -> None:
    prompt = {"prompt": "Told with a salt. " + PROMPT}
    assert two_keys.num_cached("alpha", **prompt, cache_salt="s") == 0
    assert two_keys.num_cached("alpha", **prompt) == 0
    assert two_keys.num_cached("beta", **prompt, cache_salt="s") == 0
    assert two_keys.num_cached("alpha", **prompt, cache_salt="s") > 100


def test_a_chat_is_isolated_too(two_keys: Guarded) -> None:
    def num_cached(key: str) -> int:
        answer = two_keys.server.post(
            "/v1/chat/completions",
            json={"messages": [{"role": "user", "content": PROMPT}], "max_tokens": 1},
            headers={"Authorization": f"Bearer {key}"},
        )
        return int(answer.json()["usage"]["prompt_tokens_details"]["cached_tokens"])

    assert [num_cached("alpha"), num_cached("beta")] == [0, 0]
    assert num_cached("alpha") > 100


def test_a_dashboard_ends_with_its_key(two_keys: Guarded, wait_until: WaitUntil) -> None:
    dashboards: dict[str, bool] = {}

    def watch(key: str) -> None:
        with httpx.stream(
            "GET",
            two_keys.server.url + "/dashboard/events",
            headers={"Authorization": f"Bearer {key}"},
            timeout=60,
        ) as answer:
            for _ in answer.iter_lines():
                dashboards[key] = True
                if may_leave.is_set():
                    return
        dashboards[key] = False

    may_leave = threading.Event()
    readers = [threading.Thread(target=watch, args=(key,)) for key in ("alpha", "beta")]
    for reader in readers:
        reader.start()
    wait_until(lambda: len(dashboards) == 2, DEADLINE_S)
    two_keys.key_file.write_text("beta\n")
    two_keys.hang_up()
    wait_until(lambda: not dashboards["alpha"], DEADLINE_S)
    assert dashboards["beta"], "who has a key still may look"
    may_leave.set()
    for reader in readers:
        reader.join(DEADLINE_S)
        assert not reader.is_alive()


def test_a_key_is_exchanged_and_the_stream_that_it_opened_goes_on(
    two_keys: Guarded, wait_until: WaitUntil
) -> None:
    body = {"prompt": "x", "max_tokens": NUM_STREAMED, "ignore_eos": True, "stream": True}
    events: list[Any] = []
    has_begun, may_go_on = threading.Event(), threading.Event()

    def read() -> None:
        with httpx.stream(
            "POST",
            two_keys.server.url + "/v1/completions",
            json={**body, "stream_options": {"include_usage": True}},
            headers={"Authorization": "Bearer alpha"},
            timeout=60,
        ) as answer:
            for line in answer.iter_lines():
                if line.startswith("data: {"):
                    events.append(json.loads(line.removeprefix("data: ")))
                    has_begun.set()
                    may_go_on.wait(DEADLINE_S)

    reader = threading.Thread(target=read)
    reader.start()
    assert has_begun.wait(DEADLINE_S)
    two_keys.key_file.write_text("beta\ngamma\n")
    two_keys.hang_up()
    wait_until(lambda: two_keys.ask("gamma").status_code == 200, DEADLINE_S)
    assert two_keys.ask("alpha").status_code == 401
    assert two_keys.ask("beta").status_code == 200
    may_go_on.set()
    reader.join(DEADLINE_S)
    assert not reader.is_alive()
    assert events[-1]["usage"]["completion_tokens"] == NUM_STREAMED


def test_an_empty_file_locks_nobody_out_and_lets_nobody_in(
    two_keys: Guarded, wait_until: WaitUntil
) -> None:
    two_keys.key_file.write_text("# taken away by mistake\n")
    two_keys.hang_up()
    log = two_keys.server.log_path
    wait_until(lambda: "the keys stay as they were" in log.read_text(), DEADLINE_S)
    assert two_keys.ask("alpha").status_code == 200
    assert two_keys.ask("another").status_code == 401
