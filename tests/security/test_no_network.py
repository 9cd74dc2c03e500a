"""A local model is served without a packet to anywhere: no telemetry, no look-ups, no hub.

Every Python process of the server runs with an audit hook that refuses and notes whatever would
leave this machine; what native code might open besides shows in the processes' own descriptors.
"""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from octavo.bench.startup import free_port

from ..fuzz.base_models import write_base_models

pytestmark = pytest.mark.slow

WaitUntil = Callable[[Callable[[], bool], float], None]
START_DEADLINE_S = 60.0
GUARD = """
import os
import sys

HERE = ("127.0.0.1", "::1", "localhost", "", None)
NAMING = ("socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr")


def watch(event, arguments):
    if event in ("socket.connect", "socket.sendto"):
        address = arguments[1]
        host = address[0] if isinstance(address, tuple) else None
    elif event in NAMING:
        host = arguments[0].decode() if isinstance(arguments[0], bytes) else arguments[0]
    else:
        return
    if host not in HERE:
        with open(os.environ["PYTHON_NETWORK_ATTEMPTS"], "a") as file:
            file.write(f"{event} {host}\\n")
        raise PermissionError(f"no network here: {event} {host}")


sys.addaudithook(watch)
with open(os.environ["PYTHON_NETWORK_ATTEMPTS"] + ".guarded", "a") as file:
    file.write(" ".join(sys.orig_argv) + "\\n")
"""


@dataclass(frozen=True)
class Guard:
    """The environment in which nothing reaches out, and the notes about who tried."""

    environment: dict[str, str]
    notes: Path

    def attempts(self) -> str:
        return self.notes.read_text() if self.notes.exists() else ""

    def guarded(self) -> str:
        return Path(f"{self.notes}.guarded").read_text()


@pytest.fixture
def guard(tmp_path: Path) -> Guard:
    folder = tmp_path / "guard"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(GUARD)
    notes = tmp_path / "attempts"
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("HF_")},
        "PYTHONPATH": str(folder),
        "PYTHON_NETWORK_ATTEMPTS": str(notes),
        "HF_HOME": str(tmp_path / "hub"),
    }
    return Guard(environment, notes)


def descendants(pid: int) -> Iterator[int]:
    yield pid
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            yield from descendants(int(child))


def foreign_sockets(pid: int) -> list[str]:
    """Peers, as in /proc/net, of this process's sockets that are not on this machine."""
    mine = set()
    for link in Path(f"/proc/{pid}/fd").iterdir():
        try:
            target = os.readlink(link)
        except FileNotFoundError:
            continue  # closed meanwhile
        if target.startswith("socket:["):
            mine.add(target[8:-1])
    here = {"00000000", "0100007F", "0" * 32, "0" * 24 + "01000000"}
    here.add("0000000000000000FFFF00000100007F")
    foreign = []
    for table in ("tcp", "tcp6", "udp", "udp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[9] in mine and fields[2].split(":")[0] not in here:
                foreign.append(f"{table} {fields[2]}")
    return foreign


def test_the_guard_notes_who_reaches_out(guard: Guard) -> None:
    command = [sys.executable, "-m", "octavo", "serve", "some-org/some-model", "--port", "0"]
    done = subprocess.run(
        command, env=guard.environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 1
    assert "could not be fetched" in done.stderr
    assert guard.attempts()


@pytest.mark.parametrize("kind", ["dense", "single"])
def test_a_local_model_is_served_without_a_network(
    kind: str, guard: Guard, tmp_path: Path, wait_until: WaitUntil
) -> None:
    (tmp_path / "models").mkdir()
    model, port = write_base_models(tmp_path / "models")[kind], free_port()
    url, log = f"http://127.0.0.1:{port}", tmp_path / "log.txt"
    command = [sys.executable, "-m", "octavo", "serve", str(model), "--port", str(port)]
    with log.open("wb") as sink:
        process = subprocess.Popen(
            [*command, "--num-blocks", "200", "--trust-request-chat-template"],
            env=guard.environment,
            stdout=sink,
            stderr=subprocess.STDOUT,
        )

    def is_ready() -> bool:
        assert process.poll() is None, log.read_text()
        try:
            return httpx.get(url + "/readyz", timeout=30).status_code == 200
        except httpx.TransportError:
            return False

    try:
        wait_until(is_ready, START_DEADLINE_S)
        talk = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 3}
        for extra in ({}, {"stream": True}, {"chat_template": "{{ messages[0].content }}"}):
            answer = httpx.post(url + "/v1/chat/completions", json={**talk, **extra}, timeout=60)
            assert answer.status_code == 200, answer.text
        for path in ("/metrics", "/v1/models", "/", "/docs", "/openapi.json", "/health"):
            assert httpx.get(url + path, timeout=30).status_code == 200
        family = list(descendants(process.pid))
        assert len(family) >= 3  # front end, engine, templates of requests
        assert not [peer for pid in family for peer in foreign_sockets(pid)]
    finally:
        process.terminate()
        assert process.wait(60) == 0
    for module in ("octavo serve", "octavo.engine.process", "octavo.engine.template_worker"):
        assert module in guard.guarded()
    assert guard.attempts() == ""
