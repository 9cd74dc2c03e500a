"""Fixtures that several rooms' tests share: the real model, and a real server process."""

import math
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Tests run several processes that compute on few cores: waiting threads must not keep these busy.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import httpx
import hypothesis
import pytest

from octavo.bench.startup import free_port
from octavo.engine.settings import Settings
from octavo.models.resolve import resolve_model

# On busy cores an example, or its making, may take longer than Hypothesis allows: no fault of its.
hypothesis.settings.register_profile(
    "octavo",
    hypothesis.settings(),
    deadline=None,
    print_blob=True,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("octavo")

START_DEADLINE_S = 120.0
IDLE_DEADLINE_S = 30.0
SCRAPE_DEADLINE_S = 20.0
NUM_TRIES = 10
TINY_CONTEXT_LENGTH = 4096


@pytest.fixture(scope="session")
def smollm2_gguf() -> Path:
    """The embedded default model's GGUF file, fetched once into the user's cache folder."""
    return resolve_model(None, Settings.load({}).cache_dir).path


def samples_of(text: str) -> dict[str, float]:
    """The samples of a scrape by their full names with labels."""
    lines = (line.rsplit(" ", 1) for line in text.splitlines() if line and line[0] != "#")
    return {name: float(value) for name, value in lines}


@dataclass
class ServerProcess:
    """A running `octavo serve`, as its clients and its operator see it."""

    process: subprocess.Popen[bytes]
    url: str
    log_path: Path

    # Without `verify=False` each call reads all certificates of the system first.
    def get(self, path: str, **options: Any) -> httpx.Response:
        return httpx.get(self.url + path, timeout=60, verify=False, **options)

    def post(self, path: str, **options: Any) -> httpx.Response:
        return httpx.post(self.url + path, timeout=120, verify=False, **options)

    def metrics(self) -> dict[str, float]:
        """Every sample of /metrics by its full name with labels."""
        return samples_of(self.get("/metrics").text)

    def full_scrape(self) -> str:
        """/metrics with the engine's gauges, without which it comes during a long step."""
        text = ""

        def is_full() -> bool:
            nonlocal text
            text = self.get("/metrics").text
            return re.search(r"^(octavo_|vllm:)num_requests_running\{", text, re.M) is not None

        poll_until(is_full, SCRAPE_DEADLINE_S, lambda: f"no gauges of the engine:\n{text}")
        return text

    def full_metrics(self) -> dict[str, float]:
        """Every sample of a full scrape."""
        return samples_of(self.full_scrape())

    def gauge(self, name: str) -> float:
        """The one sample whose name (without labels) is `name`.

        A scrape that comes during a step of more than a second has no gauges of the engine.
        """
        found: list[float] = []

        def is_there() -> bool:
            found[:] = [v for k, v in self.metrics().items() if k.split("{")[0] == name]
            return len(found) == 1

        poll_until(is_there, SCRAPE_DEADLINE_S, lambda: f"{name}: {found}")
        return found[0]

    def busy(self) -> dict[str, float]:
        """What is not zero though an idle server has zero there; infinite if a step takes long."""
        metrics = {k.split("{")[0]: v for k, v in self.metrics().items()}
        names = ("num_requests_running", "num_requests_waiting", "kv_blocks_used")
        found = {name: metrics.get(f"octavo_{name}", math.inf) for name in names}
        return {name: value for name, value in found.items() if value}

    def wait_idle(self) -> None:
        """Wait until nothing runs or waits and every block is back."""
        poll_until(lambda: not self.busy(), IDLE_DEADLINE_S, lambda: f"not idle: {self.busy()}")

    def stop(self) -> int:
        """SIGTERM, and the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise


def poll_until(
    condition: Callable[[], bool],
    deadline_s: float,
    complaint: Callable[[], str] = lambda: "condition not met",
) -> None:
    """Poll `condition` until it holds; fail with `complaint` after the deadline."""
    end = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < end, complaint()
        time.sleep(0.02)


def in_more_pieces_than(number: int, ask: Callable[[], int]) -> None:
    """Call `ask` until it returns more pieces than that, a few times at most.

    A front end that stood still joins the outputs of several steps in one event.
    """
    counts: list[int] = []
    while not counts or counts[-1] <= number:
        assert len(counts) < NUM_TRIES, f"never more than {number} pieces: {counts}"
        counts.append(ask())


@pytest.fixture(scope="session")
def wait_until() -> Callable[[Callable[[], bool], float], None]:
    """Poll a condition until it holds; fail after a deadline in seconds."""
    return poll_until


@contextmanager
def running_server(
    log_path: Path, *arguments: str, prefix: tuple[str, ...] = ()
) -> Iterator[ServerProcess]:
    """`octavo serve` with these arguments on a free port, ready; stopped at the end.

    `prefix` is a command that becomes the one that is put behind it.
    """
    port = free_port()
    command = [*prefix, sys.executable, "-m", "octavo", "serve", *arguments, "--port", str(port)]
    with log_path.open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=os.environ)
    server = ServerProcess(process, f"http://127.0.0.1:{port}", log_path)

    def is_ready() -> bool:
        assert process.poll() is None, f"octavo serve ended:\n{log_path.read_text()}"
        try:
            return server.get("/readyz").status_code == 200
        except httpx.TransportError:
            return False

    try:
        poll_until(is_ready, START_DEADLINE_S, lambda: f"not ready:\n{log_path.read_text()}")
        yield server
    finally:
        server.stop()


StartServer = Callable[..., AbstractContextManager[ServerProcess]]


@pytest.fixture(scope="session")
def start_server(tmp_path_factory: pytest.TempPathFactory, smollm2_gguf: Path) -> StartServer:
    """Start further servers with other flags: `with start_server("--api-key", "k") as server:`."""

    def start(*arguments: str) -> AbstractContextManager[ServerProcess]:
        return running_server(tmp_path_factory.mktemp("server") / "log.txt", *arguments)

    return start


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random model with one token a byte; 1,000 of its tokens take a fraction of a second."""
    from .fuzz.base_models import write_folder  # whose libraries take a while

    folder = tmp_path_factory.mktemp("models") / "tiny"
    write_folder(folder, context_length=TINY_CONTEXT_LENGTH)
    return folder


@pytest.fixture(scope="session")
def start_tiny(start_server: StartServer, tiny_model: Path) -> StartServer:
    """`start_server` with that model: for tests of everything around the model."""

    def start(*arguments: str) -> AbstractContextManager[ServerProcess]:
        return start_server(str(tiny_model), "--num-blocks", "2000", *arguments)

    return start


@pytest.fixture(scope="session")
def session_server(
    start_server: StartServer,
) -> Iterator[ServerProcess]:
    """The one server most tests share: the real model in float32."""
    with start_server("--dtype", "float32") as running:
        yield running


@pytest.fixture
def server(session_server: ServerProcess) -> Iterator[ServerProcess]:
    """The shared server; after the test it must become idle with every block back."""
    yield session_server
    session_server.wait_idle()
