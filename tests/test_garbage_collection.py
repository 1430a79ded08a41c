"""Garbage collection: the heap is frozen after start, and connections leave no reference cycles."""

import subprocess
import sys

import pytest

from llmsnap.config import loads
from llmsnap.limits import child_setup
from llmsnap.routing import change_of
from llmsnap.service import Service
from llmsnap.web.app import create_app
from tests.fakes.launcher import FakeLauncher
from tests.garbage import leftovers, of_ours
from tests.server.conftest import Serving
from tests.server.raw import post, request

SPARED = """
import gc, weakref
from llmsnap import event_loop
class Node: pass
kept = [[] for _ in range(1000)]
event_loop.freeze_heap()
print(gc.get_freeze_count() > 1000, gc.get_threshold() == event_loop.THRESHOLDS, gc.isenabled())
node = Node(); node.itself = node
gone = weakref.ref(node); del node
gc.collect()
print(gone() is None)
"""


def test_what_exists_is_not_looked_at_again_and_circles_made_later_are_still_found() -> None:
    told = subprocess.run([sys.executable, "-c", SPARED], check=True, capture_output=True).stdout
    assert told.split() == [b"True"] * 4


@pytest.fixture
def server():
    config = loads('models: {a: {cmd: x, proxy: "http://localhost:1"}}', environ={})
    service = Service(config, launchers={"local": FakeLauncher()})
    service.driver.reconfigure(change_of(config))
    service.accepts = True
    serving = Serving(create_app(lambda: service).wsgi_app, "127.0.0.1:0")
    yield serving
    serving.stop()
    service.close(0.0)


ASKED = [
    (request("/health"), 200),
    (request("/api/version"), 200),  # Flask's
    (request("/v1/embeddings"), 405),
    (post(b'{"model": "nobody"}', path="/v1/embeddings"), 404),
    (post(b'{"model"', path="/v1/embeddings"), 400),
]


def test_a_connection_leaves_nothing(server) -> None:
    for asked, status in ASKED:

        def serve() -> None:
            client = server.connect()
            for _ in range(2):
                assert client.ask(asked).status == status  # noqa: B023 - called at once
            client.close()
            server.clients.remove(client)

        assert not of_ours(leftovers(serve)), asked


def test_the_setup_of_a_child_leaves_nothing() -> None:
    assert not leftovers(child_setup)
