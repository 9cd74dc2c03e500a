"""Errors in OpenAI's shape, with one place that knows which status belongs to which error."""

import json
import re
import sys
from typing import Any

from fastapi import FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.types import Scope

from ..engine.errors import (
    BadRequestError,
    EngineDeadError,
    NotFoundError,
    NotReadyError,
    OctavoError,
    OverloadedError,
    TimedOutError,
)

_TYPES = {
    400: "BadRequestError",
    401: "invalid_request_error",
    403: "PermissionDeniedError",
    404: "NotFoundError",
    405: "MethodNotAllowedError",
    408: "RequestTimeoutError",
    413: "RequestTooLargeError",
    429: "RateLimitError",
    431: "HeadersTooLargeError",
    500: "InternalServerError",
    503: "ServiceUnavailableError",
}
_SHOWN_INPUT_CHARACTERS = 100
_ENCODER = json.JSONEncoder(ensure_ascii=False, default=str)


class RequestTooLargeError(HTTPException):
    """The body is longer than the server reads."""

    def __init__(self, max_bytes: int) -> None:
        super().__init__(
            413,
            f"The request body is larger than the {max_bytes:,} bytes allowed (--max-body-bytes).",
            {"Connection": "close"},
        )


class BodyTimeoutError(HTTPException):
    """The body does not come, or too slowly."""

    def __init__(self, timeout_s: float) -> None:
        super().__init__(
            408,
            f"The request body did not arrive in time: it may take {timeout_s:g} s "
            "(--body-timeout), and a second more for each 64 KiB.",
            {"Connection": "close"},
        )


def error_body(
    status: int, message: str, param: str | None = None, code: int | str | None = None
) -> dict[str, Any]:
    """`{"error": {message, type, param, code}}`; `code` is the status unless given."""
    kind = _TYPES.get(status, "BadRequestError" if status < 500 else "InternalServerError")
    return {
        "error": {
            "message": _encodable(message),
            "type": kind,
            "param": None if param is None else _encodable(param),
            "code": status if code is None else code,
        }
    }


def note_rejection(scope: Scope, reason: str) -> None:
    """Leave word for the metrics why a request is turned away, where its status does not tell."""
    scope.setdefault("state", {})["rejection"] = reason


def describe(error: Exception) -> tuple[int, dict[str, Any], dict[str, str]]:
    """Status, body and headers of an error's answer. What is not ours is a 500 without details."""
    match error:
        case BadRequestError():
            return 400, error_body(400, error.message, error.param), {}
        case NotFoundError():
            return 404, error_body(404, error.message, error.param), {}
        case OverloadedError():
            headers = {"Retry-After": str(error.retry_after_s)}
            return 503, error_body(503, error.message), headers
        case TimedOutError():
            return 504, error_body(504, error.message), {}
        case EngineDeadError():
            return 503, error_body(503, error.message), {"Retry-After": "5"}
        case OctavoError():
            return 500, error_body(500, error.message), {}
        case StarletteHTTPException(status_code=400, __cause__=Exception() as cause):
            return 400, error_body(400, _explain_unreadable(cause)), {}
        case StarletteHTTPException():
            status = error.status_code
            return status, error_body(status, str(error.detail)), dict(error.headers or {})
    return 500, error_body(500, "Internal server error"), {}


def install_error_handlers(app: FastAPI) -> None:
    """Answer every error in OpenAI's shape; a body that does not validate is a 400, not a 422."""

    async def on_error(request: Request, error: Exception) -> JSONResponse:
        status, body, headers = describe(error)
        if isinstance(error, OverloadedError):
            note_rejection(request.scope, "queue_full")
        elif isinstance(error, NotReadyError):
            note_rejection(request.scope, "not_ready")
        return JSONResponse(body, status, headers)

    async def on_invalid(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        message, param = explain_validation(error.errors())
        return JSONResponse(error_body(400, message, param), 400)

    app.add_exception_handler(OctavoError, on_error)
    app.add_exception_handler(StarletteHTTPException, on_error)
    app.add_exception_handler(RequestValidationError, on_invalid)
    app.add_exception_handler(Exception, on_error)


def explain_validation(problems: Any) -> tuple[str, str | None]:
    """One sentence a problem, each with field and value; and the first field's name."""
    sentences = []
    param: str | None = None
    for problem in list(problems)[:5]:
        if problem["type"] == "json_invalid":
            where = f"at character {problem['loc'][-1]}"
            return f"The body is not valid JSON: {problem['ctx']['error']} {where}.", None
        if isinstance(problem.get("input"), bytes):
            return "The body must be JSON, sent with `Content-Type: application/json`.", None
        if problem["type"] == "missing" and problem["loc"] == ("body",):
            return "A JSON body is required, but it is empty.", None
        path = [str(part) for part in problem["loc"] if part != "body"]
        # A union reports each member it tried by a type's name: not part of the field's path.
        path = [part for part in path if not re.search(r"[\[\](){}-]|^(str|int|list|bool)$", part)]
        where = ".".join(path)
        param = param or (path[0] if path else None)
        given = _shorten(problem.get("input"))
        sentences.append(f"{where + ': ' if where else ''}{problem['msg']} (got {given})")
    return "; ".join(dict.fromkeys(sentences)), param


def _explain_unreadable(cause: Exception) -> str:
    """Why FastAPI could not read a body, where it has no words of its own for it."""
    match cause:
        case UnicodeDecodeError():
            name = cause.encoding.upper()
            return f"The body is not valid {name}: {cause.reason} at byte {cause.start}."
        case RecursionError():
            return "The body is not acceptable JSON: its arrays and objects are nested too deeply."
        case ValueError():
            digits = sys.get_int_max_str_digits()
            return f"The body is not acceptable JSON: an integer has more than {digits} digits."
    return f"The body could not be read: {type(cause).__name__}."


def _encodable(text: str) -> str:
    """A text quoted from a request may hold half a surrogate pair, which UTF-8 cannot."""
    return text.encode("utf-8", "backslashreplace").decode()


def _shorten(value: object) -> str:
    """The beginning of a value as JSON; the rest, which may be megabytes, is not written at all."""
    limit = _SHOWN_INPUT_CHARACTERS
    text = ""
    try:
        for piece in _ENCODER.iterencode(value[:limit] if isinstance(value, str) else value):
            text += piece
            if len(text) > limit:
                break
    except (TypeError, ValueError):
        text = str(value)
    return text if len(text) <= limit else text[:limit] + "…"
