"""Facts about llmsnap.web.incoming: a call out of any server's environ."""

from __future__ import annotations

import io

import pytest

from llmsnap.errors import BadRequest, ClientGone
from llmsnap.web.incoming import new_call
from tests.web.serving import site

TEXT = """
trustedProxies: [10.0.0.1]
models: {a: {cmd: x, proxy: "http://localhost:1"}}
"""


@pytest.fixture(scope="module")
def here():
    with site(TEXT) as made:
        yield made


def made(site, **environ):
    base = {
        "REQUEST_METHOD": "POST",
        "PATH_INFO": "/x",
        "wsgi.input": io.BytesIO(b"body"),
        "REMOTE_ADDR": "10.0.0.1",
    }
    return new_call({**base, **environ}, site.service, site.service.runtime)


@pytest.mark.parametrize(
    ("environ", "length"),
    [
        ({}, 0),
        ({"CONTENT_LENGTH": ""}, 0),
        ({"CONTENT_LENGTH": "4"}, 4),
        ({"HTTP_TRANSFER_ENCODING": "chunked"}, None),
    ],
)
def test_how_long_a_body_is(here, environ: dict, length: int | None) -> None:
    assert made(here, **environ).length == length


@pytest.mark.parametrize("name", ["RAW_URI", "REQUEST_URI"])
def test_the_path_as_sent_is_kept_whichever_server_it_comes_from(here, name: str) -> None:
    path = "/upstream/\xc3\xbc/a b"
    call = made(here, **{"PATH_INFO": path, name: "/upstream/%C3%BC/a%20b?q=%20"})
    assert call.path == "/upstream/ü/a b"
    assert call.raw_path == "/upstream/%C3%BC/a%20b?q=%20"


def test_who_asked_is_who_the_trusted_proxy_says(here) -> None:
    call = made(here, HTTP_X_FORWARDED_FOR="1.2.3.4")
    assert (call.client_ip, call.remote_ip) == ("1.2.3.4", "10.0.0.1")
    call = made(here, HTTP_X_FORWARDED_FOR="1.2.3.4", REMOTE_ADDR="10.0.0.2")
    assert (call.client_ip, call.remote_ip) == ("10.0.0.2", "10.0.0.2")


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


@pytest.mark.parametrize(
    ("error", "seen"),
    [
        (ConnectionResetError(), ClientGone),
        (ValueError("bad chunk"), BadRequest),
        (BadRequest("ended early"), BadRequest),
    ],
)
def test_a_body_that_cannot_be_read_is_our_error(here, error: Exception, seen: type) -> None:
    call = made(here, **{"wsgi.input": Broken(error)})
    with pytest.raises(seen):
        call.read(10)
    assert made(here).read(10) == b"body"
