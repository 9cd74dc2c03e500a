"""Readers that look now and then see what there is, whatever happened between their looks."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from octavo.paged_cache import CellLog, cells_of_runs

NUM_CELLS = 12
CHANGES = st.lists(st.tuples(st.integers(0, NUM_CELLS - 1), st.integers(0, 3)), max_size=6)


def test_runs_join_neighbours_of_equal_value():
    log = CellLog(8)
    assert log.write([(1, 5), (3, 5), (2, 5), (7, 9)])
    assert log.runs_since(0) == [1, 3, 5, 3, 1, 9]
    assert log.runs_since(None) == [0, 1, 0, 0, 3, 5, 0, 3, 0, 0, 1, 9]
    assert log.runs_since(log.version) == []


def test_writing_what_is_there_is_no_change():
    log = CellLog(4)
    assert log.write([(0, 1)])
    version = log.version
    assert not log.write([(0, 1), (2, 0)])
    assert log.version == version


def test_a_cell_that_changed_and_changed_back_is_told_once():
    log = CellLog(4)
    log.write([(2, 7)])
    log.write([(2, 0)])
    assert log.runs_since(0) == [2, 1, 0]


@given(st.lists(st.tuples(CHANGES, st.sets(st.integers(0, 2)))))
def test_any_reader_at_any_time_catches_up(history):
    log = CellLog(NUM_CELLS, version=100)
    truth = [0] * NUM_CELLS
    seen: list[tuple[int | None, list[int]]] = [(None, [0] * NUM_CELLS) for _ in range(3)]
    for changes, readers in history:
        log.write(changes)
        for index, value in changes:
            truth[index] = value
        assert log.cells == truth
        for reader in readers:
            version, cells = seen[reader]
            for index, value in cells_of_runs(log.runs_since(version), NUM_CELLS):
                cells[index] = value
            assert cells == truth
            seen[reader] = (log.version, cells)
    assert len(log._changed_at) <= NUM_CELLS


@pytest.mark.parametrize("runs", [[1], [0, 1], [-1, 1, 0], [0, 13, 1], [12, 1, 1], [0, -1, 2]])
def test_runs_that_do_not_fit_are_refused(runs):
    with pytest.raises(ValueError, match=r"malformed|beyond"):
        list(cells_of_runs(runs, NUM_CELLS))
