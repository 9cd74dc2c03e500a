"""What can be wrong with a model's files. All are ValueErrors with a message for the user."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class ModelError(ValueError):
    """Base of the errors below."""


class ModelNotFoundError(ModelError):
    """No model bears this name, or it cannot be fetched."""


class ModelFormatError(ModelError):
    """A file is truncated, corrupt, or lacks something; the message names file and problem."""


class UnsupportedModelError(ModelError):
    """The files are fine, but of a kind that Octavo does not run; the message says what it runs."""


@contextmanager
def naming_file(path: Path) -> Iterator[None]:
    """Put the file's name before the message of every ModelError raised inside."""
    try:
        yield
    except ModelError as error:
        raise type(error)(f"{path}: {error}") from None
