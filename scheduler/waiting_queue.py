"""Requests that wait for admission, in scheduling order."""

import heapq
from collections.abc import Iterator

from .request import Request, SchedulingKey


class WaitingQueue:
    """A heap on `Request.key`: push and pop are O(log n), removal from the middle is O(1).

    A removed request leaves its key in the heap, to be skipped when it comes up; when more than
    half of the keys are such leftovers, the heap is rebuilt. The heap holds keys only, so that a
    cancelled request is not kept alive.
    """

    def __init__(self) -> None:
        self._heap: list[SchedulingKey] = []
        self._requests: dict[SchedulingKey, Request] = {}

    def __len__(self) -> int:
        return len(self._requests)

    def __iter__(self) -> Iterator[Request]:
        return iter(self._requests.values())

    @property
    def head(self) -> Request | None:
        """The request that goes next, or None."""
        while self._heap:
            request = self._requests.get(self._heap[0])
            if request is not None:
                return request
            heapq.heappop(self._heap)
        return None

    def push(self, request: Request) -> None:
        """Add a request; its key decides its place."""
        assert request.key not in self._requests
        self._requests[request.key] = request
        heapq.heappush(self._heap, request.key)

    def remove(self, request: Request) -> None:
        """Take out a request, wherever it is."""
        del self._requests[request.key]
        if self._heap[0] == request.key:
            heapq.heappop(self._heap)
        if len(self._heap) > 2 * len(self._requests):
            self._heap = list(self._requests)
            heapq.heapify(self._heap)
