"""A server of canned completions, for scripts that start servers: stub_server.py PORT PID_FILE.

Each request is answered with as many one-word events as it asks tokens for, and usage. It closes a
connection after each streamed answer, announced only if that was asked for, as llama.cpp does.
After `--die-after` requests the process ends in the middle of an answer.
"""

import argparse
import json
import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    requests_left = -1

    def do_GET(self):
        body = json.dumps({"data": [{"id": "stub"}]}).encode()
        self.send_response(200 if self.path in ("/health", "/v1/models") else 404)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self):
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        assert request["stream"] and request["ignore_eos"] and request["temperature"] == 0
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        if self.headers.get("Connection") == "close":
            self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True
        for _ in range(request["max_tokens"]):
            self.send({"choices": [{"index": 0, "text": " word", "finish_reason": None}]})
            if Handler.requests_left == 0:
                os._exit(7)
        Handler.requests_left -= 1
        num_words = len(request["prompt"].split())
        usage = {"prompt_tokens": num_words, "completion_tokens": request["max_tokens"]}
        self.send({"choices": [], "usage": usage})
        self.write(b"data: [DONE]\n\n")
        self.wfile.write(b"0\r\n\r\n")

    def send(self, event):
        self.write(b"data: " + json.dumps(event).encode() + b"\n\n")

    def write(self, data):
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.flush()

    def log_message(self, format, *args):
        pass


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    parser.add_argument("pid_file", type=Path)
    parser.add_argument("--die-after", type=int, default=-1)
    options = parser.parse_args()
    Handler.requests_left = options.die_after
    with options.pid_file.open("a") as file:
        print(os.getpid(), file=file)
    print("the stub's log")
    ThreadingHTTPServer(("127.0.0.1", options.port), Handler).serve_forever()


if __name__ == "__main__":
    main()
