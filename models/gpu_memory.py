"""How many KV blocks fit on a GPU, by measurement instead of estimate.

Weights are loaded, the largest step there can be is computed on padding, and what is left of the
wanted share of memory is for keys and values. What other processes hold counts as not there.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch

GRAPHS_SHARE = 0.02  # of the device's memory, kept for CUDA graphs
LEAST_GRAPHS_BYTES = 256 * 1024**2


@dataclass(frozen=True)
class MeasuredMemory:
    """Where a GPU's memory goes, in bytes, measured after weights were loaded."""

    free_before: int  # when nothing of ours was there
    weights: int  # and what the libraries took with them
    activations: int  # peak of the largest step
    graphs: int  # kept for CUDA graphs
    kv_cache: int  # what is left of the share

    def __str__(self) -> str:
        parts = (
            ("free at start", self.free_before),
            ("weights", self.weights),
            ("activations", self.activations),
            ("graphs", self.graphs),
            ("KV cache", self.kv_cache),
        )
        return ", ".join(f"{name} {size / 1024**3:.2f} GiB" for name, size in parts)


def measure_memory(
    free_before: int, share: float, compute_largest_step: Callable[[], None]
) -> MeasuredMemory:
    """Measure after loading; `share` of `free_before` may be used in all."""
    torch.cuda.synchronize()
    free_after, total = torch.cuda.mem_get_info()
    reserved = torch.cuda.memory_reserved()
    torch.cuda.reset_peak_memory_stats()
    compute_largest_step()
    torch.cuda.synchronize()
    activations = max(0, torch.cuda.max_memory_reserved() - reserved)
    torch.cuda.empty_cache()
    graphs = max(LEAST_GRAPHS_BYTES, int(total * GRAPHS_SHARE))
    weights = max(0, free_before - free_after)
    room = int(free_before * share) - weights - activations - graphs
    return MeasuredMemory(free_before, weights, activations, graphs, max(0, room))
