import pytest

from llmsnap.errors import ChildExited, in_full
from llmsnap.models import State
from llmsnap.routing.explain import error_of, error_of_cut, error_of_outcome, span
from llmsnap.routing.messages import CutReason, ModelRules, Outcome, RefusalReason, Refuse
from tests.routing.world import World, gate_shut, group


def why(world: World, model_id: str) -> str:
    return world.scheduler.explain(model_id, world.now)


def eta(world: World, model_id: str) -> float:
    eta_s = world.scheduler.eta_s(model_id, world.now)
    assert eta_s is not None
    return round(eta_s, 6)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (119.0, "119 s"), (3660.0, "61 min"), (86400.0, "24 h")]
)
def test_spans_read_as_people_say_them(seconds: float, text: str) -> None:
    assert span(seconds) == text


def test_a_load_under_way() -> None:
    world = World("a b")
    world.models["a"].load_s = 60.0
    assert why(world, "a") == "a is about to load"
    world.request("a").after(10.0)
    world.request("b")
    assert why(world, "a") == "a has been loading for 10 s"
    assert why(world, "b") == "a goes first: a has been loading for 10 s"


def test_what_a_model_that_is_evicted_sleeps_or_stops_is_said_to_do() -> None:
    assert why(gate_shut()[0], "a") == "a makes room for b; a is serving 1 request for 114 s"
    world = World("a b", a=ModelRules("a", can_sleep=True))
    stream = world.occupy("a")
    world.sleep("a")
    assert why(world, "a") == "a is to be asleep first; a is serving 1 request for 4 s"
    world.unload("a", drain=True)
    assert why(world, "a") == "a is to be stopped first; a is serving 1 request for 4 s"
    world.finish(stream)
    world.serve("a")
    world.request("b")
    assert why(world, "b") == why(world, "a") == "a is going to sleep"


def test_others_that_waited_longer_and_slots_that_are_taken() -> None:
    world = World("x y s", group("big", "x y"), group("small", "s", swap=False, exclusive=False))
    world.occupy("x")
    world.request("y")
    world.request("s")
    assert why(world, "s") == "y waited longer"
    full = World("a", a=ModelRules("a", concurrency_limit=1))
    full.occupy("a")
    full.request("a")
    assert why(full, "a") == "a has 1 slots (concurrencyLimit); a is serving 1 request for 4 s"


def test_estimates_follow_what_was_measured() -> None:
    world = World("a b")
    assert eta(world, "a") == 5.0  # nothing known yet
    world.finish(world.occupy("a"))
    assert eta(world, "b") == 5.0
    world.finish(world.occupy("b"))
    assert eta(world, "a") == 1.0  # a's load; nothing known of how long b takes to stop
    world.finish(world.occupy("a"))
    assert eta(world, "b") == 1.5


def test_a_load_under_way_counts_down() -> None:
    world = World("a b", slow="a")
    world.request("a").after(0.5)
    assert eta(world, "a") == 4.5
    assert eta(world, "b") == 9.5  # a first, then its own
    world.run(100.0)
    assert eta(world, "a") == 0.0, "it takes longer than ever"
    assert why(world, "nope") == ""
    assert world.scheduler.eta_s("nope", 2.0) is None


def test_a_model_that_stops_serves_and_fails() -> None:
    world = World("a", a=ModelRules("a", ttl_s=60.0))
    view = world.view("a")
    assert (view.in_flight, view.waiting, view.why, view.eta_s) == (0, 0, "", None)
    assert (view.rest, view.oldest_in_flight_for_s, view.oldest_waiting_for_s) == (None,) * 3
    first, second = world.requests("a", 2)
    world.run(11.0)
    view = world.view("a")
    assert view.state is State.READY
    assert view.gate_open
    assert (view.in_flight, view.state_for_s, view.oldest_in_flight_for_s) == (2, 10.0, 10.0)
    assert view.rest is None
    world.finish(first)
    world.finish(second)
    world.run(20.0)
    view = world.view("a")
    assert (view.rest, view.rest_in_s) == (State.STOPPED, 40.0)
    assert view.start.p50_s == 1.0
    world.crash("a")
    world.fail("a")
    view = world.view("a")
    assert (view.failures, view.backoff_s) == (2, 1.0)


def test_a_model_that_is_waited_for_says_why() -> None:
    world = World("a b")
    world.request("a").after(1.0)
    world.request("b").after(2.0)
    view = world.view("b")
    assert (view.waiting, view.oldest_waiting_for_s) == (1, 2.0)
    assert view.why == "a is serving 1 request for 2 s"
    assert view.eta_s == 13.0


def test_a_place_in_the_queue_counts_those_who_came_before() -> None:
    world = World("a")
    first, second, third = world.requests("a", 3)
    assert [world.scheduler.position(a.ticket) for a in (first, second, third)] == [1, 2, 3]
    world.leave(first)
    assert world.scheduler.position(third.ticket) == 2
    assert world.scheduler.places() == {second.ticket: 1, third.ticket: 2}
    assert world.after(1.0).scheduler.position(third.ticket) is None


@pytest.mark.parametrize(
    ("reason", "status", "text"),
    [
        (RefusalReason.UNKNOWN, 404, "it was removed while this waited"),
        (
            RefusalReason.NOT_READY,
            409,
            "m is asleep; this request may not load it, which takes about 5 s: busy",
        ),
        (RefusalReason.TOO_MANY, 429, "too many requests for m: busy"),
        (RefusalReason.FAILED, 502, "unable to make m ready: m: ended with exit code 3"),
        (RefusalReason.UNLOADED, 503, "m was unloaded"),
        (RefusalReason.QUEUE_TIMEOUT, 503, "m waited 12 s: busy"),
        (RefusalReason.NEVER_FITS, 503, "m does not fit: busy"),
        (RefusalReason.SHUTDOWN, 503, "shutting down"),
    ],
)
def test_each_refusal_is_an_error_that_says_why(reason, status, text) -> None:
    cause = ChildExited("m: ended with exit code 3")
    error = error_of(Refuse(1, "m", reason, State.ASLEEP, "busy", 12.3, 5.0, cause))
    assert error.status == status
    assert text in in_full(error)
    assert "busy" not in str(error)
    assert error.retry_after_s == 5.0
    foreign = Refuse(1, "m", reason, State.ASLEEP, "busy", 12.3, 5.0, KeyError("x"))
    assert error_of(foreign).status == status, "whatever the cause is"


@pytest.mark.parametrize(
    ("wait_s", "advice"),
    [
        (None, "The next request starts it again."),
        (0.3, "The first request after 1 s starts it again; to start it now, "),
        (64.0, "The first request after 64 s starts it again; to start it now, "),
    ],
)
def test_a_failure_says_when_it_is_tried_again_and_how_now(
    wait_s: float | None, advice: str
) -> None:
    """What an admin reads of it stands before the advice."""
    cause = ChildExited("m: ended with exit code 3", detail="; its last output:\nout of memory")
    refuse = Refuse(1, "m", RefusalReason.FAILED, State.STOPPED, "", 0.0, wait_s, cause)
    error = error_of(refuse)
    what, shown = str(error).split("\n")
    assert what == "unable to make m ready: m: ended with exit code 3"
    assert shown.startswith(advice)
    assert ("`llmsnap load m` or POST /api/models/load/m." in shown) == (wait_s is not None)
    assert in_full(error).split("\n") == [f"{what}; its last output:", "out of memory", shown]


@pytest.mark.parametrize(
    ("outcome", "status"),
    [
        (Outcome.OK, None),
        (Outcome.STOPPED, None),
        (Outcome.UNKNOWN, 404),
        (Outcome.SLEEP_NOT_CONFIGURED, 409),
        (Outcome.FAILED, 502),
        (Outcome.UNLOADED, 503),
        (Outcome.SUPERSEDED, 503),
        (Outcome.QUEUE_TIMEOUT, 503),
        (Outcome.SHUTDOWN, 503),
    ],
)
def test_each_outcome_but_ok_is_an_error(outcome: Outcome, status: int | None) -> None:
    for cause in (ValueError("x"), None):
        assert getattr(error_of_outcome("m", outcome, cause), "status", None) == status


@pytest.mark.parametrize("reason", CutReason)
def test_a_cut_request_is_told_who_cut_it(reason: CutReason) -> None:
    assert error_of_cut("m", reason).status == 503
