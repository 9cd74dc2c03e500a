"""A quick server, and certificates made for the occasion."""

import datetime
import ipaddress
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from ..fuzz.base_models import write_folder

StartServer = Callable[..., AbstractContextManager[Any]]
CONTEXT_LENGTH = 4096


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random model with one token a byte: these tests are about everything around it."""
    folder = tmp_path_factory.mktemp("models") / "tiny"
    write_folder(folder, context_length=CONTEXT_LENGTH)
    return folder


@pytest.fixture(scope="session")
def start_tiny(start_server: StartServer, tiny_model: Path) -> StartServer:
    """`start_server` with that model."""

    def start(*arguments: str) -> AbstractContextManager[Any]:
        return start_server(str(tiny_model), "--num-blocks", "2000", *arguments)

    return start


@dataclass(frozen=True)
class CertificateFiles:
    """A certificate that signed itself, and its key."""

    certificate: Path
    key: Path
    serial: int


@pytest.fixture(scope="session")
def make_certificate() -> Callable[[Path], CertificateFiles]:
    """Write a certificate for 127.0.0.1 and its key into a folder: `make_certificate(folder)`."""
    return _make_certificate


def _make_certificate(folder: Path) -> CertificateFiles:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a test of Octavo")])
    now = datetime.datetime.now(datetime.timezone.utc)
    addresses = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=2))
        .add_extension(addresses, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    folder.mkdir(parents=True, exist_ok=True)
    files = CertificateFiles(
        folder / "certificate.pem", folder / "key.pem", certificate.serial_number
    )
    files.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    files.key.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return files
