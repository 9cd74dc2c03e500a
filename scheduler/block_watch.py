"""What every block is doing, for somebody who watches: kept up to date by changes alone."""

from collections.abc import Iterable
from enum import IntEnum

from ..paged_cache import Block, BlockPool, CellLog
from .request import Request

NUM_STATES = 4
_USED, _SHARED = 2, 3  # as in BlockState, whose members are slow to read
NUM_OWNERS = 2**28  # numbers start again after so many: a cell's value fits 30 bits


class BlockState(IntEnum):
    """What a block is to the pool."""

    FREE = 0
    CACHED = 1  # free, but its content can still be found
    USED = 2  # one table holds it
    SHARED = 3  # several do

    @classmethod
    def of(cls, block: Block) -> "BlockState":
        """The present state of a block."""
        return cls(_state(block))


def _state(block: Block) -> int:
    if block.ref_count > 0:
        return _SHARED if block.ref_count > 1 else _USED
    return 0 if block.block_hash is None else 1


class _Holder:
    """A request that holds blocks, as it was last looked at."""

    def __init__(self, request: Request, number: int) -> None:
        self.request = request
        self.number = number
        self.blocks = request.table.blocks  # a table that is emptied and filled again has another
        self.num_seen = 0

    @property
    def is_current(self) -> bool:
        return self.request.table.blocks is self.blocks


class BlockWatch:
    """The cells of a block map: cell i is block i + 1 with `owner * 4 + state`.

    Each request that holds blocks has a number, its owner's; a block's owner is the first of those
    that hold it, 0 for a block that nobody holds. The pool notes which blocks changed hands while
    there is a watch, and `look` costs as much as changed since the last one.
    """

    def __init__(self, pool: BlockPool, version: int) -> None:
        self._pool = pool
        self._changed = pool.watch()
        self._changed.update(range(1, pool.num_usable + 1))
        self._log = CellLog(pool.num_usable, version)
        self._first_version = version
        self._holders: dict[str, _Holder] = {}
        # Block id: who holds it, the first one first (dicts as sets that keep their order).
        self._owners: dict[int, dict[_Holder, None]] = {}
        self._num_owners = 0
        self.num_shared = 0  # blocks that several tables hold

    @property
    def version(self) -> int:
        """Of the cells as they were when last looked at."""
        return self._log.version

    def stop(self) -> None:
        """Let the pool note nothing any more."""
        self._pool.unwatch()

    def look(self, running: Iterable[Request]) -> None:
        """Bring the cells up to date, given the requests that hold blocks."""
        now_running = {request.request_id: request for request in running}
        for request_id, holder in list(self._holders.items()):
            if not holder.is_current or now_running.get(request_id) is not holder.request:
                self._let_go(holder)
                del self._holders[request_id]
        for request_id, request in now_running.items():
            held = self._holders.get(request_id)
            if held is None:
                self._num_owners = self._num_owners % (NUM_OWNERS - 1) + 1
                held = self._holders[request_id] = _Holder(request, self._num_owners)
            for block in held.blocks[held.num_seen :]:
                self._owners.setdefault(block.block_id, {})[held] = None
            held.num_seen = len(held.blocks)
        cells, changes = self._log.cells, []
        for block_id in self._changed:
            block = self._pool.block(block_id)
            value = _state(block)
            if value >= _USED:
                value += self._owner(block_id) * NUM_STATES
            if cells[block_id - 1] != value:
                was_shared = cells[block_id - 1] % NUM_STATES == _SHARED
                self.num_shared += (value % NUM_STATES == _SHARED) - was_shared
                changes.append((block_id - 1, value))
        self._changed.clear()
        self._log.write(changes)

    def runs_since(self, version: int) -> tuple[bool, list[int]]:
        """Whether these are all cells, and the runs that changed after `version`."""
        is_full = not self._first_version <= version <= self._log.version
        return is_full, self._log.runs_since(None if is_full else version)

    def owner_number(self, request_id: str) -> int:
        """The number of a request that holds blocks; 0 if it holds none."""
        holder = self._holders.get(request_id)
        return 0 if holder is None else holder.number

    def holders_of(self, block_id: int) -> list[Request]:
        """The requests in whose tables a block was when last looked at."""
        return [holder.request for holder in self._owners.get(block_id, ())]

    def _owner(self, block_id: int) -> int:
        """The number of who holds a block first."""
        holders = self._owners.get(block_id)
        # Blocks of a request that ended are held until the steps in flight have landed.
        return next(iter(holders)).number if holders else 0

    def _let_go(self, holder: _Holder) -> None:
        for block in holder.blocks[: holder.num_seen]:
            holders = self._owners[block.block_id]
            del holders[holder]
            self._changed.add(block.block_id)  # its owner may be another now
            if not holders:
                del self._owners[block.block_id]
