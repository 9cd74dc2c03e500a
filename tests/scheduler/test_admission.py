"""Who gets in, what it takes from the cache, and who has to wait."""

import pytest


def test_equal_prompts_admitted_together_share_blocks(make_bench, count_tokens):
    bench = make_bench()
    prompt = list(range(40))
    first, second = bench.add("a", prompt), bench.add("b", prompt)
    batch = bench.scheduler.schedule()
    assert count_tokens(batch) == {"a": 40, "b": 8}
    assert [item.new_block_ids for item in batch.scheduled] == [[1, 2, 3], [1, 2, 4]]
    assert [item.start for item in batch.scheduled] == [0, 32]
    assert [block.ref_count for block in second.table.blocks] == [2, 2, 1]
    assert (batch.prefix_query_tokens, batch.prefix_hit_tokens) == (80, 32)
    updates = bench.finish_step(batch)
    assert [update.num_cached_tokens for update in updates] == [0, 32]
    assert (first.num_cached_tokens, second.num_cached_tokens) == (0, 32)


def test_only_what_a_step_computes_is_shared_in_it(make_bench, count_tokens):
    bench = make_bench(max_num_batched_tokens=40, long_prefill_token_threshold=20)
    bench.add("a", list(range(64)))
    bench.add("b", list(range(64)))
    batch = bench.step()
    assert [(item.start, len(item.token_ids)) for item in batch.scheduled] == [(0, 20), (16, 20)]


def test_full_hit_recomputes_the_last_block(make_bench):
    bench = make_bench()
    prompt = list(range(48))
    bench.add("a", prompt)
    bench.step()
    bench.add("b", prompt)
    item = bench.step().scheduled[1]
    assert (item.start, item.token_ids) == (32, prompt[32:])
    assert item.new_block_ids == [1, 2, 5]  # a's first output has block 4
    assert item.samples


def test_prefix_outlives_its_request(make_bench):
    bench = make_bench()
    prompt = list(range(48))
    bench.add("a", prompt, max_tokens=1)
    bench.step()
    bench.assert_idle()
    assert bench.pool.free_block_ids == [4, 5, 6, 7, 8, 9, 10, 3, 2, 1]
    bench.add("b", [*prompt, 5], max_tokens=1)
    batch = bench.step()
    assert batch.scheduled[0].new_block_ids == [1, 2, 3, 4]
    assert batch.prefix_hit_tokens == 48


def test_output_is_reused_by_a_follow_up(make_bench):
    bench = make_bench()
    request = bench.add("a", 24, max_tokens=10)
    while bench.scheduler.has_work:
        bench.step()
    bench.add("b", [*request.token_ids, 1, 2])
    assert bench.step().prefix_hit_tokens == 32


def test_tenants_with_different_salts_never_share(make_bench, count_tokens):
    bench = make_bench()
    prompt = list(range(20))
    bench.add("a", prompt, hash_extra=b"one")
    bench.add("b", prompt, hash_extra=b"two")
    bench.add("c", prompt, hash_extra=b"one")
    assert count_tokens(bench.step()) == {"a": 20, "b": 20, "c": 4}


def test_a_request_may_fill_the_cache_without_reading_it(make_bench, count_tokens):
    bench = make_bench()
    prompt = list(range(20))
    bench.add("a", prompt, use_prefix_cache=False)
    bench.add("b", prompt, use_prefix_cache=False)
    bench.add("c", prompt)
    batch = bench.step()
    assert count_tokens(batch) == {"a": 20, "b": 20, "c": 4}
    assert (batch.prefix_query_tokens, batch.prefix_hit_tokens) == (20, 16)


def test_without_prefix_caching_nothing_is_hashed_or_shared(make_bench, count_tokens):
    bench = make_bench(enable_prefix_caching=False)
    prompt = list(range(40))
    first = bench.add("a", prompt, max_tokens=1)
    bench.add("b", prompt, max_tokens=1)
    batch = bench.step()
    assert count_tokens(batch) == {"a": 40, "b": 40}
    assert (batch.prefix_query_tokens, bench.pool.num_cached) == (0, 0)
    assert first.table.hashes == []
    bench.assert_idle()


def test_whole_prompt_must_fit_and_nobody_passes_the_head(make_bench):
    bench = make_bench(max_num_batched_tokens=64)
    bench.add("a", 96, max_tokens=8)  # 6 of 10 blocks
    bench.add("b", 65, max_tokens=2)  # 5 blocks: one too many
    bench.add("c", 4, max_tokens=2)
    assert bench.step().admitted == ("a",)
    assert bench.step().admitted == ()  # tokens are left, and c would fit
    assert (bench.pool.num_free, bench.scheduler.num_waiting) == (4, 2)
    assert bench.pool.free_block_ids == [7, 8, 9, 10]
    bench.scheduler.cancel("a")
    assert bench.step().admitted == ("b",)


def test_refused_request_leaves_its_prefix_untouched(make_bench):
    bench = make_bench()
    prompt = list(range(32))
    bench.add("a", prompt, max_tokens=1)
    bench.step()
    bench.add("b", 112, max_tokens=20)  # 7 of the 8 blocks that never held content
    bench.step()
    assert bench.pool.free_block_ids == [10, 2, 1]
    bench.add("c", [*prompt, *range(500, 525)], max_tokens=2)  # 2 cached, 2 new; 3 are free
    batch = bench.step()  # b's first output takes block 10
    assert batch.admitted == ()
    assert bench.pool.free_block_ids == [2, 1]
    assert (bench.pool.num_cached, bench.pool.num_evictions) == (2, 0)


def test_free_hits_count_as_needed(make_bench):
    bench = make_bench(num_blocks=6)
    prompt = list(range(32))
    bench.add("a", prompt, max_tokens=1)
    bench.step()
    bench.add("b", 33, max_tokens=2)
    bench.step()
    assert bench.pool.free_block_ids == [2, 1]
    bench.add("c", [*prompt, 9], max_tokens=2)  # hits 2, needs 1 more: the hits are not spare
    assert bench.step().admitted == ()
    assert bench.step().admitted == ("c",)


def test_used_hits_cost_nothing(make_bench):
    bench = make_bench(num_blocks=6)
    prompt = list(range(64))
    bench.add("a", [*prompt, 1], max_tokens=4)
    bench.add("b", [*prompt, 2], max_tokens=4)
    assert bench.step().admitted == ("a",)
    assert bench.pool.num_free == 0
    for _ in range(3):
        bench.step()
    assert bench.step().admitted == ("b",)

    bench = make_bench(num_blocks=7)
    bench.add("a", [*prompt, 1], max_tokens=4)
    bench.add("b", [*prompt, 2], max_tokens=4)
    assert bench.step().admitted == ("a", "b")


def test_a_refused_request_gets_in_once_its_prefix_is_computed(make_bench):
    """Its need shrinks while no block becomes free: the refusal must be looked at again."""
    bench = make_bench(max_num_batched_tokens=16, max_num_seqs=4)
    prompt = list(range(64))
    bench.add("a", [*prompt, 1], max_tokens=30)
    bench.add("b", [*prompt, 2], max_tokens=2)
    admitted = [batch.admitted for batch in bench.run(6)]
    # b needs 5 blocks, 5 are free, but a leaves tokens for nobody until its prompt is done.
    assert admitted == [("a",), (), (), (), ("b",), ()]

    bench = make_bench(num_blocks=8, max_num_batched_tokens=24, long_prefill_token_threshold=16)
    bench.add("a", [*prompt, 1], max_tokens=30)
    bench.add("b", [*prompt, 2], max_tokens=2)
    # 5 of 7 blocks are a's. With n blocks of a's prefix in the cache, b needs 5 - n.
    assert [batch.admitted for batch in bench.run(4)] == [("a",), (), ("b",), ()]


def test_watermark_is_kept_while_others_run(make_bench):
    bench = make_bench(watermark_blocks=2)
    bench.add("a", 64, max_tokens=2)
    bench.add("b", 80, max_tokens=2)
    assert bench.step().admitted == ("a",)  # 6 free, b needs 5 and 2 stay
    bench.step()
    assert bench.step().admitted == ("b",)


def test_watermark_is_ignored_when_nothing_runs(make_bench):
    bench = make_bench(watermark_blocks=10)
    bench.add("a", 150, max_tokens=2)
    assert bench.step().admitted == ("a",)


def test_queries_are_counted_once_though_admission_is_retried(make_bench):
    bench = make_bench()
    bench.add("a", 120, max_tokens=3)
    bench.add("b", 80, max_tokens=2)
    queries = [batch.prefix_query_tokens for batch in bench.run(5)]
    assert queries == [120, 0, 0, 80, 0]
    bench.assert_idle()


@pytest.mark.parametrize(
    ("prompt", "options", "message"),
    [
        (0, {}, "prompt is empty"),
        (5, {"max_tokens": 0}, "max_tokens must be at least 1, got 0"),
        (20, {"max_total_tokens": 20}, "20 tokens and leaves no room.*may have 20"),
        (20, {"max_total_tokens": 5000}, "max_total_tokens=5000 is beyond the context of 4096"),
        (5, {"max_tokens": 2, "output_token_ids": [1, 2]}, "brings 2 output tokens"),
        (160, {"max_tokens": 2}, "may need 11 KV cache blocks of 16 tokens, and there are 10"),
    ],
)
def test_what_could_never_finish_is_refused_at_the_door(make_bench, prompt, options, message):
    bench = make_bench()
    with pytest.raises(ValueError, match=message):
        bench.add("a", prompt, **options)
    bench.assert_idle()


def test_the_largest_request_that_can_finish_is_taken(make_bench):
    bench = make_bench()
    bench.add("a", 160, max_tokens=1)
    bench.add("b", 100, max_tokens=61)
    while bench.scheduler.has_work:
        assert bench.step().preempted == ()
    bench.assert_idle()


def test_an_id_in_use_is_refused(make_bench):
    bench = make_bench()
    bench.add("a", 4, max_tokens=1)
    with pytest.raises(ValueError, match="'a' is in use"):
        bench.add("a", 4)
    bench.step()
    bench.add("a", 4)  # the first one is done and forgotten
