"""One server process: started on a free port, waited for, and stopped by its own PID."""

import os
import shlex
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from octavo.bench import BenchError

from .systems import PORT, System

START_TIMEOUT_S = 300.0
STOP_TIMEOUT_S = 30.0
POLL_S = 0.1
DEATH_NOTICE_S = 2.0  # a dying process drops its connections before it is gone
LOG_TAIL_LINES = 30


class ServerFailedError(Exception):
    """A server ended, or was not ready in time; the message ends with the tail of its log."""


@contextmanager
def running(system: System) -> Iterator[str]:
    """Give the base URL of a fresh process of the system, or of one that runs already.

    The process is gone when the block is left, however it is left. Raises ServerFailedError.
    """
    if system.command is None:
        assert system.url is not None
        yield system.url
        return
    port = _free_port()
    command = [part.replace(PORT, str(port)) for part in system.command]
    url = f"http://127.0.0.1:{port}"
    with tempfile.TemporaryDirectory(prefix="octavo-compare-") as folder:
        log_path = Path(folder) / "log.txt"
        with log_path.open("wb") as log:
            process = subprocess.Popen(
                command,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **system.environment},
            )
        try:
            _wait_ready(process, url, log_path, command)
            yield url
        except BenchError:  # whose cause may be that the server is gone
            _check_alive(process, log_path, command)
            raise
        finally:
            _stop(process)


def _wait_ready(
    process: subprocess.Popen[bytes], url: str, log_path: Path, command: list[str]
) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    with httpx.Client(trust_env=False, timeout=10) as client:
        while time.monotonic() < deadline:
            if process.poll() is not None:
                raise ServerFailedError(_complaint("ended at start", command, log_path))
            try:
                if client.get(url + "/health").status_code == 200:
                    return
            except httpx.TransportError:
                pass  # it does not listen yet
            time.sleep(POLL_S)
    raise ServerFailedError(_complaint(f"not ready in {START_TIMEOUT_S:.0f} s", command, log_path))


def _check_alive(process: subprocess.Popen[bytes], log_path: Path, command: list[str]) -> None:
    try:
        process.wait(DEATH_NOTICE_S)
    except subprocess.TimeoutExpired:
        return
    raise ServerFailedError(_complaint("ended while it was measured", command, log_path))


def _stop(process: subprocess.Popen[bytes]) -> None:
    """SIGTERM, then SIGKILL if that was not enough."""
    if process.poll() is not None:
        return
    process.terminate()
    try:
        process.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _complaint(what: str, command: list[str], log_path: Path) -> str:
    lines = log_path.read_text(errors="replace").splitlines()[-LOG_TAIL_LINES:]
    return "\n".join([f"{shlex.join(command)}: {what}", *lines])


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
