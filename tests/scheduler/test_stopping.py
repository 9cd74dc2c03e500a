"""When requests end: by their tokens, by their limits, by their client, or by a fault."""

import gc
import weakref

import pytest

from octavo.scheduler import Finish, FinishReason, RequestStatus, RequestUpdate, StopRule

EOS, STOP_ID, WORD = 0, 1, 2
RULE = StopRule(
    max_tokens=5,
    max_total_tokens=100,
    min_tokens=3,
    eos_token_ids=frozenset({EOS}),
    stop_token_ids=frozenset({STOP_ID, EOS}),
)


@pytest.mark.parametrize(
    ("token", "num_output", "num_tokens", "finish"),
    [
        (WORD, 3, 10, None),
        (EOS, 2, 10, None),  # below min_tokens nothing stops …
        (STOP_ID, 2, 10, None),
        (WORD, 2, 100, Finish(FinishReason.LENGTH)),  # … but the context has an end
        (EOS, 3, 10, Finish(FinishReason.STOP)),
        (STOP_ID, 3, 10, Finish(FinishReason.STOP, STOP_ID)),
        (WORD, 5, 10, Finish(FinishReason.LENGTH)),
        (WORD, 4, 100, Finish(FinishReason.LENGTH)),
        (EOS, 5, 100, Finish(FinishReason.STOP)),  # stopping by token goes before the limits
        (STOP_ID, 5, 100, Finish(FinishReason.STOP, STOP_ID)),
    ],
)
def test_stop_order(token, num_output, num_tokens, finish):
    assert RULE.check(token, num_output, num_tokens) == finish


def last_update(bench, token):
    bench.next_token = token
    (update,) = bench.finish_step(bench.scheduler.schedule())
    return update


def test_end_of_sequence_stops_without_a_stop_reason(make_bench):
    bench = make_bench()
    bench.add("a", 4, eos=[EOS], stop=[STOP_ID])
    assert last_update(bench, WORD) == RequestUpdate("a", [WORD], None, None, 0)
    assert last_update(bench, EOS) == RequestUpdate("a", [EOS], FinishReason.STOP, None, 0)
    bench.assert_idle()


def test_stop_id_is_named(make_bench):
    bench = make_bench()
    bench.add("a", 4, eos=[EOS], stop=[STOP_ID])
    assert last_update(bench, STOP_ID) == RequestUpdate(
        "a", [STOP_ID], FinishReason.STOP, STOP_ID, 0
    )
    bench.assert_idle()


def test_max_tokens_and_context_length_end_with_length(make_bench):
    for limits in ({"max_tokens": 2}, {"max_tokens": 50, "max_total_tokens": 6}):
        bench = make_bench()
        bench.add("a", 4, **limits)
        assert last_update(bench, WORD).finish_reason is None
        assert last_update(bench, WORD).finish_reason is FinishReason.LENGTH
        bench.assert_idle()


def test_min_tokens_holds_the_end_back(make_bench):
    bench = make_bench()
    bench.add("a", 4, eos=[EOS], min_tokens=3)
    reasons = [last_update(bench, EOS).finish_reason for _ in range(3)]
    assert reasons == [None, None, FinishReason.STOP]


def test_a_prompt_chunk_that_does_not_reach_the_end_samples_nothing(make_bench):
    bench = make_bench(max_num_batched_tokens=8)
    bench.add("a", 10)
    batch = bench.scheduler.schedule()
    assert bench.scheduler.update(batch, {}) == []
    batch = bench.scheduler.schedule()
    assert [update.token_ids for update in bench.scheduler.update(batch, {"a": 5})] == [[5]]


def test_finished_blocks_are_free_at_once(make_bench):
    bench = make_bench()
    bench.add("a", 40, max_tokens=1)
    bench.step()
    assert bench.pool.free_block_ids == [3, 4, 5, 6, 7, 8, 9, 10, 2, 1]


def test_cancel_of_an_unknown_or_finished_request_says_no(make_bench):
    bench = make_bench()
    bench.add("a", 4, max_tokens=1)
    bench.step()
    assert bench.scheduler.cancel("a") is False
    assert bench.scheduler.cancel("b") is False


def test_cancel_while_waiting(make_bench):
    bench = make_bench()
    bench.add("a", 4)
    bench.add("b", 4)
    assert bench.scheduler.cancel("a") is True
    assert bench.scheduler.num_waiting == 1
    assert bench.step().admitted == ("b",)


def test_cancel_amid_the_prompt(make_bench):
    bench = make_bench(max_num_batched_tokens=20)
    bench.add("a", 64)
    bench.step()
    assert bench.scheduler.cancel("a") is True
    bench.assert_idle()
    assert bench.pool.num_cached == 1  # the block that was computed


def test_cancel_while_decoding(make_bench):
    bench = make_bench()
    bench.add("a", 30)
    bench.run(5)
    assert bench.scheduler.cancel("a") is True
    bench.assert_idle()


def test_cancel_while_preempted(make_bench):
    bench = make_bench()
    bench.add("a", 80, max_tokens=10)
    bench.add("b", 80, max_tokens=10)
    assert bench.run(2)[1].preempted == ("b",)
    assert bench.scheduler.cancel("b") is True
    assert (bench.scheduler.num_running, bench.scheduler.num_waiting) == (1, 0)
    bench.scheduler.cancel("a")
    bench.assert_idle()


def test_cancel_while_the_batch_is_in_flight(make_bench):
    bench = make_bench()
    bench.add("a", 20)
    bench.add("b", 20)
    batch = bench.scheduler.schedule()
    assert bench.scheduler.cancel("a") is True
    assert [update.request_id for update in bench.finish_step(batch)] == ["b"]
    assert bench.pool.num_used == 2


def test_a_new_request_with_the_id_of_one_in_flight_gets_none_of_its_tokens(make_bench):
    bench = make_bench()
    bench.add("a", 20)
    batch = bench.scheduler.schedule()
    bench.scheduler.cancel("a")
    second = bench.add("a", 30)
    assert bench.finish_step(batch) == []
    assert second.num_tokens == 30
    (item,) = bench.step().scheduled
    assert (item.first_block, item.new_block_ids) == (0, [1, 2])


def test_many_cancels_leave_nothing_in_the_queue(make_bench):
    bench = make_bench(max_num_seqs=1)
    bench.add("first", 4)
    bench.step()
    for round_ in range(20):
        names = [f"{round_}-{index}" for index in range(100)]
        for name in names:
            bench.add(name, 4)
        for name in names:
            bench.scheduler.cancel(name)
    assert bench.scheduler.num_waiting == 0
    assert len(bench.scheduler._waiting._heap) == 0


def test_ended_requests_are_not_kept_alive(make_bench):
    bench = make_bench()
    bench.add("runs", 80, max_tokens=20)
    ends = {
        "finished": weakref.ref(bench.add("finished", 4, max_tokens=1)),
        "cancelled": weakref.ref(bench.add("cancelled", 4)),
        "failed": weakref.ref(bench.add("failed", 4)),
        "waiting": weakref.ref(bench.add("waiting", 90)),
    }
    bench.step()
    bench.scheduler.cancel("cancelled")
    bench.scheduler.cancel("waiting")
    bench.scheduler.fail(bench.scheduler.schedule())
    gc.collect()
    assert {name: ref() for name, ref in ends.items()} == dict.fromkeys(ends)
    bench.assert_idle()


def test_a_failed_step_ends_its_requests_and_unlearns_their_blocks(make_bench):
    bench = make_bench(max_num_batched_tokens=40, max_num_seqs=2)
    prompt = list(range(64))
    failed = bench.add("a", prompt)
    bench.step()
    bench.add("b", [*prompt[:16], 5, 6], max_tokens=2)
    waiting = bench.add("c", prompt)
    batch = bench.scheduler.schedule()
    assert [item.request_id for item in batch.scheduled] == ["a", "b"]
    assert bench.scheduler.fail(batch) == ["a", "b"]

    assert failed.status is RequestStatus.FINISHED
    assert bench.pool.num_used == 0
    # Step one filled blocks 1 and 2; what the failed step was to fill is not content.
    assert [bench.pool.lookup(h) is not None for h in failed.table.hashes] == [
        True,
        True,
        False,
        False,
    ]
    bench.pool.check_integrity()

    assert waiting.status is RequestStatus.WAITING
    batch = bench.step()
    assert (batch.admitted, batch.prefix_hit_tokens) == (("c",), 32)
    bench.scheduler.cancel("c")
    bench.assert_idle()


def test_fail_also_unlearns_what_a_cancelled_request_was_to_write(make_bench):
    bench = make_bench()
    prompt = list(range(40))
    bench.add("a", prompt)
    batch = bench.scheduler.schedule()
    bench.scheduler.cancel("a")
    # The step may still write its three blocks, and two of them can be found already.
    assert (bench.pool.num_used, bench.pool.num_cached) == (3, 0)
    assert bench.scheduler.fail(batch) == []
    assert bench.pool.num_cached == 0
    bench.assert_idle()
    bench.add("b", prompt)
    assert bench.step().prefix_hit_tokens == 0


def test_fail_spares_older_copies_of_the_same_content(make_bench):
    bench = make_bench()
    prompt = list(range(32))
    bench.add("a", prompt, max_tokens=1)
    bench.step()
    bench.add("b", prompt)
    bench.scheduler.fail(bench.scheduler.schedule())
    bench.add("c", [*prompt, 1])
    assert bench.step().prefix_hit_tokens == 32
