"""WebSockets whose first message names the model, through each server to the model and back."""

import json

import pytest

from tests.e2e.raw.test_websockets import CLOSE, PING, PONG, TEXT, frame, in_flight, read_frame
from tests.e2e.raw.test_websockets import upgrade as accept
from tests.server.raw import RawClient, request

pytestmark = pytest.mark.e2e


def closed_with(client: RawClient) -> tuple[int, str]:
    opcode, payload = read_frame(client)
    assert opcode == CLOSE
    return int.from_bytes(payload[:2], "big"), payload[2:].decode()


@pytest.mark.parametrize("path", ["/v1/responses", "/responses"])
def test_it_is_joined_to_the_model_it_names(server, connect, path: str) -> None:
    server.get("/unload")
    client = connect()
    head = accept(client, path, frame(PING, b"?"))
    assert "sec-websocket-extensions" not in head.headers
    assert read_frame(client) == (PONG, b"?")
    first = json.dumps({"type": "response.create", "model": "alpha", "input": "hi"}).encode()
    client.send(frame(TEXT, first[:20], end=False))
    client.send(frame(0, first[20:]) + frame(TEXT, b"next"))
    assert read_frame(client) == (TEXT, first)
    assert read_frame(client) == (TEXT, b"next")
    assert in_flight(server) == 1
    client.send(frame(CLOSE, b"\x03\xe8"))
    assert read_frame(client) == (CLOSE, b"\x03\xe8")
    client.close()
    server.wait_for(lambda: in_flight(server) == 0)
    server.wait_output(rf'"GET {path} HTTP/1.1" 101')


def test_an_unknown_model_and_a_server_without_a_websocket_are_closes(server, connect) -> None:
    client = connect()
    accept(client, "/v1/responses")
    client.send(frame(TEXT, b'{"model": "nobody"}'))
    code, reason = closed_with(client)
    assert (code, reason[:25]) == (1008, 'model not found: "nobody"')
    client = connect()
    accept(client, "/v1/responses?sim_status=404")
    client.send(frame(TEXT, b'{"model": "alpha"}'))
    code, reason = closed_with(client)
    assert code == 1011
    assert "has no WebSocket at /v1/responses" in reason
    server.wait_for(lambda: in_flight(server) == 0)
    records = server.get("/api/activity").json()["records"][:2]
    found = [(one["requested"], one["status"]) for one in records]
    assert found == [("alpha", 502), ("nobody", 404)], records


def test_without_an_upgrade_it_is_no_get(server, connect) -> None:
    client = connect()
    answer = client.ask(request("/v1/responses", "GET"))
    assert answer.status == 405
    assert b"WebSocket" in answer.body
