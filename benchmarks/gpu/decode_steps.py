"""Whole decode steps, launch to token, over their memory floor: weights and KV read once.

A step includes sampling (greedy) and the copy of its tokens to the host, and runs as the engine
runs it: the next one is launched before the tokens of the present one are waited for. GPU time is
that of steps queued behind a kernel that only waits, so that the host's pace does not count.
"""

import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from harness import Bench, Case, Row
from random_models import (
    BLOCK_SIZE,
    LLAMA_8B,
    QWEN_600M,
    TINY,
    RandomModel,
    kv_bytes_per_token,
    make_model,
    make_runner,
)

from octavo.models.batch import SequenceInput
from octavo.models.config import ModelConfig
from octavo.models.gpu_runner import GpuRunner
from octavo.models.sampling_spec import SamplingSpec
from octavo.models.step import PendingTokens

PENDING = -1
WAIT_CYCLES = 20_000_000  # of the GPU's clock: some 10 ms, in which two steps are launched
_WARM_UP_STEPS = 5
_GREEDY = SamplingSpec(temperature=0.0)


@dataclass
class _ModelShelf:
    """The model in use: the one before is dropped first, since both may not fit."""

    bench: Bench
    max_positions: int
    model: RandomModel | None = None

    def get(self, name: str, config: ModelConfig) -> RandomModel:
        if self.model is None or self.model.name != name:
            self.model = None
            torch.cuda.empty_cache()
            self.model = make_model(name, config, self.bench, self.max_positions)
        return self.model


def cases(bench: Bench) -> Iterator[Case]:
    if bench.tiny:
        shelf = _ModelShelf(bench, 128)
        yield Case("tiny", lambda: [_step(bench, shelf.get("tiny", TINY), 2, 20, 128, 2)])
        return
    contexts = (512, 4096) if bench.quick else (512, 4096, 16_384)
    max_model_len = max(contexts) + 256
    shelf = _ModelShelf(bench, max_model_len)
    for name, config in (("8B", LLAMA_8B), ("0.6B", QWEN_600M)):
        for batch in (1, 8, 32, 128, 256):
            for context in contexts:
                yield Case(
                    f"{name}, batch {batch}, context {context}",
                    lambda n=name, c=config, b=batch, k=context: [
                        _step(bench, shelf.get(n, c), b, k, max_model_len, 30)
                    ],
                )


def _step(
    bench: Bench, model: RandomModel, batch: int, context: int, max_model_len: int, steps: int
) -> Row:
    config, dtype = model.decoder.config, model.decoder.dtype
    row_blocks = -(-(context + 4 * steps) // BLOCK_SIZE)
    num_blocks = batch * row_blocks + 1
    runner = make_runner(
        model,
        bench,
        num_blocks=num_blocks,
        max_num_seqs=batch,
        max_model_len=max_model_len,
        max_num_batched_tokens=max(num_blocks, 2048),
        graph_sizes=[batch],
    )
    decoding = _Decoding(runner, batch, context, row_blocks)
    wall, launch = decoding.run(steps)
    gpu = decoding.gpu_seconds() if bench.on_gpu else wall
    kv_bytes = batch * context * kv_bytes_per_token(config, dtype)
    num_bytes = model.weight_bytes + kv_bytes
    floor = num_bytes / bench.copy_bytes_per_s
    row: Row = {
        "case": f"{model.name}, batch {batch}, context {context}",
        "step_ms": wall * 1e3,
        "gpu_ms": gpu * 1e3,
        "launch_ms": launch * 1e3,
        "floor_ms": floor * 1e3,
        "over_floor": wall / floor,
        "tok_per_s": batch / wall,
        "idle": max(0.0, 1.0 - gpu / wall),
    }
    return row | _target(model.name, batch, wall / floor)


def _target(name: str, batch: int, over_floor: float) -> Row:
    if name == "8B" and batch <= 32:
        return {"target": "8B step, batch <= 32", "value": over_floor}
    if name == "8B" and batch == 256:
        return {"target": "8B step, batch 256", "value": over_floor}
    return {}


class _Decoding:
    """Sequences that have `context` tokens and draw one more with every step."""

    def __init__(self, runner: GpuRunner, batch: int, context: int, row_blocks: int) -> None:
        self._runner = runner
        self._names = [str(i) for i in range(batch)]
        self._position = context - 1
        for name in self._names:
            runner.add_request(name, [1] * context, _GREEDY)
        blocks = (torch.randperm(batch * row_blocks) + 1).view(batch, row_blocks).tolist()
        self._launch([1] * batch, blocks).wait()

    def run(self, steps: int) -> tuple[float, float]:
        """Median seconds from step to step, and of the host's part of a launch."""
        launches, ends = [], []
        ahead = self._launch_pending()
        for _ in range(steps + _WARM_UP_STEPS):
            began = time.perf_counter()
            following = self._launch_pending()
            launches.append(time.perf_counter() - began)
            ahead.wait()
            ends.append(time.perf_counter())
            ahead = following
        ahead.wait()
        walls = [b - a for a, b in pairwise(ends)][_WARM_UP_STEPS - 1 :]
        return statistics.median(walls), statistics.median(launches[_WARM_UP_STEPS:])

    def gpu_seconds(self) -> float:
        """Median seconds of a step whose launches have been queued before it begins."""
        pending: list[PendingTokens] = []

        def land() -> None:
            while pending:
                pending.pop(0).wait()

        return queued_seconds(
            lambda: pending.extend(self._launch_pending() for _ in range(2)), 2, land
        )

    def _launch_pending(self) -> PendingTokens:
        return self._launch([PENDING] * len(self._names), [[]] * len(self._names))

    def _launch(self, token_ids: list[int], blocks: list[list[int]]) -> PendingTokens:
        batch = [
            SequenceInput(
                request_id=name,
                token_ids=[token],
                start=self._position,
                first_block=0,
                new_block_ids=new,
                samples=True,
            )
            for name, token, new in zip(self._names, token_ids, blocks, strict=True)
        ]
        self._position += 1
        return self._runner.launch(batch)


def queued_seconds(launch: Callable[[], Any], count: int, land: Callable[[], Any]) -> float:
    """GPU seconds of one of `count` steps (at most two: there are two staging buffers)."""
    times = []
    for _ in range(10):
        torch.cuda.synchronize()
        began, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda._sleep(WAIT_CYCLES)
        began.record()
        launch()
        ended.record()
        ended.synchronize()
        land()
        times.append(began.elapsed_time(ended) / 1e3 / count)
    return statistics.median(times)
