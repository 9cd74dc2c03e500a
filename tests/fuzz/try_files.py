"""Broken model files in processes of their own: a crash or a hang is a failure."""

import json
import os
import selectors
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

ROOT = Path(__file__).resolve().parents[2]
START_DEADLINE_S = 120.0
FILE_DEADLINE_S = 30.0  # a sound file takes some 20 ms; another process may have the cores


@dataclass
class Trial:
    """What became of the files: `outcomes` by name, and why each failure is one."""

    outcomes: Counter[str] = field(default_factory=Counter)
    failures: dict[int, str] = field(default_factory=dict)  # by the file's number

    @property
    def tried(self) -> int:
        """Number of files."""
        return sum(self.outcomes.values())


def try_files(base: Path, seed: int, count: int, first: int = 0) -> Trial:
    """Load the files `first` to `first + count - 1` of the seed, made from the models in `base`."""
    trial = Trial()
    begin, end = first, first + count
    while begin < end:
        begin = _run(base, seed, begin, end, trial)
    return trial


def _run(base: Path, seed: int, begin: int, end: int, trial: Trial) -> int:
    """One process, as far as it comes. Returns the number of the next file."""
    with tempfile.TemporaryFile() as errors:
        return _follow(base, seed, begin, end, trial, errors)


def _follow(base: Path, seed: int, begin: int, end: int, trial: Trial, errors: IO[bytes]) -> int:
    command = [sys.executable, "-m", "tests.fuzz.load_broken", str(base)]
    process = subprocess.Popen(
        [*command, str(seed), str(begin), str(end)],
        stdout=subprocess.PIPE,
        stderr=errors,
        cwd=ROOT,
        env={**os.environ, "MALLOC_ARENA_MAX": "2", "OMP_NUM_THREADS": "1"},
    )
    assert process.stdout is not None
    current: int | None = None
    deadline = START_DEADLINE_S
    try:
        while (line := _read_line(process, deadline)) is not None:
            if not line:  # the process has ended
                break
            deadline = FILE_DEADLINE_S
            event = json.loads(line)
            if "begin" in event:
                current = event["begin"]
                continue
            trial.outcomes[event["outcome"]] += 1
            if event["outcome"] == "failed":
                trial.failures[event["end"]] = event["why"]
            begin, current = event["end"] + 1, None
        is_hung = line is None
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
        errors.seek(max(0, errors.seek(0, os.SEEK_END) - 3000))
        said = errors.read().decode(errors="replace")
    if current is not None:
        why = "hung" if is_hung else f"the process ended with {process.returncode}"
        trial.outcomes["failed"] += 1
        trial.failures[current] = f"{why}: {said}"
        return current + 1
    assert begin == end, f"the process did not begin: {said}"
    return begin


def _read_line(process: subprocess.Popen[bytes], deadline_s: float) -> bytes | None:
    """A line of its output, empty at the end of it, None if none came in time.

    The pipe is read without a buffer, a byte at a time: `select` sees no buffer of ours.
    """
    assert process.stdout is not None
    descriptor, line, end = process.stdout.fileno(), b"", time.monotonic() + deadline_s
    with selectors.DefaultSelector() as selector:
        selector.register(descriptor, selectors.EVENT_READ)
        while not line.endswith(b"\n"):
            if not selector.select(max(0.0, end - time.monotonic())):
                return None
            byte = os.read(descriptor, 1)
            if not byte:
                return b""
            line += byte
    return line
