"""What a watcher sees of the blocks; `test_state_machine` holds it to the truth in any sequence."""

from octavo.scheduler import BlockState, BlockWatch

from .block_viewer import Viewer
from .conftest import Bench

FREE, CACHED, USED, SHARED = BlockState


def test_blocks_fill_are_shared_cached_and_evicted():
    bench = Bench(num_blocks=8)
    viewer = Viewer(bench.pool, bench.scheduler)
    assert viewer.look() == [(0, FREE)] * 7

    prompt = list(range(40))  # two full blocks and a half
    bench.add("a", prompt, max_tokens=4)
    bench.step()
    assert viewer.look() == [(1, USED)] * 3 + [(0, FREE)] * 4

    bench.add("b", [*prompt[:32], 900, 901], max_tokens=4)
    bench.step()
    assert viewer.look() == [(1, SHARED)] * 2 + [(1, USED), (2, USED)] + [(0, FREE)] * 3
    assert viewer.watch.num_shared == 2
    assert viewer.runs == [0, 2, 7, 1, 1, 10]
    assert viewer.watch.owner_number("b") == 2
    assert [one.request_id for one in viewer.watch.holders_of(1)] == ["a", "b"]

    bench.scheduler.cancel("a")  # "b" has what they shared for itself now
    assert viewer.look() == [(2, USED)] * 2 + [(0, FREE), (2, USED)] + [(0, FREE)] * 3
    assert viewer.watch.num_shared == 0

    bench.scheduler.cancel("b")
    assert viewer.look() == [(0, CACHED)] * 2 + [(0, FREE)] * 5
    assert viewer.watch.owner_number("b") == 0

    bench.add("c", 100, max_tokens=4)  # seven blocks: it takes the cached ones too
    bench.step()
    assert viewer.look() == [(3, USED)] * 7

    bench.scheduler.cancel("c")
    bench.pool.reset_prefix_cache()
    assert viewer.look() == [(0, FREE)] * 7


def test_a_request_that_came_and_went_between_two_looks_leaves_only_its_cache():
    bench = Bench(num_blocks=8)
    viewer = Viewer(bench.pool, bench.scheduler)
    viewer.look()
    bench.add("a", 16, max_tokens=1)
    bench.step()
    assert viewer.look() == [(0, CACHED)] + [(0, FREE)] * 6
    viewer.look()
    assert viewer.runs == []


def test_an_unknown_version_is_told_everything():
    bench = Bench(num_blocks=4)
    watch = BlockWatch(bench.pool, version=1000)
    watch.look([])
    assert watch.runs_since(0) == (True, [0, 3, 0])
    assert watch.runs_since(10**9) == (True, [0, 3, 0])
    assert watch.runs_since(watch.version) == (False, [])


def test_a_pool_that_nobody_watches_notes_nothing():
    bench = Bench(num_blocks=8)
    watch = BlockWatch(bench.pool, version=1)
    watch.look([])
    bench.add("a", 16, max_tokens=4)
    bench.step()
    assert watch._changed == {1}
    watch.stop()
    assert bench.pool._changed is None
    bench.step()
    bench.scheduler.cancel("a")
    assert watch._changed == {1}


def test_a_second_watch_starts_from_what_there_is():
    bench = Bench(num_blocks=8)
    bench.add("a", 40, max_tokens=4)
    bench.step()
    viewer = Viewer(bench.pool, bench.scheduler)
    assert viewer.look() == [(1, USED)] * 3 + [(0, FREE)] * 4
