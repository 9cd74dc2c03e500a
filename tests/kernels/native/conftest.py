"""The compiled kernels, one variant after the other, with memory that shows what nobody wrote."""

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from octavo.kernels.cpu.library import VARIANTS, Library, library_path
from octavo.kernels.cpu.operations import NativeOperations

# Another build of the library, such as `make sanitise` makes; the package's own otherwise.
LIBRARY_VARIABLE = "NATIVE_KERNELS_LIBRARY"
IS_OTHER_BUILD = LIBRARY_VARIABLE in os.environ


def has_compiler() -> bool:
    """Whether the C compiler that a build would call (`CC`, else cc) answers."""
    try:
        return subprocess.run([os.environ.get("CC", "cc"), "--version"]).returncode == 0
    except OSError:
        return False


@pytest.fixture(scope="session")
def library() -> Library:
    path = Path(os.environ[LIBRARY_VARIABLE]) if IS_OTHER_BUILD else library_path()
    if path is None and not has_compiler():
        pytest.skip("the package was installed without a C compiler: no native kernels")
    assert path is not None, "there is a C compiler, but the package build left no library"
    return Library(path)


@pytest.fixture(scope="session", params=VARIANTS)
def native(library: Library, request: pytest.FixtureRequest) -> NativeOperations:
    """The operations of one variant."""
    kernels = library.kernels(request.param)
    if kernels is None:
        pytest.skip(f"this processor cannot run the {request.param} kernels")
    return NativeOperations(library, kernels)


@pytest.fixture(autouse=True)
def poisoned_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the operations allocate (results, scratch) holds NaN in every float type, -1 in ints."""

    def poisoned(allocate: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
        def make(*arguments: Any, **options: Any) -> torch.Tensor:
            tensor = allocate(*arguments, **options)
            tensor.view(torch.uint8).fill_(0xFF)
            return tensor

        return make

    monkeypatch.setattr(torch, "empty", poisoned(torch.empty))
    monkeypatch.setattr(torch, "empty_like", poisoned(torch.empty_like))


@pytest.fixture
def with_threads() -> Iterator[Callable[[int], None]]:
    """Set the number of threads; undone after the test."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def thinned() -> Callable[[list[Any]], list[Any]]:
    """All cases, or one of four with another build of the library: sanitizers make them slow."""

    def thin(cases: list[Any]) -> list[Any]:
        return cases[::4] if IS_OTHER_BUILD else cases

    return thin
