"""From a step's sequences to their next tokens in plain torch, on any device.

Flat tensors, one forward pass, the sampler. This is the reference that `GpuRunner` must equal.
"""

from collections.abc import Sequence

import numpy as np
import torch

from ..kernels import SequenceSpan, plan_attention
from ..paged_cache.kv_tensors import KVCache
from .batch import SequenceInput
from .decoder import Decoder
from .sampler import SamplingRow, sample
from .sampling_spec import SamplingSpec
from .sequences import RunningSequence, SequenceTable, StepLayout
from .step import PendingTokens, drawing_rows


class ModelRunner:
    """Owns the weights, the KV memory and the block tables on the device."""

    def __init__(
        self,
        decoder: Decoder,
        cache: KVCache,
        *,
        device: torch.device,
        block_size: int,
        max_num_seqs: int,
        max_model_len: int,
    ) -> None:
        self._decoder = decoder
        self._cache = cache
        self._device = device
        self._block_size = block_size
        self._sequences = SequenceTable(max_num_seqs, max_model_len, block_size)
        # The newest token of each row, for the step after to begin with.
        self._drawn = torch.zeros(max_num_seqs, dtype=torch.int64, device=device)

    def add_request(
        self, request_id: str, prompt_token_ids: Sequence[int], spec: SamplingSpec
    ) -> None:
        """Make a sequence known; it takes a block table's row when it first runs."""
        self._sequences.add(request_id, RunningSequence(prompt_token_ids, spec))

    def remove_request(self, request_id: str) -> None:
        """Forget a sequence. A step in flight may still compute it; its tokens go nowhere."""
        self._sequences.remove(request_id)

    def release_row(self, request_id: str) -> None:
        """Give up the row of a sequence that lost its blocks; it takes one when it runs again."""
        self._sequences.release_row(request_id)

    @torch.inference_mode()
    def launch(self, batch: Sequence[SequenceInput]) -> PendingTokens:
        """Begin to compute a step; on a GPU this returns before it is computed."""
        layout = self._sequences.lay_out(batch)
        token_ids = self._to_device(layout.token_ids)
        if layout.has_pending:
            rows = self._to_device(np.repeat(layout.rows, layout.lengths))
            token_ids = torch.where(token_ids < 0, self._drawn[rows], token_ids)
        widest = -(-int(layout.contexts.max()) // self._block_size)
        tables = self._to_device(self._sequences.tables[layout.rows, :widest])
        states = self._decoder.forward(
            token_ids,
            self._to_device(layout.positions),
            self._to_device(layout.slots),
            plan_attention(_spans(layout), tables, self._block_size),
            self._cache,
            self._to_device(layout.last_tokens),
        )
        if not layout.sampling:
            return PendingTokens((), None)
        logits = self._decoder.logits(states)
        sequences, drawing = drawing_rows(self._sequences, batch, layout)
        draw = sample(logits, drawing)
        self._drawn[self._to_device(layout.rows[layout.sampling])] = draw.token_ids
        return PendingTokens(sequences, draw)

    @torch.inference_mode()
    def warm_up(self) -> None:
        """Run one token through the padding block, so that no request pays for first calls."""
        zero = self._to_device(np.zeros(1, dtype=np.int64))
        plan = plan_attention([SequenceSpan(0, 0, 1, 1)], zero[None], self._block_size)
        states = self._decoder.forward(zero, zero, zero, plan, self._cache)
        sample(self._decoder.logits(states), [SamplingRow("", SamplingSpec(), 0, (), ())])

    def _to_device(self, array: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(self._device)


def _spans(layout: StepLayout) -> list[SequenceSpan]:
    triples = zip(
        layout.firsts.tolist(), layout.lengths.tolist(), layout.contexts.tolist(), strict=True
    )
    return [SequenceSpan(i, *triple) for i, triple in enumerate(triples)]
