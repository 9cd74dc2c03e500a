"""Tests of the image itself: `make image-test`, which is `pytest tests/image -m image`.

They need root and the Debian packages buildah, podman, crun and debootstrap, fetch a Debian base
and every dependency, and take minutes: without `-m image` the two files below are not collected at
all, so no other run counts them as skipped.
"""

import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Protocol

import pytest

from octavo.bench.startup import free_port

from .containers import Container, Store
from .debian_base import base_archive
from .package_index import package_index

REPOSITORY = Path(__file__).parents[2]
CACHE = Path("~/.cache/octavo-image-test").expanduser()
NEED_AN_IMAGE = frozenset({"test_image.py", "test_container.py"})
DEBIAN_PACKAGES = ("buildah", "podman", "crun", "debootstrap")
IMAGE = "localhost/octavo:cpu"
LABELS = {"VERSION": "1.2.3", "REVISION": "0123abc", "CREATED": "2026-01-02T03:04:05Z"}


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    asked_for = config.option.markexpr == "image"
    return True if collection_path.name in NEED_AN_IMAGE and not asked_for else None


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """Where images and containers of this run are kept; removed at the end."""
    missing = [name for name in DEBIAN_PACKAGES if shutil.which(name) is None]
    if missing:
        pytest.fail(f"needs root and: apt-get install {' '.join(DEBIAN_PACKAGES)}", pytrace=False)
    with Store.temporary(tmp_path_factory.mktemp("containers")) as made:
        yield made


@pytest.fixture(scope="session")
def build(store: Store, tmp_path_factory: pytest.TempPathFactory) -> "Build":
    """Build a target of the Dockerfile, on a Debian base that debootstrap makes."""
    base = store.load(base_archive(CACHE), "localhost/debian-python:bookworm")
    index = package_index(tmp_path_factory.mktemp("index"))

    def run(target: str, *options: str) -> None:
        arguments = {"BASE": base, **index.build_arguments, **LABELS}
        store.build(REPOSITORY, target, arguments, [*index.build_options, *options])

    return run


@pytest.fixture(scope="session")
def image(build: "Build") -> str:
    """The CPU image, built."""
    build("cpu", "--tag", IMAGE)
    return IMAGE


@pytest.fixture(scope="session")
def start(store: Store, image: str) -> "Start":
    """Run the image as docs/deployment.md does, on a free port: `with start() as container:`."""

    @contextmanager
    def run(*flags: str) -> Iterator[Container]:
        with store.run(image, free_port(), flags) as container:
            container.wait_ready()
            yield container

    return run


@pytest.fixture(scope="session")
def container(start: "Start") -> Iterator[Container]:
    """The container that most tests share."""
    with start() as running:
        yield running


class Build(Protocol):
    """Builds a target of the Dockerfile."""

    def __call__(self, target: str, *options: str) -> None:
        """Raises if the build fails."""


class Start(Protocol):
    """Starts a container."""

    def __call__(self, *flags: str) -> AbstractContextManager[Container]:
        """Ready when entered; removed at the end."""
