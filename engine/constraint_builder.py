"""Sequences that wait for their grammar, which is compiled beside the step loop."""

import time
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait

from .constraints import TokenConstraint
from .grammars import Grammars
from .messages import Submit

LONGEST_COMPILATION_S = 30.0  # a front end allowed its own 10


class ConstraintBuilder:
    """Builds constraints on threads of its own."""

    def __init__(self, grammars: Grammars) -> None:
        self._grammars = grammars
        self._threads = ThreadPoolExecutor(2, thread_name_prefix="grammars")
        self._building: dict[str, tuple[Submit, Future[TokenConstraint | None]]] = {}
        self._moved_at = 0.0  # when one was ready last, or the first one came

    @property
    def num_waiting(self) -> int:
        """Sequences that `take_ready` has not given back yet."""
        return len(self._building)

    @property
    def moves(self) -> bool:
        """Whether sequences wait here, and no longer for the next one than a grammar may take."""
        return bool(self._building) and time.monotonic() < self._moved_at + LONGEST_COMPILATION_S

    def waiting(self) -> list[Submit]:
        """The sequences that wait here."""
        return [submit for submit, _ in self._building.values()]

    def begin(self, submit: Submit) -> None:
        """Start on a sequence's constraint."""
        if not self._building:
            self._moved_at = time.monotonic()
        stops = (*submit.eos_token_ids, *submit.params.stop_token_ids)
        future = self._threads.submit(self._grammars.constraint, submit.params, stops)
        self._building[submit.request_id] = (submit, future)

    def cancel(self, request_id: str) -> bool:
        """Forget a sequence. False if it does not wait here."""
        submit, future = self._building.pop(request_id, (None, None))
        if future is not None:
            future.cancel()
        return submit is not None

    def take_ready(self, timeout_s: float) -> list[tuple[Submit, TokenConstraint | Exception]]:
        """The sequences whose constraint is built, or could not be; waits a while for the first."""
        if timeout_s > 0.0:
            futures = [future for _, future in self._building.values()]
            wait(futures, timeout_s, return_when=FIRST_COMPLETED)
        ready: list[tuple[Submit, TokenConstraint | Exception]] = []
        for submit, future in list(self._building.values()):
            if future.done():
                del self._building[submit.request_id]
                ready.append((submit, _result(future)))
        if ready:
            self._moved_at = time.monotonic()
        return ready


def _result(future: Future[TokenConstraint | None]) -> TokenConstraint | Exception:
    error = future.exception()
    if error is None:
        constraint = future.result()
        assert constraint is not None, "only sequences that need one wait here"
        return constraint
    # A panic of native code is no Exception.
    return error if isinstance(error, Exception) else RuntimeError(str(error))
