"""Idle clients do not disturb others."""

from contextlib import ExitStack, closing

import pytest

from tests.e2e.harness import FEW_FILES
from tests.e2e.raw.test_framing import CHAT, JSON, chat, said
from tests.server.raw import RawClient, post, request

pytestmark = pytest.mark.e2e


def test_a_stream_goes_on_among_idle_and_half_sent_connections(server, connect) -> None:
    stream = connect()
    stream.send(post(chat(stream=True, sim_tokens=200, sim_tps=200), JSON, path=CHAT))
    assert stream.head().status == 200
    idle = [connect() for _ in range(100)]
    for client in idle[:50]:
        assert client.ask(request("/health")).body == b"OK"
    whole = post(chat(), JSON, path=CHAT)
    half = [connect() for _ in range(50)]
    for number, client in enumerate(half):
        client.send(whole[: 1 + number * (len(whole) - 2) // 50])
    assert "You said: hi" in said(connect().ask(post(chat(), JSON, path=CHAT)))
    stream.until(b"data: [DONE]")
    for number, client in enumerate(half[:5]):  # before the time for their heads is over
        rest = whole[1 + number * (len(whole) - 2) // 50 :]
        assert "You said: hi" in said(client.ask(rest))
    for client in idle[:50]:
        assert client.ask(request("/health")).body == b"OK"


def test_neither_idle_connections_nor_stalled_bodies_use_up_the_descriptors(start) -> None:
    server = start(door=FEW_FILES)
    with ExitStack() as stack:

        def connect() -> RawClient:
            return stack.enter_context(closing(RawClient(("127.0.0.1", server.port))))

        for _ in range(430):
            assert connect().ask(request("/health")).body == b"OK"
        assert "You said: hi" in said(connect().ask(post(chat(), JSON, path=CHAT)))
        for _ in range(430):
            connect().send(post(chat(), JSON, path=CHAT)[:-1])
        assert "You said: hi" in said(connect().ask(post(chat(), JSON, path=CHAT)))
    assert "Too many open files" not in server.output


def test_clients_that_vanish_in_the_middle_leave_nothing(server, connect) -> None:
    for number in range(30):
        client = connect()
        client.send(post(chat(stream=True, sim_tokens=100_000, sim_tps=50), JSON, path=CHAT))
        if number % 2:
            client.until(b"data: ")
        client.close()
    server.wait_for(lambda: server.get("/upstream/alpha/sim/state").json()["clients_gone"] >= 15)
    assert connect().ask(request("/health")).body == b"OK"
