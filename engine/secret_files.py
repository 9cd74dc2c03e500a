"""API keys from files, as Docker, Kubernetes and systemd mount secrets."""

from pathlib import Path

from .errors import ConfigurationError


def read_keys(path: Path | None, flag: str) -> list[str]:
    """The keys in a file, one a line; empty lines and those that begin with # are not keys.

    Raises ConfigurationError if it cannot be read or holds none: a server that was meant to be
    locked must not come up open.
    """
    if path is None:
        return []
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{flag} {path}: cannot be read: {error}") from None
    keys = [line.strip() for line in lines]
    keys = [key for key in keys if key and not key.startswith("#")]
    if not keys:
        raise ConfigurationError(f"{flag} {path}: holds no key; write one a line")
    return keys
