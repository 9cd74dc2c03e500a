"""Storing new keys and values in their slots."""

from torch import Tensor


def write_kv(
    key: Tensor, value: Tensor, key_cache: Tensor, value_cache: Tensor, slots: Tensor
) -> None:
    """Store token t's key and value in slot `slots[t]` = block * block_size + offset, in place.

    key and value [tokens, kv_heads, head_dim]; caches [blocks, kv_heads, block_size, head_dim];
    slots [tokens] int64. Padding tokens point into block 0.
    """
    block_size = key_cache.shape[2]
    blocks, offsets = slots // block_size, slots % block_size
    key_cache[blocks, :, offsets] = key
    value_cache[blocks, :, offsets] = value
