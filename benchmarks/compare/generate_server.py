"""transformers' `generate` behind /v1/completions, one request at a time: the plainest peer.

    python benchmarks/compare/generate_server.py MODEL.gguf --port 8001 --threads 2

Weights are dequantised to float32 by transformers. Streams one event for each token; there is no
batching, so it is asked for W1 alone. A script of its own, as it needs transformers and not Octavo.
"""

import argparse
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.generation.streamers import BaseStreamer


class Model:
    """Loaded weights and tokenizer; `lock` is held by the request that computes."""

    def __init__(self, path: Path) -> None:
        place: dict[str, Any] = {"gguf_file": path.name} if path.suffix == ".gguf" else {}
        folder = path.parent if place else path
        self.name = path.stem
        self.tokenizer: Any = AutoTokenizer.from_pretrained(folder, **place)
        self.model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, **place)
        self.lock = threading.Lock()


class _EventStreamer(BaseStreamer):
    """Sends each new token as an event."""

    def __init__(self, handler: "Handler") -> None:
        self._handler = handler
        self._has_prompt = False
        self.num_tokens = 0

    def put(self, value: torch.Tensor) -> None:
        if not self._has_prompt:  # the first call brings the prompt
            self._has_prompt = True
            return
        self.num_tokens += value.numel()
        text = self._handler.model.tokenizer.decode(value.flatten().tolist())
        self._handler.send_event({"choices": [{"index": 0, "text": text, "finish_reason": None}]})

    def end(self) -> None:
        pass


class Handler(BaseHTTPRequestHandler):
    """The three routes that the load generator uses."""

    protocol_version = "HTTP/1.1"
    model: Model

    def do_GET(self) -> None:
        """/health and /v1/models."""
        body = json.dumps({"object": "list", "data": [{"id": self.model.name}]}).encode()
        self.send_response(200 if self.path in ("/health", "/v1/models") else 404)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:
        """A greedy completion of exactly `max_tokens` tokens, streamed."""
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True
        inputs = self.model.tokenizer(request["prompt"], return_tensors="pt")
        num_tokens = int(request["max_tokens"])
        streamer = _EventStreamer(self)
        with self.model.lock, torch.inference_mode():
            self.model.model.generate(
                **inputs,
                streamer=streamer,
                do_sample=False,
                min_new_tokens=num_tokens,
                max_new_tokens=num_tokens,
            )
        prompt_tokens = inputs["input_ids"].shape[1]
        usage = {"prompt_tokens": prompt_tokens, "completion_tokens": streamer.num_tokens}
        self.send_event({"choices": [{"index": 0, "text": "", "finish_reason": "length"}]})
        self.send_event({"choices": [], "usage": usage})
        self.wfile.write(b"data: [DONE]\n\n")

    def send_event(self, event: dict[str, Any]) -> None:
        """One server-sent event."""
        self.wfile.write(b"data: " + json.dumps(event).encode() + b"\n\n")
        self.wfile.flush()

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing of each request."""


def main() -> None:
    """Load, then serve until the process is ended."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    Handler.model = Model(options.model)
    ThreadingHTTPServer(("127.0.0.1", options.port), Handler).serve_forever()


if __name__ == "__main__":
    main()
