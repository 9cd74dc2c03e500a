"""A server's engine process, streams that are read to their end, engines that break on purpose."""

import asyncio
import contextlib
import json
import os
import signal
import textwrap
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import httpx

from octavo.bench.stream import DONE, EventLines

USAGE_WITH_EACH_EVENT = {"include_usage": True, "continuous_usage_stats": True}
DIE = "os.kill(os.getpid(), signal.SIGKILL)"
WAIT_S = 0.5  # of an engine for streams that have not come
TIMEOUT_S = 900.0  # a stream under suspicion waits for its turn, while engines come and go


def engine_pid(server: Any) -> int | None:
    """The present engine's process id; None while there is none."""
    return next(iter(children(server, "octavo.engine.process")), None)


def front_end_pids(server: Any) -> list[int]:
    """Of the front ends that share an engine."""
    return children(server, "spawn_main")


def children(server: Any, what: str) -> list[int]:
    """The server's child processes in whose command this occurs, the oldest first."""
    pid = server.process.pid
    found = []
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        with contextlib.suppress(OSError):  # it has just ended
            if what in Path(f"/proc/{child}/cmdline").read_text():
                found.append(int(child))
    return found


def signal_engine(server: Any, number: signal.Signals) -> int:
    """Send the present engine a signal; returns its process id."""
    pid = engine_pid(server)
    assert pid is not None
    os.kill(pid, number)
    return pid


class Streams:
    """Completions that stream side by side; `texts` are those that came so far."""

    def __init__(self, url: str, bodies: list[dict[str, Any]]) -> None:
        self._url = url
        self._bodies = bodies
        self.texts = ["" for _ in bodies]
        self.errors: dict[int, dict[str, Any]] = {}
        self.finish_reasons: dict[int, str] = {}
        self._num_tokens = [0 for _ in bodies]

    @property
    def num_tokens(self) -> int:
        """How many have come. Events are fewer where the front end was late: it joins tokens."""
        return sum(self._num_tokens)

    @property
    def num_ended(self) -> int:
        return len(self.finish_reasons) + len(self.errors)

    def run(
        self, meanwhile: Callable[["Streams"], Coroutine[Any, Any, None]] | None = None
    ) -> None:
        """Read all to their ends, and do something meanwhile."""
        asyncio.run(self._run(meanwhile))

    async def _run(
        self, meanwhile: Callable[["Streams"], Coroutine[Any, Any, None]] | None
    ) -> None:
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(
            base_url=self._url, timeout=TIMEOUT_S, limits=limits, verify=False
        ) as client:
            work = [self._read(client, i, body) for i, body in enumerate(self._bodies)]
            if meanwhile is not None:
                work.append(meanwhile(self))
            await asyncio.gather(*work)

    async def _read(self, client: httpx.AsyncClient, index: int, body: dict[str, Any]) -> None:
        path = "/v1/chat/completions" if "messages" in body else "/v1/completions"
        asked = {"stream": True, "stream_options": USAGE_WITH_EACH_EVENT}
        async with client.stream("POST", path, json=body | asked) as answer:
            if answer.status_code != 200:
                await answer.aread()
                self.errors[index] = answer.json()["error"]
                return
            lines = EventLines()  # httpx's own would also end lines at U+0085 and the like
            async for piece in answer.aiter_bytes():
                for payload in lines.feed(piece):
                    if payload != DONE:
                        self._take(index, json.loads(payload))

    def _take(self, index: int, event: dict[str, Any]) -> None:
        if "error" in event:
            self.errors[index] = event["error"]
            return
        self._num_tokens[index] = event["usage"]["completion_tokens"]
        for choice in event["choices"]:
            self.texts[index] += choice.get("text") or choice.get("delta", {}).get("content") or ""
            if choice["finish_reason"] is not None:
                self.finish_reasons[index] = choice["finish_reason"]


async def until(condition: Callable[[], bool], deadline_s: float = 60.0) -> None:
    """Wait in an event loop."""
    end = asyncio.get_running_loop().time() + deadline_s
    while not condition():
        assert asyncio.get_running_loop().time() < end, "condition not met"
        await asyncio.sleep(0.02)


def break_engines(folder: Path, condition: str, deed: str) -> str:
    """A folder for PYTHONPATH: in an engine's step, where `condition` holds, `deed` is done.

    Both are Python; they see `batch` (items of the step). Only engine processes are touched. What
    is in the folder's sitecustomize.py already is kept.
    """
    code = f"""
        import sys

        if "octavo.engine.process" in sys.orig_argv:
            import os, signal, time
            from octavo.models.runner import ModelRunner

            launch = ModelRunner.launch

            def launch_or_break(self, batch):
                if {condition}:
                    {deed}
                return launch(self, batch)

            ModelRunner.launch = launch_or_break
        """
    with (folder / "sitecustomize.py").open("a") as file:
        file.write(textwrap.dedent(code))
    return str(folder)


def once(flag: Path, num_streams: int, position: int) -> str:
    """A condition: so many streams are in the step, each there or further; it unmakes the flag.

    So the fault comes while all of them run, however late those are that watch. Steps without all
    of them take a while, lest the first ends before the last has come.
    """
    return (
        f"os.path.exists({str(flag)!r}) and (len(batch) == {num_streams} or time.sleep({WAIT_S}))"
        f" and min(it.start for it in batch) >= {position} and {taken(flag)}"
    )


def taken(flag: Path) -> str:
    """A condition: the flag is there; it unmakes it."""
    return f"os.path.exists({str(flag)!r}) and not os.remove({str(flag)!r})"


def patch(folder: Path, where: str, code: str) -> str:
    """A folder for PYTHONPATH: this is done at the start of processes whose command has `where`."""
    head = f"import os, sys, time\nif {where!r} in sys.orig_argv:\n"
    body = textwrap.indent(textwrap.dedent(code), "    ")
    (folder / "sitecustomize.py").write_text(head + body)
    return str(folder)
