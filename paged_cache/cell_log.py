"""A row of numbered cells that remembers which of them changed since when."""

from collections.abc import Iterable, Sequence
from itertools import groupby


class CellLog:
    """Values of cells 0 … n-1, so kept that a reader can catch up from any point.

    The memory is bounded by the cells: of each only its latest change is kept. Reading costs as
    much as has changed since, not as there is; only `runs_since(None)` tells all.
    """

    def __init__(self, num_cells: int, version: int = 0) -> None:
        self.cells = [0] * num_cells
        self.version = version
        self._changed_at: dict[int, int] = {}  # latest last

    def write(self, changes: Iterable[tuple[int, int]]) -> bool:
        """Give cells (index, value) new values, as one version. False if nothing changed."""
        cells, changed_at, version = self.cells, self._changed_at, self.version + 1
        for index, value in changes:
            if cells[index] != value:
                cells[index] = value
                changed_at.pop(index, None)
                changed_at[index] = version
        if not changed_at or next(reversed(changed_at.values())) != version:
            return False
        self.version = version
        return True

    def runs_since(self, version: int | None) -> list[int]:
        """What changed after `version` (None: all there is) as `[skip, count, value, …]`.

        `skip` cells are as they were, then `count` cells have `value`, and so on.
        """
        if version is None:
            runs: list[int] = []
            for value, cells in groupby(self.cells):
                runs += (0, len(list(cells)), value)
            return runs
        changed = []
        for index in reversed(self._changed_at):
            if self._changed_at[index] <= version:
                break
            changed.append(index)
        changed.sort()
        return run_lengths(changed, self.cells)


def run_lengths(indices: Iterable[int], cells: Sequence[int]) -> list[int]:
    """Runs `[skip, count, value, …]` over ascending cell indices."""
    runs: list[int] = []
    end = 0  # of the runs so far
    for index in indices:
        value = cells[index]
        if runs and index == end and runs[-1] == value:
            runs[-2] += 1
        else:
            runs += (index - end, 1, value)
        end = index + 1
    return runs


def cells_of_runs(runs: Sequence[int], num_cells: int) -> Iterable[tuple[int, int]]:
    """The cells (index, value) that runs tell of. Raises ValueError if they do not fit."""
    if len(runs) % 3 or any(number < 0 for number in runs):
        raise ValueError(f"malformed runs of {len(runs)} numbers")
    index = 0
    for skip, count, value in zip(runs[::3], runs[1::3], runs[2::3], strict=True):
        index += skip
        if index + count > num_cells:
            raise ValueError(f"runs reach beyond cell {num_cells - 1}")
        yield from ((cell, value) for cell in range(index, index + count))
        index += count
