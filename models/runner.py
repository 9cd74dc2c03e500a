"""From a step's sequences to their next tokens: flat tensors, one forward pass, the sampler."""

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from ..kernels import SequenceSpan, plan_attention
from ..paged_cache.kv_layout import KVLayout
from ..paged_cache.kv_tensors import KVCache
from .batch import SampledToken, SequenceInput
from .config import ModelConfig, load_config
from .decoder import Decoder
from .resolve import resolve_model
from .sampler import SamplingRow, sample
from .sampling_spec import SamplingSpec
from .weights import read_tensors

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class _Sequence:
    """What the sampler must know of a sequence, and the row of its block table while it has one."""

    prompt_token_ids: Sequence[int]
    spec: SamplingSpec
    output_token_ids: list[int] = field(default_factory=list)
    row: int | None = None


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
        max_blocks = -(-max_model_len // block_size)
        self._tables = np.zeros((max_num_seqs, max_blocks), dtype=np.int64)
        self._free_rows = list(range(max_num_seqs - 1, -1, -1))
        self._sequences: dict[str, _Sequence] = {}

    def add_request(
        self, request_id: str, prompt_token_ids: Sequence[int], spec: SamplingSpec
    ) -> None:
        """Make a sequence known; it takes a block table's row when it first runs."""
        self._sequences[request_id] = _Sequence(prompt_token_ids, spec)

    def remove_request(self, request_id: str) -> None:
        """Forget a sequence."""
        self.release_row(request_id)
        del self._sequences[request_id]

    def release_row(self, request_id: str) -> None:
        """Give up the row of a sequence that lost its blocks; it takes one when it runs again."""
        sequence = self._sequences[request_id]
        if sequence.row is not None:
            self._free_rows.append(sequence.row)
            sequence.row = None

    @torch.inference_mode()
    def execute(self, batch: Sequence[SequenceInput]) -> list[SampledToken]:
        """Compute a step; one token for each of those with `samples`, in the order given."""
        rows = np.array([self._row_of(item) for item in batch])
        lengths = np.array([len(item.token_ids) for item in batch])
        starts = np.array([item.start for item in batch])
        firsts = np.cumsum(lengths) - lengths  # index of each sequence's first token in the batch
        total = int(lengths.sum())
        token_ids = np.fromiter(
            (token for item in batch for token in item.token_ids), np.int64, total
        )
        positions = np.arange(total) + np.repeat(starts - firsts, lengths)
        blocks = self._tables[np.repeat(rows, lengths), positions // self._block_size]
        slots = blocks * self._block_size + positions % self._block_size
        contexts = starts + lengths
        widest = -(-int(contexts.max()) // self._block_size)
        spans = [
            SequenceSpan(i, int(first), int(length), int(context))
            for i, (first, length, context) in enumerate(
                zip(firsts, lengths, contexts, strict=True)
            )
        ]
        plan = plan_attention(spans, self._to_device(self._tables[rows, :widest]), self._block_size)
        states = self._decoder.forward(
            self._to_device(token_ids),
            self._to_device(positions),
            self._to_device(slots),
            plan,
            self._cache,
        )
        sampling = [i for i, item in enumerate(batch) if item.samples]
        if not sampling:
            return []
        last = self._to_device((firsts + lengths - 1)[sampling])
        logits = self._decoder.logits(states[last])
        tokens = sample(logits, [self._sampling_row(batch[i].request_id) for i in sampling])
        for token in tokens:
            self._sequences[token.request_id].output_token_ids.append(token.token_id)
        return tokens

    @torch.inference_mode()
    def warm_up(self) -> None:
        """Run one token through the padding block, so that no request pays for first calls."""
        zero = self._to_device(np.zeros(1, dtype=np.int64))
        plan = plan_attention([SequenceSpan(0, 0, 1, 1)], zero[None], self._block_size)
        states = self._decoder.forward(zero, zero, zero, plan, self._cache)
        sample(self._decoder.logits(states), [SamplingRow("", SamplingSpec(), (), ())])

    def _row_of(self, item: SequenceInput) -> int:
        """The sequence's row, with the step's new blocks written into it."""
        sequence = self._sequences[item.request_id]
        if sequence.row is None:
            sequence.row = self._free_rows.pop()
        if item.new_block_ids:
            end = item.first_block + len(item.new_block_ids)
            self._tables[sequence.row, item.first_block : end] = item.new_block_ids
        return sequence.row

    def _sampling_row(self, request_id: str) -> SamplingRow:
        sequence = self._sequences[request_id]
        return SamplingRow(
            request_id, sequence.spec, sequence.prompt_token_ids, sequence.output_token_ids
        )

    def _to_device(self, array: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(self._device)


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
