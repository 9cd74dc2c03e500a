"""Types of members that bodies have in common; they are strict, as JSON's own types are."""

from collections.abc import Sized
from typing import Annotated, TypeVar

from pydantic import AfterValidator, BeforeValidator, Field, StrictInt
from pydantic_core import PydanticCustomError

from ..engine.sampling_params import INT64_MAX, INT64_MIN

_LARGEST_ID = 2**31 - 1
_Item = TypeVar("_Item")


def _no_booleans(value: object) -> object:
    """JSON's true is no number, though Python's is."""
    if isinstance(value, bool):
        raise ValueError("Input should be a number")
    return value


def _encodable(value: str) -> str:
    r"""JSON can spell half of a surrogate pair (`"\ud800"`), which no message to the engine can."""
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise ValueError("Input is not Unicode: it has half of a surrogate pair") from None
    return value


Number = Annotated[float, BeforeValidator(_no_booleans), Field(strict=True, allow_inf_nan=False)]
Int = Annotated[StrictInt, Field(ge=INT64_MIN, le=INT64_MAX)]
UNICODE = AfterValidator(_encodable)
Text = Annotated[str, UNICODE]
TokenId = Annotated[StrictInt, Field(ge=-_LARGEST_ID, le=_LARGEST_ID)]

# Millions of wrong items are one error: to describe each takes tens of seconds.
ListOf = Annotated[list[_Item], Field(fail_fast=True)]


def at_most(most: int, things: str) -> BeforeValidator:
    """Refuses a longer list or object before its members are looked at."""

    def check(value: object) -> object:
        if isinstance(value, Sized) and not isinstance(value, str) and len(value) > most:
            raise PydanticCustomError(
                "too_long",
                "at most {most} {things}, got {count}",
                {"most": most, "things": things, "count": len(value)},
            )
        return value

    return BeforeValidator(check)
