"""The masks of a step's constraints, made beside the model and laid over its logits."""

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from .constraint import BITS, Constraint

_NEVER = float("-inf")
# For every byte of a mask, what its eight bits add to the logits of their tokens.
_BIASES = np.where(
    np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1, bitorder="little"), 0.0, -np.inf
).astype(np.float32)


class MaskFiller:
    """Fills the masks of a step on a thread of its own, while the model runs."""

    def __init__(self, device: torch.device) -> None:
        self._is_cpu = device.type == "cpu"
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="token-masks")

    def begin(self, constraints: Sequence[Constraint | None]) -> "PendingMasks | None":
        """Start on the masks of a step's rows; None if every token may follow each of them."""
        active = [
            (row, one) for row, one in enumerate(constraints) if one is not None and one.is_active
        ]
        if not active:
            return None
        rows, chosen = [row for row, _ in active], [one for _, one in active]
        make = _biases if self._is_cpu else _words
        return PendingMasks(rows, self._thread.submit(make, chosen))


class PendingMasks:
    """Masks of the rows `rows` that are being filled."""

    def __init__(self, rows: list[int], masks: "Future[Tensor]") -> None:
        self._rows = rows
        self._masks = masks

    def apply(self, logits: Tensor) -> None:
        """Wait for the masks and forbid what they leave out in logits [rows, vocab], in place."""
        masks = self._masks.result()
        if logits.device.type == "cpu":
            for row, bias in zip(self._rows, masks, strict=True):
                logits[row] += bias
            return
        shifts = torch.arange(BITS, dtype=torch.int32, device=logits.device)
        bits = masks.to(logits.device, non_blocking=True)[:, :, None] >> shifts & 1
        forbidden = (bits == 0).flatten(1)[:, : logits.shape[1]]
        if len(self._rows) == len(logits):
            logits.masked_fill_(forbidden, _NEVER)
        else:
            rows = torch.tensor(self._rows, device=logits.device)
            logits[rows] = logits[rows].masked_fill_(forbidden, _NEVER)


def _words(constraints: Sequence[Constraint]) -> Tensor:
    """The masks [rows, vocab / 32], 32 tokens to a word."""
    num_words = -(-constraints[0].vocab_size // BITS)
    words = np.full((len(constraints), num_words), -1, dtype=np.int32)
    for row, constraint in enumerate(constraints):
        constraint.fill(words[row])
    return torch.from_numpy(words)


def _biases(constraints: Sequence[Constraint]) -> Tensor:
    """The masks as what is added to the logits: float32 [rows, vocab] of 0 and -infinity.

    On a CPU torch's masked_fill takes several times as long as an addition.
    """
    octets = _words(constraints).numpy().view(np.uint8)
    biases = _BIASES[octets].reshape(len(constraints), -1)
    return torch.from_numpy(biases[:, : constraints[0].vocab_size])
