"""Requests that stay open on a server for as long as a test wants."""

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import httpx

# To be hung up on: at some forty tokens a second, or a hundred, no test looks on until its end.
ENDLESS = {"max_tokens": 8000, "ignore_eos": True}


@contextmanager
def open_request(
    url: str, path: str, body: dict[str, Any], **headers: str
) -> Iterator[socket.socket]:
    """Send a request and read nothing of its answer; leaving the block hangs up, which cancels it.

    Headers are given as `x_request_id="…"`.
    """
    address = urlsplit(url)
    content = json.dumps({"stream": True, **body}).encode()
    lines = [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    head = [
        f"POST {path} HTTP/1.1",
        f"Host: {address.netloc}",
        "Content-Type: application/json",
        f"Content-Length: {len(content)}",
        *lines,
    ]
    with socket.create_connection((address.hostname, address.port), timeout=60) as connection:
        connection.sendall("\r\n".join(head).encode() + b"\r\n\r\n" + content)
        yield connection


def num_tokens(url: str, prompt: str) -> int:
    """The length of a prompt of /v1/completions in tokens."""
    answer = httpx.post(url + "/tokenize", json={"prompt": prompt}, timeout=60, verify=False)
    return int(answer.raise_for_status().json()["count"])
