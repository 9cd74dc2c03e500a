from octavo.paged_cache import Block
from octavo.paged_cache.free_list import FreeList


def make_list(num_blocks: int) -> tuple[FreeList, list[Block]]:
    blocks = [Block(block_id) for block_id in range(num_blocks + 1)]
    free = FreeList(anchor=blocks[0])
    for block in blocks[1:]:
        free.append(block)
    return free, blocks


def ids(free: FreeList) -> list[int]:
    return [block.block_id for block in free]


def test_starts_empty_and_keeps_the_order_of_appending():
    empty, _ = make_list(0)
    assert (len(empty), ids(empty)) == (0, [])
    free, _ = make_list(3)
    assert (len(free), ids(free)) == (3, [1, 2, 3])


def test_pop_takes_from_the_front():
    free, _ = make_list(3)
    assert [free.pop().block_id for _ in range(3)] == [1, 2, 3]
    assert (len(free), ids(free)) == (0, [])


def test_prepend_goes_to_the_front_and_append_to_the_end():
    free, blocks = make_list(3)
    free.remove(blocks[2])
    free.prepend(blocks[2])
    assert ids(free) == [2, 1, 3]
    free.remove(blocks[1])
    free.append(blocks[1])
    assert ids(free) == [2, 3, 1]


def test_remove_unlinks_first_middle_last_and_only_block():
    for victim, rest in ((1, [2, 3]), (2, [1, 3]), (3, [1, 2])):
        free, blocks = make_list(3)
        free.remove(blocks[victim])
        assert ids(free) == rest
        assert blocks[victim].prev is None
        assert blocks[victim].next is None
    free, blocks = make_list(1)
    free.remove(blocks[1])
    assert ids(free) == []
