"""The certificate that HTTPS is served with."""

import logging
import ssl
from pathlib import Path

from ..engine.errors import ConfigurationError
from ..engine.settings import Settings

logger = logging.getLogger("octavo")


class Certificate:
    """A certificate and its key, from PEM files, and whose certificates clients must show.

    Raises ConfigurationError, naming the flag, for what cannot be read or does not belong together.
    """

    def __init__(self, certfile: Path, keyfile: Path | None, ca_certs: Path | None) -> None:
        self._certfile, self._keyfile = certfile, keyfile
        # At least TLS 1.2, and the library's own choice of ciphers.
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_2
        self.load()
        if ca_certs is not None:
            try:
                self.context.load_verify_locations(ca_certs)
            except (OSError, ssl.SSLError) as error:
                raise ConfigurationError(f"--ssl-ca-certs {ca_certs}: {_why(error)}") from None
            self.context.verify_mode = ssl.CERT_REQUIRED

    def load(self) -> None:
        """Read the files: connections made from now on get what is in them."""
        try:
            # Tried apart first: a context that failed halfway would hold an odd pair.
            for context in (ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), self.context):
                context.load_cert_chain(self._certfile, self._keyfile, _no_passphrase)
        except (OSError, ssl.SSLError) as error:
            given = f"--ssl-certfile {self._certfile}"
            if self._keyfile is not None:
                given += f" --ssl-keyfile {self._keyfile}"
            raise ConfigurationError(f"{given}: {_why(error)}") from None

    def reload(self) -> None:
        """Read the files again; if they are not sound, all stays as it was and the log says why."""
        try:
            self.load()
        except ConfigurationError as error:
            logger.error("the certificate stays as it was: %s", error.message)
        else:
            logger.info("certificate read again")


def certificate_of(settings: Settings) -> Certificate | None:
    """The certificate that the settings name, None for plain HTTP. Raises ConfigurationError."""
    if settings.ssl_certfile is None:
        return None
    return Certificate(settings.ssl_certfile, settings.ssl_keyfile, settings.ssl_ca_certs)


def _no_passphrase() -> str:
    """Instead of a question on the terminal, which nobody may see."""
    return ""


def _why(error: OSError | ssl.SSLError) -> str:
    match error:
        case ssl.SSLError(reason="KEY_VALUES_MISMATCH"):
            return "the key does not belong to the certificate"
        case ssl.SSLError():
            return "not a certificate with its key in PEM, or the key wants a passphrase"
    return f"cannot be read: {error.strerror or error}"
