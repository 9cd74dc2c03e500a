"""All systems under all workloads, again and again, one process at a time."""

import asyncio
from collections.abc import Callable, Sequence

from octavo.bench import BenchError, Endpoint, Limit, run_closed_loop, served_model, warm_up
from octavo.bench import summarise as summarise_run

from .figures import Figures, Measurement
from .server_process import running
from .systems import System
from .workloads import WARM_UP, ComparedWorkload

OnMeasurement = Callable[[Measurement], None]


class _FreshConnections(Endpoint):
    """An endpoint that gets each request over a connection of its own.

    llama.cpp's server closes a connection after a streamed answer without announcing it, so that a
    request sent over it would be lost; the others are asked in the same way.
    """

    @property
    def headers(self) -> dict[str, str]:
        return {**super().headers, "Connection": "close"}


def measure_all(
    systems: Sequence[System],
    workloads: Sequence[ComparedWorkload],
    repeats: int,
    on_measurement: OnMeasurement,
) -> None:
    """Measure every system in each repeat before the next, so that drift falls on all alike.

    Each (system, repeat) gets a fresh process, a warm-up request and then all workloads in turn;
    prompts are the same in every repeat. A server that runs already keeps its cache between
    repeats, so there each repeat has prompts of its own. `on_measurement` is called after each run.
    Raises ServerFailedError or BenchError.
    """
    for repeat in range(1, repeats + 1):
        for system in systems:
            taken = [workload for workload in workloads if system.takes(workload.name)]
            if not taken:
                continue
            with running(system) as url:
                model = served_model(url)
                endpoint = _FreshConnections(url, model, temperature=0.0, ignore_eos=True)
                asyncio.run(warm_up(endpoint, WARM_UP, 1, seed=repeat))
                for workload in taken:
                    seed = f"{workload.name} {repeat if system.command is None else 1}"
                    measurement = _measure(system, endpoint, workload, repeat, seed)
                    on_measurement(measurement)
                    if measurement.failed:
                        served_model(url)  # raises if the server is gone


def _measure(
    system: System, endpoint: Endpoint, workload: ComparedWorkload, repeat: int, seed: str
) -> Measurement:
    run = asyncio.run(
        run_closed_loop(
            endpoint,
            workload.prompts,
            concurrency=workload.concurrency,
            limit=Limit(num_requests=workload.num_requests),
            seed=seed,
        )
    )
    summary = summarise_run(run)
    if not summary.successful:
        raise BenchError(f"{system.name}, {workload.name}: no request succeeded: {summary.errors}")
    return Measurement(
        system=system.name,
        family=system.family,
        workload=workload.name,
        repeat=repeat,
        figures=Figures.of(summary),
        input_tokens=summary.input_tokens,
        output_tokens=summary.output_tokens,
        cached_tokens=summary.cached_tokens,
        failed=summary.failed,
        errors=dict(summary.errors),
        duration_s=summary.duration_s,
    )
