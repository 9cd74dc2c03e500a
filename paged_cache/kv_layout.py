"""How keys and values lie in memory, and how many bytes they take. Pure arithmetic, no torch."""

from dataclasses import dataclass

_BYTES_PER_VALUE = {"float32": 4, "bfloat16": 2, "float16": 2, "float8_e4m3fn": 1}


@dataclass(frozen=True)
class KVLayout:
    """The shape of the KV cache of one model, but for the number of blocks.

    The whole cache is one tensor
    `[num_layers, 2 (keys, values), num_blocks, num_kv_heads, block_size, head_dim]`, so that the
    keys of one head in one block lie together. Raises ValueError if a size is not positive or the
    dtype is not one of float32, bfloat16, float16 and float8_e4m3fn.
    """

    num_layers: int
    num_kv_heads: int
    head_dim: int
    block_size: int
    dtype: str

    def __post_init__(self) -> None:
        for name in ("num_layers", "num_kv_heads", "head_dim", "block_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.dtype not in _BYTES_PER_VALUE:
            known = ", ".join(_BYTES_PER_VALUE)
            raise ValueError(f"KV cache dtype must be one of {known}, got {self.dtype!r}")

    @property
    def bytes_per_token(self) -> int:
        """Bytes that one token's keys and values take over all layers."""
        values = self.num_layers * 2 * self.num_kv_heads * self.head_dim
        return values * _BYTES_PER_VALUE[self.dtype]

    @property
    def bytes_per_block(self) -> int:
        """Bytes of one block over all layers."""
        return self.bytes_per_token * self.block_size

    def shape(self, num_blocks: int) -> tuple[int, int, int, int, int, int]:
        """Shape of the cache tensor for so many blocks (the null block counts as one)."""
        return (
            self.num_layers,
            2,
            num_blocks,
            self.num_kv_heads,
            self.block_size,
            self.head_dim,
        )
