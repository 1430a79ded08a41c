"""Each server gives its connection away in its own manner."""

from __future__ import annotations

import io
from types import SimpleNamespace

import pytest
from gevent import socket

from llmsnap.web.takeover import leave, take


def test_our_own_server_has_a_function_for_it() -> None:
    environ = {"llmsnap.take_over": lambda: b"ahead", "llmsnap.socket": object()}
    assert take(environ) == b"ahead"
    assert leave(environ) == []


def test_gunicorn_keeps_its_bytes_in_the_unreader_and_closes_on_stop_iteration() -> None:
    buffer = io.BytesIO()
    buffer.write(b"ahead")
    unreader = SimpleNamespace(buf=buffer)
    body = SimpleNamespace(reader=SimpleNamespace(unreader=unreader))
    environ = {"gunicorn.socket": object(), "wsgi.input": body}
    assert take(environ) == b"ahead"
    assert unreader.buf.getvalue() == b""
    with pytest.raises(StopIteration):
        leave(environ)
    assert take({"gunicorn.socket": object(), "wsgi.input": io.BytesIO()}) == b""


def test_the_development_server_keeps_them_in_a_buffered_reader() -> None:
    client, sock = socket.socketpair()
    with client, sock, sock.makefile("rb", -1) as reader:
        client.sendall(b"head\nahead")
        assert reader.readline() == b"head\n"
        environ = {"werkzeug.socket": sock, "wsgi.input": reader}
        assert take(environ) == b"ahead"
        assert take(environ) == b"", "and nobody waits for more"
        assert sock.gettimeout() is None
    with pytest.raises(ConnectionError):
        leave(environ)
    assert take({"werkzeug.socket": sock, "wsgi.input": object()}) == b""


def test_a_server_that_nobody_knows() -> None:
    assert take({}) == b""
    assert leave({}) == []
