import sys
from pathlib import Path

import pytest

from octavo.bench import BenchError
from octavo.bench.startup import free_port, measure_startup

SERVER = """
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

num_probes = 0

class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        global num_probes
        num_probes += 1
        is_ready = self.path != "/health" or num_probes > 3
        body = b'{"data": [{"id": "m"}]}'
        self.send_response(200 if is_ready else 503)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        print("probes before the completion:", num_probes, flush=True)
        self.send_response(int(sys.argv[2]))
        self.end_headers()
        self.wfile.write(b'data: {"choices": [{"text": " a", "finish_reason": "length"}]}\\n\\n')
        self.wfile.write(b"data: [DONE]\\n\\n")

ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


def measure(tmp_path: Path, source: str, status: int = 200, **options: float):
    port = free_port()
    command = [sys.executable, "-c", source, str(port), str(status)]
    log_path = tmp_path / "log.txt"
    return measure_startup(command, f"http://127.0.0.1:{port}", log_path=log_path, **options)


def test_ready_is_when_health_says_so_and_the_first_token_comes_after(tmp_path: Path) -> None:
    start = measure(tmp_path, SERVER)
    assert 0 < start.ready_s < start.first_token_s
    assert "probes before the completion: 5" in (tmp_path / "log.txt").read_text()


def test_a_server_that_ends_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="ended with code 3"):
        measure(tmp_path, "import sys; sys.exit(3)")


def test_a_server_that_is_never_ready_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="not ready in time"):
        measure(tmp_path, "import signal; signal.pause()", timeout_s=0.2)


def test_a_completion_that_fails_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="HTTP 500"):
        measure(tmp_path, SERVER, status=500)
