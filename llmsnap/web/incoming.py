"""What a request is, out of a WSGI environ: whichever server made that."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable
from itertools import count
from typing import TYPE_CHECKING, Any

from llmsnap.errors import BadRequest, BodyTimeout, ClientGone, LlmsnapError
from llmsnap.http.headers import from_environ
from llmsnap.http.paths import normalized
from llmsnap.proxy import ClientMonitor, Request

if TYPE_CHECKING:
    from llmsnap.runtime import Runtime
    from llmsnap.service import Service

SOCKET = "llmsnap.socket"
WATCH = "llmsnap.watch"
OTHER_SOCKETS = ("gunicorn.socket", "werkzeug.socket")
AUTHORITY = re.compile(r"^[A-Za-z]+://[^/?]*")
REQUEST_ID = re.compile(r"[A-Za-z0-9._:+/=@-]{1,128}")
"""Which X-Request-Id of a client is taken over: nothing that could confuse a log."""
BODY_S = 60.0
"""For the next byte of a body; our own server has ``server.connections.Limits`` for that."""

_RUN = secrets.token_hex(4)
_numbers = count(1)


def new_request(environ: dict[str, Any], service: Service, runtime: Runtime) -> Request:
    """Read what concerns us out of a WSGI environ, whose path is normalized for Flask too."""
    get = environ.get
    sock = get(SOCKET) or next((environ[name] for name in OTHER_SOCKETS if name in environ), None)
    given, environ["PATH_INFO"], path, raw_path = _read(environ)
    remote = get("REMOTE_ADDR", "")
    length = _body_length(environ)
    body = environ["wsgi.input"]
    read = getattr(body, "read1", body.read)  # what has come, rather than as much as is asked for
    if "wsgi.input_terminated" not in environ and length is not None:
        read = _up_to(read, length)
    if SOCKET not in environ and sock is not None:
        read = _in_time(read, sock)
    return Request(
        id=given or f"{_RUN}-{next(_numbers)}",
        method=environ["REQUEST_METHOD"],
        path=path,
        raw_path=raw_path,
        query=get("QUERY_STRING", ""),
        headers=lambda: from_environ(environ),
        header=lambda name: get(name, ""),
        read=_reader(read),
        held=service.bodies.held(),
        length=length,
        remote_ip=remote,
        client_ip=_client_ip(environ, remote, runtime),
        monitor=ClientMonitor(get(WATCH, service.watch), sock.fileno() if sock is not None else -1),
        accept=get("HTTP_ACCEPT", ""),
        protocol=get("SERVER_PROTOCOL", "HTTP/1.1"),
        user_agent=get("HTTP_USER_AGENT", ""),
        socket=sock,
    )


def _read(environ: dict[str, Any]) -> tuple[str, str, str, str]:
    """Return the request id given, the path for WSGI, the path as text and as the client sent it.

    All of them from the head alone. The id is "" when none was given that may stand in a log.
    """
    given = environ.get("HTTP_X_REQUEST_ID", "")
    path = normalized(environ["PATH_INFO"])
    text = path if path.isascii() else path.encode("latin-1").decode("utf-8", "replace")
    return given if REQUEST_ID.fullmatch(given) else "", path, text, _raw_path(environ)


def _client_ip(environ: dict[str, Any], remote: str, runtime: Runtime) -> str:
    if not runtime.proxies.known:
        return remote
    forwarded_for = environ.get("HTTP_X_FORWARDED_FOR", "")
    return runtime.proxies.client_ip(remote, forwarded_for, environ.get("HTTP_X_REAL_IP", ""))


def _reader(read: Callable[[int], bytes]) -> Callable[[int], bytes]:
    """*read*, whose errors are ours whichever server it comes from."""

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
    """*read*, for *length* bytes in all: Werkzeug's server would wait for what is behind them."""
    left = length

    def read_up_to(size: int) -> bytes:
        nonlocal left
        data = read(min(size, left)) if left else b""
        left -= len(data)
        return data

    return read_up_to


def _in_time(read: Callable[[int], bytes], sock: Any) -> Callable[[int], bytes]:
    """*read*, for which *sock* waits BODY_S each time: other servers wait without end."""

    def read_in_time(size: int) -> bytes:
        before = sock.gettimeout()
        sock.settimeout(BODY_S)
        try:
            return read(size)
        finally:
            sock.settimeout(before)

    return read_in_time


def _raw_path(environ: dict[str, Any]) -> str:
    """Path and query as the client sent them, the path normalized."""
    path, question, query = requested_path(environ).partition("?")
    return normalized(path) + question + query


def requested_path(environ: dict[str, Any]) -> str:
    """Return path and query as the client sent them; servers keep them under different names."""
    raw: str = environ.get("RAW_URI") or environ.get("REQUEST_URI") or environ["PATH_INFO"]
    if raw[:1] != "/":
        raw = AUTHORITY.sub("", raw)  # gunicorn leaves a URL as it came
    return raw


def _body_length(environ: dict[str, Any]) -> int | None:
    """How long the request's body is; None when it comes in chunks."""
    if "HTTP_TRANSFER_ENCODING" in environ:
        return None
    return int(environ.get("CONTENT_LENGTH") or 0)
