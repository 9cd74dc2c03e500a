"""A step costs what it schedules: not the queue, not the pool, not the context (invariant 7).

Counted are function calls, C functions included, and lines executed: figures that the machine's
load cannot change.
"""

import gc
import sys
from collections.abc import Callable

import pytest

from octavo.paged_cache import BlockPool, hash_block

BLOCK_SIZE = 16


def count_work(action: Callable[[], object]) -> tuple[int, int]:
    """Calls made and lines executed by an action, its callees included.

    Without garbage collection: other libraries hang callbacks of their own on it.
    """
    calls = lines = 0

    def on_call(frame, event, argument):
        nonlocal calls
        calls += event in ("call", "c_call")

    def on_line(frame, event, argument):
        nonlocal lines
        lines += event == "line"
        return on_line

    old_trace, old_profile = sys.gettrace(), sys.getprofile()
    was_collecting = gc.isenabled()
    gc.disable()
    sys.settrace(on_line)
    sys.setprofile(on_call)
    try:
        action()
    finally:
        sys.setprofile(old_profile)
        sys.settrace(old_trace)
        if was_collecting:
            gc.enable()
    return calls, lines


def count_step(bench) -> tuple[tuple[int, int], tuple[int, int]]:
    """The work of `schedule()` and of `update()` in one step."""
    batches = []
    scheduling = count_work(lambda: batches.append(bench.scheduler.schedule()))
    return scheduling, count_work(lambda: bench.finish_step(batches[0]))


def fill_queue(bench, num_waiting: int) -> None:
    for index in range(num_waiting):
        bench.add(f"waiting {index}", 40)


@pytest.fixture
def run_four(make_bench):
    """Four decoding requests, whose next step computes the token at `context`."""

    def run(context: int, num_blocks: int = 1200):
        bench = make_bench(num_blocks, BLOCK_SIZE, max_num_batched_tokens=20_000, max_num_seqs=4)
        for name in "abcd":
            bench.add(name, context)
        bench.step()
        assert bench.scheduler.num_running == 4
        return bench

    return run


def test_counting_sees_loops_in_python_and_calls_into_c():
    few, many = (count_work(lambda n=n: [abs(i) for i in range(n)]) for n in (10, 100))
    assert many[0] == few[0] + 90
    assert many[1] > few[1]


def test_queue_length_does_not_matter_when_no_seat_is_free(run_four):
    costs = []
    for num_waiting in (10, 5000):
        bench = run_four(100)
        fill_queue(bench, num_waiting)
        costs.append(count_step(bench))
    assert costs[0] == costs[1]


def test_queue_length_does_not_matter_when_the_head_does_not_fit(make_bench):
    costs = []
    for num_waiting in (10, 5000):
        bench = make_bench()
        bench.add("a", 140, max_tokens=20)
        fill_queue(bench, num_waiting)
        bench.step()
        costs.append([count_step(bench), count_step(bench)])
        assert bench.scheduler.num_waiting == num_waiting
    assert costs[0] == costs[1]


def test_queue_length_does_not_matter_when_one_is_admitted(make_bench):
    costs = []
    for num_waiting in (10, 5000):
        bench = make_bench(max_num_seqs=1)
        fill_queue(bench, num_waiting)
        costs.append(count_step(bench))
        assert bench.scheduler.num_waiting == num_waiting - 1
    assert costs[0] == costs[1]


def test_one_more_decoding_request_costs_a_handful_of_calls(make_bench):
    costs = []
    for num_running in (4, 12):
        bench = make_bench(100, BLOCK_SIZE)
        for index in range(num_running):
            bench.add(f"r{index}", 20)
        bench.step()
        costs.append(count_step(bench))
    for few, many in zip(*costs, strict=True):  # schedule(), then update()
        calls, lines = ((more - less) / 8 for less, more in zip(few, many, strict=True))
        assert calls <= 5
        assert lines <= 30


# Within a block; the token that fills a block, which is then hashed and registered; the token that
# needs a new block.
@pytest.mark.parametrize("offset", [5, 15, 0])
def test_context_length_does_not_matter(run_four, offset):
    costs = [count_step(run_four(context + offset)) for context in (16, 4000)]
    assert costs[0] == costs[1]


def test_context_length_of_a_refused_request_does_not_matter(make_bench):
    """It is looked up once, and again when that could change the answer: not in every step."""
    costs = []
    for num_tokens in (170, 4000):
        bench = make_bench(num_blocks=260)
        bench.add("a", 4000, max_tokens=90)
        bench.add("b", num_tokens, max_tokens=90)
        bench.step()
        costs.append(count_step(bench))
        assert bench.scheduler.num_waiting == 1
    assert costs[0] == costs[1]


def test_chunk_in_a_long_prompt_costs_what_it_does_in_a_short_one(make_bench):
    costs = []
    for num_tokens in (160, 4000):
        bench = make_bench(num_blocks=300, max_num_batched_tokens=32)
        bench.add("a", num_tokens)
        bench.run(3)
        costs.append(count_step(bench))
    assert costs[0] == costs[1]


def test_number_of_blocks_does_not_matter(run_four):
    costs = [count_step(run_four(112, num_blocks)) for num_blocks in (40, 20_000)]
    assert costs[0] == costs[1]


@pytest.mark.parametrize(
    "operate",
    [
        lambda pool, used, cached: pool.allocate(1),
        lambda pool, used, cached: pool.release([used]),
        lambda pool, used, cached: pool.touch([cached]),
        lambda pool, used, cached: pool.lookup(cached.block_hash),
        lambda pool, used, cached: pool.register(used, hash_block(None, [0])),
        lambda pool, used, cached: pool.drop(cached),
        lambda pool, used, cached: pool.allocate(3),
        lambda pool, used, cached: pool.usage,
    ],
)
def test_pool_operations_cost_the_same_in_any_pool(operate):
    costs = []
    for num_blocks in (12, 20_000):
        pool = BlockPool(num_blocks)
        blocks = pool.allocate(num_blocks - 1)
        for index, block in enumerate(blocks[1:]):
            pool.register(block, hash_block(None, [index + 1]))
        pool.release(blocks[1:])
        costs.append(count_work(lambda p=pool, b=blocks: operate(p, b[0], b[len(b) // 2])))
    assert costs[0] == costs[1]
