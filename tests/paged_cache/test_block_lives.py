"""How long sampled blocks live, by a clock that the test turns."""

import pytest

from octavo.paged_cache import BlockLife, BlockLives, BlockPool, hash_block


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_life_goes_from_being_taken_to_losing_the_content() -> None:
    clock = Clock()
    lives = BlockLives(1.0, clock)
    pool = BlockPool(2, lives=lives)
    content = hash_block(None, (1, 2))
    [block] = pool.allocate(1)
    pool.register(block, content)
    pool.release([block])
    for seconds in (3.0, 4.0):
        clock.now += seconds
        pool.touch([block])
        pool.release([block])
    clock.now += 5.0
    assert lives.collect() == ()
    pool.allocate(1)
    assert lives.collect() == (BlockLife(lifetime_s=12.0, idle_s=5.0, reuse_gaps_s=(3.0, 4.0)),)
    assert lives.collect() == ()


def test_only_the_last_gaps_are_kept() -> None:
    clock = Clock()
    lives = BlockLives(1.0, clock)
    pool = BlockPool(2, lives=lives)
    [block] = pool.allocate(1)
    pool.register(block, hash_block(None, (1, 2)))
    for gap in range(1, 10):
        clock.now += gap
        pool.touch([block])
    pool.release([block] * 10)
    pool.allocate(1)
    [life] = lives.collect()
    assert life.reuse_gaps_s == (6.0, 7.0, 8.0, 9.0)


def test_a_block_that_comes_back_empty_ends_no_life() -> None:
    lives = BlockLives(1.0)
    pool = BlockPool(3, lives=lives)
    for _ in range(5):
        blocks = pool.allocate(2)
        pool.release(blocks)
    assert lives.collect() == ()


@pytest.mark.parametrize(("sample", "least", "most"), [(0.25, 350, 650), (1.0, 2000, 2000)])
def test_a_share_of_the_blocks_is_followed(sample: float, least: int, most: int) -> None:
    lives = BlockLives(sample)
    pool = BlockPool(2, lives=lives)
    for number in range(2001):
        [block] = pool.allocate(1)
        pool.register(block, hash_block(None, (number,)))
        pool.release([block])
    assert least <= len(lives.collect()) <= most
