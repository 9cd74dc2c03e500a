"""Paged KV memory: blocks, who holds them, and what they contain.

Here live the block pool, the prefix index, block tables and the layout of the KV tensors. This face
is pure Python and must stay so: nothing imported here may import torch. The tensors themselves are
in `kv_tensors`, which the rooms that compute import by name.
"""

from .block import Block
from .block_hash import BlockHash, hash_block
from .block_lives import BlockLife, BlockLives
from .block_pool import BlockPool, NoFreeBlocksError
from .block_table import BlockTable
from .cell_log import CellLog, cells_of_runs
from .kv_layout import KVLayout
from .prefix_index import PrefixIndex

__all__ = [
    "Block",
    "BlockHash",
    "BlockLife",
    "BlockLives",
    "BlockPool",
    "BlockTable",
    "CellLog",
    "KVLayout",
    "NoFreeBlocksError",
    "PrefixIndex",
    "cells_of_runs",
    "hash_block",
]
