"""``/api/ws``: the event feed over a WebSocket, for clients behind proxies that buffer SSE.

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
"""Options of every connection: pings detect lost clients, and clients send little."""
EXTENSIONS = "HTTP_SEC_WEBSOCKET_EXTENSIONS"


class Wire:
    """A socket adapter for simple-websocket.

    simple-websocket assumes that ``send`` sends all of its data, answers pings from its own
    greenlet even in the middle of our message, and reads without yielding to other greenlets.
    """

    def __init__(self, connection: Any) -> None:
        self._sock = connection
        self._turn = BoundedSemaphore(1)

    def __repr__(self) -> str:
        return f"<Wire {self._sock!r}>"

    def send(self, data: bytes) -> int:
        """Send all of *data* without interleaving another message. Blocks."""
        with self._turn:
            self._sock.sendall(data)
        return len(data)

    def recv(self, size: int) -> bytes:
        """Receive, yielding to other greenlets first, lest a busy client starve them. Blocks."""
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
    """Validate the request while an error response is still possible. Raises: BadRequest."""
    new_feed()
    if not is_handshake(request.headers):
        raise BadRequest("not a WebSocket handshake: version 13 and a key of 16 bytes are needed")
    # Compressing for each of fifty tabs costs more than it saves.
    request.environ.pop(EXTENSIONS, None)


def is_handshake(headers: Headers) -> bool:
    """Whether the request is a valid WebSocket handshake (RFC 6455 section 4.2.1)."""
    try:
        key = base64.b64decode(headers.get("Sec-WebSocket-Key", ""), validate=True)
    except ValueError:
        return False
    version = headers.get("Sec-WebSocket-Version", "")
    return len(key) == 16 and version == "13" and "upgrade" in headers.get("Connection", "").lower()


@sock.route("/api/ws", bp=bp)  # type: ignore[untyped-decorator]
def events(connection: Server) -> None:
    """Send all events; ``?format=`` and ``?lastEventId=`` as for ``/api/events``."""
    context = current_context()
    context.status = 101
    if take_over(request.environ):
        return  # a client that sends before the handshake is complete
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
    """Send the frames of *feed* until either side ends. Blocks."""
    with suppress(OSError, ConnectionClosed):
        while not feed.is_over:
            for frame in feed.wait(HEARTBEAT_S):
                connection.send(frame.text())


def drop(connection: Server, feed: EventFeed) -> None:
    """Discard the client's messages, and end *feed* when it disconnects. Blocks."""
    with suppress(ConnectionClosed):
        while True:
            connection.receive()
    feed.end()
