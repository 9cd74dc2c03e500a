"""Keys are in no line that the server writes and in no answer that it gives."""

import http.client
import json
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ..conftest import StartServer

pytestmark = pytest.mark.slow

WaitUntil = Callable[[Callable[[], bool], float], None]
DEADLINE_S = 20.0
BY_FLAG, BY_FILE, BY_NEW_FILE = "flagged-5ac1e0", "filed-77d0b2", "renewed-0be4f9"
ADMIN, WRONG, MISPLACED = "operator-c3a8d1", "guessed-91fe6c", "misplaced-4d2a7b"
SECRETS = (BY_FLAG, BY_FILE, BY_NEW_FILE, ADMIN, WRONG)
BODY = {"prompt": "Hi", "max_tokens": 2}


class Watched:
    """A server with keys of every kind, the most talkative log, and all answers it has given."""

    def __init__(self, server: Any, key_file: Path) -> None:
        self.server, self.key_file = server, key_file
        self.answers: list[str] = []

    def send(self, method: str, path: str, authorization: str | None, **options: Any) -> int:
        headers = {} if authorization is None else {"Authorization": authorization}
        send = self.server.get if method == "GET" else self.server.post
        answer = send(path, headers={**headers, **options.pop("headers", {})}, **options)
        self.answers.append(f"{answer.headers}\n{answer.text}")
        return int(answer.status_code)


@pytest.fixture(scope="module", params=["text", "json"])
def watched(
    request: pytest.FixtureRequest,
    start_tiny: StartServer,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Watched]:
    folder = tmp_path_factory.mktemp("secrets")
    keys, admins = folder / "keys", folder / "admins"
    keys.write_text(BY_FILE + "\n")
    admins.write_text(ADMIN + "\n")
    flags = ["--api-key", BY_FLAG, "--api-key-file", str(keys), "--admin-key-file", str(admins)]
    flags += ["--metrics-by-key", "--isolate-tenants"]
    with start_tiny(*flags, "--log-level", "debug", "--log-format", request.param) as server:
        yield Watched(server, keys)


def test_no_key_is_written_or_answered(watched: Watched, wait_until: WaitUntil) -> None:
    for key in (BY_FLAG, BY_FILE, ADMIN):
        bearer = f"Bearer {key}"
        assert watched.send("POST", "/v1/completions", bearer, json=BODY) == 200
        assert watched.send("POST", "/v1/completions", bearer, json={**BODY, "stream": True}) == 200
        assert watched.send("POST", "/v1/completions", bearer, json={"prompt": 5}) == 400
        assert watched.send("POST", "/v1/completions", bearer, content=b"{") == 400
        assert watched.send("GET", "/absent", bearer) == 404
        assert watched.send("POST", "/v1/models", bearer) == 405
    for form in (f"Bearer {WRONG}", f"Basic {BY_FLAG}", BY_FILE, f"Bearer {BY_FLAG} {BY_FILE}"):
        assert watched.send("POST", "/v1/completions", form, json=BODY) == 401
        assert watched.send("GET", "/server_info", form) == 401
    assert watched.send("GET", "/server_info", f"Bearer {ADMIN}") == 200
    for path in ("/metrics", "/openapi.json", "/dashboard", "/docs"):
        watched.send("GET", path, f"Bearer {ADMIN}")
    _send_what_is_no_http(watched)
    watched.key_file.write_text(BY_NEW_FILE + "\n")
    watched.server.process.send_signal(signal.SIGHUP)
    bearer = f"Bearer {BY_NEW_FILE}"
    wait_until(
        lambda: watched.send("POST", "/v1/completions", bearer, json=BODY) == 200, DEADLINE_S
    )
    watched.key_file.write_bytes(b"\xff" + BY_NEW_FILE.encode())
    watched.server.process.send_signal(signal.SIGHUP)
    log = watched.server.log_path
    wait_until(lambda: "the keys stay as they were" in log.read_text(), DEADLINE_S)
    written = log.read_text()
    assert "keys read again" in written
    for text in (written, *watched.answers):
        assert not [key for key in SECRETS if key in text]


def _send_what_is_no_http(watched: Watched) -> None:
    """A key in headers that the parser refuses: its complaint must not quote them."""
    host, port = watched.server.url.removeprefix("http://").split(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=30)
    connection.connect()
    assert connection.sock is not None
    connection.sock.sendall(f"GET / HTTP/9.9\r\nAuthorization: Bearer {BY_FLAG}\r\n\r\n".encode())
    watched.answers.append(connection.sock.recv(65536).decode("latin-1"))
    connection.close()


def test_keys_in_a_path_or_a_query_are_not_written(watched: Watched) -> None:
    watched.send("GET", f"/v1/models?api_key={MISPLACED}", None)
    watched.send("GET", f"/v1/models/{MISPLACED}", None)
    watched.send("GET", f"/metrics?key={MISPLACED}", None)
    assert MISPLACED not in watched.server.log_path.read_text()


def test_json_lines_stay_json(watched: Watched, request: pytest.FixtureRequest) -> None:
    if "json" in request.node.callspec.id:
        lines = watched.server.log_path.read_text().splitlines()
        assert lines
        assert all(isinstance(json.loads(line), dict) for line in lines)
