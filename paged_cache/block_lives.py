"""How long blocks live: of a sample of them, from being taken to losing their content."""

import itertools
import random
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from .block import Block

MAX_ACCESSES = 5  # the last ones of a block: four gaps


@dataclass(frozen=True, slots=True)
class BlockLife:
    """A block whose cached content was evicted; seconds."""

    lifetime_s: float  # since it was taken from the free blocks
    idle_s: float  # since it was last used
    reuse_gaps_s: tuple[float, ...]  # between uses that followed each other


@dataclass(slots=True)
class _Followed:
    taken_at: float
    used_at: deque[float]


class BlockLives:
    """Follows a share `sample` (0 to 1) of the blocks that are taken; O(1) a block.

    A block that is given back without content ends no life: it is followed anew when it is next
    taken. Definitions: vLLM, `v1/core/kv_cache_metrics.py`.
    """

    def __init__(self, sample: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._sample = sample
        self._clock = clock
        self._random = random.Random()
        self._followed: dict[int, _Followed] = {}
        self._ended: list[BlockLife] = []

    def taken(self, blocks: Iterable[Block]) -> None:
        """These blocks were free and are used now."""
        now = self._clock()
        for block in blocks:
            if self._random.random() < self._sample:
                self._followed[block.block_id] = _Followed(now, deque([now], MAX_ACCESSES))
            else:
                self._followed.pop(block.block_id, None)

    def used(self, block: Block) -> None:
        """This block's content was found and is used once more."""
        followed = self._followed.get(block.block_id)
        if followed is not None:
            followed.used_at.append(self._clock())

    def evicted(self, block: Block) -> None:
        """This block's content is lost, because another needs the room."""
        followed = self._followed.pop(block.block_id, None)
        if followed is None:
            return
        now, used_at = self._clock(), [*followed.used_at]
        gaps = tuple(later - earlier for earlier, later in itertools.pairwise(used_at))
        self._ended.append(BlockLife(now - followed.taken_at, now - used_at[-1], gaps))

    def collect(self) -> tuple[BlockLife, ...]:
        """The lives that ended since this was last asked."""
        ended, self._ended = tuple(self._ended), []
        return ended
