"""What becomes of open sequences when an engine died: who goes on, in which order, and who not.

A sequence is on trial until it has got its first tokens from an engine; if the engine dies in a
step that computes it, it is suspected. After a restart those beyond suspicion are submitted at
once; suspects follow one at a time, each when the one before has passed, so that the next death
tells whose fault it was. Whoever is suspected too often in a row is ended, and the like of it
refused.
"""

import hashlib
from collections import OrderedDict, deque
from collections.abc import Callable, Collection, Iterable

import msgspec

from .errors import BadRequestError
from .kept_sequence import KeptSequence
from .messages import Submit
from .trials import TRIAL_TOKENS

MOST_DEATHS = 2
MOST_KILLINGS = 3  # by a signal from outside, as the kernel sends it without memory: chance, mostly
MOST_QUARANTINED = 1024


class Quarantine:
    """Contents that made engines die. Bounded: the oldest is forgotten first."""

    def __init__(self) -> None:
        self._contents: OrderedDict[bytes, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._contents)

    def add(self, submit: Submit) -> None:
        """Refuse this content from now on."""
        self._contents[content_hash(submit)] = None
        if len(self._contents) > MOST_QUARANTINED:
            self._contents.popitem(last=False)

    def check(self, submits: Iterable[Submit]) -> None:
        """Raise BadRequestError if one of them is the like of what made an engine die."""
        if self._contents and any(content_hash(one) in self._contents for one in submits):
            raise BadRequestError(
                "This request has made the engine fail several times and is not taken again. "
                "Please report it."
            )


def content_hash(submit: Submit) -> bytes:
    """Of all that decides how a sequence is computed, but for its seed."""
    params = msgspec.structs.replace(submit.params, seed=None)
    content = (submit.prompt_token_ids, params, submit.max_tokens)
    return hashlib.sha256(msgspec.msgpack.encode(content)).digest()


class Replay:
    """Decides, after each death, which of the open sequences are submitted when.

    `send` hands sequences to the engine.
    """

    def __init__(self, send: Callable[[list[KeptSequence]], None]) -> None:
        self._send = send
        self._suspects: deque[KeptSequence] = deque()
        self._held: list[KeptSequence] = []  # came while a suspect was on trial
        self._on_trial: KeptSequence | None = None

    def submit(self, sequences: list[KeptSequence]) -> None:
        """New sequences, for an engine that is there: at once, or when nobody is suspected."""
        if self._on_trial is not None:
            self._held += sequences
        else:
            self._send(sequences)

    def note_death(
        self, sequences: Iterable[KeptSequence], tried: Collection[str], *, was_killed: bool
    ) -> list[KeptSequence]:
        """An engine died in a step with the sequences of these ids on trial.

        Returns those that have been suspected too often.
        """
        self._suspects.clear()
        self._held.clear()
        self._on_trial = None
        limit = MOST_KILLINGS if was_killed else MOST_DEATHS
        guilty = []
        for sequence in sequences:
            if sequence.submit.request_id in tried:
                sequence.num_deaths += 1
                if sequence.num_deaths >= limit:
                    guilty.append(sequence)
        return guilty

    def begin(self, sequences: Iterable[KeptSequence]) -> None:
        """An engine is there again: submit what is open."""
        sequences = list(sequences)
        for sequence in sequences:
            sequence.num_trial_tokens = 0
        clean = [sequence for sequence in sequences if sequence.num_deaths == 0]
        suspects = [sequence for sequence in sequences if sequence.num_deaths > 0]
        self._suspects.extend(sorted(suspects, key=lambda sequence: sequence.num_deaths))
        if clean:
            self._send(clean)
        self._try_next()

    def note_tokens(self, sequence: KeptSequence, num_tokens: int) -> None:
        """A sequence got tokens: with enough of them it has not made the engine die."""
        sequence.num_trial_tokens += num_tokens
        if sequence.num_trial_tokens >= TRIAL_TOKENS:
            self.note_end(sequence)

    def note_end(self, sequence: KeptSequence) -> None:
        """A sequence has passed, or it is closed."""
        sequence.num_deaths = 0
        if sequence is self._on_trial:
            self._try_next()

    def _try_next(self) -> None:
        self._on_trial = None
        while self._suspects:
            sequence = self._suspects.popleft()
            if not sequence.is_closed:
                self._on_trial = sequence
                self._send([sequence])
                return
        held, self._held = [one for one in self._held if not one.is_closed], []
        if held:
            self._send(held)
