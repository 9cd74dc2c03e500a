"""Somebody who looks at the blocks now and then, and puts together what is told."""

from octavo.paged_cache import BlockPool, cells_of_runs
from octavo.scheduler import BlockState, BlockWatch, Scheduler


class Viewer:
    """`cells` as the runs tell them, by block id less one; -1 before the first look."""

    def __init__(self, pool: BlockPool, scheduler: Scheduler, version: int = 1) -> None:
        self._scheduler = scheduler
        self.watch = BlockWatch(pool, version)
        self.version = version - 1
        self.cells = [-1] * pool.num_usable
        self.runs: list[int] = []
        self.is_full = False

    def look(self) -> list[tuple[int, BlockState]]:
        """(owner, state) of blocks 1, 2, …"""
        self.watch.look(self._scheduler.running)
        self.is_full, self.runs = self.watch.runs_since(self.version)
        assert not self.is_full or sum(self.runs[1::3]) == len(self.cells)
        for index, value in cells_of_runs(self.runs, len(self.cells)):
            self.cells[index] = value
        self.version = self.watch.version
        return [(value // 4, BlockState(value % 4)) for value in self.cells]
