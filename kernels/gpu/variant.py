"""A kernel as it is compiled: types, constants and launch options, for ahead-of-time checks.

Each kernel family lists its variants (`variants()`), from the same tables that its launch wrapper
reads, so that what is checked without a GPU is what runs on one.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

TRITON_TYPES = {
    "float32": "fp32",
    "bfloat16": "bf16",
    "float16": "fp16",
    "float8_e4m3fn": "fp8e4nv",
    "int8": "i8",
    "uint8": "u8",
    "int32": "i32",
    "int64": "i64",
}


@dataclass(frozen=True)
class Variant:
    """One compilation of `kernel` (a Triton JIT function).

    `signature` gives the Triton type of each run-time argument by name (`"*bf16"`, `"i32"`);
    `constants` the `tl.constexpr` ones. Pointers, and the integers in `aligned`, are taken to be
    multiples of 16, as the launcher finds them at run time. `may_spill` is False for kernels that
    must keep everything in registers. `archs` are those it is made for (80 for sm_80).
    """

    name: str
    kernel: Any
    signature: Mapping[str, str]
    constants: Mapping[str, Any]
    num_warps: int = 4
    num_stages: int = 2
    aligned: frozenset[str] = field(default_factory=frozenset)
    may_spill: bool = True
    archs: frozenset[int] = frozenset({80, 90})
