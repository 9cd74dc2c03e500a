"""A server whose model is quick: the drills are about everything around the model."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from ..fuzz.base_models import write_folder

StartServer = Callable[..., AbstractContextManager[Any]]
CONTEXT_LENGTH = 4096


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random model with one token a byte; 1,000 of its tokens take a fraction of a second."""
    folder = tmp_path_factory.mktemp("models") / "tiny"
    write_folder(folder, context_length=CONTEXT_LENGTH)
    return folder


@pytest.fixture(scope="session")
def start_tiny(start_server: StartServer, tiny_model: Path) -> StartServer:
    """`start_server` with that model."""

    def start(*arguments: str) -> AbstractContextManager[Any]:
        return start_server(str(tiny_model), *arguments)

    return start
