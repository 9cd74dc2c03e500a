"""The comparison run against stub servers: what is measured, in which order, and what is left."""

import json
import math
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks.compare import WORKLOADS, ComparedWorkload, Measurement, System
from benchmarks.compare.measure import measure_all
from benchmarks.compare.server_process import ServerFailedError, running

STUB = Path(__file__).with_name("stub_server.py")
ROOT = Path(__file__).resolve().parents[2]
START_DEADLINE_S = 30.0


def short(*names: str) -> list[ComparedWorkload]:
    return [w.scaled(num_requests=4, output_len=5) for w in WORKLOADS if w.name in names]


@pytest.fixture
def pids(tmp_path: Path) -> Callable[[], list[int]]:
    """The process ids of every stub that was started, in order."""
    return lambda: [int(line) for line in (tmp_path / "pids").read_text().split()]


@pytest.fixture
def stub(tmp_path: Path) -> Callable[..., System]:
    def make(name: str, *flags: str, family: str = "octavo", **options: Any) -> System:
        command = (sys.executable, str(STUB), "{port}", str(tmp_path / "pids"), *flags)
        return System(name, family, command, **options)

    return make


def assert_gone(pids: list[int]) -> None:
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_repeats_are_interleaved_and_each_has_a_fresh_process(
    stub: Callable[..., System], pids: Callable[[], list[int]]
) -> None:
    seen: list[Measurement] = []
    systems = [stub("a"), stub("b", family="llama.cpp"), stub("c", workloads=("W1",))]
    measure_all(systems, short("W1", "W4"), 2, seen.append)
    one_repeat = [("a", "W1"), ("a", "W4"), ("b", "W1"), ("b", "W4"), ("c", "W1")]
    assert [(m.system, m.workload) for m in seen] == one_repeat * 2
    assert [m.repeat for m in seen] == [1] * 5 + [2] * 5
    assert len(set(pids())) == 6
    assert_gone(pids())
    for m in seen:
        assert (m.failed, m.output_tokens) == (0, 20)
        assert m.input_tokens == 4 * (100 if m.workload == "W1" else 824)
        figures = (m.figures.output_tok_s, m.figures.ttft_ms, m.figures.itl_ms, m.figures.e2el_ms)
        assert all(math.isfinite(value) and value > 0 for value in figures)


def test_a_server_that_dies_is_reported(
    stub: Callable[..., System], pids: Callable[[], list[int]]
) -> None:
    with pytest.raises(ServerFailedError, match="the stub's log"):  # in the warm-up
        measure_all([stub("a", "--die-after", "0")], short("W1"), 1, lambda m: None)
    seen: list[Measurement] = []
    with pytest.raises(ServerFailedError, match="ended while it was measured"):
        measure_all([stub("a", "--die-after", "3")], short("W1"), 1, seen.append)
    assert [m.failed for m in seen] == [2]  # one request went into the warm-up
    assert_gone(pids())


def test_a_server_that_does_not_start_is_reported_with_its_log(tmp_path: Path) -> None:
    script = "print('no such weights'); raise SystemExit(3)"
    system = System("broken", "octavo", (sys.executable, "-c", script))
    with pytest.raises(ServerFailedError, match="no such weights"), running(system):
        pass


def test_a_process_is_stopped_when_the_block_fails(
    stub: Callable[..., System], pids: Callable[[], list[int]]
) -> None:
    with pytest.raises(KeyboardInterrupt), running(stub("a")):
        raise KeyboardInterrupt
    assert_gone(pids())


def test_a_server_that_runs_already_is_asked_anew_in_each_repeat(
    stub: Callable[..., System], pids: Callable[[], list[int]]
) -> None:
    seen: list[Measurement] = []
    with running(stub("a")) as url:
        measure_all([System("vllm", "url", url=url)], short("W1"), 2, seen.append)
        os.kill(pids()[0], 0)  # and is left running
    assert [(m.system, m.repeat, m.failed) for m in seen] == [("vllm", 1, 0), ("vllm", 2, 0)]


def start_script(url: str, folder: Path, *flags: str) -> "subprocess.Popen[str]":
    """The command itself, with `url` as its only system."""
    saves = ["--save-json", str(folder / "c.json"), "--save-markdown", str(folder / "c.md")]
    command = [sys.executable, "-m", "benchmarks.compare", "--systems", "url", "--url"]
    return subprocess.Popen(
        [*command, f"peer={url}", *saves, *flags],
        cwd=ROOT,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def test_the_command_prints_and_saves(stub: Callable[..., System], tmp_path: Path) -> None:
    flags = ["--requests", "2", "--output-tokens", "3", "--repeats", "2", "--workloads", "W1,W2"]
    with running(stub("a")) as url:
        script = start_script(url, tmp_path, *flags)
        output, errors = script.communicate(timeout=120)
    assert script.returncode == 0, errors
    assert "W2: 8 at a time" in output and "peer" in output
    content = json.loads((tmp_path / "c.json").read_text())
    assert content["is_complete"]
    assert len(content["measurements"]) == 4
    assert (tmp_path / "c.md").read_text().startswith("# Comparison")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_server_and_keeps_what_was_measured(
    number: signal.Signals,
    stub: Callable[..., System],
    pids: Callable[[], list[int]],
    tmp_path: Path,
) -> None:
    script = f"""
import signal, sys, time
from benchmarks.compare.__main__ import TERMINATED
from benchmarks.compare.server_process import running
from benchmarks.compare.systems import System
signal.signal(signal.SIGTERM, lambda *_: sys.exit(TERMINATED))
signal.signal(signal.SIGINT, signal.default_int_handler)  # background jobs inherit it ignored
command = (sys.executable, {str(STUB)!r}, "{{port}}", {str(tmp_path / "pids")!r})
with running(System("a", "octavo", command)):
    print("running", flush=True)
    while True:  # signal.pause() would miss one that comes just before it
        time.sleep(0.1)
"""
    process = subprocess.Popen(
        [sys.executable, "-c", script], cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=-3
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "running\n"
    os.kill(pids()[0], 0)
    process.send_signal(number)
    process.communicate(timeout=START_DEADLINE_S)
    assert process.returncode != 0
    assert_gone(pids())
