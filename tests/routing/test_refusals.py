import pytest

from llmsnap.errors import ChildExited, LlmsnapError, in_full
from llmsnap.models import State
from llmsnap.routing.effects import CutReason, Outcome, Refusal, Refuse
from llmsnap.routing.refusals import error_of, error_of_cut, error_of_outcome


@pytest.mark.parametrize(
    ("reason", "status", "text"),
    [
        (Refusal.UNKNOWN, 404, "it was removed while this waited"),
        (
            Refusal.NOT_READY,
            409,
            "m is asleep; this request may not load it, which takes about 5 s: busy",
        ),
        (Refusal.TOO_MANY, 429, "too many requests for m: busy"),
        (Refusal.FAILED, 502, "unable to make m ready: m: ended with exit code 3"),
        (Refusal.UNLOADED, 503, "m was unloaded"),
        (Refusal.QUEUE_TIMEOUT, 503, "m waited 12 s: busy"),
        (Refusal.SHUTDOWN, 503, "shutting down"),
    ],
)
def test_each_refusal_is_an_error_that_says_why(reason: Refusal, status: int, text: str) -> None:
    cause = ChildExited("m: ended with exit code 3")
    error = error_of(Refuse(1, "m", reason, State.ASLEEP, "busy", 12.3, 5.0, cause))
    assert error.status == status
    assert text in in_full(error)
    assert "busy" not in str(error)
    assert error.retry_after_s == 5.0


def test_every_waiter_gets_an_error_of_its_own() -> None:
    refuse = Refuse(1, "m", Refusal.FAILED, State.STOPPED, error=ChildExited("m: gone"))
    assert error_of(refuse) is not error_of(refuse)


@pytest.mark.parametrize(
    ("wait_s", "text"),
    [
        (None, "The next request starts it again."),
        (0.3, "The first request after 1 s starts it again; to start it now, "),
        (64.0, "The first request after 64 s starts it again; to start it now, "),
        (600.0, "The first request after 10 min starts it again; to start it now, "),
    ],
)
def test_a_failure_says_when_it_is_tried_again_and_how_now(wait_s, text: str) -> None:
    refuse = Refuse(1, "m", Refusal.FAILED, State.STOPPED, "", 0.0, wait_s, ChildExited("m: gone"))
    cause, advice = str(error_of(refuse)).split("\n")
    assert cause == "unable to make m ready: m: gone"
    assert advice.startswith(text)
    assert ("`llmsnap load m` or POST /api/models/load/m." in advice) == (wait_s is not None)


def test_what_an_admin_reads_of_a_failure_stands_before_the_advice() -> None:
    cause = ChildExited("m: ended with exit code 3", detail="; its last output:\nout of memory")
    error = error_of(Refuse(1, "m", Refusal.FAILED, State.STOPPED, error=cause))
    what, advice = "unable to make m ready: m: ended with exit code 3", "The next request starts it"
    assert str(error).split("\n") == [what, f"{advice} again."]
    assert in_full(error).split("\n") == [
        f"{what}; its last output:",
        "out of memory",
        f"{advice} again.",
    ]


def test_a_failure_that_is_not_ours_is_still_an_answer() -> None:
    error = error_of(Refuse(1, "m", Refusal.FAILED, State.STOPPED, error=KeyError("x")))
    assert error.status == 502


@pytest.mark.parametrize(
    ("outcome", "status"),
    [
        (Outcome.UNKNOWN, 404),
        (Outcome.SLEEP_NOT_CONFIGURED, 409),
        (Outcome.FAILED, 502),
        (Outcome.UNLOADED, 503),
        (Outcome.SUPERSEDED, 503),
        (Outcome.QUEUE_TIMEOUT, 503),
        (Outcome.SHUTDOWN, 503),
    ],
)
def test_each_outcome_but_ok_is_an_error(outcome: Outcome, status: int) -> None:
    error = error_of_outcome("m", outcome, ValueError("x"))
    assert isinstance(error, LlmsnapError)
    assert error.status == status
    assert error_of_outcome("m", Outcome.OK, None) is None
    assert error_of_outcome("m", Outcome.STOPPED, None) is None


@pytest.mark.parametrize("reason", CutReason)
def test_a_cut_request_is_told_who_cut_it(reason: CutReason) -> None:
    assert error_of_cut("m", reason).status == 503


def test_no_outcome_is_forgotten() -> None:
    assert all(
        error_of_outcome("m", outcome, None)
        for outcome in set(Outcome) - {Outcome.OK, Outcome.STOPPED}
    )
