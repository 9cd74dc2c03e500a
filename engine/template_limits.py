"""How much time and text one rendering of a chat template may take, and who has used how much."""

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

MAX_CHARACTERS = 1 << 24  # of any one text; no context holds as much
MAX_CHARACTERS_MADE = 1 << 29  # by all operations together, what is thrown away included
MAX_ITEMS = 1 << 20  # of a list that a template makes
MAX_WIDTH = 1000  # that a text is filled up to
MAX_BITS = 1 << 16  # of an integer


class TemplateLimitError(Exception):
    """A template wants more than it may have. The message says what."""


class TemplateTimeError(TemplateLimitError):
    """A template takes longer than it may."""


class _Allowance:
    """What is left to the rendering under way."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.deadline = time.monotonic() + seconds
        self.characters = MAX_CHARACTERS_MADE


_UNLIMITED = _Allowance(math.inf)  # while a template is compiled
_current = ContextVar("template_allowance", default=_UNLIMITED)


@contextmanager
def limited(seconds: float) -> Iterator[None]:
    """Hold what is rendered inside to `seconds` and to the sizes above."""
    token = _current.set(_Allowance(seconds))
    try:
        yield
    finally:
        _current.reset(token)


def check_time() -> None:
    """Raise TemplateTimeError if the time is over."""
    allowance = _current.get()
    if time.monotonic() > allowance.deadline:
        raise TemplateTimeError(f"it takes more than {allowance.seconds:g} s")


def check_length(count: int) -> None:
    """A text has this length, or will have."""
    if count > MAX_CHARACTERS:
        raise TemplateLimitError(f"it makes a text of more than {MAX_CHARACTERS:,} characters")


def spend_characters(count: int) -> None:
    """A text of this length is about to be made."""
    check_length(count)
    allowance = _current.get()
    if allowance is not _UNLIMITED:
        allowance.characters -= count
        if allowance.characters < 0:
            raise TemplateLimitError(
                f"it makes more than {MAX_CHARACTERS_MADE:,} characters in all"
            )


def check_size(count: int, kind: type) -> None:
    """A sequence of this kind and length is about to be made."""
    if issubclass(kind, str | bytes):
        spend_characters(count)
    elif count > MAX_ITEMS:
        raise TemplateLimitError(f"it makes a list of more than {MAX_ITEMS:,} items")


def check_width(width: object) -> None:
    """A text is about to be filled up to this width."""
    if isinstance(width, int) and width > MAX_WIDTH:
        raise TemplateLimitError(f"it asks for a width of {width:,}, above {MAX_WIDTH:,}")


def check_bits(count: int) -> None:
    """An integer of so many bits is about to be made."""
    if count > MAX_BITS:
        raise TemplateLimitError(f"it makes an integer of more than {MAX_BITS:,} bits")


def joined(texts: Sequence[str], between: str = "") -> str:
    """The texts in one, if that is not too long."""
    spend_characters(sum(map(len, texts)) + len(between) * max(0, len(texts) - 1))
    return between.join(texts)
