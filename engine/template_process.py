"""Renders templates of requests in a process of its own, which is ended if it does not answer."""

import json
import logging
import os
import re
import select
import subprocess
import sys
import threading
import time
from dataclasses import asdict
from typing import Any

from .chat_template import SECONDS
from .errors import BadRequestError
from .json_depth import refusing_depth
from .template_input import TemplateInput
from .template_worker import LENGTH

logger = logging.getLogger(__name__)

START_SECONDS = 30.0  # until the process has loaded what it needs
GRACE_SECONDS = 1.0  # beyond a job's own limit, which stops most templates by itself
MAX_ANSWER_BYTES = 1 << 28
_READ_BYTES = 1 << 16
_PASSED_ON = re.compile(r"PATH|HOME|TZ|LANG|LC_\w+|PYTHON\w*|LD_LIBRARY_PATH")


class TemplateProcess:
    """One job at a time, in a process that is started at the first one and again after a bad one.

    Every method may be called from any thread.
    """

    def __init__(
        self, bos_token: str | None, eos_token: str | None, seconds: float = SECONDS
    ) -> None:
        self._special = {"bos_token": bos_token, "eos_token": eos_token}
        self._seconds = seconds
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None

    def render(self, source: str, given: TemplateInput) -> str:
        """The prompt's text by this template.

        Raises BadRequestError if the template is not valid, refuses, fails, or had to be stopped.
        """
        job = {"source": source, **self._special, "seconds": self._seconds}
        with refusing_depth("messages"):
            body = json.dumps({**job, "input": asdict(given)}).encode()
        with self._lock:
            answer = self._ask(body)
        if answer is None:
            logger.warning("a request's chat template was stopped, and its process with it")
            raise BadRequestError(
                f"the chat template was stopped: it takes more than {self._seconds:g} s, or more "
                "memory than it may have.",
                "chat_template",
            )
        if "text" not in answer:
            raise BadRequestError(answer["refusal"], answer["param"])
        text: str = answer["text"]
        return text

    def close(self) -> None:
        """End the process, and with it a job that is under way."""
        process = self._process
        if process is not None:
            process.kill()

    def _ask(self, body: bytes) -> dict[str, Any] | None:
        """What the process answers, None if it had to be ended or ended by itself."""
        try:
            process = self._process or self._start()
            assert process.stdin is not None
            process.stdin.write(LENGTH.pack(len(body)) + body)
            process.stdin.flush()
            return self._answer(process, self._seconds + GRACE_SECONDS)
        except (OSError, EOFError, TimeoutError):
            self._discard()
            return None

    def _start(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "octavo.engine.template_worker"]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=_environment(),
        )
        self._answer(self._process, START_SECONDS)
        return self._process

    def _answer(self, process: subprocess.Popen[bytes], seconds: float) -> dict[str, Any]:
        assert process.stdout is not None
        deadline = time.monotonic() + seconds
        descriptor = process.stdout.fileno()
        length = LENGTH.unpack(_read(descriptor, LENGTH.size, deadline))[0]
        if length > MAX_ANSWER_BYTES:
            raise EOFError("no answer of ours")
        answer: dict[str, Any] = json.loads(_read(descriptor, length, deadline))
        return answer

    def _discard(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.communicate()  # takes its exit code, and closes the pipes


def _environment() -> dict[str, str]:
    """Our own without what may be secret."""
    return {name: value for name, value in os.environ.items() if _PASSED_ON.fullmatch(name)}


def _read(descriptor: int, size: int, deadline: float) -> bytes:
    """So many bytes. Raises TimeoutError at the deadline, EOFError if fewer come."""
    parts = bytearray()
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    while len(parts) < size:
        left_ms = (deadline - time.monotonic()) * 1000
        if left_ms <= 0 or not poll.poll(left_ms):
            raise TimeoutError
        piece = os.read(descriptor, min(size - len(parts), _READ_BYTES))
        if not piece:
            raise EOFError
        parts += piece
    return bytes(parts)
