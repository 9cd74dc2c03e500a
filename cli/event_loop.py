"""The event loop of our processes."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run to the end, on uvloop where there is one."""
    try:
        import uvloop
    except ImportError:
        return asyncio.run(main)
    return uvloop.run(main)


async def first_of(*futures: asyncio.Future[Any]) -> None:
    """Wait for one of them."""
    await asyncio.wait(futures, return_when=asyncio.FIRST_COMPLETED)
