import pytest

from llmsnap.errors import ChildExited, HealthTimeout
from llmsnap.models import health
from llmsnap.models.control import ControlCall, parse_address
from llmsnap.models.health import HealthCheck, wait_healthy
from tests.fakes.errors import says
from tests.fakes.upstream import FakeUpstream


def test_one_probe_is_enough_once_the_port_is_open(upstream: FakeUpstream, interrupt) -> None:
    upstream.healthy.set()
    upstream.start()
    address = parse_address(f"http://localhost:{upstream.port}")
    found = wait_healthy(HealthCheck("m", "/health", 3), address, interrupt)
    assert found.ip == "127.0.0.1"
    assert upstream.calls == ["GET /health"]


def test_a_server_that_says_503_is_asked_again(upstream: FakeUpstream, interrupt, tasks) -> None:
    upstream.start()

    def get_well() -> None:
        while len(upstream.calls) < 3:
            health.find_listener(parse_address(upstream.url))
        upstream.healthy.set()

    tasks.spawn("get well", get_well)
    wait_healthy(HealthCheck("m", "/health", 3), parse_address(upstream.url), interrupt)
    assert len(upstream.calls) > 3
    tasks.close()


def test_the_error_says_what_was_seen_last(upstream, interrupt, monkeypatch) -> None:
    address = parse_address(upstream.url)
    with pytest.raises(HealthTimeout, check=says("GET /health did not answer")):
        wait_healthy(HealthCheck("m", "/health", 0.05), address, interrupt)
    unused = parse_address("http://127.0.0.1:1")
    with pytest.raises(HealthTimeout, check=says(r"within 0\.05 s: nothing listened")):
        wait_healthy(HealthCheck("m", "/health", 0.05), unused, interrupt)
    upstream.start()
    clock = [0.0]
    monkeypatch.setattr("llmsnap.models.health.time.monotonic", lambda: clock[0])
    monkeypatch.setattr(interrupt, "pause", lambda _: clock.__setitem__(0, 10.0))
    with pytest.raises(HealthTimeout, check=says("GET /health answered 503")):
        wait_healthy(HealthCheck("m", "/health", 10), address, interrupt)


@pytest.mark.parametrize("status", [200, 204, 299, 302, 401, 404, 500])
def test_only_an_answer_of_success_is_healthy(upstream: FakeUpstream, status: int) -> None:
    upstream.statuses["/check"] = status
    upstream.start()
    said = health.probe(parse_address(upstream.url), ControlCall("GET", "/check"))
    assert said.startswith("" if status < 300 else f"GET /check answered {status}")
    assert bool(said) is (status >= 300)


def test_the_end_of_the_child_ends_the_wait(upstream: FakeUpstream, interrupt, exited) -> None:
    exited.set()
    with pytest.raises(ChildExited):
        wait_healthy(HealthCheck("m", "/health", 60), parse_address(upstream.url), interrupt)


def test_without_a_check_the_child_only_has_to_live(upstream, interrupt, exited, monkeypatch):
    monkeypatch.setattr(health, "UNCHECKED_S", 0.001)
    address = parse_address(upstream.url)
    assert wait_healthy(HealthCheck("m", None, 3), address, interrupt) == address
    exited.set()
    with pytest.raises(ChildExited):
        wait_healthy(HealthCheck("m", None, 3), address, interrupt)


@pytest.mark.parametrize(
    ("waited_s", "left_s", "least_s", "pause_s"),
    [
        (0, 9, 0.02, 0.02),
        (1, 9, 0.02, 0.03),
        (30, 9, 0.02, 0.25),
        (119.9, 0.1, 0.02, 0.1),
        (130, -10, 0.02, 0.001),
        # Looks for a port come closer together than requests.
        (0, 120, 0.005, 0.005),
        (4, 120, 0.005, 0.03),
    ],
)
def test_pauses_grow_with_what_was_waited(
    waited_s: float, left_s: float, least_s: float, pause_s: float
) -> None:
    assert health._pause_s(waited_s, left_s, least_s) == pytest.approx(pause_s)
