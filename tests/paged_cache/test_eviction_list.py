from octavo.paged_cache import Block
from octavo.paged_cache.eviction_list import EvictionList


def make_list(num_blocks: int) -> tuple[EvictionList, list[Block]]:
    blocks = [Block(block_id) for block_id in range(num_blocks + 1)]
    cached = EvictionList(anchor=blocks[0])
    for block in blocks[1:]:
        cached.append(block)
    return cached, blocks


def ids(cached: EvictionList) -> list[int]:
    return [block.block_id for block in cached]


def test_starts_empty_and_keeps_the_order_of_appending():
    empty, _ = make_list(0)
    assert (len(empty), ids(empty)) == (0, [])
    cached, _ = make_list(3)
    assert (len(cached), ids(cached)) == (3, [1, 2, 3])


def test_pop_takes_from_the_front():
    cached, _ = make_list(3)
    assert [cached.pop().block_id for _ in range(3)] == [1, 2, 3]
    assert (len(cached), ids(cached)) == (0, [])


def test_a_block_that_comes_back_goes_to_the_end():
    cached, blocks = make_list(3)
    cached.remove(blocks[1])
    cached.append(blocks[1])
    assert ids(cached) == [2, 3, 1]


def test_remove_unlinks_first_middle_last_and_only_block():
    for victim, rest in ((1, [2, 3]), (2, [1, 3]), (3, [1, 2])):
        cached, blocks = make_list(3)
        cached.remove(blocks[victim])
        assert ids(cached) == rest
        assert blocks[victim].prev is None
        assert blocks[victim].next is None
    cached, blocks = make_list(1)
    cached.remove(blocks[1])
    assert ids(cached) == []
