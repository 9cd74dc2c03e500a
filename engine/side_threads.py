"""Work that would hold up the event loop, on threads beside it."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Result = TypeVar("Result")


class SideThreads:
    """A few threads. All methods belong to one event loop.

    What waits for a thread waits in the loop, not in the executor: an executor would keep what was
    cancelled, with the body of its request, until a thread had time to find out.
    """

    def __init__(self, num_threads: int, name: str) -> None:
        self._executor = ThreadPoolExecutor(num_threads, thread_name_prefix=name)
        self._free = asyncio.Semaphore(num_threads)

    async def run(self, work: Callable[[], Result]) -> Result:
        """What `work` returns or raises. If this is cancelled, work that has begun goes on."""
        await self._free.acquire()
        try:
            running = asyncio.get_running_loop().run_in_executor(self._executor, work)
        except BaseException:
            self._free.release()
            raise
        # Not when this is cancelled: the thread is as busy as before.
        running.add_done_callback(lambda _: self._free.release())
        return await asyncio.shield(running)

    def close(self) -> None:
        """Take no more work. What waits is refused (RuntimeError)."""
        self._executor.shutdown(wait=False, cancel_futures=True)
