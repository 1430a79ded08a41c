"""Turns the scheduler's refusals and command outcomes into errors. Pure."""

from __future__ import annotations

import math

from llmsnap.errors import (
    Draining,
    LlmsnapError,
    LoadAborted,
    NotReady,
    ProcessError,
    QueueTimeout,
    SleepNotConfigured,
    TooManyInFlight,
    UnknownModel,
)
from llmsnap.routing.effects import CutReason, Outcome, Refusal, Refuse
from llmsnap.routing.outlook import span


def error_of(refuse: Refuse) -> LlmsnapError:
    """Return the error a refused request is answered with."""
    error = _error_of(refuse)
    error.retry_after_s = refuse.retry_after_s
    if refuse.why and not error.detail:  # it names other models, and tells of their requests
        error.detail = f": {refuse.why}"
    return error


def _error_of(refuse: Refuse) -> LlmsnapError:
    model_id = refuse.model_id
    error: LlmsnapError
    match refuse.reason:
        case Refusal.UNKNOWN:
            error = UnknownModel(f'model not found: "{model_id}"; it was removed while this waited')
        case Refusal.NOT_READY:
            error = NotReady(f"{model_id} is {refuse.state}; {_not_for_this(refuse)}")
        case Refusal.TOO_MANY:
            error = TooManyInFlight(f"too many requests for {model_id}")
        case Refusal.FAILED:
            error = _failure(refuse)
        case Refusal.UNLOADED:
            error = LoadAborted(f"{model_id} was unloaded while this request waited for it")
        case Refusal.QUEUE_TIMEOUT:
            error = QueueTimeout(f"{model_id} waited {refuse.waited_s:.0f} s")
        case Refusal.SHUTDOWN:
            error = Draining("the server is shutting down")
    return error


def _not_for_this(refuse: Refuse) -> str:
    soon = f", which takes about {refuse.retry_after_s:.0f} s" if refuse.retry_after_s else ""
    return f"this request may not load it{soon}"


def _failure(refuse: Refuse) -> LlmsnapError:
    """A copy of the load's error for each waiter, so that none shares a traceback."""
    cause = refuse.error
    if not isinstance(cause, LlmsnapError):
        cause = ProcessError("internal error", detail=f": {cause}")
    what = f"unable to make {refuse.model_id} ready: {cause}"
    copy = ProcessError(what, detail=cause.detail)
    copy.status, copy.code, copy.next_step = cause.status, cause.code, f"\n{_next_start(refuse)}"
    return copy


def _next_start(refuse: Refuse) -> str:
    if refuse.retry_after_s is None:
        return "The next request starts it again."
    name, wait = refuse.model_id, span(math.ceil(refuse.retry_after_s))
    return (
        f"The first request after {wait} starts it again; to start it now, change its entry or its "
        f"files, or use `llmsnap load {name}` or POST /api/models/load/{name}."
    )


OUTCOMES: dict[Outcome, tuple[type[LlmsnapError], str]] = {
    Outcome.UNKNOWN: (UnknownModel, 'model not found: "{}"'),
    Outcome.SLEEP_NOT_CONFIGURED: (
        SleepNotConfigured,
        "{} cannot sleep: set sleepMode to enable, with its endpoints",
    ),
    Outcome.UNLOADED: (LoadAborted, "{} was unloaded"),
    Outcome.SUPERSEDED: (LoadAborted, "{} was superseded: a request needed the room"),
    Outcome.QUEUE_TIMEOUT: (QueueTimeout, "{} waited until its deadline; others kept the room"),
    Outcome.SHUTDOWN: (Draining, "the server is shutting down"),
}


def error_of_outcome(
    model_id: str, outcome: Outcome, error: Exception | None
) -> LlmsnapError | None:
    """Return the error of a command that did not end well; None when it did.

    A model that is to sleep and is stopped needs nothing: scripts do this to all models.
    """
    if outcome in (Outcome.OK, Outcome.STOPPED):
        return None
    if outcome is Outcome.FAILED:
        if isinstance(error, LlmsnapError):
            return error
        return ProcessError(f"{model_id}: internal error", detail=f": {error}")
    error_class, message = OUTCOMES[outcome]
    return error_class(message.format(model_id))


def error_of_cut(model_id: str, reason: CutReason) -> LlmsnapError:
    """Return the error of a request that was ended early."""
    match reason:
        case CutReason.UNLOADED:
            return LoadAborted(f"{model_id} was unloaded while it answered")
        case CutReason.SLEEP:
            return LoadAborted(f"{model_id} was put to sleep while it answered")
        case CutReason.SHUTDOWN:
            return Draining("the server is shutting down")
