"""Decode steps as CUDA graphs: one launch replaces some ten for each layer.

A graph has fixed shapes and addresses. It is captured for a ladder of batch sizes, and a batch is
padded to the next of them.
"""

import logging
import time
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from .sequences import StepLayout

logger = logging.getLogger(__name__)

TIME_BUDGET_S = 30.0


class DecodeGraphs:
    """The captured graphs by batch size; they share one memory pool, since one runs at a time."""

    def __init__(self, memory_budget_bytes: int) -> None:
        self._memory_budget_bytes = memory_budget_bytes
        self._graphs: dict[int, tuple[torch.cuda.CUDAGraph, Tensor]] = {}

    def size_for(self, layout: StepLayout) -> int | None:
        """The size of the graph that computes this step, None if it must be launched by itself."""
        count = len(layout.lengths)
        if not self._graphs or len(layout.token_ids) != count or len(layout.sampling) != count:
            return None
        return min((size for size in self._graphs if size >= count), default=None)

    def capture(self, sizes: Sequence[int], prepare: Callable[[int], Callable[[], Tensor]]) -> None:
        """Capture a step of each size, the largest first: the others fit in its memory.

        `prepare(size)` puts inputs at the graph's addresses and gives what is to be captured. Stops
        with a log line when the budget of time or memory is spent; the sizes that are left run
        without a graph.
        """
        began, free_before = time.monotonic(), _free_bytes() if sizes else 0
        pool = None
        for size in sorted(sizes, reverse=True):
            spent, taken = time.monotonic() - began, free_before - _free_bytes()
            if spent > TIME_BUDGET_S or taken > self._memory_budget_bytes:
                logger.warning(
                    "CUDA graphs for batches of %d and less were left out: %d graphs took %.0f s "
                    "and %d MiB",
                    size,
                    len(self._graphs),
                    spent,
                    taken >> 20,
                )
                break
            compute = prepare(size)
            compute()  # compiles and allocates what a capture must not
            torch.cuda.synchronize()
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, pool=pool):
                logits = compute()
            pool = pool or graph.pool()
            self._graphs[size] = (graph, logits)

    def replay(self, size: int) -> Tensor:
        """Run a graph on the inputs at its addresses. Its float32 logits [size, vocab]."""
        graph, logits = self._graphs[size]
        graph.replay()
        return logits


def graph_ladder(max_num_seqs: int) -> list[int]:
    """1, 2, 4, 8, then every 8 to 64, every 16 to 256, every 32 beyond, and the largest batch."""
    ladder = [1, 2, 4, *range(8, 64, 8), *range(64, 256, 16), *range(256, max_num_seqs, 32)]
    return [size for size in ladder if size < max_num_seqs] + [max_num_seqs]


def _free_bytes() -> int:
    return torch.cuda.mem_get_info()[0]
