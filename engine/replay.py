"""What becomes of open choices when an engine has died: who goes on, in which order, and who not.

A choice is on trial until it has got its first tokens from an engine; if the engine dies in a step
that computes it, it is suspected. After a restart those beyond suspicion are submitted at once;
suspects follow one at a time, each when the one before has passed, so that the next death tells
whose fault it was. Whoever is suspected too often in a row is ended, and the like of it refused.
"""

import hashlib
from collections import OrderedDict, deque
from collections.abc import Callable, Collection, Iterable

import msgspec

from .errors import BadRequestError
from .messages import Submit
from .open_choice import OpenChoice
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
    """Decides, after each death, which of the open choices are submitted when.

    `send` hands choices to the engine.
    """

    def __init__(self, send: Callable[[list[OpenChoice]], None]) -> None:
        self._send = send
        self._suspects: deque[OpenChoice] = deque()
        self._held: list[OpenChoice] = []  # came while a suspect was on trial
        self._on_trial: OpenChoice | None = None

    def submit(self, choices: list[OpenChoice]) -> None:
        """New choices, for an engine that is there: at once, or when nobody is suspected."""
        if self._on_trial is not None:
            self._held += choices
        else:
            self._send(choices)

    def note_death(
        self, choices: Iterable[OpenChoice], tried: Collection[str], *, was_killed: bool
    ) -> list[OpenChoice]:
        """An engine died in a step with the choices of these ids on trial.

        Returns those that have been suspected too often.
        """
        self._suspects.clear()
        self._held.clear()
        self._on_trial = None
        limit = MOST_KILLINGS if was_killed else MOST_DEATHS
        guilty = []
        for choice in choices:
            if choice.submit.request_id in tried:
                choice.num_deaths += 1
                if choice.num_deaths >= limit:
                    guilty.append(choice)
        return guilty

    def begin(self, choices: Iterable[OpenChoice]) -> None:
        """An engine is there again: submit what is open."""
        choices = list(choices)
        for choice in choices:
            choice.num_trial_tokens = 0
        clean = [choice for choice in choices if choice.num_deaths == 0]
        suspects = [choice for choice in choices if choice.num_deaths > 0]
        self._suspects.extend(sorted(suspects, key=lambda choice: choice.num_deaths))
        if clean:
            self._send(clean)
        self._try_next()

    def note_tokens(self, choice: OpenChoice, num_tokens: int) -> None:
        """A choice got tokens: with enough of them it has not made the engine die."""
        choice.num_trial_tokens += num_tokens
        if choice.num_trial_tokens >= TRIAL_TOKENS:
            self.note_end(choice)

    def note_end(self, choice: OpenChoice) -> None:
        """A choice has passed, or it is closed."""
        choice.num_deaths = 0
        if choice is self._on_trial:
            self._try_next()

    def _try_next(self) -> None:
        self._on_trial = None
        while self._suspects:
            choice = self._suspects.popleft()
            if not choice.is_closed:
                self._on_trial = choice
                self._send([choice])
                return
        held, self._held = [one for one in self._held if not one.is_closed], []
        if held:
            self._send(held)
