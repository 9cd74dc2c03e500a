"""One server with an API key for all real clients; every test must leave it idle.

The clients' libraries are the extra `clients`: `make test` installs it.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import pytest

API_KEY = "sk-of-the-clients-tests"


def pytest_ignore_collect(config: pytest.Config) -> bool | None:
    """Where slow tests are left out, do not even import the libraries: that alone takes seconds."""
    return True if config.option.markexpr == "not slow" else None


@dataclass(frozen=True)
class Endpoint:
    """What a user of any client is told: where to go, with which key, for which model."""

    base_url: str
    api_key: str
    model: str


@pytest.fixture(scope="session")
def client_server(start_server: Callable[..., AbstractContextManager[Any]]) -> Iterator[Any]:
    """A server with a key, so that each client must send it, and exact: what the model answers to a
    result must not depend on the processor's instructions.
    """
    with start_server("--api-key", API_KEY, "--dtype", "float32") as running:
        yield running


@pytest.fixture(scope="session")
def endpoint(client_server: Any) -> Endpoint:
    """The server's address, key and model."""
    cards = client_server.get("/v1/models", headers={"Authorization": f"Bearer {API_KEY}"})
    return Endpoint(f"{client_server.url}/v1", API_KEY, cards.json()["data"][0]["id"])


@pytest.fixture(autouse=True)
def idle_again(client_server: Any) -> Iterator[None]:
    """After every test no request may be left over, and every block must be back."""
    yield
    client_server.wait_idle()


@pytest.fixture(scope="session")
def client(endpoint: Endpoint) -> Iterator[Any]:
    """OpenAI's own client for Python; it does not retry, so every error shows."""
    from openai import OpenAI  # not before a test asks: fast tests go without

    options = {"base_url": endpoint.base_url, "api_key": endpoint.api_key, "max_retries": 0}
    with OpenAI(**options) as client:
        yield client
