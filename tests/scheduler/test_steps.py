"""How a step is put together: budget, chunks, order, and what the runner is told."""

import pytest

from octavo.scheduler import PENDING, Batch, ScheduledRequest


def test_one_request_goes_from_prompt_to_output(make_bench):
    bench = make_bench()
    request = bench.add("a", list(range(20)), max_tokens=3)
    assert bench.scheduler.has_work
    assert bench.step() == Batch(
        scheduled=(ScheduledRequest("a", list(range(20)), 0, 0, [1, 2], samples=True),),
        preempted=(),
        admitted=("a",),
        num_tokens=20,
        num_prompt_tokens=20,
        prefix_query_tokens=20,
        prefix_hit_tokens=0,
        recomputed_tokens=0,
    )
    assert bench.step() == Batch(
        scheduled=(ScheduledRequest("a", [7], 20, 2, [], samples=True),),
        preempted=(),
        admitted=(),
        num_tokens=1,
        num_prompt_tokens=0,
        prefix_query_tokens=0,
        prefix_hit_tokens=0,
        recomputed_tokens=0,
    )
    bench.step()
    assert request.token_ids == [*range(20), 7, 7, 7]
    bench.assert_idle()


def test_a_block_is_taken_when_the_last_one_is_full(make_bench):
    bench = make_bench()
    request = bench.add("a", 30, max_tokens=8)
    rows = [(item.start, item.first_block, item.new_block_ids) for item in _items(bench, 6)]
    assert rows == [
        (0, 0, [1, 2]),
        (30, 2, []),
        (31, 2, []),
        (32, 2, [3]),
        (33, 3, []),
        (34, 3, []),
    ]
    assert [block.block_hash for block in request.table.blocks] == [*request.table.hashes, None]


def _items(bench, num_steps):
    return [batch.scheduled[0] for batch in bench.run(num_steps)]


def test_ten_requests_are_scheduled_at_once(make_bench, count_tokens):
    bench = make_bench()
    for index in range(10):
        bench.add(str(index), 10)
    batch = bench.step()
    assert count_tokens(batch) == {str(index): 10 for index in range(10)}
    assert (bench.scheduler.num_running, bench.scheduler.num_waiting) == (10, 0)


def test_max_num_seqs_bounds_the_running(make_bench):
    bench = make_bench(max_num_seqs=2)
    for name in "abc":
        bench.add(name, 4, max_tokens=2)
    assert bench.step().admitted == ("a", "b")
    assert (bench.scheduler.num_running, bench.scheduler.num_waiting) == (2, 1)
    assert bench.step().admitted == ()
    assert bench.step().admitted == ("c",)


def test_long_prompts_share_a_step_under_the_threshold(make_bench, count_tokens):
    bench = make_bench(num_blocks=200, long_prefill_token_threshold=400)
    for name in "abc":
        bench.add(name, 800)
    first, second, third = bench.run(3)
    assert count_tokens(first) == {"a": 400, "b": 400, "c": 224}
    assert [item.samples for item in first.scheduled] == [False, False, False]
    assert count_tokens(second) == {"a": 400, "b": 400, "c": 224}
    assert [item.samples for item in second.scheduled] == [True, True, False]
    assert count_tokens(third) == {"a": 1, "b": 1, "c": 352}
    assert [item.samples for item in third.scheduled] == [True, True, True]


def test_a_request_alone_ignores_the_threshold(make_bench, count_tokens):
    bench = make_bench(num_blocks=200, long_prefill_token_threshold=400)
    bench.add("a", 800)
    assert count_tokens(bench.step()) == {"a": 800}


def test_threshold_counts_when_another_waits_or_runs(make_bench, count_tokens):
    bench = make_bench(num_blocks=200, long_prefill_token_threshold=400, max_num_seqs=1)
    bench.add("a", 800)
    bench.add("b", 8)  # cannot run beside a, but waits
    assert count_tokens(bench.step()) == {"a": 400}
    bench.scheduler.cancel("b")
    assert count_tokens(bench.step()) == {"a": 400}


def test_decodes_go_before_an_older_prompt(make_bench, count_tokens):
    bench = make_bench(num_blocks=40, max_num_batched_tokens=32, max_num_seqs=4)
    bench.add("long", 100)
    bench.step()
    bench.add("short", 2)
    assert count_tokens(bench.step()) == {"long": 32}
    assert count_tokens(bench.step()) == {"long": 32}
    third = bench.step()
    assert count_tokens(third) == {"long": 4, "short": 2}
    assert [item.request_id for item in third.scheduled] == ["long", "short"]

    bench.add("other", 100)
    batch = bench.step()
    assert list(count_tokens(batch).items()) == [("long", 1), ("short", 1), ("other", 30)]


def test_no_more_run_than_a_step_has_tokens_so_a_prompt_is_never_starved(make_bench, count_tokens):
    bench = make_bench(max_num_batched_tokens=4, max_num_seqs=100, long_prefill_token_threshold=1)
    bench.add("long", 12)
    for name in "abcd":
        bench.add(name, 1)
    for batch in bench.run(12):
        assert count_tokens(batch) == {"long": 1, "a": 1, "b": 1, "c": 1}


def test_chunks_continue_where_the_last_one_ended(make_bench):
    bench = make_bench(max_num_batched_tokens=24)
    bench.add("a", list(range(60)), max_tokens=2)
    items = _items(bench, 4)
    assert [item.token_ids for item in items] == [
        list(range(24)),
        list(range(24, 48)),
        list(range(48, 60)),
        [7],
    ]
    assert [item.start for item in items] == [0, 24, 48, 60]
    assert [item.new_block_ids for item in items] == [[1, 2, 3, 4], [], [], []]
    assert [item.samples for item in items] == [False, False, True, True]
    bench.assert_idle()


def test_nothing_to_do_is_an_empty_batch(make_bench):
    batch = make_bench().step()
    assert (batch.scheduled, batch.num_tokens) == ((), 0)


def test_two_batches_may_be_in_flight_and_land_in_order(make_bench):
    bench = make_bench()
    bench.add("a", 4)
    first = bench.scheduler.schedule()
    second = bench.scheduler.schedule()
    assert second.scheduled[0].token_ids == [PENDING]
    assert not bench.scheduler.can_run_ahead
    with pytest.raises(AssertionError):
        bench.scheduler.schedule()
    with pytest.raises(AssertionError, match="in order"):
        bench.finish_step(second)
    with pytest.raises(AssertionError, match="builds upon it"):
        bench.scheduler.fail(first)
    bench.finish_step(first)
    with pytest.raises(AssertionError, match="in order"):
        bench.finish_step(first)
    assert [update.token_ids for update in bench.finish_step(second)] == [[7]]


def test_no_step_ahead_needs_a_preemption(make_bench):
    bench = make_bench(num_blocks=3)
    for name in "ab":
        bench.add(name, 15, max_tokens=4)
    bench.step()
    batch = bench.scheduler.schedule()  # fills the last slots of both blocks
    assert bench.pool.num_free == 0
    assert not bench.scheduler.can_run_ahead
    bench.finish_step(batch)
    assert bench.scheduler.schedule().preempted == ("b",)


def test_who_reads_its_output_is_not_scheduled_ahead(make_bench):
    bench = make_bench()
    bench.add("a", 4, reads_output=True)
    batch = bench.scheduler.schedule()
    assert not bench.scheduler.can_run_ahead
    bench.finish_step(batch)
    assert bench.scheduler.can_run_ahead


def test_a_block_with_a_pending_token_can_be_found_once_the_token_is_known(make_bench):
    bench = make_bench()
    bench.add("a", 15, max_tokens=9)
    first = bench.scheduler.schedule()
    second = bench.scheduler.schedule()  # computes the sixteenth token, which is pending
    block = bench.scheduler._running[0].table.blocks[0]
    assert block.block_hash is None
    bench.finish_step(first)
    assert block.block_hash is not None
    assert bench.scheduler.fail(second) == ["a"]
    assert block.block_hash is None
    bench.assert_idle()
