"""From a step's sequences to their next tokens: flat tensors, one forward pass, the sampler."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ..kernels import SequenceSpan, choose_operations, plan_attention
from ..paged_cache.kv_layout import KVLayout
from ..paged_cache.kv_tensors import KVCache
from .batch import SampledToken, SequenceInput
from .config import ModelConfig, load_config
from .decoder import Decoder
from .resolve import resolve_model
from .sampler import Draw, SamplingRow, sample
from .sampling_spec import SamplingSpec
from .sequences import RunningSequence, SequenceTable, StepLayout
from .weights import read_tensors


@dataclass(frozen=True, slots=True)
class PendingTokens:
    """A step that was launched; `wait` gives its tokens when the device has drawn them."""

    sequences: Sequence[RunningSequence]
    draw: Draw | None

    def wait(self) -> list[SampledToken]:
        """One token for each sequence that draws, in the order of the batch. Call it once."""
        if self.draw is None:
            return []
        tokens = self.draw.tokens()
        for sequence, token in zip(self.sequences, tokens, strict=True):
            sequence.output_token_ids.append(token.token_id)
        return tokens


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
        drawing = [batch[i] for i in layout.sampling]
        sequences = [self._sequences[item.request_id] for item in drawing]
        draw = sample(
            logits, [_sampling_row(*pair) for pair in zip(drawing, sequences, strict=True)]
        )
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


def _sampling_row(item: SequenceInput, sequence: RunningSequence) -> SamplingRow:
    return SamplingRow(
        item.request_id,
        sequence.spec,
        item.start + len(item.token_ids),
        sequence.prompt_token_ids,
        sequence.output_token_ids,
    )


def load_runner(
    model_path: str,
    *,
    dtype: str,
    device: str,
    block_size: int,
    num_blocks: int,
    max_num_seqs: int,
    max_model_len: int,
) -> tuple[ModelRunner, bytes]:
    """Load a local model and reserve its KV memory.

    Returns the runner and what identifies the content of its blocks besides tokens. Raises
    ModelError for bad files, MemoryError or torch's out-of-memory error.
    """
    files = resolve_model(model_path, Path())
    config = load_config(files)
    where = torch.device(device)
    decoder = Decoder(
        config,
        read_tensors(files, config),
        dtype=getattr(torch, dtype),
        device=where,
        max_positions=max_model_len,
        operations=choose_operations(where),
    )
    layout = kv_layout(config, block_size, dtype)
    runner = ModelRunner(
        decoder,
        KVCache(layout, num_blocks, where),
        device=where,
        block_size=block_size,
        max_num_seqs=max_num_seqs,
        max_model_len=max_model_len,
    )
    identity = hashlib.sha256(f"{files.path.resolve()}\0{dtype}".encode()).digest()
    return runner, identity


def kv_layout(config: ModelConfig, block_size: int, dtype: str) -> KVLayout:
    """The shape of a block for this model."""
    return KVLayout(config.num_layers, config.num_kv_heads, config.head_dim, block_size, dtype)
