"""A disk that is full: the server writes neither log nor socket's folder there, and serves on."""

import contextlib
import errno
import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ..conftest import running_server
from .drill_result import DrillResult
from .engine_faults import Streams, break_engines, once

pytestmark = pytest.mark.slow

FLAGS = ("--deterministic", "--num-blocks", "1024", "--log-level", "debug")
DISK_BYTES = 16 << 20
NUM_STREAMS = 6


# Before Python 3.12 only the class of this system's paths can be derived from.
class FullDevice(type(Path())):  # type: ignore[misc]
    """/dev/full: there is no room for what is written to it, and reading it would never end."""

    def read_text(self, *_: Any, **__: Any) -> str:
        """Nothing is kept there."""
        return ""


FULL_DEVICE = FullDevice("/dev/full")


@contextlib.contextmanager
def small_disk(folder: Path, num_bytes: int = DISK_BYTES) -> Iterator[bool]:
    """Mount a disk of a few MiB at a folder; false where that is not allowed."""
    command = ["mount", "-t", "tmpfs", "-o", f"size={num_bytes}", "tmpfs", str(folder)]
    try:
        is_mounted = subprocess.run(command, capture_output=True).returncode == 0
    except FileNotFoundError:
        is_mounted = False
    try:
        yield is_mounted
    finally:
        if is_mounted:
            subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(folder: Path) -> None:
    """Write until there is no room for one byte more."""
    with (folder / "filler").open("ab", buffering=0) as file:
        for size in (1 << 20, 4096, 1):
            with contextlib.suppress(OSError):
                while True:
                    file.write(bytes(size))
    with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
        (folder / "more").write_bytes(b"x")


@contextlib.contextmanager
def temporary_folder(folder: Path) -> Iterator[None]:
    """Let processes that start meanwhile put their temporary files there."""
    before = os.environ.get("TMPDIR")
    os.environ["TMPDIR"] = str(folder)
    try:
        yield
    finally:
        if before is None:
            del os.environ["TMPDIR"]
        else:
            os.environ["TMPDIR"] = before


def bodies_of(seed: int) -> list[dict[str, Any]]:
    """Seeded streams."""
    return [
        {"prompt": f"{seed}: {i}", "max_tokens": 1500, "ignore_eos": True, "seed": seed + i}
        for i in range(NUM_STREAMS)
    ]


def drill(rounds: int, seed: int, model: Path) -> DrillResult:
    """Rounds of streams on a disk, for log and temporary files, that is full since the start.

    In every second round the engine is killed too, so that another one starts on the full disk.
    """
    lost, restarts = 0, 0
    with (
        tempfile.TemporaryDirectory() as name,
        tempfile.TemporaryDirectory() as other,
        small_disk(Path(name)) as is_mounted,
    ):
        disk, flag = Path(name), Path(other) / "flag"
        where = disk if is_mounted else None
        log = disk / "log.txt" if is_mounted else FULL_DEVICE
        quiet_log = Path(name + ".log")
        with running_server(quiet_log, str(model), *FLAGS) as server:
            quiet = Streams(server.url, bodies_of(seed))
            quiet.run()
        quiet_log.unlink()
        with _on(where), _killed_at(flag), running_server(log, str(model), *FLAGS) as server:
            if is_mounted:
                fill(disk)
            for number in range(rounds):
                if number % 2:
                    flag.touch()
                streams = Streams(server.url, bodies_of(seed))
                streams.run()
                assert not flag.exists(), "the engine was not killed under all streams"
                lost += sum(a != b for a, b in zip(streams.texts, quiet.texts, strict=True))
            server.wait_idle()
            restarts = int(server.gauge("octavo_engine_restarts_total"))
            blocks = int(server.gauge("octavo_kv_blocks_used"))
    what = "log and temporary files on a full disk" if is_mounted else "log to a full device"
    tried = rounds * NUM_STREAMS
    return DrillResult(
        name="disk full",
        tried=tried,
        survived=tried - lost if restarts == rounds // 2 else 0,
        requests_lost=lost,
        blocks_leaked=blocks,
        seeds=(seed,) if lost else (),
        note=f"{what}, {restarts} engines started anew there; texts equal to those with room",
    )


def _on(folder: Path | None) -> contextlib.AbstractContextManager[None]:
    return contextlib.nullcontext() if folder is None else temporary_folder(folder)


@contextlib.contextmanager
def _killed_at(flag: Path) -> Iterator[None]:
    """Let engines die in a step with all streams once the flag is there."""
    with pytest.MonkeyPatch.context() as environment:
        deed = "os.kill(os.getpid(), signal.SIGKILL)"
        folder = break_engines(flag.parent, once(flag, NUM_STREAMS, 20), deed)
        environment.setenv("PYTHONPATH", folder)
        yield


def test_the_server_serves_on(tiny_model: Path) -> None:
    result = drill(2, 4, tiny_model)
    assert result.is_passed, result


def test_a_log_that_cannot_be_written_from_the_start(tiny_model: Path) -> None:
    with running_server(FULL_DEVICE, str(tiny_model), *FLAGS) as server:
        answer = server.post("/v1/completions", json={"prompt": "Hi", "max_tokens": 3})
        assert answer.status_code == 200
        server.wait_idle()
        assert server.stop() == 0
