"""TLS: a certificate that changes under a running server, and clients that cannot speak it."""

import logging
import shutil
import subprocess
from pathlib import Path

import pytest
from gevent import socket, ssl

from llmsnap.server.deadlines import ConnectionLimits
from llmsnap.server.tls import Certificate, new_context
from tests.fakes.clock import Clock
from tests.server.raw import RawClient, answering, post, request
from tests.server.test_connection import deaf, echo

pytestmark = pytest.mark.skipif(not shutil.which("openssl"), reason="needs the openssl command")


def make(folder: Path, name: str) -> None:
    """Write cert.pem and key.pem for *name*."""
    words = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2"
    names = ["-subj", f"/CN={name}", "-addext", f"subjectAltName=DNS:{name}"]
    out = ["-keyout", folder / "key.pem", "-out", folder / "cert.pem"]
    subprocess.run([*words.split(), *names, *out], check=True, capture_output=True)


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("certificates")
    for name in ("one", "two"):
        (folder / name).mkdir()
        make(folder / name, f"{name}.example")
    return folder


@pytest.fixture
def files(made, tmp_path) -> Path:
    install(made / "one", tmp_path)
    return tmp_path


def install(source: Path, folder: Path, *names: str) -> None:
    for name in names or ("cert.pem", "key.pem"):
        shutil.copyfile(source / name, folder / "new")
        (folder / "new").rename(folder / name)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def certificate(files, clock) -> Certificate:
    return Certificate(str(files / "cert.pem"), str(files / "key.pem"), clock)


@pytest.fixture
def trusting(made, connect):
    """Connects a client that trusts one certificate."""

    def trusting(serving, name: str = "one", **options) -> RawClient:
        context = ssl.create_default_context(cafile=str(made / name / "cert.pem"))
        for key, value in options.items():
            setattr(context, key, value)
        sock = socket.create_connection(serving.address, timeout=5)
        try:
            return connect(None, context.wrap_socket(sock, server_hostname=f"{name}.example"))
        except ssl.SSLError:
            sock.close()
            raise

    return trusting


def test_requests_over_tls(serve, certificate, trusting) -> None:
    seen = {}

    def app(environ, start_response):
        seen.update(environ)
        return echo(environ, start_response)

    client = trusting(serve(app, wrap=certificate.wrap))
    for _ in range(2):
        assert client.ask(post(b"x" * 100_000)).body == b"x" * 100_000
    assert seen["wsgi.url_scheme"] == "https"
    client.send(request("/", "GET", "Connection: close"))
    client.answer()
    assert client.rest() == b"", "the server said good-bye: else this raises"


@pytest.fixture
def serving(serve, certificate):
    return serve(echo, wrap=certificate.wrap)


def test_a_new_certificate_is_used_for_new_connections(
    serving, trusting, files, made, clock, caplog
) -> None:
    caplog.set_level(logging.INFO)
    before = trusting(serving)
    install(made / "two", files)
    clock.now += 0.5
    trusting(serving)  # not looked at again so soon
    clock.now += 0.5
    after = trusting(serving, "two")
    assert before.ask(request()).status == after.ask(request()).status == 200
    assert "new certificate from" in caplog.text


def test_files_that_do_not_fit_together_leave_the_old_certificate(
    serving, trusting, files, made, clock, caplog
) -> None:
    key = (files / "key.pem").rename(files / "away")
    clock.now += 1
    trusting(serving)
    assert caplog.text == "", "a missing file is no change"
    key.rename(files / "key.pem")
    install(made / "two", files, "cert.pem")
    for _ in range(2):
        clock.now += 1
        trusting(serving)
    assert caplog.text.count("the old one stays") == 1
    install(made / "two", files, "key.pem")
    clock.now += 1
    trusting(serving, "two")


def test_files_that_cannot_be_used_at_the_start_are_named(files) -> None:
    with pytest.raises(OSError, match=r"cannot use .*none.pem with .*key.pem: No such file"):
        new_context(str(files / "none.pem"), str(files / "key.pem"))
    (files / "cert.pem").write_text("nothing")
    with pytest.raises(OSError, match=r"cannot use .*cert.pem"):
        Certificate(str(files / "cert.pem"), str(files / "key.pem"))


def test_old_versions_are_not_spoken(serving, trusting, certificate) -> None:
    client = trusting(serving, maximum_version=ssl.TLSVersion.TLSv1_2)
    assert client.sock.version() == "TLSv1.2"
    assert certificate.context.minimum_version is ssl.TLSVersion.TLSv1_2


def test_plain_http_gets_an_answer_that_says_so(serving) -> None:
    client = serving.connect()
    client.send(request())
    assert b"speaks https" in client.rest()


@pytest.mark.parametrize("said", [b"", b"\x16\x03\x01\x02\x00", b"\0\0\0\0\0\0\0\0\0"])
def test_a_handshake_has_its_limit_and_leaves_no_trace(serve, certificate, said, caplog) -> None:
    client = serve(echo, wrap=certificate.wrap, limits=ConnectionLimits(head_s=0.02)).connect()
    client.send(said)
    assert len(client.rest()) < 20  # at most an alert
    assert caplog.text == ""


@pytest.mark.parametrize(
    ("limits", "sent", "status"),
    [({"idle_s": 0.02}, b"", 0), ({"body_s": 0.05}, post(b"hello")[:-1], 408)],
)
def test_slow_and_idle_clients_over_tls(serve, certificate, trusting, limits, sent, status) -> None:
    limits = ConnectionLimits(**limits)
    client = trusting(serve(answering(echo), wrap=certificate.wrap, limits=limits))
    assert client.ask(request()).status == 200
    client.send(sent)
    assert client.answer().status == status if status else client.rest() == b""


def test_an_early_answer_arrives_over_tls(serve, certificate, trusting) -> None:
    client = trusting(serve(deaf, wrap=certificate.wrap))
    client.send(post(b"x" * 2_000_000))
    assert client.answer().status == 413
