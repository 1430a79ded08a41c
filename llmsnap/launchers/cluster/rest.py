"""Calls to the REST interface of an engine, with bounds on their time and the size of replies."""

from __future__ import annotations

import json
import select
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import gevent
from gevent import socket
from gevent.monkey import get_original
from gevent.queue import LifoQueue

from llmsnap.errors import EngineDown, Rejected

if TYPE_CHECKING:
    import requests
    from urllib3.connection import HTTPConnection

T = TypeVar("T")

CONNECT_LIMIT_S = 3.0
LIMIT_S = 10.0
MOST_BYTES = 16 * 1024 * 1024
PIECE_BYTES = 65536
MOST_SHOWN = 500
"""Characters of a reply in an error."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A reply: *data* is its JSON; None if it is none."""

    status: int
    data: Any
    text: str

    @property
    def is_ok(self) -> bool:
        """Whether the call succeeded."""
        return 200 <= self.status < 300

    def __str__(self) -> str:
        return f"{self.status} {' '.join(self.text.split())[:MOST_SHOWN]}"


class RestClient:
    """The connections to one engine. *name* is what messages call it.

    Proxies and password files of the environment are ignored, redirects are not followed.
    """

    def __init__(self, name: str, address: str, headers: Mapping[str, str]) -> None:
        self.name = name
        self._address = address.rstrip("/")
        self.headers = headers
        """Sent with every call; may be replaced."""
        self._session: requests.Session | None = None

    def __repr__(self) -> str:
        return f"<RestClient of {self.name}>"

    def call(self, method: str, path: str, body: Any = None, *, limit_s: float = LIMIT_S) -> Answer:
        """Make one call; *body* is sent as JSON. Blocks up to *limit_s*.

        Raises: EngineDown, also for 502 to 504; Rejected for a token that is refused.
        """
        late = EngineDown(f"{self.name} did not answer within {limit_s:g} s")
        url = self._address + path
        with gevent.Timeout(limit_s, late), self._open(method, url, body, limit_s) as reply:
            text = self._whole(reply).decode("utf-8", "replace")
        try:
            data = json.loads(text) if text else None
        except (ValueError, RecursionError):
            data = None
        return Answer(reply.status_code, data, text)

    def read(self, reader: Callable[[Any], T], data: Any) -> T:
        """Return *reader* of *data*, a part of a reply. Raises: EngineDown if its form is wrong."""
        try:
            return reader(data)
        except (AttributeError, LookupError, TypeError, ValueError) as error:
            raise EngineDown(f"{self.name} gives no usable reply", detail=f": {error}") from error

    def stream(self, url: str) -> Iterator[bytes]:
        """Yield the pieces of a reply that goes on without end. Raises: as ``call``.

        *url* is a path of the engine, or an address. Not bounded: its greenlet is killed.
        """
        import requests  # noqa: PLC0415 - see warm_up

        url = self._address + url if url.startswith("/") else url
        reply = self._open("GET", url, None, None)
        with reply:
            if reply.status_code >= 300:
                raise EngineDown(f"{self.name} has no output: {reply.status_code}")
            try:
                while piece := reply.raw.read1(PIECE_BYTES, decode_content=True):
                    yield piece
            except (requests.RequestException, OSError, _urllib3_error()) as error:
                raise EngineDown(f"{self.name} broke off: {type(error).__name__}") from error

    def close(self) -> None:
        """Close all connections."""
        if self._session is not None:
            self._session.close()

    def _open(
        self, method: str, url: str, body: Any, read_limit_s: float | None
    ) -> requests.Response:
        import requests  # noqa: PLC0415 - see warm_up

        if self._session is None:
            warm_up()
            self._session = requests.Session()
            self._session.trust_env = False
        try:
            reply = self._session.request(
                method,
                url,
                json=body,
                headers={**self.headers, "Accept-Encoding": "identity"},
                timeout=(CONNECT_LIMIT_S, read_limit_s),
                allow_redirects=False,
                stream=True,
            )
        except (requests.RequestException, OSError) as error:
            raise EngineDown(f"{self.name} does not answer", detail=f": {_cause(error)}") from error
        if reply.status_code in (401, 403):
            reply.close()
            fix = "; set another in the configuration, and reload it"
            raise Rejected(f"{self.name} refuses the token", detail=f": {reply.status_code}{fix}")
        if reply.status_code in (502, 503, 504):
            reply.close()
            raise EngineDown(f"{self.name} answered {reply.status_code}")
        return reply

    def _whole(self, reply: requests.Response) -> bytes:
        import requests  # noqa: PLC0415 - see warm_up

        body = b""
        try:
            for piece in reply.iter_content(PIECE_BYTES):
                body += piece
                if len(body) > MOST_BYTES:
                    raise EngineDown(f"{self.name}: a reply is larger than {MOST_BYTES} bytes")
        except (requests.RequestException, OSError) as error:
            raise EngineDown(f"{self.name} broke off", detail=f": {_cause(error)}") from error
        return body


def warm_up() -> None:
    """Load requests, whose connections then close when a greenlet that uses them is killed.

    Loading takes 60 ms, which a program that only starts need not pay.
    """
    import requests  # noqa: F401, PLC0415 - see above
    from urllib3.connection import HTTPConnection  # noqa: PLC0415
    from urllib3.connectionpool import ConnectionPool  # noqa: PLC0415
    from urllib3.util import connection  # noqa: PLC0415

    # A greenlet that is killed while these switch would leave its socket open, or, in the standard
    # library's queue, which may switch while a pool is collected as garbage, print an error.
    connection.create_connection = connected  # type: ignore[assignment]  # called like it
    HTTPConnection.is_connected = property(is_open)  # type: ignore[method-assign,assignment]
    ConnectionPool.QueueCls = LifoQueue  # type: ignore[assignment]  # same methods


def connected(
    address: tuple[str, int],
    timeout: float | None = None,
    source_address: tuple[str, int] | None = None,
    socket_options: Iterable[tuple[int, int, int | bytes]] | None = None,
) -> socket.socket:
    """Return a connection to *address*. Blocks up to *timeout*. Raises: OSError."""
    host, port = address
    sock = socket.create_connection((host.strip("[]"), port), timeout, source_address)
    for option in socket_options or ():
        sock.setsockopt(*option)
    return sock


def is_open(connection: HTTPConnection) -> bool:
    """Whether the server has neither closed an idle *connection* nor sent anything. No switch."""
    if connection.sock is None:
        return False
    look = get_original("select", "poll")()
    look.register(connection.sock, select.POLLIN)
    return not look.poll(0)


def _urllib3_error() -> type[Exception]:
    from urllib3.exceptions import HTTPError  # noqa: PLC0415

    return HTTPError


def _cause(error: BaseException) -> str:
    """Return the text of the innermost cause, without object addresses."""
    while error.__cause__ or error.__context__:
        error = error.__cause__ or error.__context__ or error
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return text if text.isprintable() else "what answers at its port is no HTTP"
