"""HTTPS: who may come in, what happens to who speaks plainly, and a certificate that changes."""

import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from octavo.bench.startup import free_port
from octavo.cli.tls import Certificate, certificate_of
from octavo.engine.errors import ConfigurationError
from octavo.engine.settings import Settings

MakeCertificate = Callable[[Path], Any]
WaitUntil = Callable[[Callable[[], bool], float], None]
START_DEADLINE_S = 60.0
DEADLINE_S = 20.0
HEADER_TIMEOUT_S = 4  # a handshake may take a minute without it


def handshake(server: ssl.SSLContext, client: ssl.SSLContext) -> ssl.SSLObject:
    """Both ends in memory; the client's end when the server is content with it."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    server_end = server.wrap_bio(to_server, to_client, server_side=True)
    client_end = client.wrap_bio(to_client, to_server, server_hostname="127.0.0.1")
    is_open = [False, False]
    for _ in range(10):
        for number, end in enumerate((client_end, server_end)):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
            is_open[number] = True
        if all(is_open):
            return client_end
    raise AssertionError("no end of the handshake")


def client_trusting(certificate: Path) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=certificate)


def test_clients_need_a_certificate_only_if_somebody_must_have_signed_it(
    make_certificate: MakeCertificate, tmp_path: Path
) -> None:
    ours, theirs = make_certificate(tmp_path / "ours"), make_certificate(tmp_path / "theirs")
    open_to_all = Certificate(ours.certificate, ours.key, None)
    assert handshake(open_to_all.context, client_trusting(ours.certificate)).version()
    mutual = Certificate(ours.certificate, ours.key, theirs.certificate)
    without = client_trusting(ours.certificate)
    with pytest.raises(ssl.SSLError):
        handshake(mutual.context, without)
    known = client_trusting(ours.certificate)
    known.load_cert_chain(theirs.certificate, theirs.key)
    assert handshake(mutual.context, known).version()
    stranger = client_trusting(ours.certificate)
    stranger.load_cert_chain(ours.certificate, ours.key)
    with pytest.raises(ssl.SSLError):
        handshake(mutual.context, stranger)


def test_nothing_older_than_tls_1_2_is_spoken(
    make_certificate: MakeCertificate, tmp_path: Path
) -> None:
    files = make_certificate(tmp_path)
    context = Certificate(files.certificate, files.key, None).context
    assert context.minimum_version >= ssl.TLSVersion.TLSv1_2


def test_certificate_and_key_may_be_one_file(
    make_certificate: MakeCertificate, tmp_path: Path
) -> None:
    files = make_certificate(tmp_path)
    both = tmp_path / "both.pem"
    both.write_bytes(files.certificate.read_bytes() + files.key.read_bytes())
    made = certificate_of(Settings.load({"ssl_certfile": both}))
    assert made is not None
    assert handshake(made.context, client_trusting(files.certificate)).version()


def test_what_is_not_sound_is_told_with_its_flag(
    make_certificate: MakeCertificate, tmp_path: Path
) -> None:
    one, other = make_certificate(tmp_path / "one"), make_certificate(tmp_path / "other")
    with pytest.raises(ConfigurationError, match=r"--ssl-certfile.*does not belong"):
        Certificate(one.certificate, other.key, None)
    with pytest.raises(ConfigurationError, match=r"--ssl-certfile.*cannot be read"):
        Certificate(tmp_path / "absent", None, None)
    with pytest.raises(ConfigurationError, match=r"--ssl-certfile.*not a certificate"):
        Certificate(one.key, one.key, None)
    with pytest.raises(ConfigurationError, match=r"--ssl-ca-certs"):
        Certificate(one.certificate, one.key, one.key)
    locked = tmp_path / "locked.pem"
    key = serialization.load_pem_private_key(one.key.read_bytes(), None)
    passphrase = serialization.BestAvailableEncryption(b"secret")
    form = serialization.PrivateFormat.PKCS8
    locked.write_bytes(key.private_bytes(serialization.Encoding.PEM, form, passphrase))
    with pytest.raises(ConfigurationError, match=r"passphrase"):
        Certificate(one.certificate, locked, None)
    with pytest.raises(ConfigurationError, match=r"--ssl-certfile"):
        Settings.load({"ssl_keyfile": one.key})


def test_a_reading_that_fails_leaves_the_certificate_that_there_was(
    make_certificate: MakeCertificate, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    files = make_certificate(tmp_path)
    certificate = Certificate(files.certificate, files.key, None)
    client = client_trusting(files.certificate)
    files.key.write_text("half a file")
    certificate.reload()
    assert "the certificate stays as it was" in caplog.text
    assert handshake(certificate.context, client).version()


class SecureServer:
    """`octavo serve` over HTTPS."""

    def __init__(self, process: subprocess.Popen[bytes], port: int, log: Path, files: Any) -> None:
        self.process, self.port, self.log, self.files = process, port, log, files

    def get(self, path: str, **options: Any) -> httpx.Response:
        context = client_trusting(self.files.certificate)
        url = f"https://127.0.0.1:{self.port}{path}"
        return httpx.get(url, verify=context, timeout=30, **options)

    def serial(self) -> int:
        """The number of the certificate that a new connection is shown."""
        shown = ssl.get_server_certificate(("127.0.0.1", self.port), timeout=10)
        return x509.load_pem_x509_certificate(shown.encode()).serial_number

    def answers(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()
        try:
            return self.get("/readyz").status_code == 200
        except httpx.TransportError:
            return False


@pytest.fixture(scope="module")
def secure(
    tiny_model: Path,
    make_certificate: MakeCertificate,
    wait_until: WaitUntil,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[SecureServer]:
    folder = tmp_path_factory.mktemp("secure")
    files, port, log = make_certificate(folder), free_port(), folder / "log.txt"
    command = [sys.executable, "-m", "octavo", "serve", str(tiny_model), "--port", str(port)]
    command += ["--ssl-certfile", str(files.certificate), "--ssl-keyfile", str(files.key)]
    command += ["--num-blocks", "200", "--header-timeout", str(HEADER_TIMEOUT_S)]
    with log.open("wb") as sink:
        process = subprocess.Popen(command, stdout=sink, stderr=subprocess.STDOUT)
    server = SecureServer(process, port, log, files)
    try:
        wait_until(server.answers, START_DEADLINE_S)
        yield server
    finally:
        process.terminate()
        process.wait(30)


@pytest.mark.slow
def test_https_is_served_and_said_to_be(secure: SecureServer, wait_until: WaitUntil) -> None:
    assert secure.get("/v1/models").json()["object"] == "list"
    address = f"https://127.0.0.1:{secure.port}/v1"
    wait_until(lambda: address in secure.log.read_text(), DEADLINE_S)


@pytest.mark.slow
def test_plain_http_gets_no_answer_and_does_no_harm(secure: SecureServer) -> None:
    with closing(socket.create_connection(("127.0.0.1", secure.port), timeout=10)) as plain:
        plain.sendall(b"GET /v1/models HTTP/1.1\r\nHost: x\r\n\r\n")
        answer = b""
        try:
            while piece := plain.recv(4096):
                answer += piece
        except ConnectionResetError:
            pass
    assert b"HTTP/" not in answer
    assert secure.answers()


@pytest.mark.slow
def test_a_connection_that_begins_no_handshake_is_closed(secure: SecureServer) -> None:
    with closing(socket.create_connection(("127.0.0.1", secure.port), DEADLINE_S)) as silent:
        assert silent.recv(1) == b""  # the socket's own timeout would raise
    assert secure.answers()


@pytest.mark.slow
def test_a_new_certificate_is_taken_at_a_hang_up(
    secure: SecureServer,
    make_certificate: MakeCertificate,
    wait_until: WaitUntil,
) -> None:
    assert secure.serial() == secure.files.serial
    renewed = make_certificate(secure.files.certificate.parent)
    secure.process.send_signal(signal.SIGHUP)
    wait_until(lambda: secure.serial() == renewed.serial, DEADLINE_S)
    secure.files = renewed
    assert secure.answers()


@pytest.mark.slow
def test_a_server_does_not_come_up_with_half_a_certificate(tiny_model: Path) -> None:
    command = [sys.executable, "-m", "octavo", "serve", str(tiny_model), "--port", "0"]
    command += ["--ssl-certfile", "/absent.pem"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "--ssl-certfile /absent.pem: cannot be read" in done.stderr
    assert "Traceback" not in done.stderr
