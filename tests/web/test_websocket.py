"""Facts about llmsnap.web.websocket, over real connections to our own server."""

import base64
import json
from collections.abc import Iterator
from typing import Any

import gevent
import pytest
from gevent import socket
from wsproto.frame_protocol import FrameProtocol, Opcode

from llmsnap.telemetry import ModelPreloaded
from llmsnap.web.websocket import Wire
from tests.server.conftest import Serving
from tests.web.serving import app_of
from tests.web.watched import World

HANDSHAKE = {
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": base64.b64encode(b"0123456789abcdef").decode(),
}
FIRST = ["logData", "logData", "modelStatus", "uiConfig", "profileChanged", "inflight", "metrics"]


class Client:
    """The other end, which reads only as much as it should."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.texts: list[str] = []
        self.closed_with: int | None = None
        self._frames = FrameProtocol(client=True, extensions=[])
        self._text = ""
        head = b""
        while b"\r\n\r\n" not in head:
            head += sock.recv(1)
        self.head = head.decode()
        self.status = int(self.head.split()[1])

    def receive(self, count: int = 1) -> list[Any]:
        """The next *count* messages."""
        while len(self.texts) < count:
            self._read()
        texts, self.texts = self.texts[:count], self.texts[count:]
        return [json.loads(text) for text in texts]

    def wait_closed(self) -> int:
        """Read to the end and return the code that the server closed with."""
        while self.closed_with is None:
            self._read()
        return self.closed_with

    def say(self, text: str) -> None:
        self.sock.sendall(self._frames.send_data(text))

    def good_bye(self) -> None:
        self.sock.sendall(self._frames.close(1000))

    def _read(self) -> None:
        data = self.sock.recv(65536)
        assert data, "the connection ended"
        self._frames.receive_bytes(data)
        for frame in self._frames.received_frames():
            if frame.opcode is Opcode.CLOSE:
                self.closed_with = int(frame.payload[0])
            elif frame.opcode is Opcode.TEXT:
                self._text += frame.payload
                if frame.message_finished:
                    self.texts.append(self._text)
                    self._text = ""


class Site:
    def __init__(self) -> None:
        self.world = World()
        app = app_of(lambda: self.world.service)
        self.serving = Serving(app.wsgi_app, "127.0.0.1:0")
        self.socks: list[socket.socket] = []

    def connect(self, query: str = "", **headers: str | None) -> Client:
        """Send a handshake, some of its headers changed or left out, and read the answer."""
        host, port = self.serving.address
        shown = {**HANDSHAKE, "Host": f"{host}:{port}"}
        shown |= {name.replace("_", "-"): value for name, value in headers.items()}
        lines = [f"{name}: {value}" for name, value in shown.items() if value is not None]
        sock = socket.create_connection((host, port))
        self.socks.append(sock)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16384)
        sock.sendall("\r\n".join([f"GET /api/ws{query} HTTP/1.1", *lines, "", ""]).encode())
        return Client(sock)

    def close(self) -> None:
        for sock in self.socks:
            sock.close()
        self.world.service.end_feeds()
        self.serving.stop()


@pytest.fixture
def site() -> Iterator[Site]:
    made = Site()
    yield made
    made.close()


def wait_for(fact: Any) -> None:
    while not fact():
        gevent.idle()


def test_it_sends_what_the_event_stream_sends(site) -> None:
    client = site.connect("?format=both")
    assert [one["type"] for one in client.receive(7)] == FIRST
    site.world.record()
    envelope, activity, named = client.receive(3)
    assert json.loads(envelope["data"])[0]["id"] == 0
    assert (activity["type"], json.loads(activity["data"])) == ("activity", {"id": 0})
    assert (named["event"], named["data"]["outputTokens"]) == ("metrics", 10)
    assert named["id"].endswith("-1-0")
    client = site.connect(f"?format=named&lastEventId={site.world.service.telemetry.run}-0-0")
    assert client.receive() == [named]
    client = site.connect()
    assert [one["type"] for one in client.receive(7)] == FIRST
    site.world.publish(ModelPreloaded("alpha", success=True))
    site.world.record(status=502)
    assert [one["type"] for one in client.receive(1)] == ["activity"], "envelopes alone"


@pytest.mark.parametrize("who", ["client", "server", "none"])
def test_a_client_that_says_good_bye_hears_it_or_vanishes_is_gone(site, who: str) -> None:
    log = site.world.service.logs.proxy
    client = site.connect("?format=named")
    wait_for(lambda: site.world.service.feeds)
    assert (client.status, b"/api/ws" in log.snapshot()) == (101, False)
    if who == "none":
        client.sock.close()
    else:
        client.good_bye() if who == "client" else site.world.service.end_feeds()
        assert client.wait_closed() == 1000
    wait_for(lambda: not site.world.service.feeds)
    wait_for(lambda: b'"GET /api/ws HTTP/1.1" 101' in log.snapshot())


def test_a_client_that_says_too_much_is_sent_away(site) -> None:
    client = site.connect("?format=named")
    for _ in range(100):
        client.say("hello")  # it is dropped
    site.world.service.bus.publish(ModelPreloaded("alpha", success=True))
    assert [one["event"] for one in client.receive()] == ["preload"]
    client.say("x" * 5000)
    assert client.wait_closed() == 1009


def test_a_message_is_never_cut_however_slow_its_reader_is(site) -> None:
    world = site.world
    client = site.connect("?format=both")
    wait_for(lambda: world.service.feeds)
    for number in range(40):
        world.service.logs.proxy.write(b"%d" % number * 50_000)
        world.publish()
        gevent.sleep(0)
    world.publish(ModelPreloaded("alpha", success=True))
    events: list[Any] = []
    while "preload" not in events:
        events += [message.get("event") for message in client.receive()]
    assert len(events) > 10


def test_what_is_no_good_handshake_is_refused(site) -> None:
    own = "http://{}:{}".format(*site.serving.address)
    for headers, status in (
        ({"Origin": "https://evil.example"}, 403),
        ({"Sec_Fetch_Site": "cross-site"}, 403),
        ({"Sec_WebSocket_Version": "12"}, 400),
        ({"Sec_WebSocket_Key": "short"}, 400),
        ({"Sec_WebSocket_Key": "!" * 24}, 400),
        ({"Upgrade": None}, 400),
        ({"Connection": "close"}, 400),
        ({"Sec_WebSocket_Extensions": "permessage-deflate"}, 101),
        ({"Origin": own, "Sec_Fetch_Site": "same-origin"}, 101),
    ):
        client = site.connect(**headers)
        assert client.status == status, headers
        assert "permessage-deflate" not in client.head
    assert site.connect("?format=xml").status == 400


class Trickle:
    """A socket that takes a little at a time, and lets others run in between."""

    def __init__(self) -> None:
        self.sent = b""

    def sendall(self, data: bytes) -> None:
        for byte in data:
            self.sent += bytes([byte])
            gevent.sleep(0)

    def recv(self, size: int) -> bytes:
        return b"x" * size


def test_messages_of_two_greenlets_do_not_mix() -> None:
    trickle = Trickle()
    wire = Wire(trickle)
    both = [gevent.spawn(wire.send, b"message"), gevent.spawn(wire.send, b"PONG")]
    gevent.joinall(both)
    assert trickle.sent == b"messagePONG"
    assert [task.value for task in both] == [7, 4]


def test_reading_lets_others_run() -> None:
    wire, ran = Wire(Trickle()), []
    other = gevent.spawn(ran.append, True)
    assert (wire.recv(3), ran) == (b"xxx", [True])
    other.join()
