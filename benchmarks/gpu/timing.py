"""How long a launch takes: replays of a captured graph between CUDA events, medians.

Launches are captured, since a small kernel takes less time than Python needs to launch it. Each
launch of a graph has its own inputs and outputs, more of them than the L2 cache holds.
"""

import math
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch

ROTATED_BYTES = 256 * 2**20  # several times the L2 cache of any GPU
_MOST_SETS = 32
_GRAPH_SECONDS = 4e-3  # of work in one graph at least: its own launch takes some microseconds
_MOST_ROUNDS = 200
_REPLAYS = 20
_MOST_SECONDS = 1.5  # for all replays of one measurement


def num_sets(num_bytes: float, device: torch.device) -> int:
    """How many sets of inputs of so many bytes to rotate among; one where nothing is measured."""
    if device.type != "cuda":
        return 1
    return max(2, min(_MOST_SETS, -(-ROTATED_BYTES // max(1, int(num_bytes)))))


def seconds_per_call(calls: Sequence[Callable[[], Any]], device: torch.device) -> float:
    """Median seconds of one of the calls, which do the same on different data."""
    if device.type != "cuda":
        return _host_seconds(calls)
    for call in calls:  # compiles
        call()
    replay, keep = _capture(calls, 1)
    replay()
    rounds = min(_MOST_ROUNDS, math.ceil(_GRAPH_SECONDS / _event_seconds(replay)))
    if rounds > 1:
        replay, keep = _capture(calls, rounds)
        replay()
    estimate = _event_seconds(replay)
    replays = max(3, min(_REPLAYS, int(_MOST_SECONDS / estimate)))
    times = [_event_seconds(replay) for _ in range(replays)]
    del keep
    return statistics.median(times) / rounds / len(calls)


def _capture(calls: Sequence[Callable[[], Any]], rounds: int) -> tuple[Callable[[], Any], Any]:
    """All calls `rounds` times, as a graph; as they are if one cannot be captured."""
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    keep: list[Any] = []
    try:
        with torch.cuda.graph(graph):
            for _ in range(rounds):
                keep = [call() for call in calls]
    except RuntimeError:
        torch.cuda.synchronize()
        return lambda: [call() for _ in range(rounds) for call in calls], None
    return graph.replay, (graph, keep)


def _event_seconds(work: Callable[[], Any]) -> float:
    began, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    began.record()
    work()
    ended.record()
    ended.synchronize()
    return began.elapsed_time(ended) / 1e3


def _host_seconds(calls: Sequence[Callable[[], Any]]) -> float:
    times = []
    for call in calls:
        began = time.perf_counter()
        call()
        times.append(time.perf_counter() - began)
    return statistics.median(times)
