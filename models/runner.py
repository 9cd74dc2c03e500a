"""From a step's sequences to their next tokens, on any device.

Flat tensors, one forward pass, the sampler. This is the reference that `GpuRunner` must equal.
"""

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from ..kernels import plan_step
from ..paged_cache.kv_tensors import KVCache
from .batch import StepItem
from .constraint import Constraint
from .prompt_scores import prompt_spans, rows_of, score_prompts
from .sampler import SamplingRow, draw, sample
from .sampling_spec import SamplingSpec
from .sequences import Ints, RunningSequence, SequenceTable
from .step import PendingTokens, drawing_rows
from .token_masks import Forbid, MaskFiller, forbid


class ComputesStates(Protocol):
    """What a runner asks of a decoder; see `Decoder`."""

    def forward(
        self,
        token_ids: Tensor,
        positions: Tensor,
        slots: Tensor,
        plan: Any,
        cache: KVCache,
        rows: Tensor | None = None,
    ) -> Tensor:
        """Store a step's keys and values; states [tokens or rows, hidden]."""

    def logits(self, states: Tensor) -> Tensor:
        """[rows, hidden] to float32 logits [rows, vocab]."""


class ModelRunner:
    """Owns the weights, the KV memory and the block tables on the device.

    `plan` makes of a step's spans and block tables what the decoder's attention reads, `draw` takes
    tokens from logits, `forbid` lays masks over them; without these it is plain torch that does.
    """

    def __init__(
        self,
        decoder: ComputesStates,
        cache: KVCache,
        *,
        device: torch.device,
        block_size: int,
        max_num_seqs: int,
        max_model_len: int,
        plan: Callable[[Ints, Ints, int], Any] | None = None,
        draw: Callable[[Tensor, Sequence[SamplingRow]], Tensor] = draw,
        forbid: Forbid = forbid,
    ) -> None:
        self._decoder = decoder
        self._cache = cache
        self._device = device
        self._block_size = block_size
        self._plan = plan or partial(plan_step, device=device)
        self._draw = draw
        self._sequences = SequenceTable(max_num_seqs, max_model_len, block_size)
        self._masks = MaskFiller(device, forbid)
        # The newest token of each row, for the step after to begin with.
        self._drawn = torch.zeros(max_num_seqs, dtype=torch.int64, device=device)

    def add_request(
        self,
        request_id: str,
        prompt_token_ids: Sequence[int],
        spec: SamplingSpec,
        constraint: Constraint | None = None,
        output_token_ids: Sequence[int] = (),
    ) -> None:
        """Make a sequence known; it takes a block table's row when it first runs."""
        self._sequences.add(
            request_id,
            RunningSequence(prompt_token_ids, spec, constraint, list(output_token_ids)),
        )

    def remove_request(self, request_id: str) -> None:
        """Forget a sequence. A step in flight may still compute it; its tokens go nowhere."""
        self._sequences.remove(request_id)

    def release_row(self, request_id: str) -> None:
        """Give up the row of a sequence that lost its blocks; it takes one when it runs again."""
        self._sequences.release_row(request_id)

    @torch.inference_mode()
    def launch(self, batch: Sequence[StepItem]) -> PendingTokens:
        """Begin to compute a step; on a GPU this returns before it is computed."""
        layout = self._sequences.lay_out(batch)
        sequences, drawing = drawing_rows(self._sequences, batch, layout)
        masks = self._masks.begin([sequence.constraint for sequence in sequences])
        token_ids = self._to_device(layout.token_ids)
        if layout.has_pending:
            drawn_by = self._to_device(np.repeat(layout.rows, layout.lengths))
            token_ids = torch.where(token_ids < 0, self._drawn[drawn_by], token_ids)
        widest = -(-int(layout.contexts.max()) // self._block_size)
        tables = self._sequences.tables[layout.rows, :widest]
        spans = prompt_spans(self._sequences, batch, layout)
        rows = layout.last_tokens
        if spans:
            rows = np.concatenate((rows, rows_of(spans)))
        states = self._decoder.forward(
            token_ids,
            self._to_device(layout.positions),
            self._to_device(layout.slots),
            self._plan(layout.spans, tables, self._block_size),
            self._cache,
            self._to_device(rows),
        )
        num_drawing = len(layout.sampling)
        scores = score_prompts(spans, states[num_drawing:], self._decoder.logits) if spans else []
        if not num_drawing:
            return PendingTokens((), None, scores)
        logits = self._decoder.logits(states[:num_drawing])
        began = time.perf_counter()
        drawn = sample(logits, drawing, self._draw, masks)
        sample_seconds = time.perf_counter() - began if self._device.type == "cpu" else 0.0
        self._drawn[self._to_device(layout.rows[layout.sampling])] = drawn.token_ids
        return PendingTokens(sequences, drawn, scores, sample_seconds)

    @torch.inference_mode()
    def warm_up(self) -> None:
        """Run one token through the padding block, so that no request pays for first calls."""
        zero = self._to_device(np.zeros(1, dtype=np.int64))
        spans, tables = np.array([[0, 0, 1, 1]]), np.zeros((1, 1), dtype=np.int64)
        plan = self._plan(spans, tables, self._block_size)
        states = self._decoder.forward(zero, zero, zero, plan, self._cache)
        row = SamplingRow("", SamplingSpec(), 0, (), ())
        sample(self._decoder.logits(states), [row], self._draw)

    def _to_device(self, array: np.ndarray) -> torch.Tensor:
        tensor = torch.from_numpy(np.ascontiguousarray(array))
        return tensor if self._device.type == "cpu" else tensor.to(self._device)
