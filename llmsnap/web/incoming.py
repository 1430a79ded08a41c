"""Builds a request from a WSGI environ, and takes over its connection, for any WSGI server."""

from __future__ import annotations

import io
import re
import secrets
from collections.abc import Callable
from itertools import count
from typing import TYPE_CHECKING, Any

from llmsnap.errors import BadRequest, BodyTimeout, ClientGone, LlmsnapError
from llmsnap.http import normalized_path
from llmsnap.proxy import BodyShare, ClientMonitor, Request

if TYPE_CHECKING:
    from llmsnap.runtime import Runtime
    from llmsnap.service import Service

SOCKET = "llmsnap.socket"
WATCH = "llmsnap.watch"
OTHER_SOCKETS = ("gunicorn.socket", "werkzeug.socket")
AUTHORITY = re.compile(r"^[A-Za-z]+://[^/?]*")
REQUEST_ID = re.compile(r"[A-Za-z0-9._:+/=@-]{1,128}")
"""The X-Request-Id of a client that is accepted: only characters that are safe in a log."""
SESSION_CHARS = 200
BODY_S = 60.0
"""Longest wait for the next bytes of a body; llmsnap's own server has
``server.connections.Limits`` for that."""

_RUN = secrets.token_hex(4)
_numbers = count(1)


def new_request(environ: dict[str, Any], service: Service, runtime: Runtime) -> Request:
    """Return the request of a WSGI environ, whose path is normalized in place for Flask."""
    get = environ.get
    sock = get(SOCKET) or next((environ[name] for name in OTHER_SOCKETS if name in environ), None)
    given = get("HTTP_X_REQUEST_ID", "")
    wsgi_path = environ["PATH_INFO"] = normalized_path(environ["PATH_INFO"])
    is_ascii = wsgi_path.isascii()
    path = wsgi_path if is_ascii else wsgi_path.encode("latin-1").decode("utf-8", "replace")
    raw_path, question, query = requested_path(environ).partition("?")
    remote = get("REMOTE_ADDR", "")
    length = None if "HTTP_TRANSFER_ENCODING" in environ else int(get("CONTENT_LENGTH") or 0)
    body = environ["wsgi.input"]
    read = getattr(body, "read1", body.read)  # read1 does not wait for the full size
    if SOCKET not in environ:  # our server already bounds the body and its waits
        read = _bounded(read, environ, length, sock)
    return Request(
        id=given if given and REQUEST_ID.fullmatch(given) else f"{_RUN}-{next(_numbers)}",
        method=environ["REQUEST_METHOD"],
        path=path,
        raw_path=normalized_path(raw_path) + question + query,
        query=get("QUERY_STRING", ""),
        environ=environ,
        read=read,
        body_share=BodyShare(service.bodies),
        length=length,
        remote_ip=remote,
        client_ip=_client_ip(environ, remote, runtime) if runtime.proxies.known else remote,
        monitor=ClientMonitor(get(WATCH, service.watch), sock.fileno() if sock is not None else -1),
        accept=get("HTTP_ACCEPT", ""),
        protocol=get("SERVER_PROTOCOL", "HTTP/1.1"),
        user_agent=get("HTTP_USER_AGENT", ""),
        session=_session(environ, runtime.session_keys),
        socket=sock,
    )


def _session(environ: dict[str, Any], keys: tuple[str, ...]) -> str:
    """Return the first of the headers *keys* that has a value, stripped and bounded."""
    for key in keys:
        if value := environ.get(key, "").strip():
            return str(value[:SESSION_CHARS])
    return ""


def _client_ip(environ: dict[str, Any], remote: str, runtime: Runtime) -> str:
    forwarded_for = environ.get("HTTP_X_FORWARDED_FOR", "")
    return runtime.proxies.client_ip(remote, forwarded_for, environ.get("HTTP_X_REAL_IP", ""))


def _bounded(
    read: Callable[[int], bytes], environ: dict[str, Any], length: int | None, sock: Any
) -> Callable[[int], bytes]:
    """Wrap *read* of another server: it ends, waits BODY_S at most, and raises LlmsnapError."""
    if "wsgi.input_terminated" not in environ and length is not None:
        read = _up_to(read, length)
    if sock is not None:
        read = _in_time(read, sock)

    def read_or_raise(size: int) -> bytes:
        try:
            return read(size)
        except LlmsnapError:
            raise
        except TimeoutError as error:
            raise BodyTimeout("the body of the request did not go on in time") from error
        except OSError as error:
            raise ClientGone("the client left while it sent its body") from error
        except Exception as error:
            raise BadRequest(f"the body cannot be read: {error}") from error

    return read_or_raise


def _up_to(read: Callable[[int], bytes], length: int) -> Callable[[int], bytes]:
    """Limit *read* to *length* bytes in all, since Werkzeug's server would wait for more."""
    left = length

    def read_up_to(size: int) -> bytes:
        nonlocal left
        data = read(min(size, left)) if left else b""
        left -= len(data)
        return data

    return read_up_to


def _in_time(read: Callable[[int], bytes], sock: Any) -> Callable[[int], bytes]:
    """Limit each wait of *read* on *sock* to BODY_S, since other servers wait indefinitely."""

    def read_in_time(size: int) -> bytes:
        before = sock.gettimeout()
        sock.settimeout(BODY_S)
        try:
            return read(size)
        finally:
            sock.settimeout(before)

    return read_in_time


def requested_path(environ: dict[str, Any]) -> str:
    """Return path and query as the client sent them; servers keep them under different names."""
    raw: str = environ.get("RAW_URI") or environ.get("REQUEST_URI") or environ["PATH_INFO"]
    if raw[:1] != "/":
        raw = AUTHORITY.sub("", raw)  # gunicorn passes an absolute URL unchanged
    return raw


# --- taking over the connection -----------------------------------------------------------------


TAKE_OVER = "llmsnap.take_over"


def take_over(environ: dict[str, Any]) -> bytes:
    """Take over the connection; return the bytes that the server read beyond the request's head."""
    if TAKE_OVER in environ:
        ahead: bytes = environ[TAKE_OVER]()
        return ahead
    if "gunicorn.socket" in environ:
        return _from_gunicorn(environ["wsgi.input"])
    if "werkzeug.socket" in environ:
        return _from_werkzeug(environ["wsgi.input"], environ["werkzeug.socket"])
    return b""


def leave_taken(environ: dict[str, Any]) -> list[bytes]:
    """Return, or raise, whatever stops the WSGI server from writing to the taken connection."""
    if "gunicorn.socket" in environ:
        raise StopIteration  # gunicorn's workers close the connection on this
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
