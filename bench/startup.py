"""How long a server takes from its start to its first token."""

import asyncio
import socket
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx

from .client import Client
from .endpoint import Endpoint, served_model
from .errors import BenchError
from .workloads import Conversation, Turn

_POLL_INTERVAL_S = 0.02
_STOP_TIMEOUT_S = 30.0


@dataclass(frozen=True)
class Startup:
    """Seconds from the start of the process until /health says 200, and until a first token."""

    ready_s: float
    first_token_s: float


def measure_startup(
    command: Sequence[str], base_url: str, *, log_path: Path, timeout_s: float = 600.0
) -> Startup:
    """Start a server, wait until it is healthy, ask for one completion, and stop it.

    The server's output goes to `log_path`. The command must start the server in the foreground and
    end it on SIGTERM. Raises BenchError if it ends by itself, is not ready in time or fails the
    completion.
    """
    with log_path.open("wb") as log:
        began = time.perf_counter()
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        try:
            _wait_until_healthy(process, base_url, began + timeout_s, log_path)
            ready_s = time.perf_counter() - began
            endpoint = Endpoint(base_url, served_model(base_url), timeout_s=timeout_s)
            first_token_s = asyncio.run(_first_token(endpoint, began))
        finally:
            _stop(process)
    return Startup(ready_s, first_token_s)


def free_port() -> int:
    """A port of 127.0.0.1 on which nothing listens now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_until_healthy(
    process: "subprocess.Popen[bytes]", base_url: str, deadline: float, log_path: Path
) -> None:
    with httpx.Client(base_url=base_url, timeout=5, trust_env=False) as client:
        while time.perf_counter() < deadline:
            if process.poll() is not None:
                raise BenchError(f"the server ended with code {process.returncode}; see {log_path}")
            try:
                if client.get("/health").status_code == 200:
                    return
            except httpx.TransportError:
                pass  # nothing listens yet
            time.sleep(_POLL_INTERVAL_S)
    raise BenchError(f"the server was not ready in time; see {log_path}")


async def _first_token(endpoint: Endpoint, began: float) -> float:
    async with Client(endpoint, began) as client:
        record = await client.send(Conversation((Turn("The capital of France is", 1),)), [])
    if record.error is not None:
        raise BenchError(f"the first completion failed: {record.error}")
    return record.chunk_s[0] if record.chunk_s else record.end_s


def _stop(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    try:
        process.wait(_STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
