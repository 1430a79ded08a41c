"""Takes a connection away from the WSGI server, whichever that is, and ends it afterwards."""

from __future__ import annotations

import io
from typing import Any

TAKE_OVER = "llmsnap.take_over"


def take(environ: dict[str, Any]) -> bytes:
    """Take the connection; return what the server had read of it beyond the request's head."""
    if TAKE_OVER in environ:
        ahead: bytes = environ[TAKE_OVER]()
        return ahead
    if "gunicorn.socket" in environ:
        return _from_gunicorn(environ["wsgi.input"])
    if "werkzeug.socket" in environ:
        return _from_werkzeug(environ["wsgi.input"], environ["werkzeug.socket"])
    return b""


def leave(environ: dict[str, Any]) -> list[bytes]:
    """Return, or raise, what keeps the server from answering on a connection that was taken."""
    if "gunicorn.socket" in environ:
        raise StopIteration  # its workers close the connection on this
    if "werkzeug.socket" in environ:
        raise ConnectionError("the connection was taken over")
    return []


def _from_gunicorn(body: Any) -> bytes:
    unreader = getattr(getattr(body, "reader", None), "unreader", None)
    if unreader is None:
        return b""
    ahead: bytes = unreader.buf.getvalue()
    unreader.buf = io.BytesIO()
    return ahead


def _from_werkzeug(stream: Any, sock: Any) -> bytes:
    """Empty the buffer of the development server's reader, without waiting for more."""
    if not hasattr(stream, "peek"):
        return b""
    limit = sock.gettimeout()
    sock.settimeout(0)
    try:
        ahead: bytes = stream.read(len(stream.peek()))
    finally:
        sock.settimeout(limit)
    return ahead
