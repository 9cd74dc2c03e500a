import pytest

from octavo.paged_cache import Block, BlockPool, BlockTable, NoFreeBlocksError, hash_block

BLOCK_SIZE = 16


def hold(pool: BlockPool, tokens: list[int], extra: bytes = b"") -> BlockTable:
    """Give a sequence its blocks as admission does, and register those that it fills."""
    table = BlockTable(extra)
    table.hash_full_blocks(tokens, BLOCK_SIZE)
    prefix = pool.longest_prefix(table.hashes, (len(tokens) - 1) // BLOCK_SIZE)
    pool.touch(prefix)
    table.append(prefix)
    table.append(pool.allocate(-(-len(tokens) // BLOCK_SIZE) - len(prefix)))
    for index in range(len(prefix), len(table.hashes)):
        pool.register(table.blocks[index], table.hashes[index])
    return table


def refs(table: BlockTable) -> list[int]:
    return [block.ref_count for block in table.blocks]


def is_hashed(table: BlockTable) -> list[bool]:
    return [block.block_hash is not None for block in table.blocks]


@pytest.fixture
def pool():
    pool = BlockPool(11)
    yield pool
    pool.check_integrity()


def test_null_block_is_set_aside_and_the_rest_is_free_in_order(pool):
    assert pool.free_block_ids == [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]
    assert (pool.num_usable, pool.num_free, pool.num_used, pool.num_cached) == (10, 10, 0, 0)
    assert pool.usage == 0.0


def test_a_pool_needs_a_block_beside_the_null_block():
    with pytest.raises(ValueError, match="at least 2"):
        BlockPool(1)


def test_worked_numbers_of_a_shared_prompt(pool):
    common = list(range(48))
    first = hold(pool, common + [100] * 7)
    assert first.block_ids() == [1, 2, 3, 4]
    assert is_hashed(first) == [True, True, True, False]

    second = hold(pool, common + [200] * 5)
    assert second.block_ids() == [1, 2, 3, 5]
    assert refs(second) == [2, 2, 2, 1]
    assert pool.num_free == 5
    assert pool.usage == 0.5

    pool.release(first.clear())
    pool.release(second.clear())
    assert pool.free_block_ids == [5, 4, 6, 7, 8, 9, 10, 3, 2, 1]
    assert (pool.num_cached, pool.num_used) == (3, 0)


def test_worked_numbers_of_eviction(pool):
    first = hold(pool, list(range(87)))
    second = hold(pool, list(range(1000, 1048)))
    assert first.block_ids() == [1, 2, 3, 4, 5, 6]
    assert second.block_ids() == [7, 8, 9]
    pool.release(first.clear())
    pool.release(second.clear())
    assert pool.free_block_ids == [6, 10, 5, 4, 3, 2, 1, 9, 8, 7]

    third = hold(pool, [*range(32), 500, 501, 502])
    assert third.block_ids() == [1, 2, 6]
    assert pool.num_free == 7
    assert pool.free_block_ids == [10, 5, 4, 3, 9, 8, 7]
    assert pool.num_evictions == 0


def test_freed_tail_is_evicted_before_head(pool):
    table = hold(pool, list(range(64)))
    hashes = list(table.hashes)
    pool.release(table.clear())
    pool.allocate(8)  # six that never held content, then two cached ones
    assert [pool.lookup(h) is not None for h in hashes] == [True, True, False, False]
    assert (pool.num_evictions, pool.num_cached) == (2, 2)


def test_partial_block_is_never_shared(pool):
    first = hold(pool, list(range(20)))
    second = hold(pool, list(range(20)))
    assert first.block_ids() == [1, 2]
    assert second.block_ids() == [1, 3]


def test_full_hit_recomputes_the_last_block_and_leaves_a_duplicate(pool):
    first = hold(pool, list(range(48)))
    second = hold(pool, list(range(48)))
    assert second.block_ids() == [1, 2, 4]
    last = first.hashes[2]
    assert [b.block_hash for b in (first.blocks[2], second.blocks[2])] == [last, last]
    assert pool.lookup(last) is first.blocks[2]

    pool.release(first.clear())
    pool.allocate(7)  # the last of these takes block 3, which alone is cached and free
    assert pool.num_evictions == 1
    assert pool.lookup(last) is second.blocks[2]


def test_other_salt_misses_and_same_salt_hits(pool):
    tokens = list(range(20))
    assert hold(pool, tokens, b"a").block_ids() == [1, 2]
    assert hold(pool, tokens, b"b").block_ids() == [3, 4]
    assert hold(pool, tokens, b"a").block_ids() == [1, 5]
    assert hold(pool, tokens).block_ids() == [6, 7]


def test_hit_is_not_evicted_to_serve_its_own_request(pool):
    pool.release(hold(pool, list(range(32))).clear())
    others = pool.allocate(8)
    assert pool.free_block_ids == [2, 1]
    pool.release(others[:1])
    table = hold(pool, [*range(32), 7])
    assert table.block_ids() == [1, 2, 3]


def test_failed_allocation_changes_nothing(pool):
    pool.release(hold(pool, list(range(40))).clear())
    pool.allocate(4)
    before = pool.free_block_ids, pool.num_cached, pool.num_evictions
    with pytest.raises(NoFreeBlocksError, match="7 blocks asked for, 6 are free"):
        pool.allocate(7)
    assert (pool.free_block_ids, pool.num_cached, pool.num_evictions) == before
    assert pool.allocate(0) == []


def test_reused_block_forgets_its_content(pool):
    table = hold(pool, list(range(160)))
    assert pool.num_free == 0
    pool.release(table.clear())
    (block,) = pool.allocate(1)
    assert (block.block_id, block.block_hash, block.ref_count) == (10, None, 1)
    assert pool.lookup(table.hashes[9]) is None


def test_touch_takes_a_cached_block_out_of_the_eviction_list(pool):
    table = hold(pool, list(range(16)))
    (block,) = table.blocks
    pool.release(table.clear())
    assert (pool.free_block_ids[-1], pool.num_cached) == (1, 1)
    pool.touch([block])
    pool.touch([block])
    assert (block.ref_count, pool.num_cached, pool.num_free) == (2, 0, 9)
    pool.release([block])
    assert (block.ref_count, pool.num_free) == (1, 9)
    pool.release([block])
    assert pool.num_free == 10


def test_drop_takes_a_registration_back(pool):
    table = hold(pool, list(range(48)))
    used, freed = table.blocks[0], table.blocks[2]
    pool.drop(used)
    assert pool.lookup(table.hashes[0]) is None
    pool.release(table.clear())
    assert pool.free_block_ids == [1, 4, 5, 6, 7, 8, 9, 10, 3, 2]
    pool.drop(freed)
    assert pool.free_block_ids == [3, 1, 4, 5, 6, 7, 8, 9, 10, 2]
    assert pool.num_cached == 1
    pool.drop(freed)  # nothing is left to take back
    assert pool.free_block_ids == [3, 1, 4, 5, 6, 7, 8, 9, 10, 2]


def test_reset_forgets_all_content_and_leaves_held_blocks_to_their_holder(pool):
    first, second = hold(pool, list(range(48))), hold(pool, [7, *range(47)])
    pool.release(first.clear())
    assert pool.num_cached == 3
    assert pool.reset_prefix_cache() == 6
    assert (pool.num_cached, pool.num_used, pool.num_evictions) == (0, 3, 0)
    assert all(pool.lookup(h) is None for h in (*first.hashes, *second.hashes))
    pool.check_integrity()
    pool.release(second.clear())
    assert (pool.num_cached, pool.num_used) == (0, 0)
    assert pool.reset_prefix_cache() == 0
    pool.check_integrity()


def test_reset_keeps_the_order_in_which_blocks_are_taken(pool):
    table = hold(pool, list(range(48)))
    pool.release(table.clear())
    pool.reset_prefix_cache()
    assert pool.free_block_ids == [4, 5, 6, 7, 8, 9, 10, 3, 2, 1]
    assert hold(pool, list(range(48))).block_ids() == [4, 5, 6]


def test_misuse_is_caught(pool):
    (block,) = pool.allocate(1)
    with pytest.raises(AssertionError, match="not shareable"):
        pool.touch([block])
    pool.register(block, hash_block(None, [1]))
    with pytest.raises(AssertionError, match="registered twice"):
        pool.register(block, hash_block(None, [2]))
    pool.release([block])
    with pytest.raises(AssertionError, match="released but not held"):
        pool.release([block])
    with pytest.raises(AssertionError, match="registered but not held"):
        pool.register(Block(3), hash_block(None, [2]))


@pytest.mark.parametrize("breakage", ["count", "hash", "list"])
def test_integrity_check_finds_books_that_disagree(breakage):
    pool = BlockPool(4)
    (block,) = pool.allocate(1)
    pool.check_integrity()
    if breakage == "count":
        block.ref_count = 0
    elif breakage == "hash":
        block.block_hash = hash_block(None, [1])
    else:
        pool._empty.append(block)
    with pytest.raises(AssertionError):
        pool.check_integrity()
