"""A real Chromium for the tests of the pages; every page opened must have behaved at its end.

Playwright and Node come with the extra `clients`, Chromium is Debian's package. Playwright's
synchronous interface keeps an event loop in the main thread until the session ends, so tests that
call `asyncio.run` have to come before these, as they do in the order of the folders.
"""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pytest

from ..npm_packages import installed

if TYPE_CHECKING:
    from playwright.sync_api import Browser

    from .visits import Visit

AXE = Path(__file__).parent / "axe"
ADMIN_KEY = "admin-of-open-servers"
LAN_NAME = "gpu-box.lan"  # leads here too, but browsers do not trust it as they trust 127.0.0.1
BLOCK_SIZE = 16
NUM_BLOCKS = 40
NUM_BLOCKS_OF_ROOMY = 1024  # for two requests that nothing but their clients ends


class OpenPage(Protocol):
    """`open_page(server.url, "/dashboard", size=NARROW)`: see `visits.open_visit`."""

    def __call__(self, url: str, path: str = "/", **options: Any) -> "Visit": ...


def pytest_ignore_collect(config: pytest.Config) -> bool | None:
    """Where slow tests are left out, do not even import the libraries: that alone takes a while."""
    return True if config.option.markexpr == "not slow" else None


@pytest.fixture(scope="session")
def browser() -> "Iterator[Browser]":
    """Chromium without a window; it can reach this machine alone."""
    from playwright.sync_api import expect, sync_playwright  # not before a test asks

    from .visits import PATIENCE_MS

    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.fail("tests of the pages need Chromium: apt-get install chromium", pytrace=False)
    arguments = [
        "--disable-dev-shm-usage",
        f"--host-resolver-rules=MAP {LAN_NAME} 127.0.0.1, MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    ]
    if os.geteuid() == 0:
        arguments.append("--no-sandbox")  # Chromium refuses to run its sandbox as root
    expect.set_options(timeout=PATIENCE_MS)
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=chromium, args=arguments)
        yield launched
        launched.close()


@pytest.fixture
def open_page(browser: "Browser") -> Iterator[OpenPage]:
    """Open pages of a server; what they did meanwhile is checked when the test is over."""
    from .visits import open_visit

    visits: list[Visit] = []

    def open_one(url: str, path: str = "/", **options: Any) -> "Visit":
        visits.append(open_visit(browser, url, path, **options))
        return visits[-1]

    yield open_one
    for visit in visits:
        visit.close()


@pytest.fixture(scope="session")
def small_server(start_server: Callable[..., AbstractContextManager[Any]]) -> Iterator[Any]:
    """A server with few blocks to hand out (NUM_BLOCKS; one more is padding) and an admin key."""
    flags = {
        "--num-blocks": NUM_BLOCKS + 1,
        "--block-size": BLOCK_SIZE,
        "--max-model-len": 512,
        "--dtype": "float32",
        "--admin-key": ADMIN_KEY,
    }
    with start_server(*(str(part) for flag in flags.items() for part in flag)) as running:
        yield running


@pytest.fixture(scope="session")
def roomy_server(start_server: Callable[..., AbstractContextManager[Any]]) -> Iterator[Any]:
    """As the small one, but with room for requests that outlast every look at them."""
    num_blocks = str(NUM_BLOCKS_OF_ROOMY + 1)
    flags = ("--num-blocks", num_blocks, "--block-size", str(BLOCK_SIZE), "--dtype", "float32")
    with start_server(*flags, "--admin-key", ADMIN_KEY) as running:
        yield running


@pytest.fixture(scope="session")
def axe_source() -> str:
    """The script of axe-core, which is fetched once as axe/package-lock.json names it."""
    return (installed(AXE) / "axe-core" / "axe.min.js").read_text()
