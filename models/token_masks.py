"""The masks of a step's constraints, made beside the model and laid over its logits."""

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from .constraint import BITS, Constraint

Forbid = Callable[[Tensor, Tensor, Tensor], None]


def forbid(logits: Tensor, rows: Tensor, words: Tensor) -> None:
    """-infinity, in these rows of logits [.., vocab], for every token whose bit is clear.

    `rows` int64 [count]; `words` int32 [count, vocab / 32, rounded up], 32 tokens to a word.
    """
    shifts = torch.arange(BITS, dtype=torch.int32, device=logits.device)
    is_clear = (words[:, :, None] >> shifts & 1) == 0
    chosen = logits[rows].masked_fill_(is_clear.flatten(1)[:, : logits.shape[1]], float("-inf"))
    logits[rows] = chosen


class MaskFiller:
    """Fills the masks of a step on a thread of its own, while the model runs.

    `forbid` lays them over the logits.
    """

    def __init__(self, device: torch.device, forbid: Forbid = forbid) -> None:
        self._device = device
        self._forbid = forbid
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="token-masks")

    def begin(self, constraints: Sequence[Constraint | None]) -> "PendingMasks | None":
        """Start on the masks of a step's rows; None if every token may follow each of them."""
        active = [
            (row, one) for row, one in enumerate(constraints) if one is not None and one.is_active
        ]
        if not active:
            return None
        words = self._thread.submit(_fill, [one for _, one in active])
        return PendingMasks([row for row, _ in active], words, self._device, self._forbid)


class PendingMasks:
    """Masks of the rows `rows` that are being filled."""

    def __init__(
        self, rows: list[int], words: "Future[Tensor]", device: torch.device, forbid: Forbid
    ) -> None:
        self._rows = rows
        self._words = words
        self._device = device
        self._forbid = forbid

    def apply(self, logits: Tensor) -> None:
        """Wait for the masks and forbid what they leave out in logits [rows, vocab], in place."""
        words = self._words.result().to(self._device, non_blocking=True)
        self._forbid(logits, torch.tensor(self._rows, device=self._device), words)


def _fill(constraints: Sequence[Constraint]) -> Tensor:
    num_words = -(-constraints[0].vocab_size // BITS)
    words = np.full((len(constraints), num_words), -1, dtype=np.int32)
    for row, constraint in enumerate(constraints):
        constraint.fill(words[row])
    return torch.from_numpy(words)
