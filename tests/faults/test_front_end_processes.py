"""Front ends that share an engine come up, hang, are replaced, and end together."""

import asyncio
import contextlib
import os
import resource
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from octavo.bench.startup import free_port

from ..conftest import START_DEADLINE_S, StartServer
from .engine_faults import Streams, children, engine_pid, front_end_pids, signal_engine, until
from .test_front_ends import (
    ADMIN,
    DEADLINE_S,
    LONGEST,
    MANY,
    NUM_STREAMS,
    PROMPT,
    bodies_of,
)

pytestmark = pytest.mark.slow


def test_a_front_end_that_hangs_is_replaced(start_tiny: StartServer, wait_until: Any) -> None:
    flags = ("--api-server-count", "2", "--engine-timeout", "15", "--admin-key", "admin")
    with start_tiny(*flags) as server:
        victim, other = front_end_pids(server)
        os.kill(victim, signal.SIGSTOP)

        def abort(_: int) -> httpx.Response | None:
            """The answer, if it came during the victim's life.

            Those that the victim took end with it; its successor answers those that it did not.
            """
            answer = None
            with contextlib.suppress(httpx.TransportError):
                answer = httpx.post(
                    server.url + "/abort_requests",
                    json={"all": True},
                    headers=ADMIN,
                    timeout=60,
                    verify=False,
                )
            return answer if victim in front_end_pids(server) else None

        with ThreadPoolExecutor(NUM_STREAMS) as pool:
            refused = [answer for answer in pool.map(abort, range(NUM_STREAMS)) if answer]
        assert {answer.status_code for answer in refused} == {503}
        assert "does not answer" in refused[0].json()["error"]["message"]
        wait_until(lambda: victim not in front_end_pids(server), DEADLINE_S)
        wait_until(lambda: len(front_end_pids(server)) == 2, DEADLINE_S)
        assert other in front_end_pids(server)
        assert "has not answered for" in server.log_path.read_text()
        late = Streams(server.url, bodies_of(5))
        late.run()
        assert len(late.finish_reasons) == NUM_STREAMS


def test_a_place_that_could_not_be_filled_is_filled_later(
    start_tiny: StartServer, wait_until: Any, tmp_path: Path
) -> None:
    """No file descriptors for a while; meanwhile SIGHUP, which nobody may die of."""
    keys = tmp_path / "keys"
    keys.write_text("key\n")
    with start_tiny("--api-server-count", "2", "--api-key-file", str(keys)) as server:
        pid = server.process.pid
        usual = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (8, usual[1]))
        victim, _ = front_end_pids(server)
        os.kill(victim, signal.SIGKILL)
        wait_until(lambda: "Too many open files" in server.log_path.read_text(), DEADLINE_S)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, usual)

        def has_come() -> bool:
            server.process.send_signal(signal.SIGHUP)
            time.sleep(0.05)  # between two signals: no wait for anything
            return len(front_end_pids(server)) == 2

        wait_until(has_come, DEADLINE_S)
        for _ in range(20):  # until it serves
            server.process.send_signal(signal.SIGHUP)
            time.sleep(0.1)  # likewise
        assert {server.get("/livez").status_code for _ in range(NUM_STREAMS)} == {200}
        assert len(front_end_pids(server)) == 2


def test_keys_and_tenants_are_those_of_all(
    start_tiny: StartServer, tmp_path: Path, wait_until: Any
) -> None:
    keys = tmp_path / "keys"
    keys.write_text("old\n")
    flags = ("--api-server-count", "2", "--api-key-file", str(keys), "--isolate-tenants")
    with start_tiny(*flags) as server:

        def num_cached() -> int:
            body = {"prompt": PROMPT, "max_tokens": 1}
            headers = {"Authorization": "Bearer old"}
            usage = server.post("/v1/completions", json=body, headers=headers).json()["usage"]
            return int(usage["prompt_tokens_details"]["cached_tokens"])

        assert num_cached() == 0
        assert {num_cached() for _ in range(NUM_STREAMS)} == {num_cached()} != {0}

        def statuses(key: str) -> set[int]:
            headers = {"Authorization": f"Bearer {key}"}
            return {
                server.get("/v1/models", headers=headers).status_code for _ in range(NUM_STREAMS)
            }

        keys.write_text("new\n")
        server.process.send_signal(signal.SIGHUP)
        wait_until(lambda: statuses("new") == {200}, DEADLINE_S)
        assert statuses("old") == {401}


def test_a_drain_is_everybodys(start_tiny: StartServer) -> None:
    with start_tiny("--api-server-count", "2") as server:
        streams = Streams(server.url, bodies_of(400))
        engine, others = engine_pid(server), front_end_pids(server)

        async def stop(running: Streams) -> None:
            await until(lambda: all(running.texts))
            server.process.send_signal(signal.SIGTERM)

        streams.run(stop)
        assert set(streams.finish_reasons.values()) == {"length"} and not streams.errors
        assert server.process.wait(DEADLINE_S) == 0
        for pid in (engine, *others):
            assert not Path(f"/proc/{pid}").exists()


def test_nobody_outlives_who_keeps_the_engine(start_tiny: StartServer, wait_until: Any) -> None:
    with start_tiny("--api-server-count", "2") as server:
        left = children(server, "")
        assert len(left) >= 3
        counts = _folder_of_counts(front_end_pids(server)[0])
        assert counts.is_dir()
        server.process.kill()
        server.process.wait()
        wait_until(lambda: not any(_runs(pid) for pid in left), DEADLINE_S)
        assert not counts.exists()


def test_a_second_signal_ends_all_at_once(start_tiny: StartServer, wait_until: Any) -> None:
    with start_tiny("--api-server-count", "2") as server:
        left = children(server, "")
        counts = _folder_of_counts(front_end_pids(server)[0])
        streams = Streams(server.url, bodies_of(LONGEST, num_streams=MANY))

        async def stop(running: Streams) -> None:
            await until(lambda: sum(map(bool, running.texts)) >= NUM_STREAMS)
            signal_engine(server, signal.SIGSTOP)  # no stream ends by itself, and no drain
            server.process.send_signal(signal.SIGTERM)
            await until(lambda: "another one ends it at once" in server.log_path.read_text())
            await asyncio.sleep(0.2)  # sooner, it is the same signal
            server.process.send_signal(signal.SIGTERM)

        with pytest.raises(httpx.TransportError):
            streams.run(stop)
        assert server.process.wait(DEADLINE_S) == 128 + signal.SIGTERM
        wait_until(lambda: not any(_runs(pid) for pid in left), DEADLINE_S)
        assert not counts.exists()


def _folder_of_counts(pid: int) -> Path:
    variables = Path(f"/proc/{pid}/environ").read_text().split("\0")
    name = "PROMETHEUS_MULTIPROC_DIR="
    return Path(next(one for one in variables if one.startswith(name)).removeprefix(name))


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_when_it_says_ready_every_front_end_is(
    tiny_model: Path, tmp_path: Path, wait_until: Any
) -> None:
    log, port = tmp_path / "log", free_port()
    command = ["serve", str(tiny_model), "--api-server-count", "3", "--port", str(port)]
    with log.open("wb") as file:
        server = subprocess.Popen([sys.executable, "-m", "octavo", *command], stderr=file)
    try:
        wait_until(lambda: "ready: " in log.read_text(), START_DEADLINE_S)
        url = f"http://127.0.0.1:{port}/readyz"
        assert all(f" front-end-{place} " in log.read_text() for place in range(3))
        answers = [httpx.get(url, timeout=60, verify=False) for _ in range(NUM_STREAMS)]
        assert {answer.status_code for answer in answers} == {200}
    finally:
        server.terminate()
        assert server.wait(DEADLINE_S) == 0


def test_front_ends_that_cannot_start_end_the_server(tiny_model: Path, tmp_path: Path) -> None:
    template = tmp_path / "template"
    template.write_text("{% if %}")
    command = ["serve", str(tiny_model), "--api-server-count", "2", "--port", "0"]
    ended = subprocess.run(
        [sys.executable, "-m", "octavo", *command, "--chat-template", str(template)],
        capture_output=True,
        text=True,
        timeout=START_DEADLINE_S,
    )
    assert ended.returncode == 1
    assert "chat template" in ended.stderr and "a front end did not come up" in ended.stderr
    assert "Traceback" not in ended.stderr
