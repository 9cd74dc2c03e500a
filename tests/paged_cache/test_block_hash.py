import hashlib

import pytest

from octavo.paged_cache import BlockTable, hash_block


def test_hash_is_sha256_over_a_fixed_encoding():
    tokens = b"".join(token.to_bytes(8, "little") for token in (1, 2, 300))
    assert (
        hash_block(None, [1, 2, 300], b"m")
        == hashlib.sha256(b"\x00" + (1).to_bytes(8, "little") + b"m" + tokens).digest()
    )


def test_equal_content_has_equal_hash_whatever_the_sequence_type():
    assert hash_block(None, [1, 2]) == hash_block(None, (1, 2))


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ((None, [1, 2], b""), (None, [2, 1], b"")),
        ((None, [1, 2], b""), (None, [1, 2], b"salt")),
        ((None, [1, 2], b""), (None, [1, 2, 0], b"")),
        ((None, [1], b""), (b"\x00" * 32, [1], b"")),
        ((b"\x01" * 32, [1], b""), (b"\x02" * 32, [1], b"")),
        # The same bytes, once as extra and once as a token.
        ((None, [], (7).to_bytes(8, "little")), (None, [7], b"")),
        ((None, [256], b""), (None, [1, 0], b"")),
    ],
)
def test_different_content_has_different_hash(first, second):
    assert hash_block(*first) != hash_block(*second)


def test_hashes_chain_over_full_blocks_only():
    table = BlockTable()
    table.hash_full_blocks(list(range(11)), block_size=4)
    first = hash_block(None, [0, 1, 2, 3])
    assert table.hashes == [first, hash_block(first, [4, 5, 6, 7])]


def test_salt_enters_the_first_block_and_chains_on():
    plain, salted = BlockTable(), BlockTable(b"salt")
    for table in (plain, salted):
        table.hash_full_blocks(list(range(8)), block_size=4)
    first = hash_block(None, [0, 1, 2, 3], b"salt")
    assert salted.hashes == [first, hash_block(first, [4, 5, 6, 7])]
    assert not set(plain.hashes) & set(salted.hashes)


def test_hashes_grow_with_the_tokens_and_are_never_made_twice():
    tokens = list(range(12))
    table = BlockTable(b"m")
    table.hash_full_blocks(tokens[:5], block_size=4)
    kept = table.hashes[0]
    table.hash_full_blocks(tokens[:7], block_size=4)
    assert len(table.hashes) == 1
    table.hash_full_blocks(tokens, block_size=4)
    assert table.hashes[0] is kept

    at_once = BlockTable(b"m")
    at_once.hash_full_blocks(tokens, block_size=4)
    assert table.hashes == at_once.hashes
