"""Which front end each sequence belongs to, and its share of what a step gave."""

from collections.abc import Iterator

import msgspec

from .messages import SequenceDelta, StepResult


class Owners:
    """Front ends by the address that ZeroMQ gives them."""

    def __init__(self) -> None:
        self._owners: dict[str, bytes] = {}
        self._latest: bytes | None = None  # who submitted last

    @property
    def some(self) -> bytes | None:
        """One of the owners, if there is any: who submitted last, while it is there."""
        return self._latest or next(iter(self._owners.values()), None)

    def add(self, request_id: str, owner: bytes) -> None:
        """This sequence belongs to that front end."""
        self._owners[request_id] = self._latest = owner

    def remove(self, request_id: str) -> None:
        """It has ended."""
        self._owners.pop(request_id, None)

    def remove_owner(self, owner: bytes) -> list[str]:
        """A front end is gone. Returns its sequences."""
        left = [request_id for request_id, one in self._owners.items() if one == owner]
        for request_id in left:
            del self._owners[request_id]
        if self._latest == owner:
            self._latest = None
        return left

    def shares(self, result: StepResult) -> Iterator[tuple[bytes, StepResult]]:
        """Each owner with its own deltas; one of them gets the step's figures, which count once.

        Sequences that end here are forgotten.
        """
        deltas: dict[bytes, list[SequenceDelta]] = {}
        for delta in result.deltas:
            owner = self._owners[delta.request_id]
            deltas.setdefault(owner, []).append(delta)
            if delta.finish_reason is not None:
                del self._owners[delta.request_id]
        if len(deltas) == 1:
            yield next(iter(deltas)), result
            return
        if not deltas:  # a chunk of a long prompt, or all were cancelled: the figures still count
            if (some := self.some) is not None and result.step_seconds > 0.0:
                yield some, result
            return
        whole = result
        for owner, its in deltas.items():
            yield owner, msgspec.structs.replace(whole, deltas=tuple(its))
            whole = only_deltas((), result.finished_at)


def only_deltas(deltas: tuple[SequenceDelta, ...], at: float = 0.0) -> StepResult:
    """A result without figures of a step."""
    return StepResult(deltas=deltas, finished_at=at, step_seconds=0.0)
