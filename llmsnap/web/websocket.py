"""``/api/ws``: the event feed over a WebSocket, for clients behind boxes that hold SSE back.

Each frame is one text message: an envelope as it is, a named frame as ``{event, id, data}``.
"""

from __future__ import annotations

import base64
from contextlib import suppress
from typing import Any

import gevent
from flask import Blueprint, request
from flask_sock import Sock
from gevent.lock import BoundedSemaphore
from simple_websocket import ConnectionClosed, Server
from werkzeug.datastructures import Headers

from llmsnap.errors import BadRequest
from llmsnap.tasks import TaskGroup
from llmsnap.web.current import current_context
from llmsnap.web.events import HEARTBEAT_S, EventFeed, new_feed
from llmsnap.web.incoming import take_over

bp = Blueprint("websocket", __name__)
sock = Sock()

OPTIONS = {"ping_interval": HEARTBEAT_S, "max_message_size": 4096}
"""For every connection; a client that answers no ping is gone, and none has much to say."""
EXTENSIONS = "HTTP_SEC_WEBSOCKET_EXTENSIONS"


class Wire:
    """The client's socket as simple-websocket believes it to be.

    It sends with ``send`` and takes it that all was sent, and it answers pings from a greenlet of
    its own, in the middle of our message. It also reads without ever letting others run.
    """

    def __init__(self, connection: Any) -> None:
        self._sock = connection
        self._turn = BoundedSemaphore(1)

    def __repr__(self) -> str:
        return f"<Wire {self._sock!r}>"

    def send(self, data: bytes) -> int:
        """Send all of *data*, and nothing else in between. Blocks."""
        with self._turn:
            self._sock.sendall(data)
        return len(data)

    def recv(self, size: int) -> bytes:
        """Receive; a client that sends without end does not keep others waiting. Blocks."""
        gevent.sleep(0)
        received: bytes = self._sock.recv(size)
        return received

    def fileno(self) -> int:
        """Return the descriptor."""
        number: int = self._sock.fileno()
        return number

    def close(self) -> None:
        """Close the socket."""
        self._sock.close()


@bp.before_request
def check() -> None:
    """Refuse what is wrong while that can be said. Raises: BadRequest."""
    new_feed()
    if not is_handshake(request.headers):
        raise BadRequest("not a WebSocket handshake: version 13 and a key of 16 bytes are needed")
    # Compressing for each of fifty tabs costs more than all that is compressed.
    request.environ.pop(EXTENSIONS, None)


def is_handshake(headers: Headers) -> bool:
    """Whether a client that asks for a WebSocket does it right (RFC 6455 section 4.2.1)."""
    try:
        key = base64.b64decode(headers.get("Sec-WebSocket-Key", ""), validate=True)
    except ValueError:
        return False
    version = headers.get("Sec-WebSocket-Version", "")
    return len(key) == 16 and version == "13" and "upgrade" in headers.get("Connection", "").lower()


@sock.route("/api/ws", bp=bp)  # type: ignore[untyped-decorator]
def events(connection: Server) -> None:
    """Send everything that happens; ``?format=`` and ``?lastEventId=`` as for ``/api/events``."""
    context = current_context()
    context.status = 101
    if take_over(request.environ):
        return  # a client that sends before the handshake is over
    connection.sock = Wire(connection.sock)
    feed = new_feed()
    tasks = TaskGroup("websocket")
    try:
        feed.open()
        context.request.monitor.open(feed.end)
        tasks.spawn("reader", drop, connection, feed)
        send(connection, feed)
    finally:
        context.request.monitor.close()
        feed.close()
        tasks.kill()


def send(connection: Server, feed: EventFeed) -> None:
    """Send what *feed* tells until one side ends. Blocks."""
    with suppress(OSError, ConnectionClosed):
        while not feed.is_over:
            for frame in feed.wait(HEARTBEAT_S):
                connection.send(frame.text())


def drop(connection: Server, feed: EventFeed) -> None:
    """Read and forget what the client says, and end *feed* when it leaves. Blocks."""
    with suppress(ConnectionClosed):
        while True:
            connection.receive()
    feed.end()
