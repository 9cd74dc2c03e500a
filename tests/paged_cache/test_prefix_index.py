from octavo.paged_cache import Block, PrefixIndex, hash_block

ONE = hash_block(None, [1])
TWO = hash_block(None, [2])


def indexed(*blocks: Block) -> PrefixIndex:
    index = PrefixIndex()
    for block in blocks:
        index.add(block)
    return index


def test_finds_a_block_by_its_content():
    block = Block(1, block_hash=ONE)
    index = indexed(block)
    assert index.find(ONE) is block
    assert index.find(TWO) is None
    assert (len(index), list(index)) == (1, [block])


def test_of_several_blocks_with_one_content_the_oldest_is_found():
    blocks = [Block(i, block_hash=ONE) for i in (7, 3, 5)]
    index = indexed(*blocks)
    assert len(index) == 3
    for position, block in enumerate(blocks):
        assert index.find(ONE) is block
        index.remove(block)
        assert len(index) == 2 - position
    assert index.find(ONE) is None


def test_removing_a_duplicate_leaves_the_others():
    first, second, third = (Block(i, block_hash=ONE) for i in (1, 2, 3))
    other = Block(4, block_hash=TWO)
    index = indexed(first, second, third, other)
    index.remove(second)
    assert index.find(ONE) is first
    index.remove(first)
    assert index.find(ONE) is third
    index.remove(third)
    assert list(index) == [other]


def test_clear_forgets_duplicates_too():
    index = indexed(*(Block(i, block_hash=ONE) for i in (1, 2)))
    index.clear()
    assert (len(index), index.find(ONE)) == (0, None)
