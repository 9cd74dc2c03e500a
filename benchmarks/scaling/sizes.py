"""At which points each curve is measured, and how long."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Sizes:
    """Points of all curves. Tokens, blocks, requests; `*_steps` are timed at each point."""

    concurrencies: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64, 128)
    concurrency_prompt_tokens: int = 16
    concurrency_steps: int = 8
    contexts: tuple[int, ...] = (128, 256, 512, 1024, 2048, 4096, 8192)
    context_batches: tuple[int, ...] = (1, 8)
    context_steps: int = 5
    cached_blocks: tuple[int, ...] = (1_000, 10_000, 100_000, 1_000_000)
    block_operations: int = 20_000
    block_repeats: int = 5
    cycles: int = 1_000_000
    queue_lengths: tuple[int, ...] = (1, 10, 100, 1_000, 10_000, 100_000)
    queue_running: int = 64
    running: tuple[int, ...] = (1, 4, 16, 64, 128, 256)
    scheduler_steps: int = 320


SIZES = Sizes()
TINY_SIZES = Sizes(
    concurrencies=(1, 2),
    concurrency_prompt_tokens=4,
    concurrency_steps=2,
    contexts=(32, 64),
    context_batches=(1, 2),
    context_steps=2,
    cached_blocks=(100, 300),
    block_operations=50,
    block_repeats=2,
    cycles=200,
    queue_lengths=(1, 50),
    queue_running=4,
    running=(1, 4),
    scheduler_steps=20,
)
"""Small enough for a test: every part runs, and no figure means anything."""
