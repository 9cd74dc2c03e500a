"""The official client on the shared server, what refusals look like, an engine that is paused."""

import json
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from openai import OpenAI

from ..conftest import ServerProcess, poll_until
from ..faults.engine_faults import engine_pid

STOP_DEADLINE_S = 20.0


@pytest.fixture(scope="session")
def session_client(session_server) -> Iterator[OpenAI]:
    """The `openai` client on the shared server; it does not retry, so every error shows."""
    with OpenAI(base_url=session_server.url + "/v1", api_key="unused", max_retries=0) as client:
        yield client


@pytest.fixture
def client(server, session_client: OpenAI) -> OpenAI:
    """The same, with the check after the test that the server is idle again."""
    return session_client


@pytest.fixture(scope="session")
def model(session_client: OpenAI) -> str:
    """The name under which the shared server serves its model."""
    return session_client.models.list().data[0].id


@pytest.fixture(scope="session")
def http(session_server) -> Iterator[httpx.Client]:
    """One connection for all of them: a refusal must leave it usable, or close it properly."""
    with httpx.Client(base_url=session_server.url, timeout=60) as client:
        yield client


@pytest.fixture
def refuse(server, http: httpx.Client):
    """Send a body that must be refused, and check everything about the refusal."""

    def check(
        path: str,
        content: bytes | Iterator[bytes] | Any,
        *words: str,
        status: int = 400,
        param: str | None = None,
        content_type: str = "application/json",
    ) -> None:
        if not isinstance(content, bytes | Iterator):
            content = json.dumps(content).encode()  # with NaN, Infinity and escaped surrogates
        answer = http.post(path, content=content, headers={"Content-Type": content_type})
        assert answer.status_code == status, answer.text
        error = answer.json()["error"]
        assert set(answer.json()) == {"error"}
        assert set(error) == {"message", "type", "param", "code"}
        assert (error["code"], error["param"]) == (status, param)
        assert error["type"]
        for word in words:
            assert word in error["message"]
        assert len(error["message"]) < 2000

    return check


@contextmanager
def paused_engine(server: ServerProcess) -> Iterator[None]:
    """The engine stands still meanwhile: no work ends, however long a test takes to look at it."""
    engine = engine_pid(server)
    assert engine is not None
    os.kill(engine, signal.SIGSTOP)
    try:
        status = Path(f"/proc/{engine}/status")
        poll_until(lambda: "State:\tT" in status.read_text(), STOP_DEADLINE_S)
        yield
    finally:
        with suppress(ProcessLookupError):  # it was replaced
            os.kill(engine, signal.SIGCONT)
