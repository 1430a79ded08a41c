import pytest
from gevent.event import Event

from llmsnap.config.settings import Endpoint
from llmsnap.errors import ChildExited, SleepFailed, WakeFailed
from llmsnap.tasks import TaskGroup
from llmsnap.upstream.control import parse_address
from llmsnap.upstream.interrupt import Interrupt
from llmsnap.upstream.sleep import is_sleeping, run_endpoints
from tests.fakes.errors import says
from tests.fakes.upstream import FakeUpstream

STEPS = (Endpoint("/one"), Endpoint("/two?x=1", "PUT", '{"a":1}', 0.1), Endpoint("/three"))


@pytest.fixture
def interrupt() -> Interrupt:
    return Interrupt(Event(), Event(), lambda: ChildExited("gone"), TaskGroup("test"))


def test_steps_run_in_order_and_any_2xx_is_success(upstream: FakeUpstream, interrupt) -> None:
    upstream.statuses = {"/one": 200, "/two": 202, "/three": 204}
    upstream.start()
    run_endpoints("sleep", STEPS, parse_address(upstream.url), interrupt, SleepFailed)
    assert upstream.calls == ["POST /one", "PUT /two", "POST /three"]


def test_the_first_failure_ends_it_and_names_the_step(upstream: FakeUpstream, interrupt) -> None:
    upstream.statuses = {"/one": 200, "/two": 500}
    upstream.start()
    with pytest.raises(
        WakeFailed, check=says(r"wake step 2 of 3 failed: PUT /two\?x=1 answered 500")
    ):
        run_endpoints("wake", STEPS, parse_address(upstream.url), interrupt, WakeFailed)
    assert "POST /three" not in upstream.calls


def test_each_step_has_its_own_time(upstream: FakeUpstream, interrupt) -> None:
    upstream.statuses = {"/one": 200}
    upstream.gates["/two"] = Event()
    upstream.start()
    with pytest.raises(SleepFailed, check=says(r"did not answer within 0\.1 s")):
        run_endpoints("sleep", STEPS, parse_address(upstream.url), interrupt, SleepFailed)
    upstream.gates["/two"].set()


@pytest.mark.parametrize(
    ("body", "answer"),
    [
        (b'{"is_sleeping": true}', True),
        (b'{"is_sleeping": false}', False),
        (b"true", None),
        (b"not json", None),
        (b'{"is_sleeping": 1}', None),
    ],
)
def test_a_server_that_can_tell_is_believed(upstream, interrupt, body, answer) -> None:
    def handler(_, start_response):
        start_response("200 OK", [])
        return [body]

    upstream.handler = handler
    upstream.start()
    assert is_sleeping(parse_address(upstream.url), interrupt) is answer


def test_a_server_that_cannot_tell_is_not_asleep_for_all_we_know(upstream, interrupt) -> None:
    upstream.start()  # says 404
    assert is_sleeping(parse_address(upstream.url), interrupt) is None
