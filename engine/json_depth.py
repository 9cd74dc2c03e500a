"""JSON of a request that was shallow enough to read, but is too deep to write out again."""

from collections.abc import Iterator
from contextlib import contextmanager

from .errors import BadRequestError


@contextmanager
def refusing_depth(param: str) -> Iterator[None]:
    """Raise BadRequestError for `param` where Python gives up on nested values."""
    try:
        yield
    except RecursionError:
        raise BadRequestError(f"{param}: its JSON is nested too deeply.", param) from None
