"""Octavo's rooms as the package `octavo`, from this tree, whether or not it is installed.

Import this before anything of `octavo`. Without a GPU it also turns Triton's interpreter on, which
is decided when a kernel is first imported.
"""

import importlib.util
import os
import sys
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[2]


def bind() -> None:
    """Let `import octavo.kernels` find `kernels/` at the root, and so on for every room."""
    if not torch.cuda.is_available():
        os.environ["TRITON_INTERPRET"] = "1"
    package = ROOT / "octavo"
    spec = importlib.util.spec_from_file_location(
        "octavo",
        package / "__init__.py",
        submodule_search_locations=[str(package), str(ROOT)],
    )
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["octavo"] = module
    spec.loader.exec_module(module)


bind()
