"""Cases shared out to several processes: for checks, where compiling kernels is most of the time.

A kernel that breaks its process's CUDA context then takes few other checks with it.
"""

import importlib
import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor

import repository  # noqa: F401 -- a spawned process begins here
from harness import Bench, Case, Section, run_section


def all_cases(modules: tuple[str, ...], bench: Bench) -> Iterator[Case]:
    """The cases of these modules, which are imported when their turn comes."""
    for module in modules:
        yield from importlib.import_module(module).cases(bench)


def run_in_processes(
    modules: tuple[str, ...], bench: Bench, deadline: float, num_processes: int
) -> Section:
    """Every process takes each n-th case; what they gave is put together in its order."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(num_processes, mp_context=context) as pool:
        futures = [
            pool.submit(_run_part, modules, bench, deadline, part, num_processes)
            for part in range(num_processes)
        ]
        whole = Section()
        for future in futures:
            try:
                part = future.result()
            except Exception as error:  # the process died
                whole.errors.append(f"a process of checks: {type(error).__name__}: {error}")
                continue
            whole.rows += part.rows
            whole.errors += part.errors
            whole.skipped += part.skipped
            whole.seconds = max(whole.seconds, part.seconds)
    whole.rows.sort(key=lambda row: str(row["case"]))
    return whole


def _run_part(
    modules: tuple[str, ...], bench: Bench, deadline: float, part: int, parts: int
) -> Section:
    chosen = (case for i, case in enumerate(all_cases(modules, bench)) if i % parts == part)
    return run_section(chosen, deadline)
