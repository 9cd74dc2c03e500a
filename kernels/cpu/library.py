"""The compiled kernels, and the structures they read, as in native/octavo.h.

The package build compiles them if it finds a C compiler (pyproject.toml); else `open_kernels` gives
None and a CPU runs plain torch. The library needs an OpenMP runtime and shares torch's, whose
soname is the same; so torch must be imported first.
"""

import ctypes
import importlib.util
import logging
from collections.abc import Callable
from ctypes import POINTER, Structure, c_char_p, c_float, c_int32, c_int64, c_uint32, c_void_p
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch  # noqa: F401 - its OpenMP runtime must be there before the library's

logger = logging.getLogger(__name__)

PANEL = 16
VARIANTS = ("avx512", "avx2", "generic")  # best first

FLOAT32, BFLOAT16, INT4, INT8 = range(4)  # kinds of weights; the first two, of a KV cache too


class LinearStruct(Structure):
    """linear_t."""

    _fields_ = [
        ("weights", c_void_p),
        ("scales", c_void_p),
        ("minimums", c_void_p),
        ("bias", c_void_p),
        ("outputs", c_int64),
        ("inputs", c_int64),
        ("kind", c_int32),
    ]


class PlanStruct(Structure):
    """plan_t."""

    _fields_ = [
        ("spans", c_void_p),
        ("tables", c_void_p),
        ("num_spans", c_int64),
        ("table_stride", c_int64),
    ]


class CacheStruct(Structure):
    """cache_t."""

    _fields_ = [
        ("keys", c_void_p),
        ("values", c_void_p),
        ("block_size", c_int64),
        ("kind", c_int32),
    ]


class LayerStruct(Structure):
    """layer_t."""

    _fields_ = [
        ("qkv", LinearStruct),
        ("output", LinearStruct),
        ("gate_up", LinearStruct),
        ("down", LinearStruct),
        ("input_norm", c_void_p),
        ("post_norm", c_void_p),
        ("q_norm", c_void_p),
        ("k_norm", c_void_p),
        ("cache", CacheStruct),
        ("window", c_int64),
    ]


class EmbeddingStruct(Structure):
    """embedding_t."""

    _fields_ = [
        ("weights", c_void_p),
        ("scales", c_void_p),
        ("minimums", c_void_p),
        ("kind", c_int32),
    ]


class ModelStruct(Structure):
    """model_t."""

    _fields_ = [
        ("embedding", EmbeddingStruct),
        ("layers", POINTER(LayerStruct)),
        ("norm", c_void_p),
        ("cos", c_void_p),
        ("sin", c_void_p),
        ("num_layers", c_int64),
        ("hidden", c_int64),
        ("intermediate", c_int64),
        ("num_heads", c_int64),
        ("num_kv_heads", c_int64),
        ("head_dim", c_int64),
        ("eps", c_float),
        ("scale", c_float),
    ]


class StepStruct(Structure):
    """step_t."""

    _fields_ = [
        ("token_ids", c_void_p),
        ("positions", c_void_p),
        ("slots", c_void_p),
        ("rows", c_void_p),
        ("states", c_void_p),
        ("workspace", c_void_p),
        ("num_tokens", c_int64),
        ("num_rows", c_int64),
        ("plan", PlanStruct),
    ]


class DrawStruct(Structure):
    """draw_t."""

    _fields_ = [
        ("inverse_temperature", c_float),
        ("min_p", c_float),
        ("top_p", c_float),
        ("top_k", c_int64),
        ("key_low", c_uint32),
        ("key_high", c_uint32),
    ]


class KernelsStruct(Structure):
    """kernels_t: the functions of one variant. Their arguments are documented in C."""

    _fields_ = [
        ("name", c_char_p),
        (
            "linear",
            ctypes.CFUNCTYPE(None, c_void_p, POINTER(LinearStruct), c_int64, c_void_p, c_void_p),
        ),
        (
            "add_rms_norm",
            ctypes.CFUNCTYPE(
                None, c_void_p, c_void_p, c_void_p, c_float, c_int64, c_int64, c_void_p
            ),
        ),
        ("silu_mul", ctypes.CFUNCTYPE(None, c_void_p, c_int64, c_int64, c_void_p)),
        (
            "rotate_and_write",
            ctypes.CFUNCTYPE(
                None,
                *(c_void_p, c_void_p, c_void_p, c_void_p, c_void_p, POINTER(LayerStruct)),
                *(c_int64, c_int64, c_int64, c_int64, c_float),
            ),
        ),
        (
            "attend",
            ctypes.CFUNCTYPE(
                None,
                *(c_void_p, c_int64, POINTER(PlanStruct), POINTER(CacheStruct), c_int64),
                *(c_int64, c_int64, c_int64, c_float, c_void_p, c_void_p),
            ),
        ),
        ("forward", ctypes.CFUNCTYPE(None, POINTER(ModelStruct), POINTER(StepStruct))),
        (
            "draw",
            ctypes.CFUNCTYPE(None, c_void_p, POINTER(DrawStruct), c_int64, c_int64, c_void_p),
        ),
    ]


class Library:
    """The opened library: packing, sizes, and the kernels of each variant."""

    def __init__(self, path: Path) -> None:
        library = ctypes.CDLL(str(path))
        self._kernels = library.octavo_kernels
        self._kernels.argtypes, self._kernels.restype = [c_char_p], POINTER(KernelsStruct)
        self.pack_float = _procedure(library.octavo_pack_float, 1, 3, 1)
        self.pack_int4 = _procedure(library.octavo_pack_int4, 1, 2, 1)
        self.pack_int8 = _procedure(library.octavo_pack_int8, 1, 2, 1)
        self.pack_scales = _procedure(library.octavo_pack_scales, 1, 2, 1)
        self.forbid = _procedure(library.octavo_forbid, 2, 3, 1)
        self.linear_bytes = library.octavo_linear_bytes
        self.linear_bytes.argtypes, self.linear_bytes.restype = [c_int64] * 2, c_int64
        self.attention_bytes = library.octavo_attention_bytes
        self.attention_bytes.argtypes, self.attention_bytes.restype = [c_int64] * 5, c_int64
        self.workspace_bytes = library.octavo_workspace_bytes
        self.workspace_bytes.argtypes = [POINTER(ModelStruct), *[c_int64] * 3]
        self.workspace_bytes.restype = c_int64

    def kernels(self, variant: str) -> KernelsStruct | None:
        """A variant's kernels, None if this processor cannot run them."""
        found = self._kernels(variant.encode())
        return found.contents if found else None


def _procedure(function: Any, inputs: int, sizes: int, outputs: int) -> Callable[..., None]:
    function.argtypes = [c_void_p] * inputs + [c_int64] * sizes + [c_void_p] * outputs
    function.restype = None
    procedure: Callable[..., None] = function
    return procedure


def library_path() -> Path | None:
    """Where the package build left the library, if it made one."""
    spec = importlib.util.find_spec("octavo.kernels.cpu._native")
    return None if spec is None or spec.origin is None else Path(spec.origin)


@lru_cache(maxsize=1)
def open_library() -> Library | None:
    """The library, or None (with a warning, once) where none was built or it cannot be loaded."""
    path, reason = library_path(), "the installation found no C compiler that could build them"
    if path is not None:
        try:
            return Library(path)
        except (OSError, AttributeError) as error:
            reason = str(error)
    logger.warning(
        "Octavo's native CPU kernels are not here (%s): plain torch is used, several times slower; "
        "install a C compiler with OpenMP and reinstall",
        reason,
    )
    return None
