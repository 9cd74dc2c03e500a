"""Block bookkeeping alone, without a model, against the number of cached blocks.

Each operation is timed over many calls on blocks in random order, as requests would come to them:
`allocate` (a block without content), `release` (back on the stack of empty ones), `register` a
full block, `lookup` by hash, `touch` a free cached block, `release` it again (to the end of the
eviction list), and `evict` (allocate when every free block holds content). The garbage collector
is off, as in `timeit`; what one full collection costs at each size is a figure of its own. Times
are CPU time of the thread. Steps of the pool are as many at every size
(`tests/scheduler/test_step_cost.py` counts them); what grows is the share of blocks and hashes
that the chip's caches do not hold.
"""

import gc
import random
import statistics
import time
from collections.abc import Callable

from octavo.paged_cache import Block, BlockHash, BlockPool, hash_block

from .curve import Curve, Panel, Series
from .sizes import Sizes

OPERATIONS = (
    "allocate",
    "register",
    "lookup",
    "touch",
    "release (cached)",
    "evict",
    "release (no content)",
)


def measure_blocks(sizes: Sizes) -> Curve:
    """Nanoseconds per operation at each number of cached blocks, and seconds of many cycles."""
    columns: dict[str, list[float]] = {name: [] for name in OPERATIONS}
    collections = []
    for num_cached in sizes.cached_blocks:
        figures = _time_pool(num_cached, sizes)
        for name in OPERATIONS:
            columns[name].append(figures[name])
        collections.append(figures["collection_ms"])
    facts = {
        f"seconds_for_{sizes.cycles}_allocations_and_releases": _time_cycles(sizes.cycles),
        "hash_block_of_16_tokens_ns": _time_hash(sizes.block_operations),
        **{
            f"full_garbage_collection_ms_at_{n}_blocks": cost
            for n, cost in zip(sizes.cached_blocks, collections, strict=True)
        },
    }
    panel = Panel(
        name="scaling-blocks",
        title="Block bookkeeping against cached blocks",
        x_label="cached blocks",
        y_label="time per operation (ns)",
        xs=sizes.cached_blocks,
        series=tuple(Series(name, tuple(columns[name])) for name in OPERATIONS),
        digits=0,
    )
    how = (
        f"CPU time, medians of {sizes.block_repeats} runs of up to {sizes.block_operations:,} "
        "calls each, blocks in random order."
    )
    return Curve("blocks", "Block bookkeeping", how, (panel,), facts)


def _time_pool(num_cached: int, sizes: Sizes) -> dict[str, float]:
    """Median ns per call of each operation in a pool with so many cached blocks."""
    calls = min(sizes.block_operations, num_cached)
    spare = calls  # blocks without content, for the operations that want such
    pool = BlockPool(1 + num_cached + spare)
    blocks = pool.allocate(num_cached)
    hashes = [hash_block(None, [index]) for index in range(num_cached)]
    for block, block_hash in zip(blocks, hashes, strict=True):
        pool.register(block, block_hash)
    pool.release(blocks)
    new_hashes = iter(
        [hash_block(None, [0, index]) for index in range(calls * sizes.block_repeats)]
    )
    shuffle = random.Random(num_cached)
    runs: dict[str, list[float]] = {name: [] for name in OPERATIONS}
    began = time.thread_time()
    gc.collect()
    collection_ms = 1e3 * (time.thread_time() - began)
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        for _ in range(sizes.block_repeats):
            hashes = [block_hash for block_hash in hashes if pool.lookup(block_hash) is not None]
            sample = shuffle.sample(hashes, calls)
            fresh = [next(new_hashes) for _ in range(calls)]
            hashes.extend(fresh)
            for name, seconds in _time_round(pool, sample, fresh).items():
                runs[name].append(1e9 * seconds / calls)
    finally:
        if was_enabled:
            gc.enable()
    pool.check_integrity()
    figures = {name: statistics.median(values) for name, values in runs.items()}
    return {**figures, "collection_ms": collection_ms}


def _time_round(
    pool: BlockPool, sample: list[BlockHash], fresh: list[BlockHash]
) -> dict[str, float]:
    """Seconds of as many calls of each operation as `sample` has hashes, all of which are cached.

    The pool has as many free blocks without content, and has them again afterwards. `fresh` take
    the place of the least recently used hashes.
    """
    seconds: dict[str, float] = {}
    held: list[Block] = []
    found: list[Block] = []
    seconds["allocate"] = _time(lambda: held.extend(pool.allocate(1)[0] for _ in sample))
    seconds["register"] = _time(lambda: _for_each(pool.register, held, fresh))
    seconds["lookup"] = _time(lambda: found.extend(_present(pool, sample)))
    assert len(found) == len(sample)
    seconds["touch"] = _time(lambda: _for_one(pool.touch, found))
    seconds["release (cached)"] = _time(lambda: _for_one(pool.release, found))
    pool.release(held)  # and now no block is without content
    evicted: list[Block] = []
    num_before = pool.num_evictions
    seconds["evict"] = _time(lambda: evicted.extend(pool.allocate(1)[0] for _ in sample))
    assert pool.num_evictions - num_before == len(sample)
    seconds["release (no content)"] = _time(lambda: _for_one(pool.release, evicted))
    return seconds


def _present(pool: BlockPool, hashes: list[BlockHash]) -> list[Block]:
    return [block for block in map(pool.lookup, hashes) if block is not None]


def _for_one(operate: Callable[[list[Block]], None], blocks: list[Block]) -> None:
    for block in blocks:
        operate([block])


def _for_each(
    operate: Callable[[Block, BlockHash], None], blocks: list[Block], hashes: list[BlockHash]
) -> None:
    for block, block_hash in zip(blocks, hashes, strict=True):
        operate(block, block_hash)


def _time(action: Callable[[], object]) -> float:
    began = time.thread_time()
    action()
    return time.thread_time() - began


def _time_cycles(cycles: int) -> float:
    """Seconds for so many times one block taken and given back."""
    pool = BlockPool(1024)
    began = time.thread_time()
    for _ in range(cycles):
        pool.release(pool.allocate(1))
    return time.thread_time() - began


def _time_hash(calls: int) -> float:
    """Nanoseconds to hash one block of 16 tokens after another."""
    tokens = list(range(1000, 1016))
    parent = hash_block(None, tokens)
    began = time.thread_time()
    for _ in range(calls):
        hash_block(parent, tokens)
    return 1e9 * (time.thread_time() - began) / calls
