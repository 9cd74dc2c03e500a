"""The runner for NVIDIA GPUs: Triton's kernels, one copy in and one out a step, decode by graphs.

It does not wait for the device while it launches a step: block tables live there and take only
their changes, tokens drawn in the step before are read there, and what was drawn comes back by a
copy that `PendingTokens.wait` waits for. (Biases, bans, penalties, grammars and log-probabilities
are the exception: their small arrays are sent when the logits are there.) The same code runs on a
CPU through Triton's interpreter.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..kernels.gpu.attention import (
    AttentionSchedule,
    plan_paged_attention,
    query_tile_tokens,
    schedule_attention,
    schedule_decodes,
)
from ..paged_cache.kv_tensors import KVCache
from .batch import StepItem
from .constraint import Constraint
from .decode_graphs import DecodeGraphs
from .decoder import Decoder
from .gpu_sampler import draw_tokens, parameter_arrays, to_host
from .prompt_scores import PromptScores, prompt_spans, rows_of, score_prompts
from .sampler import SamplingRow
from .sampling_spec import SamplingSpec
from .sequences import RunningSequence, SequenceTable, StepLayout
from .staging import StagingBuffer
from .step import PendingTokens, drawing_rows
from .token_masks import MaskFiller

Arrays = dict[str, NDArray[Any]]

DETERMINISTIC_SPLIT_TOKENS = 512  # where a step ends a run of keys, in every step of the server
_BYTES_PER_TOKEN = 28  # token id, position, slot, tile, judged token
_BYTES_PER_SEQUENCE = 128  # row, context, start, tile, what is drawn and how
_BYTES_PER_CHANGE = 20  # row, column and block of an entry of the tables


class GpuRunner:
    """Owns the weights, the KV memory and the block tables on the device.

    `graph_sizes` are the batch sizes for which `warm_up` captures decode steps as CUDA graphs, in
    `graph_bytes` of memory; a smaller batch is padded to the next size. Without any, every kernel
    is launched by itself. `deterministic` steps compute decodes and prompts by the same kernel, and
    are not captured.
    """

    def __init__(
        self,
        decoder: Decoder,
        cache: KVCache,
        *,
        device: torch.device,
        block_size: int,
        max_num_seqs: int,
        max_model_len: int,
        max_num_batched_tokens: int,
        graph_sizes: Sequence[int] = (),
        graph_bytes: int = 1024**3,
        deterministic: bool = False,
    ) -> None:
        config = decoder.config
        self._decoder = decoder
        self._cache = cache
        self._max_model_len = max_model_len
        self._graph_sizes = graph_sizes
        self._sequences = SequenceTable(max_num_seqs, max_model_len, block_size)
        self._masks = MaskFiller(device)
        # One row more than there are sequences, all of block 0: the padding of a graph's batch.
        self._padding_row = max_num_seqs
        num_rows, max_blocks = max_num_seqs + 1, self._sequences.tables.shape[1]
        self._tables = torch.zeros((num_rows, max_blocks), dtype=torch.int32, device=device)
        # The newest token of each row, for the step after to begin with.
        self._drawn = torch.zeros(num_rows, dtype=torch.int32, device=device)
        self._tile_tokens = query_tile_tokens(
            config.num_heads, config.num_kv_heads, config.head_dim, decoder.dtype
        )
        # A step can announce whole tables: admission takes a prompt's blocks at once.
        num_bytes = _BYTES_PER_TOKEN * (max_num_batched_tokens + num_rows)
        num_bytes += num_rows * (_BYTES_PER_SEQUENCE + max_blocks * _BYTES_PER_CHANGE)
        self._staging = StagingBuffer(num_bytes + 1024, device)
        self._graphs = DecodeGraphs(graph_bytes)
        self._split_tokens = DETERMINISTIC_SPLIT_TOKENS if deterministic else 0
        self._largest_step = (max_num_batched_tokens, max_num_seqs)

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
        """Begin to compute a step; this returns before it is computed."""
        layout = self._sequences.lay_out(batch)
        sequences, rows = drawing_rows(self._sequences, batch, layout)
        masks = self._masks.begin([sequence.constraint for sequence in sequences])
        spans = prompt_spans(self._sequences, batch, layout)
        size = None if spans else self._graphs.size_for(layout)
        if size is not None:
            schedule = None
            arrays = _padded_decodes(layout, size, self._padding_row)
        else:
            schedule = self._schedule(layout)
            arrays = _step_arrays(layout) | {"tiles": schedule.tiles}
            # Graphs read fixed addresses, so what varies in size comes last.
            if spans:
                arrays["judged_tokens"] = rows_of(spans)
        sent = self._staging.send(
            arrays | _table_changes(layout) | _drawing_arrays(layout) | parameter_arrays(rows)
        )
        if len(sent["changed_blocks"]):
            self._tables[sent["changed_rows"], sent["changed_columns"]] = sent["changed_blocks"]
        scores: list[PromptScores] = []
        if size is not None:
            logits = self._graphs.replay(size)[: len(batch)]
        else:
            assert schedule is not None
            kept = sent["last_tokens"]
            if spans:
                kept = torch.cat((kept, sent["judged_tokens"]))
            states = self._states(sent, schedule, kept)
            logits = self._decoder.logits(states[: len(sequences)])
            if spans:
                scores = score_prompts(spans, states[len(sequences) :], self._decoder.logits)
        if not sequences:
            return PendingTokens((), None, scores)
        draw = draw_tokens(logits, rows, sent, masks)
        self._drawn[sent["drawing_rows"]] = draw.token_ids.to(torch.int32)
        return PendingTokens(sequences, to_host(draw), scores)

    @torch.inference_mode()
    def warm_up(self) -> None:
        """Compile the kernels by running them on padding, and capture the graphs."""
        longest = min(16, self._max_model_len)
        for lengths in ([1], [1, min(2, longest)], [longest]):
            self._compute_padding(lengths)
        self._graphs.capture(self._graph_sizes, self._prepare_decodes)

    @torch.inference_mode()
    def compute_largest_step(self) -> None:
        """Compute, on padding, as many tokens of as many sequences as a step may ever have."""
        num_tokens, num_seqs = self._largest_step
        lengths = [1] * min(num_seqs, num_tokens)
        num_left = num_tokens - len(lengths)
        for index in range(len(lengths)):
            more = min(num_left, self._max_model_len - 1)
            lengths[index] += more
            num_left -= more
        self._compute_padding(lengths)

    def _compute_padding(self, lengths: Sequence[int]) -> None:
        """A whole step of sequences of these lengths that live in the null block alone."""
        layout = _padding_layout(lengths, self._padding_row)
        schedule = self._schedule(layout)
        rows = [SamplingRow("", SamplingSpec(top_p=0.9), 1, (0,), ()) for _ in lengths]
        sent = self._staging.send(
            _step_arrays(layout)
            | {"tiles": schedule.tiles}
            | _drawing_arrays(layout)
            | parameter_arrays(rows)
        )
        draw_tokens(self._compute(sent, schedule, sent["last_tokens"]), rows, sent).tokens()

    def _prepare_decodes(self, size: int) -> Callable[[], Tensor]:
        """A decode step of `size` sequences, with padding where `launch` will put its inputs."""
        layout = _padding_layout((1,) * size, self._padding_row)
        sent = self._staging.send(_padded_decodes(layout, size, self._padding_row))
        schedule = schedule_decodes(size, self._max_model_len)
        return lambda: self._compute(sent, schedule, None)

    def _schedule(self, layout: StepLayout) -> AttentionSchedule:
        is_longer = np.flatnonzero(layout.lengths != 1)
        num_decodes = int(is_longer[0]) if len(is_longer) else len(layout.lengths)
        if self._split_tokens:
            # A token must not depend on whether it was decoded or, after preemption, prefilled.
            num_decodes = 0
        return schedule_attention(
            layout.lengths.tolist(),
            layout.contexts.tolist(),
            num_decodes=num_decodes,
            tile_tokens=self._tile_tokens,
            split_tokens=self._split_tokens,
        )

    def _compute(
        self, sent: dict[str, Tensor], schedule: AttentionSchedule, last_tokens: Tensor | None
    ) -> Tensor:
        """Float32 logits [rows, vocab] after the last tokens (None: after all tokens)."""
        return self._decoder.logits(self._states(sent, schedule, last_tokens))

    def _states(
        self, sent: dict[str, Tensor], schedule: AttentionSchedule, kept: Tensor | None
    ) -> Tensor:
        """States [rows, hidden] after the tokens `kept` (None: after all tokens)."""
        token_ids = sent["token_ids"]
        # -1 - row stands for the token that this row drew last.
        token_ids = torch.where(
            token_ids < 0, self._drawn[(-1 - token_ids).clamp(min=0)], token_ids
        )
        tiles = sent.get("tiles")
        if tiles is None:
            tiles = token_ids.new_empty((2, 0))
        plan = plan_paged_attention(
            schedule,
            self._tables.index_select(0, sent["rows"]),
            sent["contexts"],
            sent["query_starts"],
            tiles,
        )
        return self._decoder.forward(
            token_ids, sent["positions"], sent["slots"], plan, self._cache, kept
        )


def _step_arrays(layout: StepLayout) -> Arrays:
    """A step's inputs as the kernels read them."""
    token_ids = layout.token_ids
    if layout.has_pending:
        rows = np.repeat(layout.rows, layout.lengths)
        token_ids = np.where(token_ids < 0, -1 - rows, token_ids)
    return {
        "token_ids": token_ids.astype(np.int32),
        "positions": layout.positions.astype(np.int32),
        "slots": layout.slots.astype(np.int32),
        "rows": layout.rows.astype(np.int32),
        "contexts": layout.contexts.astype(np.int32),
        "query_starts": np.append(layout.firsts, len(token_ids)).astype(np.int32),
    }


def _padded_decodes(layout: StepLayout, size: int, padding_row: int) -> Arrays:
    """The inputs of a step of single tokens, padded to `size` sequences that read nothing."""
    missing = size - len(layout.rows)
    arrays = _step_arrays(layout)
    for name in ("token_ids", "positions", "slots", "contexts"):
        arrays[name] = np.pad(arrays[name], (0, missing))
    arrays["rows"] = np.pad(arrays["rows"], (0, missing), constant_values=padding_row)
    arrays["query_starts"] = np.arange(size + 1, dtype=np.int32)
    return arrays


def _table_changes(layout: StepLayout) -> Arrays:
    """Where new blocks go in the tables."""
    counts = [len(blocks) for _, _, blocks in layout.changes]
    columns = [np.arange(first, first + len(blocks)) for _, first, blocks in layout.changes]
    blocks = [block for _, _, some in layout.changes for block in some]
    rows = np.repeat([row for row, _, _ in layout.changes], counts)
    return {
        "changed_rows": rows.astype(np.int64),
        "changed_columns": np.concatenate([*columns, np.empty(0)]).astype(np.int64),
        "changed_blocks": np.array(blocks, dtype=np.int32),
    }


def _drawing_arrays(layout: StepLayout) -> Arrays:
    return {
        "last_tokens": layout.last_tokens.astype(np.int64),
        "drawing_rows": layout.rows[layout.sampling].astype(np.int64),
    }


def _padding_layout(lengths: Sequence[int], row: int) -> StepLayout:
    """A step of sequences that live in block 0 alone: what it writes is never read."""
    counts = np.array(lengths)
    firsts = np.cumsum(counts) - counts
    total = int(counts.sum())
    zeros = np.zeros(total, dtype=np.int64)
    return StepLayout(
        rows=np.full(len(counts), row),
        firsts=firsts,
        lengths=counts,
        contexts=counts,
        token_ids=zeros,
        positions=np.arange(total) - np.repeat(firsts, counts),
        slots=zeros,
        changes=[],
        sampling=list(range(len(counts))),
    )
