"""Octavo: a paged-KV LLM serving server.

This package only names the public face; the rooms (`octavo.server`, `octavo.engine`, …) live in the
folders of the same name at the root of the repository. Nothing here may import torch: `LLM` and
its parameters are loaded when first asked for.
"""

from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .engine.llm import LLM
    from .engine.sampling_params import SamplingParams
    from .engine.structured import StructuredOutput, ThinkingRule

try:
    __version__ = version("octavo")
except PackageNotFoundError:  # run from a source tree that was never installed
    __version__ = "0+unknown"

__all__ = ["LLM", "SamplingParams", "StructuredOutput", "ThinkingRule", "__version__"]


def __getattr__(name: str) -> Any:
    if name == "LLM":
        from .engine.llm import LLM

        return LLM
    if name == "SamplingParams":
        from .engine.sampling_params import SamplingParams

        return SamplingParams
    if name in ("StructuredOutput", "ThinkingRule"):
        from .engine import structured

        return getattr(structured, name)
    raise AttributeError(f"module 'octavo' has no attribute {name!r}")
