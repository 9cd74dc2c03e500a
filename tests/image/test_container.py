"""What the running container does: serve, be watched, touch nothing, stop well."""

import json
import subprocess
import threading
import time
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from .conftest import Start
from .containers import READY_DEADLINE_S, Container

pytestmark = pytest.mark.image

USER_ID = 10001
NUM_STREAMED_TOKENS = 1500  # podman takes seconds to pass the signal on
DRAIN_TIMEOUT_S = 180
STOP_TIMEOUT_S = DRAIN_TIMEOUT_S + 15  # as in docs/deployment.md: more than the former
KILLED = 128 + 9


def test_chat_is_answered(container: Container) -> None:
    answer = container.chat(
        "What is the capital of France? Answer in one sentence.", temperature=0, max_tokens=64
    )
    assert answer.status_code == 200, answer.text
    [choice] = answer.json()["choices"]
    assert "Paris" in choice["message"]["content"]
    assert choice["finish_reason"] == "stop"


def test_metrics_count_what_was_generated(container: Container) -> None:
    def num_generated() -> float:
        families = {
            family.name: family
            for family in text_string_to_metric_families(container.get("/metrics").text)
        }
        assert "process_resident_memory_bytes" in families
        [sample] = families["octavo_generation_tokens"].samples
        return sample.value

    before = num_generated()
    answer = container.chat("Count to ten.", max_tokens=8, ignore_eos=True)
    assert answer.json()["usage"]["completion_tokens"] == 8
    assert num_generated() == before + 8


def test_every_process_is_an_ordinary_user_without_capabilities(container: Container) -> None:
    statuses = [_status(pid) for pid in _family(container.state()["Pid"])]
    assert [status["Name"] for status in statuses][:2] == ["tini", "octavo"]
    assert len(statuses) >= 3  # and the engine's process
    for status in statuses:
        assert status["Uid"].split() == [str(USER_ID)] * 4
        assert status["Gid"].split() == [str(USER_ID)] * 4
        assert int(status["CapEff"], 16) == int(status["CapBnd"], 16) == 0
        assert status["NoNewPrivs"] == "1"


@pytest.mark.parametrize("folder", ["/", "/opt/octavo", "/usr/share/octavo", "/models", "/var/tmp"])
def test_root_filesystem_is_read_only(container: Container, folder: str) -> None:
    finished = container.execute("touch", f"{folder}/written")
    assert finished.returncode != 0
    assert "Read-only file system" in finished.stderr


def test_temporary_folder_is_all_that_is_written(container: Container) -> None:
    assert container.execute("sh", "-c", "touch /tmp/a && rm /tmp/a").returncode == 0


def test_health_check_tells_sick_from_well(container: Container) -> None:
    end = time.monotonic() + READY_DEADLINE_S  # a machine that is busy may miss one
    while container.store.podman("healthcheck", "run", container.name, check=False).returncode:
        assert time.monotonic() < end, "it is well, and the health check says no"
    # The same command for a port where nobody answers.
    [_, *command] = container.store.inspect("container", container.name)["Config"]["Healthcheck"][
        "Test"
    ]
    finished = container.execute("env", "OCTAVO_PORT=1", *command)
    assert finished.returncode == 1
    assert "http://127.0.0.1:1/health" in finished.stderr


def test_native_kernels_load_beside_torch_with_one_openmp(container: Container) -> None:
    script = (
        "import torch\n"
        "from octavo.kernels.cpu.library import open_library\n"
        "assert open_library() is not None\n"
        "maps = open('/proc/self/maps').read().split()\n"
        "print(len({path for path in maps if 'libgomp' in path}))\n"
    )
    finished = container.execute("python3", "-c", script)
    assert finished.stdout.strip() == "1", finished.stderr


def test_sigterm_during_a_stream_lets_it_finish(start: Start) -> None:
    flags = ("--drain-timeout", str(DRAIN_TIMEOUT_S))
    with start(*flags) as container, httpx.Client(timeout=60, verify=False) as client:
        body = {
            "messages": [{"role": "user", "content": "Tell me a long story."}],
            "max_tokens": NUM_STREAMED_TOKENS,
            "ignore_eos": True,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        url = container.url + "/v1/chat/completions"
        with client.stream("POST", url, json=body) as answer:
            assert answer.status_code == 200
            events = (line.removeprefix("data: ") for line in answer.iter_lines() if line)
            first = json.loads(next(events))
            stopping = Stopping(container)
            rest = list(events)
        assert rest[-1] == "[DONE]"
        chunks = [first, *(json.loads(event) for event in rest[:-1])]
        [reason] = [
            choice["finish_reason"]
            for chunk in chunks
            for choice in chunk["choices"]
            if choice["finish_reason"]
        ]
        assert reason == "length"
        assert chunks[-1]["usage"]["completion_tokens"] == NUM_STREAMED_TOKENS
        finished = stopping.wait()
        assert finished.returncode == 0, finished.stderr
        state = container.state()
        assert state["ExitCode"] != KILLED, "it did not stop within the drain time"
        assert state["ExitCode"] == 0, container.logs()
        assert "draining: 1 requests are under way" in container.logs()


class Stopping:
    """`podman stop` under way: SIGTERM now, SIGKILL if the container outlives its time."""

    def __init__(self, container: Container) -> None:
        self._container = container
        self._finished: subprocess.CompletedProcess[str] | None = None
        self._thread = threading.Thread(target=self._stop)
        self._thread.start()

    def _stop(self) -> None:
        timeout = ("--time", str(STOP_TIMEOUT_S))
        self._finished = self._container.store.podman(
            "stop", *timeout, self._container.name, check=False
        )

    def wait(self) -> subprocess.CompletedProcess[str]:
        """Its end."""
        self._thread.join(STOP_TIMEOUT_S + 15)
        assert self._finished is not None, "podman stop does not end"
        return self._finished


def _status(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def _family(pid: int) -> list[int]:
    """A process and all that descend from it, parents first."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(one for child in children for one in _family(int(child)))]
