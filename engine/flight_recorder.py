"""Which sequences a step was trying when the process died: a few bytes that outlive it."""

import mmap
import os
from collections.abc import Iterable
from pathlib import Path

SIZE = 1 << 20
_SEPARATOR = b"\n"


class FlightRecorder:
    """Written by the engine before each step, read by the front end when the engine is gone.

    A page of a file that both map: what is written needs no system call, and is there however the
    process ends. Ids beyond the size are left out.
    """

    def __init__(self, path: Path) -> None:
        """Map the file. Raises OSError if there is none of `SIZE` bytes."""
        with path.open("r+b") as file:
            self._memory = mmap.mmap(file.fileno(), SIZE)
        self._is_empty = True

    def write(self, request_ids: Iterable[str]) -> None:
        """The step that begins now tries these."""
        text = _SEPARATOR.join(one.encode() for one in request_ids)
        if not text and self._is_empty:
            return
        text = text[: SIZE - 4]
        self._memory[:4] = bytes(4)  # nothing, rather than half of something
        self._memory[4 : 4 + len(text)] = text
        self._memory[:4] = len(text).to_bytes(4, "little")
        self._is_empty = not text

    @staticmethod
    def create(path: Path) -> None:
        """Make the file, empty, with room on the disk for all of it.

        Writing to mapped memory that the disk has no room for would end the process (SIGBUS).
        Raises OSError where there is none. A file that is there is emptied in place.
        """
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            os.posix_fallocate(descriptor, 0, SIZE)
            os.pwrite(descriptor, bytes(4), 0)
        finally:
            os.close(descriptor)

    @staticmethod
    def read(path: Path) -> set[str]:
        """The ids that were written last; none if the file is not what it should be."""
        try:
            content = path.read_bytes()
        except OSError:
            return set()
        length = int.from_bytes(content[:4], "little")
        if not 0 < length <= len(content) - 4:
            return set()
        text = content[4 : 4 + length].decode("utf-8", "replace")
        return set(text.split("\n"))
