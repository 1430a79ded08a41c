import gevent
import pytest
from gevent.event import Event

from llmsnap.proxy.presence import Presence
from llmsnap.proxy.watch import new_watch


@pytest.fixture
def watch():
    made = new_watch()
    yield made
    made.close()


def test_a_client_that_leaves_is_noted_and_told(watch, pair) -> None:
    ours, theirs = pair
    presence, gone = Presence(watch, ours.fileno()), Event()
    presence.open(gone.set)
    assert not presence.gone
    theirs.close()
    assert gone.wait(2)
    assert presence.gone
    assert repr(presence).endswith("gone>")


def test_after_close_nothing_is_told(watch, pair) -> None:
    ours, theirs = pair
    presence, gone = Presence(watch, ours.fileno()), Event()
    presence.open(gone.set)
    presence.close()
    presence.close()
    theirs.close()
    gevent.idle()
    gevent.idle()
    assert not gone.is_set()
    assert not presence.gone


def test_without_a_socket_nobody_is_seen_leaving(watch) -> None:
    for presence in (Presence(watch), Presence(None, 3)):
        presence.open(lambda: pytest.fail("nobody left"))
        presence.close()
        assert not presence.gone
