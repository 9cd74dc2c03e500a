"""Whose cached prefixes a request may find: with `--isolate-tenants`, its own key's alone."""

import hashlib
import hmac
import secrets


class TenantSalts:
    """Salts for the prefix index that nobody outside can compute, one a key.

    Two tenants' blocks then differ in their hashes even for equal tokens and equal salts of their
    own. `secret` is this process's; front ends that share an engine must share it too.
    """

    def __init__(self, secret: bytes | None = None) -> None:
        self._secret = secret or secrets.token_bytes(32)

    def salt(self, key_digest: bytes, own_salt: str) -> str:
        """The salt for a request of this key (by its SHA-256) that brings `own_salt`."""
        message = hashlib.sha256(key_digest).digest() + own_salt.encode()
        return hmac.new(self._secret, message, hashlib.sha256).hexdigest()
