"""Steps of the embedded model without HTTP: against concurrency, and against context.

Against concurrency the whole engine steps (`EngineCore.step`, as in the served process). Against
context the runner alone steps: blocks are filled with random numbers instead of a prefill, which at
8,192 tokens would take minutes and change no decode step's time.
"""

import random
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from octavo import LLM, SamplingParams
from octavo.engine.messages import Submit
from octavo.models.batch import SequenceInput
from octavo.models.sampling_spec import SamplingSpec

from .curve import Curve, Panel, Series
from .sizes import Sizes

BLOCK_SIZE = 16
VOCABULARY = (1_000, 40_000)  # ids of plain words in the embedded model, none of them special


def measure_concurrency(sizes: Sizes, settings: dict[str, Any]) -> Curve:
    """Output tokens per second and milliseconds per decode step at each concurrency."""
    most = max(sizes.concurrencies)
    llm = LLM(
        **{
            **settings,
            "max_num_seqs": most,
            "max_num_batched_tokens": max(512, most),
            "enable_prefix_caching": False,
        }
    )
    core, words = llm.core, random.Random(1)
    num_submitted = 0
    step_ms, rates = [], []
    for concurrency in sorted(sizes.concurrencies):
        while num_submitted < concurrency:
            prompt = [words.randrange(*VOCABULARY) for _ in range(sizes.concurrency_prompt_tokens)]
            core.add(_endless(f"request {num_submitted}", prompt, sizes))
            num_submitted += 1
        while core.step().num_prompt_tokens or core.stats().num_waiting:
            pass  # prefill
        times = []
        for _ in range(sizes.concurrency_steps):
            began = time.perf_counter()
            result = core.step()
            times.append(time.perf_counter() - began)
            assert result.num_generation_tokens == concurrency
        step_ms.append(1e3 * statistics.median(times))
        rates.append(concurrency / statistics.median(times))
    core.cancel([f"request {index}" for index in range(num_submitted)])
    core.drain()
    xs = tuple(sorted(sizes.concurrencies))
    panels = (
        Panel(
            "scaling-throughput",
            "Decode throughput against concurrency",
            "concurrent requests",
            "output tokens per second",
            xs,
            (Series("throughput", tuple(rates)),),
        ),
        Panel(
            "scaling-step-time",
            "Decode step against concurrency",
            "concurrent requests",
            "time per step (ms)",
            xs,
            (Series("step", tuple(step_ms)),),
            log_y=True,
        ),
    )
    facts = {"throughput_gain": rates[-1] / rates[0]}
    how = (
        f"{_describe(llm)}; prompts of {sizes.concurrency_prompt_tokens} tokens, medians of "
        f"{sizes.concurrency_steps} decode steps of the engine."
    )
    return Curve("concurrency", "Throughput against concurrency", how, panels, facts)


def measure_context(sizes: Sizes, settings: dict[str, Any]) -> Curve:
    """Milliseconds per decode step at each context length, for each batch size."""
    longest, widest = max(sizes.contexts), max(sizes.context_batches)
    blocks_each = -(-longest // BLOCK_SIZE)
    llm = LLM(
        **{
            **settings,
            "block_size": BLOCK_SIZE,
            "num_blocks": 1 + widest * blocks_each,
            "max_model_len": longest,
            "max_num_seqs": widest,
        }
    )
    runner: Any = llm.core._runner
    _fill(runner._cache, llm.model_config.num_layers)
    series = []
    for batch in sizes.context_batches:
        ys = []
        for context in sizes.contexts:
            with _sequences(runner, batch, context, blocks_each) as first_step:
                runner.launch(first_step).wait()  # brings the block tables; not timed
                later = [_without_blocks(item) for item in first_step]
                times = []
                for _ in range(sizes.context_steps):
                    began = time.perf_counter()
                    runner.launch(later).wait()
                    times.append(time.perf_counter() - began)
            ys.append(1e3 * statistics.median(times))
        series.append(Series(f"batch {batch}", tuple(ys)))
    panel = Panel(
        "scaling-context",
        "Decode step against context",
        "context of each request (tokens)",
        "time per step (ms)",
        sizes.contexts,
        tuple(series),
        log_y=True,
    )
    facts = {
        f"step_ms_per_1000_tokens_of_context_at_batch_{batch}": 1e3
        * statistics.linear_regression(sizes.contexts, one.ys).slope
        for batch, one in zip(sizes.context_batches, series, strict=True)
    }
    how = (
        f"{_describe(llm)}; medians of {sizes.context_steps} decode steps of the runner over "
        "blocks that hold random numbers."
    )
    return Curve("context", "Step time against context", how, (panel,), facts)


def _describe(llm: LLM) -> str:
    return f"{llm.config.dtype} on {llm.config.device}, {llm.config.num_threads} threads"


def _endless(request_id: str, prompt: list[int], sizes: Sizes) -> Submit:
    """A sequence that decodes until it is cancelled."""
    limit = 4 * (len(sizes.concurrencies) + 1) * (sizes.concurrency_steps + 8)
    limit += sum(sizes.concurrencies) * len(prompt)  # steps that prefill others
    params = SamplingParams(temperature=0.0, max_tokens=limit, ignore_eos=True)
    return Submit(
        request_id=request_id, prompt_token_ids=prompt, params=params, max_tokens=limit, seed=0
    )


def _fill(cache: Any, num_layers: int) -> None:
    """Write every block, as pages that were never written are not like memory in use."""
    for index in range(num_layers):
        for half in cache.layer(index):  # [blocks, kv_heads, block_size, head_dim]
            half.copy_(torch.randn(half.shape[1:]).to(half.dtype).expand_as(half))


@contextmanager
def _sequences(
    runner: Any, batch: int, context: int, blocks_each: int
) -> Iterator[list[SequenceInput]]:
    """Sequences known to the runner, each about to compute its token at `context - 1`."""
    inputs = []
    for index in range(batch):
        request_id = f"sequence {index}"
        runner.add_request(request_id, [VOCABULARY[0]] * context, SamplingSpec(temperature=0.0))
        first = 1 + index * blocks_each
        inputs.append(
            SequenceInput(
                request_id=request_id,
                token_ids=[VOCABULARY[0] + index],
                start=context - 1,
                first_block=0,
                new_block_ids=list(range(first, first + -(-context // BLOCK_SIZE))),
                samples=True,
            )
        )
    try:
        yield inputs
    finally:
        for item in inputs:
            runner.remove_request(item.request_id)


def _without_blocks(item: SequenceInput) -> SequenceInput:
    return SequenceInput(item.request_id, item.token_ids, item.start, 0, [], True)
