"""What the runner keeps of each sequence between steps, and the flat layout of one step."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from .batch import StepItem
from .constraint import Constraint
from .sampling_spec import SamplingSpec

Ints = NDArray[np.int64]


@dataclass(slots=True, eq=False)
class RunningSequence:
    """What the sampler must know of a sequence, and the row of its block table while it has one."""

    prompt_token_ids: Sequence[int]
    spec: SamplingSpec
    constraint: Constraint | None = None
    output_token_ids: list[int] = field(default_factory=list)  # as far as they are known here
    row: int | None = None


@dataclass(frozen=True, slots=True)
class StepLayout:
    """A step's tokens, one sequence after the other, on the host."""

    rows: Ints  # [seqs] of the block tables
    firsts: Ints  # [seqs] index of each sequence's first token
    lengths: Ints  # [seqs] tokens computed in this step
    contexts: Ints  # [seqs] tokens of the sequence up to the last of them
    token_ids: Ints  # [tokens], negative where the device alone knows it
    positions: Ints  # [tokens]
    slots: Ints  # [tokens] block * block_size + offset
    changes: list[tuple[int, int, Sequence[int]]]  # row, index therein, new block ids from there on
    sampling: list[int]  # sequences that draw a token, by index

    @property
    def last_tokens(self) -> Ints:
        """Index of the last token of each sequence that draws."""
        return (self.firsts + self.lengths - 1)[self.sampling]

    @property
    def spans(self) -> Ints:
        """[seqs, 4]: row of the step's tables, which is the sequence's index; first token; length;
        context.
        """
        rows = np.arange(len(self.firsts))
        return np.stack((rows, self.firsts, self.lengths, self.contexts), axis=1)

    @property
    def has_pending(self) -> bool:
        """Whether some token is known to the device alone."""
        return bool((self.token_ids < 0).any())


class SequenceTable:
    """Running sequences and their block tables, `tables` [max_num_seqs, max_blocks]."""

    def __init__(self, max_num_seqs: int, max_model_len: int, block_size: int) -> None:
        self._block_size = block_size
        self.tables: Ints = np.zeros((max_num_seqs, -(-max_model_len // block_size)), np.int64)
        self._free_rows = list(range(max_num_seqs - 1, -1, -1))
        self._sequences: dict[str, RunningSequence] = {}

    def __getitem__(self, request_id: str) -> RunningSequence:
        return self._sequences[request_id]

    def add(self, request_id: str, sequence: RunningSequence) -> None:
        """Make a sequence known; it takes a row when it first runs."""
        self._sequences[request_id] = sequence

    def remove(self, request_id: str) -> None:
        """Forget a sequence."""
        self.release_row(request_id)
        del self._sequences[request_id]

    def release_row(self, request_id: str) -> None:
        """Give up the row of a sequence that lost its blocks; it takes one when it runs again."""
        sequence = self._sequences[request_id]
        if sequence.row is not None:
            self._free_rows.append(sequence.row)
            sequence.row = None

    def lay_out(self, batch: Sequence[StepItem]) -> StepLayout:
        """The flat arrays of a step; new blocks go into the tables."""
        changes: list[tuple[int, int, Sequence[int]]] = []
        row_list, length_list, start_list = [], [], []
        known_ids: list[int] = []
        sampling: list[int] = []
        for index, item in enumerate(batch):
            sequence = self._sequences[item.request_id]
            if sequence.row is None:
                sequence.row = self._free_rows.pop()
            if item.new_block_ids:
                end = item.first_block + len(item.new_block_ids)
                self.tables[sequence.row, item.first_block : end] = item.new_block_ids
                changes.append((sequence.row, item.first_block, item.new_block_ids))
            token_ids_of = item.token_ids
            row_list.append(sequence.row)
            length_list.append(len(token_ids_of))
            start_list.append(item.start)
            known_ids += token_ids_of
            if item.samples:
                sampling.append(index)
        rows, lengths, starts = np.array((row_list, length_list, start_list))
        token_ids = np.array(known_ids)
        total = len(known_ids)
        if total == len(batch):  # one token each
            firsts, positions, token_rows = np.arange(total), starts, rows
        else:
            firsts = np.cumsum(lengths) - lengths
            positions = np.arange(total) + np.repeat(starts - firsts, lengths)
            token_rows = np.repeat(rows, lengths)
        indexes, offsets = np.divmod(positions, self._block_size)
        blocks = self.tables[token_rows, indexes]
        return StepLayout(
            rows=rows,
            firsts=firsts,
            lengths=lengths,
            contexts=starts + lengths,
            token_ids=token_ids,
            positions=positions,
            slots=blocks * self._block_size + offsets,
            changes=changes,
            sampling=sampling,
        )
