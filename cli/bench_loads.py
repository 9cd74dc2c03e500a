"""The runs of `octavo bench serve`, one load after another, with a progress bar."""

import asyncio
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from ..bench import (
    BenchError,
    Endpoint,
    Goodput,
    Limit,
    Load,
    Run,
    Summary,
    Workload,
    run_closed_loop,
    run_open_loop,
    summarise,
    warm_up,
)
from ..bench.load import OnProgress
from ..bench.load import Progress as RunProgress


@dataclass(frozen=True)
class Plan:
    """What to send where, under which loads."""

    endpoint: Endpoint
    workload: Workload
    loads: Sequence[Load]
    limit: Limit
    num_warmups: int
    seed: int


def parse_loads(concurrency: str | None, request_rate: str | None, burstiness: float) -> list[Load]:
    """Loads from comma-separated values of one of the two. Raises BenchError for others."""
    if concurrency is not None and request_rate is not None:
        raise BenchError("give --concurrency (closed loop) or --request-rate (open loop), not both")
    try:
        if request_rate is not None:
            rates = [float(rate) for rate in request_rate.split(",")]
            return [Load(request_rate=rate, burstiness=burstiness) for rate in rates]
        return [Load(concurrency=int(number)) for number in (concurrency or "1").split(",")]
    except ValueError:
        given = request_rate if request_rate is not None else concurrency
        raise BenchError(f"{given!r} is no list of numbers separated by commas") from None


def run_loads(plan: Plan, goodput: Goodput | None) -> tuple[list[Run], list[Summary]]:
    """Warm up, then run each load. Each has prompts of its own, so that none is cached."""
    _event_loop_run()(warm_up(plan.endpoint, plan.workload, plan.num_warmups, seed=plan.seed))
    runs = []
    for load in plan.loads:
        with _progress_bar(load, plan.limit) as on_progress:
            runs.append(_event_loop_run()(_run(plan, load, on_progress)))
    return runs, [summarise(run, goodput) for run in runs]


def server_version(endpoint: Endpoint) -> dict[str, str]:
    """What the server's /version says, if it has one."""
    try:
        answer = httpx.get(f"{endpoint.root}/version", timeout=5, trust_env=False)
        version = answer.json()["version"]
    except (httpx.HTTPError, ValueError, LookupError, TypeError):
        return {}
    return {"server": str(version)}


def _run(plan: Plan, load: Load, on_progress: OnProgress) -> Coroutine[Any, Any, Run]:
    seed = f"{plan.seed} {load.label}"
    if load.concurrency is not None:
        return run_closed_loop(
            plan.endpoint,
            plan.workload,
            concurrency=load.concurrency,
            limit=plan.limit,
            seed=seed,
            on_progress=on_progress,
        )
    return run_open_loop(
        plan.endpoint,
        plan.workload,
        request_rate=load.request_rate or 0.0,
        limit=plan.limit,
        burstiness=load.burstiness,
        seed=seed,
        on_progress=on_progress,
    )


@contextmanager
def _progress_bar(load: Load, limit: Limit) -> Iterator[OnProgress]:
    """Requests done (or seconds gone) and output tokens a second, on standard error."""
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[told]}"))
    console = Console(stderr=True)
    with Progress(*columns, TimeElapsedColumn(), console=console, refresh_per_second=2) as bar:
        total = limit.num_requests or limit.duration_s
        task = bar.add_task(load.label, total=total, told="")
        last = [0, 0.0]

        def show(progress: RunProgress) -> None:
            elapsed_s = progress.elapsed_s - last[1]
            rate = (progress.num_chunks - last[0]) / elapsed_s if elapsed_s > 0.1 else 0.0
            last[:] = progress.num_chunks, progress.elapsed_s
            told = f"{progress.num_done} done, {progress.num_open} open, {rate:.0f} tok/s"
            if progress.num_failed:
                told += f", {progress.num_failed} failed"
            done = progress.num_done if limit.num_requests else progress.elapsed_s
            bar.update(task, completed=done, told=told)

        yield show


def _event_loop_run() -> Callable[[Coroutine[Any, Any, Any]], Any]:
    """uvloop's `run` where it is installed: it costs less CPU, which the server may need."""
    try:
        import uvloop
    except ImportError:
        return asyncio.run
    return uvloop.run
