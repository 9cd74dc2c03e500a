"""Calls into libraries that recurse as deep as a request tells them to."""

import threading
from collections.abc import Callable
from typing import TypeVar

Result = TypeVar("Result")

STACK_BYTES = 512 * 1024**2  # of address space: only what is used takes memory
_making_a_thread = threading.Lock()


def on_large_stack(work: Callable[[], Result]) -> Result:
    """The result of `work`, or its exception, from a thread that has room for deep recursion.

    llguidance compiles chains of references by recursion in native code, and a request's 60 KB of
    them would overflow the usual 8 MiB, which ends the process.
    """
    results: list[Result] = []
    errors: list[Exception] = []

    def run() -> None:
        try:
            results.append(work())
        except Exception as error:
            errors.append(error)
        except BaseException as error:  # a panic of native code is no Exception
            errors.append(RuntimeError(str(error)))

    with _making_a_thread:
        before = threading.stack_size(STACK_BYTES)
        try:
            thread = threading.Thread(target=run, name="large-stack", daemon=True)
            thread.start()
        finally:
            threading.stack_size(before)
    thread.join()
    if errors:
        raise errors[0]
    return results[0]
