"""What can go wrong with a request. `server/` maps each class to a status, in one place."""


class OctavoError(Exception):
    """Base of every error that Octavo raises on purpose; the message tells the user what to do."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class BadRequestError(OctavoError):
    """The request itself is wrong. `param` names the offending field, where there is one."""

    def __init__(self, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.param = param


class NotFoundError(OctavoError):
    """The request names something that does not exist here (a model, say)."""

    def __init__(self, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.param = param


class OverloadedError(OctavoError):
    """A limit on waiting work is reached; the client may retry after `retry_after_s` seconds."""

    def __init__(self, message: str, retry_after_s: int = 1) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class TimedOutError(OctavoError):
    """A request's own deadline passed before anything of its answer was there."""

    def __init__(
        self, message: str = "The request's time was over before it was answered."
    ) -> None:
        super().__init__(message)


class EngineDeadError(OctavoError):
    """The engine process is gone or never came up; no request can be served by it."""


class NotReadyError(EngineDeadError):
    """The engine takes no requests yet, or no more; this one has not begun."""


class RequestFailedError(OctavoError):
    """The engine gave this request up because of an internal error; others go on."""


class ConfigurationError(OctavoError):
    """A setting cannot work: the message names the flag, the value and what would work."""
