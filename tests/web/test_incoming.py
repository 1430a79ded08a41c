"""A request out of a WSGI environ, and taking its connection over."""

import io
from types import SimpleNamespace

import pytest
from gevent import socket

from llmsnap.errors import BadRequest, BodyTimeout, ClientGone
from llmsnap.web import incoming
from llmsnap.web.incoming import OTHER_SOCKETS, leave_taken, new_request, take_over

TEXT = """
trustedProxies: [10.0.0.1]
models: {a: {cmd: x, proxy: "http://localhost:1"}}
"""


def made(site, **environ):
    base = {
        "REQUEST_METHOD": "POST",
        "PATH_INFO": "/x",
        "wsgi.input": io.BytesIO(b"body and what is behind it"),
        "CONTENT_LENGTH": "4",
        "REMOTE_ADDR": "10.0.0.1",
    }
    return new_request({**base, **environ}, site.service, site.service.runtime)


def test_how_long_a_body_is(here) -> None:
    assert made(here).length == 4
    assert made(here, CONTENT_LENGTH="").length == 0
    assert made(here, HTTP_TRANSFER_ENCODING="chunked").length is None


def test_the_first_session_header_with_a_value_names_the_session(here) -> None:
    for first, session in ((" s-1 ", "s-1"), (" ", "s-2"), ("s" * 1000, "s" * 200)):
        request = made(here, HTTP_X_SESSION_ID=first, HTTP_X_LITELLM_SESSION_ID="s-2")
        assert request.session == session
    assert made(here).session == ""


def test_the_path_as_sent_is_kept_whichever_server_it_comes_from(here) -> None:
    for name in ("RAW_URI", "REQUEST_URI"):
        sent = "/upstream/%C3%BC/a%20b?q=%20"
        request = made(here, **{"PATH_INFO": "/upstream/\xc3\xbc/a b", name: sent})
        assert (request.path, request.raw_path) == ("/upstream/ü/a b", sent), name


def test_who_asked_is_who_the_trusted_proxy_says(here) -> None:
    request = made(here, HTTP_X_FORWARDED_FOR="1.2.3.4")
    assert (request.client_ip, request.remote_ip) == ("1.2.3.4", "10.0.0.1")
    request = made(here, HTTP_X_FORWARDED_FOR="1.2.3.4", REMOTE_ADDR="10.0.0.2")
    assert (request.client_ip, request.remote_ip) == ("10.0.0.2", "10.0.0.2")


def test_ids_are_ours_unless_theirs_are_harmless(here) -> None:
    assert made(here, HTTP_X_REQUEST_ID="a-1/b").id == "a-1/b"
    first, second = made(here).id, made(here, HTTP_X_REQUEST_ID="a\x7fb").id
    assert first != second != "a\x7fb"


class Broken:
    """A server's input that fails in its own way."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def read(self, size: int) -> bytes:
        raise self.error


def test_a_body_that_cannot_be_read_is_our_error(here) -> None:
    for error, seen in (
        (ConnectionResetError(), ClientGone),
        (ValueError("bad chunk"), BadRequest),
        (BadRequest("ended early"), BadRequest),
        (TimeoutError("timed out"), BodyTimeout),
    ):
        request = made(here, **{"wsgi.input": Broken(error)})
        with pytest.raises(seen):
            request.read(10)


def test_a_body_is_read_up_to_its_length_where_a_server_does_not_stop_there(here) -> None:
    request = made(here)
    assert [request.read(3), request.read(10), request.read(10)] == [b"bod", b"y", b""]
    assert made(here, CONTENT_LENGTH="").read(10) == b""
    terminated = {"wsgi.input_terminated": True, "HTTP_TRANSFER_ENCODING": "chunked"}
    assert made(here, **terminated).read(10) == b"body and w"


@pytest.mark.parametrize("name", OTHER_SOCKETS)
def test_other_servers_wait_for_a_body_as_long_as_ours(here, monkeypatch, name: str) -> None:
    monkeypatch.setattr(incoming, "BODY_S", 0.01)
    ours, theirs = socket.socketpair()
    with ours, theirs, ours.makefile("rb", 0) as stream:
        request = made(here, **{"wsgi.input": stream, name: ours})
        theirs.sendall(b"bo")
        assert request.read(4) == b"bo"
        with pytest.raises(BodyTimeout):
            request.read(2)
        assert ours.gettimeout() is None


def test_our_own_server_has_a_function_for_it() -> None:
    environ = {"llmsnap.take_over": lambda: b"ahead", "llmsnap.socket": object()}
    assert (take_over(environ), leave_taken(environ)) == (b"ahead", [])
    assert (take_over({}), leave_taken({})) == (b"", []), "a server that is not known"


def test_gunicorn_keeps_its_bytes_in_the_unreader_and_closes_on_stop_iteration() -> None:
    buffer = io.BytesIO()
    buffer.write(b"ahead")
    unreader = SimpleNamespace(buf=buffer)
    body = SimpleNamespace(reader=SimpleNamespace(unreader=unreader))
    environ = {"gunicorn.socket": object(), "wsgi.input": body}
    assert take_over(environ) == b"ahead"
    assert unreader.buf.getvalue() == b""
    with pytest.raises(StopIteration):
        leave_taken(environ)
    assert take_over({"gunicorn.socket": object(), "wsgi.input": io.BytesIO()}) == b""


def test_the_development_server_keeps_them_in_a_buffered_reader() -> None:
    client, sock = socket.socketpair()
    with client, sock, sock.makefile("rb", -1) as reader:
        client.sendall(b"head\nahead")
        assert reader.readline() == b"head\n"
        environ = {"werkzeug.socket": sock, "wsgi.input": reader}
        assert take_over(environ) == b"ahead"
        assert take_over(environ) == b"", "and nothing waits for more"
        assert sock.gettimeout() is None
    with pytest.raises(ConnectionError):
        leave_taken(environ)
    assert take_over({"werkzeug.socket": sock, "wsgi.input": object()}) == b""
