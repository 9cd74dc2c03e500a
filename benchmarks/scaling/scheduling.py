"""A scheduling step alone, without a model, against queue length and running requests.

One step is `schedule()` and `update()` with a token for each request that samples. All requests
decode; their contexts are staggered, so that in each step one in 16 begins a new block and one
hashes and registers a full one, as in a server under load. Times are CPU time of the thread: the
work itself, whatever else the machine does.
"""

import gc
import statistics
import time

from octavo.paged_cache import BlockPool
from octavo.scheduler import Request, Scheduler, StopRule

from .curve import Curve, Panel, Series, percentile
from .sizes import Sizes

BLOCK_SIZE = 16
PROMPT_TOKENS = 96
MAX_MODEL_LEN = 8192
TOKEN = 7
TARGET_US = 1000.0


def measure_scheduler(sizes: Sizes) -> Curve:
    """Microseconds per step, by queue length and by running requests."""
    by_queue = [_time_steps(sizes.queue_running, n, sizes) for n in sizes.queue_lengths]
    by_running = [_time_steps(n, 0, sizes) for n in sizes.running]
    panels = (
        _panel(
            "scaling-queue",
            f"A scheduling step against queue length, {sizes.queue_running} running",
            "waiting requests",
            sizes.queue_lengths,
            by_queue,
        ),
        _panel(
            "scaling-running",
            "A scheduling step against running requests",
            "running requests",
            sizes.running,
            by_running,
            log_y=True,
        ),
    )
    most = sizes.running[-1]
    median_us = statistics.median(map(sum, by_running[-1]))
    facts = {
        f"step_us_at_{most}_running": median_us,
        "target_us": TARGET_US,
        f"us_per_running_request_at_{most}": median_us / most,
    }
    how = f"CPU time of {sizes.scheduler_steps} decode steps at each point, garbage collector on."
    return Curve("scheduler", "Scheduler", how, panels, facts)


def _time_steps(num_running: int, num_waiting: int, sizes: Sizes) -> list[tuple[float, float]]:
    """Microseconds of `schedule()` and of `update()` in each step."""
    scheduler = _start(num_running, num_waiting, sizes.scheduler_steps)
    times = []
    gc.collect()
    for _ in range(sizes.scheduler_steps):
        began = time.thread_time()
        batch = scheduler.schedule()
        scheduled = time.thread_time()
        sampled = {item.request_id: TOKEN for item in batch.scheduled if item.samples}
        before_update = time.thread_time()
        scheduler.update(batch, sampled)
        ended = time.thread_time()
        assert len(sampled) == num_running
        times.append((1e6 * (scheduled - began), 1e6 * (ended - before_update)))
    assert (scheduler.num_running, scheduler.num_waiting) == (num_running, num_waiting)
    return times


def _start(num_running: int, num_waiting: int, num_steps: int) -> Scheduler:
    """A scheduler with so many decoding requests, none of which ends in `num_steps` steps."""
    most_tokens = PROMPT_TOKENS + BLOCK_SIZE + num_steps + 1
    num_blocks = 2 + num_running * -(-most_tokens // BLOCK_SIZE)
    scheduler = Scheduler(
        BlockPool(num_blocks),
        BLOCK_SIZE,
        max_num_batched_tokens=num_running * (PROMPT_TOKENS + BLOCK_SIZE),
        max_num_seqs=num_running,
        max_model_len=MAX_MODEL_LEN,
    )
    for index in range(num_running):
        _add(scheduler, f"running {index}", index, PROMPT_TOKENS + index % BLOCK_SIZE, num_steps)
    batch = scheduler.schedule()
    scheduler.update(batch, {item.request_id: TOKEN for item in batch.scheduled})
    for index in range(num_waiting):
        _add(scheduler, f"waiting {index}", index, BLOCK_SIZE, num_steps)
    return scheduler


def _add(scheduler: Scheduler, request_id: str, salt: int, num_tokens: int, num_steps: int) -> None:
    rule = StopRule(max_tokens=num_steps + 2, max_total_tokens=MAX_MODEL_LEN)
    first = 1000 * salt
    scheduler.add(Request(request_id, range(first, first + num_tokens), rule))


def _panel(
    name: str,
    title: str,
    x_label: str,
    xs: tuple[int, ...],
    points: list[list[tuple[float, float]]],
    log_y: bool = False,
) -> Panel:
    """Medians of both halves and of the whole step, and the slow tail of the whole."""
    wholes = [[schedule + update for schedule, update in steps] for steps in points]
    return Panel(
        name=name,
        title=title,
        x_label=x_label,
        y_label="time per step (µs)",
        xs=xs,
        series=(
            Series("step, median", tuple(statistics.median(step) for step in wholes)),
            Series("step, p99", tuple(percentile(step, 0.99) for step in wholes)),
            Series("schedule()", tuple(statistics.median(s for s, _ in steps) for steps in points)),
            Series("update()", tuple(statistics.median(u for _, u in steps) for steps in points)),
        ),
        log_y=log_y,
        digits=0,
    )
