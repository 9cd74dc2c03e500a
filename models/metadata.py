"""Values of a model's metadata by key, checked to be of the kind that is wanted."""

import math
from collections.abc import Mapping
from typing import Any

from .errors import ModelFormatError


class Metadata:
    """A view of metadata whose errors name the key. `prefix` is put before every key.

    A key that is absent or null takes the default; without a default it must be there. Every
    method raises ModelFormatError.
    """

    def __init__(self, values: Mapping[str, Any], prefix: str = "") -> None:
        self._values = values
        self._prefix = prefix

    def get(self, key: str) -> Any:
        """The raw value, None where there is none."""
        return self._values.get(self._prefix + key)

    def integer(self, key: str, default: int | None = None) -> int:
        """A whole number."""
        value = self._value(key, default)
        if isinstance(value, bool) or not isinstance(value, int):
            raise self._wrong(key, "a whole number", value)
        return value

    def number(self, key: str, default: float | None = None) -> float:
        """A finite number."""
        value = self._value(key, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not _is_finite(value):
            raise self._wrong(key, "a finite number", value)
        return float(value)

    def flag(self, key: str, default: bool) -> bool:
        """True or false."""
        value = self._value(key, default)
        if not isinstance(value, bool):
            raise self._wrong(key, "true or false", value)
        return value

    def text(self, key: str, default: str | None = None) -> str:
        """A string."""
        value = self._value(key, default)
        if not isinstance(value, str):
            raise self._wrong(key, "a string", value)
        return value

    def token_ids(self, key: str) -> tuple[int, ...]:
        """Token ids written as one number, as a list, or not at all."""
        value = self.get(key)
        ids = value if isinstance(value, list) else [] if value is None else [value]
        for token_id in ids:
            if isinstance(token_id, bool) or not isinstance(token_id, int):
                raise self._wrong(key, "a token id or a list of them", value)
        return tuple(ids)

    def _value(self, key: str, default: object) -> Any:
        value = self.get(key)
        if value is None and default is None:
            raise ModelFormatError(f"the key {self._prefix + key!r} is missing")
        return default if value is None else value

    def _wrong(self, key: str, wanted: str, value: object) -> ModelFormatError:
        shown = repr(value)
        shown = shown if len(shown) <= 60 else shown[:60] + "…"
        return ModelFormatError(f"{self._prefix + key!r} must be {wanted}, got {shown}")


def _is_finite(value: int | float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer beyond float's range
        return False
