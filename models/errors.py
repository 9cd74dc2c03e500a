"""What can be wrong with a model's files. All are ValueErrors with a message for the user."""


class ModelError(ValueError):
    """Base of the errors below."""


class ModelNotFoundError(ModelError):
    """No model bears this name, or it cannot be fetched."""


class ModelFormatError(ModelError):
    """A file is truncated, corrupt, or lacks something; the message names file and problem."""


class UnsupportedModelError(ModelError):
    """The files are fine, but of a kind that Octavo does not run; the message says what it runs."""
