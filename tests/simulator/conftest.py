"""A simulator in this process, on a port of its own, and a client that talks to it."""

import json
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from http.client import HTTPConnection
from itertools import zip_longest
from typing import Any

import pytest
from gevent.event import Event

from llmsnap.simulator.options import SimOptions
from llmsnap.simulator.server import SimServer


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def events(self) -> list[tuple[str, Any]]:
        """The server-sent events: name and data, the end mark as it is."""
        found = []
        for frame in self.text.removesuffix("\n\n").split("\n\n"):
            lines = dict(line.split(": ", 1) for line in frame.split("\n"))
            data = lines["data"]
            found.append((lines.get("event", ""), data if data == "[DONE]" else json.loads(data)))
        return found

    def collected(self, place: str) -> str:
        """The pieces that the events of a stream have at *place*, a dotted path, joined."""
        assert self.headers["Content-Type"] == "text/event-stream"
        assert all(name in {"", find(data, "type")} for name, data in self.events)
        return "".join(filter(None, (find(data, place) for _, data in self.events)))


def find(document: Any, place: str) -> Any:
    """What *document* has at *place*, such as ``choices.0.text``; None: nothing."""
    for key in place.split("."):
        try:
            document = document[int(key) if isinstance(document, list) else key]
        except (KeyError, IndexError, TypeError, ValueError):
            return None
    return document


def cut(document: Any, like: Any) -> Any:
    """*document* without the members of its objects that *like* does not have."""
    if isinstance(document, dict) and isinstance(like, dict):
        return {name: cut(document[name], like[name]) for name in document if name in like}
    if isinstance(document, list) and isinstance(like, list):
        return [cut(one, other) for one, other in zip_longest(document, like)]
    return document


class Sim:
    """A running simulator; *left* holds the codes it wanted to exit with."""

    def __init__(self, options: SimOptions) -> None:
        self.lines: list[str] = []
        self.left: list[int] = []
        self.leaving = Event()
        self._wrote = Event()
        self.server = SimServer(options, self._write_line, self._leave)
        self.state = self.server.state

    def _write_line(self, line: str) -> None:
        self.lines.append(line)
        self._wrote.set()

    def _leave(self, code: int) -> None:
        self.left.append(code)
        self.leaving.set()

    def line_with(self, words: str) -> str:
        """The first log line that has *words*, waited for if need be."""
        while not (found := [line for line in self.lines if words in line]):
            self._wrote.clear()
            self._wrote.wait()
        return found[0]

    def begin(self, path: str, body: bytes = b"{}") -> HTTPConnection:
        """Send a request without waiting for its answer, and return once it has begun."""
        connection = self.connect()
        connection.request("POST", path, body)
        while self.get("/sim/requests").json[-1:] == []:
            pass
        return connection

    def connect(self) -> HTTPConnection:
        return HTTPConnection("127.0.0.1", self.server.port)

    def call(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        with closing(self.connect()) as connection:
            connection.request(method, path, data, headers)
            response = connection.getresponse()
            return Answer(response.status, dict(response.getheaders()), response.read())

    def get(self, path: str, **headers: str) -> Answer:
        return self.call("GET", path, **headers)

    def post(self, path: str, body: Any = None, **headers: str) -> Answer:
        return self.call("POST", path, body, **headers)


@pytest.fixture
def serve() -> Iterator[Callable[..., Sim]]:
    started: list[Sim] = []

    def start(**options: Any) -> Sim:
        sim = Sim(SimOptions(port=0, **options))
        started.append(sim)
        sim.server.open()
        return sim

    yield start
    for sim in started:
        sim.server.close()


@pytest.fixture
def sim(serve: Callable[..., Sim]) -> Sim:
    return serve()
