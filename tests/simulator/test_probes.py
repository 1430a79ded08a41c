"""Probes and controls of the simulator."""

import os

import pytest


def test_root_tells_method_and_path(sim):
    assert sim.get("/").text == "GET /"
    assert sim.call("PUT", "/").text == "PUT /"


@pytest.mark.parametrize("method", ["GET", "POST", "PATCH", "DELETE"])
def test_echo_tells_what_arrived(sim, method):
    told = sim.call(method, "/echo/a%2Fb?x=1&y=", b"body", **{"X-Test": "1"}).json
    assert ["X-Test", "1"] in told.pop("headers")
    assert told == {
        "method": method,
        "target": "/echo/a%2Fb?x=1&y=",
        "path": "/echo/a/b",
        "query": {"x": "1", "y": ""},
        "body": "body",
        "body_bytes": 4,
    }


@pytest.mark.parametrize(
    ("to", "location"),
    [("/x", "/x"), ("http://h:1/a?b=c%23d", "http://h:1/a?b=c#d"), ("/a%20b%0D", "/a%20b%0D")],
)
def test_redirect(sim, to, location):
    for more, status in (("", 302), ("&status=307", 307)):
        answer = sim.get(f"/redirect?to={to}{more}")
        assert (answer.status, answer.headers["Location"]) == (status, location)


def test_slow_respond_sends_character_by_character(sim):
    answer = sim.get("/slow-respond?echo=h%C3%A9&delay=1ms")
    assert answer.text == "hé"
    assert answer.headers["Transfer-Encoding"] == "chunked"


def test_the_text_of_the_option(serve):
    assert serve().get("/test").text == "hi"
    sim = serve(respond="ho")
    assert sim.get("/test").text == "ho"
    first, *environment = sim.get("/env").text.splitlines()
    assert first == "ho"
    assert f"PATH={os.environ['PATH']}" in environment
    assert len(sim.get("/slow-respond?delay=0").text) > 1


def test_requests_are_remembered_without_health_and_the_like(sim):
    sim.get("/health")
    sim.get("/sim/state")
    sim.post("/sleep?level=1")
    sim.post("/collective_rpc", {"method": "reload_weights"})
    seen = sim.get("/sim/requests").json
    assert [(each["method"], each["target"]) for each in seen] == [
        ("POST", "/sleep?level=1"),
        ("POST", "/collective_rpc"),
    ]
    assert seen[1]["body"] == '{"method": "reload_weights"}'


def test_options_change_while_it_runs(sim):
    answer = sim.post("/sim/options", {"fail_sleep": True, "tokens": 3, "wake_time": 0})
    assert answer.json["fail_sleep"] is True
    assert sim.post("/sleep").status == 500
    sim.post("/sim/options", {"fail_sleep": False})
    assert sim.post("/sleep").status == 200
