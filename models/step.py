"""What the engine sees of a runner: steps that are launched, and tokens that are waited for."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from .batch import SampledToken, StepItem
from .constraint import Constraint
from .prompt_scores import PromptScores
from .sampler import Draw, SamplingRow
from .sampling_spec import SamplingSpec
from .sequences import RunningSequence, SequenceTable, StepLayout


@dataclass(frozen=True, slots=True)
class PendingTokens:
    """A step that was launched; `draw` is None if no sequence draws a token in it."""

    sequences: Sequence[RunningSequence]  # those that draw, in the order of the batch
    draw: Draw | None
    prompt_scores: Sequence[PromptScores] = ()
    sample_seconds: float = 0.0  # spent on drawing; 0 where the device does it in its own time

    def wait(self) -> list[SampledToken]:
        """The tokens, when the device has drawn them. Call it once."""
        if self.draw is None:
            return []
        tokens = self.draw.tokens()
        for sequence, token in zip(self.sequences, tokens, strict=True):
            sequence.output_token_ids.append(token.token_id)
        return tokens


def drawing_rows(
    known: SequenceTable, batch: Sequence[StepItem], layout: StepLayout
) -> tuple[list[RunningSequence], list[SamplingRow]]:
    """The sequences of a step that draw a token, and what the sampler is told of each."""
    sequences, rows = [], []
    for index in layout.sampling:
        item = batch[index]
        request_id = item.request_id
        sequence = known[request_id]
        sequences.append(sequence)
        rows.append(
            SamplingRow(
                request_id,
                sequence.spec,
                item.start + len(item.token_ids),
                sequence.prompt_token_ids,
                sequence.output_token_ids,
            )
        )
    return sequences, rows


class Runner(Protocol):
    """Computes steps. Two classes are one: `ModelRunner` and `GpuRunner`."""

    def add_request(
        self,
        request_id: str,
        prompt_token_ids: Sequence[int],
        spec: SamplingSpec,
        constraint: Constraint | None = None,
        output_token_ids: Sequence[int] = (),
    ) -> None:
        """Make a sequence known; it takes a block table's row when it first runs.

        `output_token_ids` were sampled before.
        """

    def remove_request(self, request_id: str) -> None:
        """Forget a sequence. A step in flight may still compute it; its tokens go nowhere."""

    def release_row(self, request_id: str) -> None:
        """Give up the row of a sequence that lost its blocks; it takes one when it runs again."""

    def launch(self, batch: Sequence[StepItem]) -> PendingTokens:
        """Begin to compute a step; on a GPU this returns before it is computed."""

    def warm_up(self) -> None:
        """Do what would make the first requests wait."""
