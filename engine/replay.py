"""What becomes of open sequences when an engine died: who goes on, in which order, and who not.

A sequence is on trial until it has got its first tokens from an engine; if the engine dies in a
step that computes it, or while it enters, it is suspected. After a restart those beyond suspicion
are submitted at once; when they have passed, suspects follow one at a time, each when the one
before has passed, so that the next death tells whose fault it was. Whoever is suspected too often
in a row is ended, and the like of it refused.
"""

import hashlib
from collections import OrderedDict, deque
from collections.abc import Callable, Collection, Iterable
from typing import Any

import msgspec

from .errors import BadRequestError
from .kept_sequence import KeptSequence
from .messages import Submit
from .trials import TRIAL_TOKENS

MOST_DEATHS = 2
MOST_KILLINGS = 3  # by a signal from outside, as the kernel sends it without memory: chance, mostly
MOST_QUARANTINED = 1024
# What no step reads (words come as token ids), and the seed: who varies these sends the same again.
INDIFFERENT: dict[str, Any] = {
    "n": 1,
    "seed": None,
    "max_tokens": None,
    "stop": (),
    "include_stop_str_in_output": False,
    "skip_special_tokens": True,
    "shown_special_tokens": (),
    "bad_words": (),
}


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
    """Of all that steps read of a sequence, but for its seed."""
    params = msgspec.structs.replace(submit.params, **INDIFFERENT)
    content = (submit.prompt_token_ids, submit.bad_words_ids, params)
    return hashlib.sha256(msgspec.msgpack.encode(content)).digest()


class Replay:
    """Decides, after each death, which of the open sequences are submitted when.

    `hand_over` gives sequences to the engine.
    """

    def __init__(self, hand_over: Callable[[list[KeptSequence]], None]) -> None:
        self._hand_over = hand_over
        self._groups: deque[list[KeptSequence]] = deque()  # each follows when the last has passed
        self._on_trial: set[str] = set()  # those of the group before
        self._held: dict[str, KeptSequence] = {}  # came while there were groups

    def submit(self, sequences: list[KeptSequence]) -> None:
        """New sequences, for an engine that is there: at once, or when nobody is suspected."""
        if self._on_trial:
            self._held.update((one.submit.request_id, one) for one in sequences)
        else:
            self._send(sequences)

    def note_death(
        self, sequences: Collection[KeptSequence], tried: Collection[str], *, was_killed: bool
    ) -> list[KeptSequence]:
        """An engine died with the sequences of these ids on trial.

        Returns those that have been suspected too often.
        """
        self._groups.clear()
        self._held.clear()
        self._on_trial.clear()
        limit = MOST_KILLINGS if was_killed else MOST_DEATHS
        suspects = [one for one in sequences if one.submit.request_id in tried]
        for sequence in suspects:
            sequence.num_deaths += 1
        return [sequence for sequence in suspects if sequence.num_deaths >= limit]

    def begin(self, sequences: Iterable[KeptSequence]) -> None:
        """An engine is there again: submit what is open."""
        sequences = list(sequences)
        for sequence in sequences:
            sequence.num_trial_tokens = 0
        clean = [sequence for sequence in sequences if sequence.num_deaths == 0]
        suspects = [sequence for sequence in sequences if sequence.num_deaths > 0]
        if not suspects:
            self._send(clean)
            return
        suspects.sort(key=lambda sequence: sequence.num_deaths)
        self._groups.extend([clean, *([sequence] for sequence in suspects)])
        self._try_next()

    def note_tokens(self, sequence: KeptSequence, num_tokens: int) -> None:
        """A sequence got tokens: with enough of them it has not made the engine die."""
        sequence.num_trial_tokens += num_tokens
        if sequence.num_trial_tokens >= TRIAL_TOKENS:
            self.note_end(sequence)

    def note_end(self, sequence: KeptSequence) -> None:
        """A sequence has passed, or it is closed."""
        sequence.num_deaths = 0
        request_id = sequence.submit.request_id
        self._held.pop(request_id, None)
        if request_id in self._on_trial:
            self._on_trial.remove(request_id)
            if not self._on_trial:
                self._try_next()

    def _try_next(self) -> None:
        while self._groups:
            group = [one for one in self._groups.popleft() if not one.is_closed]
            if group:
                self._on_trial = {one.submit.request_id for one in group}
                self._send(group)
                return
        held, self._held = list(self._held.values()), {}
        self._send(held)

    def _send(self, sequences: list[KeptSequence]) -> None:
        if sequences:
            self._hand_over(sequences)
