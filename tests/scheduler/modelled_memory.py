"""The runner's memory as the state machine models it, and its rows of block ids."""

from collections.abc import Mapping

from octavo.paged_cache import BlockHash, BlockPool
from octavo.scheduler import PENDING, Batch, ScheduledRequest

from .fuzzed_requests import Config, Life, Slot

GARBAGE = -1


class ModelledMemory:
    """Each slot holds a digest of the whole token prefix (and tenant) that was computed into it."""

    def __init__(self, pool: BlockPool, config: Config) -> None:
        self.blocks = {block.block_id: block for block in pool._blocks}
        self._config = config
        self._digests: dict[Slot, int] = {}
        self._names: dict[int, BlockHash | None] = {}  # of the blocks in use before the step

    def begin_step(self) -> None:
        """Note what is there. Free blocks may be filled anew in one step; those in use may not."""
        self._names = {i: b.block_hash for i, b in self.blocks.items() if b.ref_count > 0}

    def compute(self, batch: Batch, lives: Mapping[str, Life]) -> list[Slot]:
        """First all writes, then all reads. Returns the slots written."""
        written: list[Slot] = []
        writers: dict[int, str] = {}
        for item in batch.scheduled:
            life = lives[item.request_id]
            self._follow_announcement(item, life)
            for block_id, slot in self._write(item, life):
                assert writers.setdefault(block_id, item.request_id) == item.request_id
                written.append((block_id, slot))
        for item in batch.scheduled:
            self._read(item, lives[item.request_id])
        return written

    def spoil(self, slots: list[Slot]) -> None:
        """Anything may be in these from now on."""
        self._digests.update(dict.fromkeys(slots, GARBAGE))

    def _follow_announcement(self, item: ScheduledRequest, life: Life) -> None:
        if item.new_block_ids and item.first_block == 0:
            life.row = []
            assert item.start == 0 or self._config.enable_prefix_caching
            if not life.request.use_prefix_cache:
                assert item.start == 0
        assert item.first_block == len(life.row)
        life.row.extend(item.new_block_ids)
        assert life.row == life.request.table.block_ids()
        end = item.start + len(item.token_ids)
        known = life.tokens[item.start : min(end, life.num_known)]
        assert item.token_ids == known + [PENDING] * (end - item.start - len(known))
        assert item.samples == (end == len(life.tokens))

    def _write(self, item: ScheduledRequest, life: Life) -> list[Slot]:
        slots = []
        for position in range(item.start, item.start + len(item.token_ids)):
            block_id, slot = self._slot(life, position)
            before = self._names.get(block_id)
            assert before is None or self.blocks[block_id].block_hash is not before, (
                "a block that others may read was written again"
            )
            self._digests[block_id, slot] = life.digest(position)
            slots.append((block_id, slot))
        return slots

    def _read(self, item: ScheduledRequest, life: Life) -> None:
        for position in range(item.start + len(item.token_ids)):
            assert self._digests[self._slot(life, position)] == life.digest(position)

    def _slot(self, life: Life, position: int) -> Slot:
        index, offset = divmod(position, self._config.block_size)
        return life.row[index], offset
