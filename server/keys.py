"""The keys that open the server, and the middleware that asks for them. Plain ASGI."""

import hashlib
import hmac
import logging
from collections.abc import Callable

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from ..engine.errors import ConfigurationError
from .admin import ADMIN_PATHS
from .errors import error_body
from .open_paths import OPEN_PATHS, is_page

logger = logging.getLogger(__name__)

KEY_LABEL_DIGITS = 12  # of the SHA-256: enough to tell keys apart, and nothing to guess one from

ReadKeys = Callable[[], list[str]]


class KeyRing:
    """The hashes of clients' and of operators' keys; `reload` reads both anew.

    The readers raise ConfigurationError for a file that cannot be read. The first reading lets it
    through: a server that was meant to be locked must not come up open.
    """

    def __init__(self, read_keys: ReadKeys, read_admin_keys: ReadKeys) -> None:
        self._read_keys, self._read_admin_keys = read_keys, read_admin_keys
        self._hashes: list[bytes] = []
        self._admin_hashes: list[bytes] = []
        self._read()

    @property
    def is_open(self) -> bool:
        """Whether clients need no key."""
        return not self._hashes

    @property
    def numbers(self) -> dict[str, int]:
        """How many keys there are, by the setting that they are of."""
        return {"api_key": len(self._hashes), "admin_key": len(self._admin_hashes)}

    @property
    def has_admins(self) -> bool:
        """Whether there is a key that opens `ADMIN_PATHS`."""
        return bool(self._admin_hashes)

    def admits(self, digest: bytes) -> bool:
        """Whether this is the hash of a client's key, in a time that does not tell which."""
        return _is_among(digest, self._hashes)

    def is_admin(self, digest: bytes) -> bool:
        """Whether this is the hash of an operator's key."""
        return _is_among(digest, self._admin_hashes)

    def lets_in(self, digest: bytes | None) -> bool:
        """Whether a key of this hash opens what clients use; None: there was no key."""
        if self.is_open:
            return True
        return digest is not None and (self.admits(digest) or self.is_admin(digest))

    def reload(self) -> bool:
        """Read the keys again, for requests from now on; whether that went well.

        If a file cannot be read or holds no key, all keys stay as they were and the log says why.
        """
        try:
            self._read()
        except ConfigurationError as error:
            logger.error("the keys stay as they were: %s", error.message)
            return False
        logger.info(
            "keys read again: %d of clients, %d of operators",
            len(self._hashes),
            len(self._admin_hashes),
        )
        return True

    def _read(self) -> None:
        hashes = [digest_of(key) for key in self._read_keys()]
        admin_hashes = [digest_of(key) for key in self._read_admin_keys()]
        self._hashes, self._admin_hashes = hashes, admin_hashes


class ApiKeys:
    """Refuses requests without one of the keys; probes, version and metrics stay open.

    `ADMIN_PATHS` want an admin key, and are closed if there is none; it opens everything else too.
    Left in `scope["state"]`, where a key was asked for: the beginning of its hash for the metrics
    (`key_label`) and its whole hash to tell tenants apart (`key_digest`); and everywhere whether
    it was an admin's (`is_admin`).
    """

    def __init__(self, app: ASGIApp, keys: KeyRing) -> None:
        self._app = app
        self._keys = keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer 401, or 403 where no key would do."""
        if scope["type"] != "http" or scope["method"] == "OPTIONS":
            await self._app(scope, receive, send)
        elif scope["path"] in ADMIN_PATHS and not self._keys.has_admins:
            message = "This endpoint is closed: the server was started without --admin-key."
            await JSONResponse(error_body(403, message), 403)(scope, receive, send)
        elif self._may_pass(scope):
            await self._app(scope, receive, send)
        else:
            body = error_body(
                401,
                "Incorrect API key provided: send one of the server's keys as "
                "`Authorization: Bearer KEY`.",
                code="invalid_api_key",
            )
            response = JSONResponse(body, 401, {"WWW-Authenticate": "Bearer"})
            await response(scope, receive, send)

    def _may_pass(self, scope: Scope) -> bool:
        scheme, _, key = Headers(scope=scope).get("authorization", "").partition(" ")
        given = digest_of(key.strip()) if scheme.lower() == "bearer" else b""
        state, path = scope.setdefault("state", {}), scope["path"]
        is_client = self._keys.admits(given)
        is_admin = state["is_admin"] = self._keys.is_admin(given)
        if path in ADMIN_PATHS:
            return is_admin
        if self._keys.is_open or path in OPEN_PATHS or is_page(path):
            return True
        state["key_label"], state["key_digest"] = given.hex()[:KEY_LABEL_DIGITS], given
        return is_admin or is_client


def _is_among(digest: bytes, hashes: list[bytes]) -> bool:
    found = [hmac.compare_digest(digest, one) for one in hashes]  # all, whichever it is
    return any(found)


def digest_of(key: str) -> bytes:
    """The SHA-256 of a key, which is all that is kept of it."""
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()
