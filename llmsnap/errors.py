"""All exceptions that llmsnap raises, each with its HTTP status and error code.

A message names what went wrong, the thing it concerns, and what to do. ``http.errors`` turns an
exception into a status and a response body; no other module does.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Self


class LlmsnapError(Exception):
    """Base class: *status* and *code* go to the client, *param* names the parameter at fault."""

    status = 500
    code = "internal_error"
    param: str | None = None
    retry_after_s: float | None = None
    detail = ""
    """Follows the message in logs and for admins only: a model's output, commands, ports."""
    next_step = ""
    """What to do next; follows message and detail."""

    def __str__(self) -> str:
        return super().__str__() + self.next_step

    def amend(self, *, retry_after_s: float | None, detail: str) -> Self:
        """Say when to try again and, where nothing is said yet, *detail*; return the error."""
        self.retry_after_s = retry_after_s
        self.detail = self.detail or detail
        return self


def in_full(error: BaseException) -> str:
    """Return the message of *error* with its detail: for logs and admins, never for other keys."""
    if isinstance(error, LlmsnapError):
        return Exception.__str__(error) + error.detail + error.next_step
    return str(error)


# --- configuration -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Problem:
    """One finding in a configuration file.

    *where* is the dotted path (``models.llama.ttl``), *line* and *column* count from 1 (0 =
    unknown), *what* says what is wrong with the value found, *fix* what to do about it. *file* is
    the path of its file where the configuration has several.
    """

    where: str
    what: str
    fix: str = ""
    line: int = 0
    column: int = 0
    file: str = ""

    def place(self, source: str) -> str:
        """Return where in its file, or in *source*, it is, as editors read it: ``c.yaml:4:10``."""
        file = self.file or source
        return f"{file}:{self.line}:{self.column}" if self.line else file

    def __str__(self) -> str:
        text = f"{self.where}: {self.what}" if self.where else self.what
        return f"{text} - {self.fix}" if self.fix else text


class ConfigError(LlmsnapError):
    """A configuration that cannot be used; *problems* lists every reason found.

    *advice* holds the findings that are not errors.
    """

    code = "config_error"

    def __init__(
        self, problems: Sequence[Problem], source: str = "", advice: Sequence[Problem] = ()
    ) -> None:
        self.problems = tuple(problems)
        self.advice = tuple(advice)
        self.source = source
        super().__init__("; ".join(str(problem) for problem in self.problems))


class CommandProblem(LlmsnapError):
    """A command line is empty."""

    code = "config_error"


class MacroProblem(LlmsnapError):
    """Macros cannot be expanded: they form a circle, or the text grows too long."""

    code = "config_error"


class StateInUse(LlmsnapError):
    """Another instance holds the state directory; *holder* is its process id, or "unknown"."""

    code = "state_in_use"

    def __init__(self, message: str, holder: str = "unknown") -> None:
        super().__init__(message)
        self.holder = holder


# --- requests ----------------------------------------------------------------------------------


class RequestError(LlmsnapError):
    """The request cannot be served as it is."""

    status = 400
    code = "bad_request"


class BadRequest(RequestError):
    """The request is malformed or lacks something; *param* names it when it has a name."""

    def __init__(self, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.param = param


class BadHead(RequestError):
    """The head of a request is malformed, too large or too late, as *status* says."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


class Unauthorized(RequestError):
    """The request has no API key, or a wrong one. *dialog*: a browser may ask the user for one."""

    status = 401
    code = "invalid_api_key"

    def __init__(self, message: str, *, dialog: bool = True) -> None:
        super().__init__(message)
        self.dialog = dialog


class WrongKey(Unauthorized):
    """The API key is not configured here."""


class Forbidden(RequestError):
    """The key or the origin does not permit this."""

    status = 403
    code = "forbidden"


class PageRefused(Forbidden):
    """A page of another origin may not do this. *origin* is the page's, "" if unknown."""

    def __init__(self, message: str, origin: str = "") -> None:
        super().__init__(message)
        self.origin = origin


class UnknownModel(RequestError):
    """No such model here or on a peer."""

    status = 404
    code = "model_not_found"
    param = "model"


class NotFound(RequestError):
    """There is no resource at this path."""

    status = 404
    code = "not_found"


class MethodNotAllowed(RequestError):
    """The path exists but does not take this method; *allow* lists those it takes."""

    status = 405
    code = "method_not_allowed"

    def __init__(self, message: str, allow: Sequence[str]) -> None:
        super().__init__(message)
        self.allow = tuple(allow)


class NotReady(RequestError):
    """The model is not ready and this request does not load it."""

    status = 409
    code = "model_not_ready"


class SleepNotConfigured(RequestError):
    """The model cannot sleep: ``sleepMode`` is not ``enable``."""

    status = 409
    code = "sleep_not_configured"


class BodyTimeout(RequestError):
    """The client sent none of its request body for too long."""

    status = 408
    code = "request_timeout"


class TooLarge(RequestError):
    """The request body exceeds the configured limit."""

    status = 413
    code = "body_too_large"


class UnsupportedEncoding(RequestError):
    """The content encoding of the request body is not supported."""

    status = 415
    code = "unsupported_encoding"


class Misdirected(RequestError):
    """The Host header names a host that this server does not serve."""

    status = 421
    code = "host_not_allowed"


class TooManyInFlight(RequestError):
    """The model's ``concurrencyLimit`` or ``queueLimit`` is reached."""

    status = 429
    code = "too_many_requests"

    def __init__(self, message: str, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class NoTarget(RequestError):
    """None of the targets of a selector can be used now."""

    status = 503
    code = "no_target"

    def __init__(self, message: str, retry_after_s: float, detail: str) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s
        self.detail = detail


class NoRoom(RequestError):
    """The memory for request bodies is used up by other requests."""

    status = 503
    code = "no_room_for_body"
    retry_after_s = 5.0


class ClientGone(RequestError):
    """The client closed its connection before the response was complete; there is no response."""

    status = 499
    code = "client_gone"


# --- the model's process -----------------------------------------------------------------------


class ProcessError(LlmsnapError):
    """A model could not be made ready, or is going away."""

    status = 502
    code = "model_failed"

    def __init__(self, message: str, retry_after_s: float | None = None, detail: str = "") -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s
        self.detail = detail


class NotLoaded(ProcessError):
    """The load that a request waited for failed: with status, code and detail of *cause*.

    Each waiter gets one of its own, so that none shares a traceback.
    """

    def __init__(self, message: str, cause: LlmsnapError, next_step: str) -> None:
        super().__init__(message, detail=cause.detail)
        self.status, self.code, self.next_step = cause.status, cause.code, next_step


class ModelDoesNotFit(ProcessError):
    """The model can never be loaded here, whatever leaves: no retry helps."""

    status = 503
    code = "model_does_not_fit"


class MemoryHeld(ProcessError):
    """The memory of the models that left is not free in time: see ``memory.onStuck``."""

    status = 503
    code = "memory_held"


class StartFailed(ProcessError):
    """The server could not be started at all."""


class NoCapacity(StartFailed):
    """No machine of a cluster was free in time."""

    status = 503
    code = "no_capacity"


class Rejected(StartFailed):
    """The engine of a cluster refuses the job, or the token."""


class EngineDown(StartFailed):
    """The engine of a cluster does not answer: whether a call had its effect is not known."""

    status = 503
    code = "engine_down"


class HealthTimeout(ProcessError):
    """The server did not become healthy in time."""


class ChildExited(ProcessError):
    """The server ended while it was loading or serving."""


class OutOfMemory(ChildExited):
    """The server ended while it was loading because memory ran out."""

    def with_room(self, room: str) -> OutOfMemory:
        """Return this error with *room*: what the model needed, and what was free."""
        return OutOfMemory(f"{Exception.__str__(self)}; {room}", detail=self.detail)


class SleepFailed(ProcessError):
    """A sleep endpoint failed."""


class WakeFailed(ProcessError):
    """A wake endpoint failed."""


class ModelLeft(ProcessError):
    """The model was stopped during a response that does not keep it loaded."""

    status = 503
    code = "load_aborted"


class LoadAborted(ProcessError):
    """The model was stopped while it was loading."""

    status = 503
    code = "load_aborted"


class Draining(ProcessError):
    """The model or the whole program is shutting down."""

    status = 503
    code = "draining"


class QueueTimeout(ProcessError):
    """The request waited in the queue until its deadline."""

    status = 503
    code = "queue_timeout"


# --- the connection to an upstream -------------------------------------------------------------


class UpstreamError(LlmsnapError):
    """Communication with the upstream or peer failed."""

    status = 502
    code = "upstream_error"


class Unreachable(UpstreamError):
    """There was no connection, or it broke before the response began."""


class ServerEnded(Unreachable):
    """The model's server ended before it answered: the model is loaded and asked again."""


class NoSlots(UpstreamError):
    """The server cannot save its slots, now or later."""


class PromptRefused(UpstreamError):
    """The server has refused the file of a saved prompt."""


class UpstreamTimeout(UpstreamError):
    """The upstream did not answer in the configured time."""

    status = 504
    code = "upstream_timeout"


class UpstreamBroke(UpstreamError):
    """The response broke off; its status line has been sent, so the connection is aborted."""


class UpstreamRefused(UpstreamError):
    """The upstream answered an error, or no events, after the event stream to the client had begun.

    *status* is the upstream's where that is an error's. *document* is its own error object; where
    it sent none, *said* is the text of its answer. Both are for the client alone.
    """

    def __init__(
        self, message: str, status: int, document: dict[str, Any] | None = None, said: str = ""
    ) -> None:
        super().__init__(message)
        if status >= HTTPStatus.BAD_REQUEST:
            self.status = status
        self.document = document
        self.said = said


class Aborted(ConnectionResetError):
    """Ends a connection in the middle of a response, so that it is not taken for complete.

    Both pywsgi and gunicorn close the socket quietly on this errno.
    """

    def __init__(self, why: str) -> None:
        super().__init__(errno.ECONNRESET, why)


class InvalidTransition(RuntimeError):
    """A bug: a trigger that the state table does not allow."""


class StoreUnavailable(LlmsnapError):
    """History of earlier runs cannot be read: there is no store, or it does not respond."""

    status = 503
    code = "store_unavailable"


class HardwareUnknown(LlmsnapError):
    """The hardware of this machine is not known yet, or could not be detected."""

    status = 503
    code = "hardware_unknown"

    def __init__(self, *, has_failed: bool) -> None:
        if has_failed:
            super().__init__("the hardware could not be detected; the log says why")
        else:
            super().__init__("the hardware is being detected; ask again in a second")
            self.retry_after_s = 1.0


# --- the command line --------------------------------------------------------------------------


class CommandFailed(LlmsnapError):
    """A command to a running server failed; *exit_code* is what the shell gets."""

    exit_code = 1


class WrongUse(CommandFailed):
    """The command line, or a file or address in it, is invalid."""

    exit_code = 2


class NoServer(CommandFailed):
    """No llmsnap server answers at the address."""

    exit_code = 3


class KeyRefused(CommandFailed):
    """The server requires an API key, or refuses this one."""

    exit_code = 4


class NoSuchModel(CommandFailed):
    """The server has no model of this name."""

    exit_code = 5
