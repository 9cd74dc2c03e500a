"""A closed load in process: as many requests at a time as clients, each sends when one ends.

Prompts are random, a request draws a fixed number of tokens with temperature 1. What HTTP, text
and the process boundary cost is not in these figures.
"""

import random
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from harness import Bench, Case, Row, Skipped
from random_models import (
    BLOCK_SIZE,
    LLAMA_8B,
    QWEN_600M,
    TINY,
    RandomModel,
    make_model,
    make_runner,
)
from step_loop import StepLoop

from octavo.models.config import ModelConfig
from octavo.models.decode_graphs import graph_ladder
from octavo.models.sampling_spec import SamplingSpec

_MOST_SECONDS = 20.0  # of one load; what is unfinished then is left out


@dataclass(frozen=True)
class Load:
    """How many clients, requests in all, tokens of a prompt (between), tokens drawn."""

    clients: int
    num_requests: int
    prompt_tokens: tuple[int, int]
    output_tokens: int


def cases(bench: Bench) -> Iterator[Case]:
    if bench.tiny:
        plan = [("tiny", TINY, [Load(1, 1, (4, 6), 3), Load(3, 4, (4, 9), 3)])]
    else:
        lone, some = Load(1, 4, (128, 1024), 128), Load(32, 128, (128, 1024), 128)
        many = Load(256, 512, (128, 1024), 128)
        plan = [("0.6B", QWEN_600M, [lone, some, many]), ("8B", LLAMA_8B, [lone, some, many])]
        if bench.quick:
            plan = plan[:1]
    for name, config, loads in plan:
        server = _Server(bench, name, config, loads)
        if name != "8B":
            yield Case(f"{name}, idle share", lambda s=server: [s.idle_share()])
        for load in loads:
            yield Case(f"{name}, {load.clients} clients", lambda s=server, k=load: [s.serve(k)])
        server.close()


class _Server:
    """One model and its runner, made when first used."""

    def __init__(self, bench: Bench, name: str, config: ModelConfig, loads: list[Load]) -> None:
        self._bench = bench
        self._name = name
        self._config = config
        self._seqs = max(load.clients for load in loads)
        longest = max(load.prompt_tokens[1] + load.output_tokens for load in loads)
        self._max_model_len = longest + 4 * BLOCK_SIZE + (0 if bench.tiny else 512)
        self._num_blocks = self._seqs * -(-(longest + BLOCK_SIZE) // BLOCK_SIZE) + 8
        self._budget = 16 if bench.tiny else 8192
        self._model: RandomModel | None = None
        self._loop: StepLoop | None = None

    def close(self) -> None:
        self._loop = self._model = None

    def _ready(self) -> StepLoop:
        if self._loop is None:
            shared = {
                "num_blocks": self._num_blocks,
                "max_num_seqs": self._seqs,
                "max_model_len": self._max_model_len,
                "max_num_batched_tokens": self._budget,
            }
            self._model = make_model(self._name, self._config, self._bench, self._max_model_len)
            runner = make_runner(
                self._model, self._bench, graph_sizes=graph_ladder(self._seqs), **shared
            )
            self._loop = StepLoop(runner, **shared)
        return self._loop

    def _prompt(self, load: Load) -> list[int]:
        count = random.randint(*load.prompt_tokens)
        return [random.randrange(self._config.vocab_size) for _ in range(count)]

    def _submit(self, loop: StepLoop, name: str, load: Load) -> None:
        spec = SamplingSpec(temperature=1.0, seed=random.getrandbits(62))
        loop.submit(name, self._prompt(load), load.output_tokens, spec)

    def serve(self, load: Load) -> Row:
        loop = self._ready()
        if not self._bench.tiny:
            self._run(loop, Load(load.clients, load.clients, (32, 64), 8), "warm")
        loop.served.clear()
        began = time.perf_counter()
        self._run(loop, load, "load")
        seconds = time.perf_counter() - began
        done = [s for s in loop.served.values() if len(s.token_times) == load.output_tokens]
        if not done:
            raise Skipped(f"no request ended within {_MOST_SECONDS:.0f} s")
        gaps = [b - a for s in done for a, b in pairwise(s.token_times)]
        ttfts = [s.ttft_s for s in done]
        return {
            "case": f"{self._name}, {load.clients} clients, {len(done)} requests",
            "out_tok_per_s": sum(len(s.token_ids) for s in loop.served.values()) / seconds,
            "in_tok_per_s": sum(s.prompt_tokens for s in loop.served.values()) / seconds,
            "ttft_p50_ms": _quantile(ttfts, 0.50) * 1e3,
            "ttft_p99_ms": _quantile(ttfts, 0.99) * 1e3,
            "itl_p50_ms": _quantile(gaps, 0.50) * 1e3,
            "itl_p99_ms": _quantile(gaps, 0.99) * 1e3,
        }

    def _run(self, loop: StepLoop, load: Load, prefix: str) -> None:
        names = iter([f"{prefix}-{i}" for i in range(load.num_requests)])
        for _ in range(min(load.clients, load.num_requests)):
            self._submit(loop, next(names), load)
        deadline = time.perf_counter() + _MOST_SECONDS
        while loop.has_work:
            for _ in loop.step():
                name = next(names, None)
                if name is not None and time.perf_counter() < deadline:
                    self._submit(loop, name, load)

    def idle_share(self) -> Row:
        """Of a decode step at batch 32, scheduler and all: what the GPU does not compute."""
        loop = self._ready()
        batch, prompt = (2, 4) if self._bench.tiny else (32, 512)
        steps = 4 if self._bench.tiny else 60
        load = Load(batch, batch, (prompt, prompt), steps + 40)
        for i in range(batch):
            self._submit(loop, f"idle-{i}", load)
        while loop.num_waiting or any(not s.token_ids for s in loop.served.values()):
            loop.step()
        for _ in range(3):
            loop.step()
        ends = [time.perf_counter()]
        for _ in range(steps):
            loop.step()
            ends.append(time.perf_counter())
        wall = statistics.median(b - a for a, b in pairwise(ends))
        gpu = loop.queued_step_seconds() if self._bench.on_gpu else wall
        while loop.has_work:
            loop.step()
        loop.served.clear()
        idle = max(0.0, 1.0 - gpu / wall)
        return {
            "case": f"{self._name}, decode at batch {batch}",
            "step_ms": wall * 1e3,
            "gpu_ms": gpu * 1e3,
            "idle": idle,
            "target": "GPU idle",
            "value": idle,
        }


def _quantile(values: list[float], share: float) -> float:
    """The nearest rank."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
