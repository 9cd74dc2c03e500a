"""What happens when blocks run out, and in what order requests give way and come back."""

from octavo.scheduler import Batch, RequestStatus, ScheduledRequest


def test_worked_numbers_of_a_preemption(make_bench):
    bench = make_bench()
    first, second = bench.add("a", 80, max_tokens=4), bench.add("b", 80, max_tokens=4)
    batch = bench.scheduler.schedule()
    assert [item.new_block_ids for item in batch.scheduled] == [[1, 2, 3, 4, 5], [6, 7, 8, 9, 10]]
    assert [update.token_ids for update in bench.finish_step(batch)] == [[7], [7]]
    assert bench.pool.free_block_ids == []

    # a's 81st token needs a block: b gives way, and the tail of its prompt is lost.
    assert bench.step() == Batch(
        scheduled=(ScheduledRequest("a", [7], 80, 5, [10], samples=True),),
        preempted=("b",),
        admitted=(),
        num_tokens=1,
        num_prompt_tokens=0,
        prefix_query_tokens=0,
        prefix_hit_tokens=0,
        recomputed_tokens=0,
    )
    assert bench.pool.free_block_ids == [9, 8, 7, 6]
    assert second.status is RequestStatus.PREEMPTED
    assert second.table.blocks == []
    assert (bench.scheduler.num_running, bench.scheduler.num_waiting) == (1, 1)
    assert bench.scheduler.num_preemptions == second.num_preemptions == 1

    bench.run(2)
    assert first.status is RequestStatus.FINISHED
    assert bench.pool.free_block_ids == [10, 9, 8, 7, 6, 5, 4, 3, 2, 1]

    # b comes back with its output so far; 4 of its 5 prompt blocks are still cached.
    assert bench.step() == Batch(
        scheduled=(
            ScheduledRequest(
                "b", [*second.token_ids[64:80], 7], 64, 0, [6, 7, 8, 9, 10, 5], samples=True
            ),
        ),
        preempted=(),
        admitted=("b",),
        num_tokens=17,
        num_prompt_tokens=0,
        prefix_query_tokens=0,
        prefix_hit_tokens=0,
        recomputed_tokens=16,
    )
    assert bench.scheduler.num_recomputed_tokens == 16
    assert second.num_cached_tokens == 0  # what it found when it first came
    bench.run(2)
    assert second.num_output_tokens == 4
    bench.assert_idle()


def test_the_youngest_gives_way_and_returns_before_later_arrivals(make_bench):
    bench = make_bench(num_blocks=7)
    for name in "abc":
        bench.add(name, 32, max_tokens=3)
    bench.add("d", 4, max_tokens=1)
    assert bench.step().admitted == ("a", "b", "c")
    second = bench.step()
    assert second.preempted == ("c",)
    assert [item.request_id for item in second.scheduled] == ["a", "b"]
    order = [name for batch in bench.run(4) for name in batch.admitted]
    assert order == ["c", "d"]
    bench.assert_idle()


def test_a_request_may_have_to_give_way_itself(make_bench):
    bench = make_bench(num_blocks=5)
    bench.add("a", 30, max_tokens=20)
    bench.add("b", 32, max_tokens=2)
    bench.step()
    batch = bench.step()  # a has room for its token, b has none and is the youngest
    assert [item.request_id for item in batch.scheduled] == ["a"]
    assert batch.preempted == ("b",)


def test_a_half_computed_prompt_gives_way_to_an_older_decode(make_bench, count_tokens):
    bench = make_bench(num_blocks=9, max_num_batched_tokens=40)
    first = bench.add("a", 32, max_tokens=3)
    second = bench.add("b", 96, max_tokens=2)
    assert count_tokens(bench.step()) == {"a": 32, "b": 8}
    assert bench.pool.num_free == 0
    batch = bench.step()
    assert count_tokens(batch) == {"a": 1}
    assert batch.preempted == ("b",)
    assert bench.pool.free_block_ids == [4, 5, 6, 7, 8]  # b filled none, and a took block 3
    assert first.table.block_ids() == [1, 2, 3]
    bench.step()
    batch = bench.step()
    assert count_tokens(batch) == {"b": 40}
    assert (batch.recomputed_tokens, batch.num_prompt_tokens) == (8, 32)
    assert (second.num_lost_tokens, second.num_computed_tokens) == (8, 40)


def test_nobody_is_admitted_in_a_step_that_preempts(make_bench):
    bench = make_bench(num_blocks=5)
    bench.add("a", 32, max_tokens=20)
    bench.add("b", 32, max_tokens=2)
    bench.step()
    bench.add("c", 4, max_tokens=1)
    batch = bench.step()
    assert (batch.preempted, batch.admitted) == (("b",), ())
    assert bench.pool.num_free == 1  # c would have fit


def test_priority_is_served_first_and_arrival_breaks_ties(make_bench):
    bench = make_bench(max_num_seqs=1, policy="priority")
    for name, priority in (("a", 2), ("b", 1), ("c", 0), ("d", 1), ("e", 0)):
        bench.add(name, 4, priority=priority, max_tokens=1)
    assert [batch.admitted[0] for batch in bench.run(5)] == ["c", "e", "b", "d", "a"]


def test_arrival_time_goes_before_the_order_of_adding(make_bench):
    """An engine that was restarted gets its requests again in any order."""
    bench = make_bench(max_num_seqs=1, policy="priority")
    for name, arrival_time in (("late", 9.0), ("early", 1.0), ("middle", 5.0)):
        bench.add(name, 4, arrival_time=arrival_time, max_tokens=1)
    assert [batch.admitted[0] for batch in bench.run(3)] == ["early", "middle", "late"]


def test_fcfs_takes_all_priorities_as_equal(make_bench):
    bench = make_bench(max_num_seqs=1)
    for name, priority in (("a", 2), ("b", 1), ("c", 0)):
        bench.add(name, 4, priority=priority, max_tokens=1)
    assert [batch.admitted[0] for batch in bench.run(3)] == ["a", "b", "c"]


def test_victim_has_the_lowest_priority_though_it_came_first(make_bench):
    bench = make_bench(num_blocks=5, policy="priority")
    bench.add("low", 32, priority=5, max_tokens=3)
    bench.add("high", 32, priority=1, max_tokens=3)
    assert bench.step().admitted == ("high", "low")
    assert bench.step().preempted == ("low",)


def test_among_equals_the_victim_is_the_youngest(make_bench):
    bench = make_bench(num_blocks=7, policy="priority")
    for name in ("a", "b", "c"):
        bench.add(name, 32, priority=3, max_tokens=3)
    bench.step()
    assert bench.step().preempted == ("c",)


def test_a_higher_priority_arrival_waits_for_room_but_passes_the_queue(make_bench):
    bench = make_bench(num_blocks=5, policy="priority")
    bench.add("running", 60, priority=9, max_tokens=3)
    bench.step()
    bench.add("low", 32, priority=9, max_tokens=1)
    bench.step()
    bench.add("high", 32, priority=0, max_tokens=1)
    assert bench.step().preempted == ()  # room is taken from nobody for a prompt
    assert bench.step().admitted == ("high", "low")


def test_nobody_is_preempted_while_there_is_room(make_bench):
    bench = make_bench(num_blocks=30, policy="priority")
    for index, name in enumerate("abcd"):
        bench.add(name, 33, priority=index, max_tokens=40)
    while bench.scheduler.has_work:
        assert bench.step().preempted == ()
    assert bench.scheduler.num_preemptions == 0


def test_a_crowd_in_a_small_pool_ends_with_the_same_output(make_bench):
    def run(num_blocks: int):
        bench = make_bench(num_blocks=num_blocks, block_size=4)
        requests = [bench.add(name, 9, max_tokens=20) for name in "abcdefgh"]
        while bench.scheduler.has_work:
            assert bench.step().num_tokens > 0
        bench.assert_idle()
        return [request.token_ids for request in requests], bench.scheduler.num_preemptions

    roomy, num_roomy_preemptions = run(100)
    tight, num_tight_preemptions = run(9)
    assert roomy == tight
    assert (num_roomy_preemptions, num_tight_preemptions) == (0, 7)


def test_a_request_that_brings_its_output_goes_on_after_it(make_bench):
    bench = make_bench(num_blocks=20)
    request = bench.add("a", 20, max_tokens=30, output_token_ids=range(100, 112))
    assert (request.num_prompt_tokens, request.num_output_tokens) == (20, 12)
    batch = bench.step()
    (item,) = batch.scheduled
    assert (item.start, len(item.token_ids), item.samples) == (0, 32, True)
    assert item.token_ids[20:] == list(range(100, 112))
    # As one that was preempted: its prompt counts once, and its tokens ask for no prefix.
    assert (batch.recomputed_tokens, batch.num_prompt_tokens) == (31, 0)
    assert (batch.prefix_query_tokens, request.num_cached_tokens) == (0, 0)
    bench.run(17)
    assert not bench.scheduler.has_work
    assert request.num_output_tokens == 30
    bench.assert_idle()
