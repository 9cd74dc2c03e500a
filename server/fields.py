"""Types of members that bodies have in common; they are strict, as JSON's own types are."""

from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field, StrictInt

from ..engine.sampling_params import INT64_MAX, INT64_MIN

_LARGEST_ID = 2**31 - 1


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
Text = Annotated[str, AfterValidator(_encodable)]
TokenId = Annotated[StrictInt, Field(ge=-_LARGEST_ID, le=_LARGEST_ID)]
