"""How long a request may take: the client's own header, and the server's limit."""

from starlette.datastructures import Headers

from ..engine.errors import BadRequestError

HEADER = "X-Request-Timeout"
LONGEST_S = 1e6


def timeout_of(headers: Headers) -> float | None:
    """Seconds that the client gives its request; None if it does not say.

    Raises BadRequestError if the header is no such number.
    """
    given = headers.get(HEADER)
    if given is None:
        return None
    try:
        timeout_s = float(given)
    except ValueError:
        timeout_s = 0.0
    if not 0.0 < timeout_s <= LONGEST_S:  # not-a-number is neither
        raise BadRequestError(
            f"{HEADER} must be a number of seconds, above 0 and at most {LONGEST_S:,.0f}, "
            f"got {given[:40]!r}."
        )
    return timeout_s


def shortest(wanted_s: float | None, limit_s: float) -> float | None:
    """What holds of a client's wish and the server's limit (0: none)."""
    if limit_s == 0.0:
        return wanted_s
    return limit_s if wanted_s is None else min(wanted_s, limit_s)
