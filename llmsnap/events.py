"""What happens inside llmsnap, as frozen values.

The values are msgspec's structs: several are made for each request, and made five times as fast as
frozen dataclasses (docs/performance.md).
"""

from __future__ import annotations

import time
from enum import StrEnum

from msgspec import Struct, field


class Event(Struct, frozen=True, kw_only=True):
    """Base of all events; subscribing to it means subscribing to everything.

    *at* is the wall clock in Unix seconds.
    """

    at: float = field(default_factory=time.time)


# --- processes and swaps -----------------------------------------------------------------------


class ProcessStateChanged(Event, frozen=True):
    """A model's process went from state *old* to *new* (wire names)."""

    model_id: str
    old: str
    new: str
    swap_id: int | None = None


class SwapStarted(Event, frozen=True, kw_only=True):
    """*target* begins to load; those in *evicted* leave for it."""

    swap_id: int
    target: str
    evicted: tuple[str, ...] = ()
    reason: str = ""
    waiters: int = 0


class SwapFinished(Event, frozen=True, kw_only=True):
    """A swap ended: *outcome* is ``done``, ``failed`` or ``aborted``, *error* says why not.

    *kind* is what the load was (``start``, ``wake``), *phases* are (name, seconds) in the order
    they happened, such as ``("drain", 3.1)``.
    """

    swap_id: int
    target: str
    outcome: str
    kind: str = ""
    evicted: tuple[str, ...] = ()
    reason: str = ""
    error: str = ""
    waiters: int = 0
    longest_wait_s: float = 0.0
    started_at: float = 0.0
    phases: tuple[tuple[str, float], ...] = ()


class ModelPreloaded(Event, frozen=True):
    """A model named in ``hooks`` was made ready, or was not, and why."""

    model_id: str
    success: bool
    reason: str = ""
    swap_id: int | None = None


# --- configuration -----------------------------------------------------------------------------


class ReloadPhase(StrEnum):
    """Where a configuration reload stands."""

    START = "start"
    END = "end"
    FAILED = "failed"


class ConfigReload(Event, frozen=True):
    """A reload of *source* began, took effect, or was refused because of *problems*."""

    phase: ReloadPhase
    source: str = ""
    problems: tuple[str, ...] = ()


# --- requests ----------------------------------------------------------------------------------


class ActivityRecord(Struct, frozen=True, kw_only=True):
    """Everything known about one finished request. None means unknown, never zero.

    Instants are Unix milliseconds (*ended_ns*: nanoseconds), durations milliseconds.
    *server_ms* is what the inference server itself says it worked, *reason* the short text of a
    failure. *requested* is the client's model name, *model_id* the model that served.
    """

    id: int
    request_id: str = ""
    swap_id: int | None = None
    started_ms: int = 0
    ended_ns: int = 0
    requested: str = ""
    model_id: str = ""
    peer: str | None = None
    method: str = "POST"
    path: str = ""
    key_name: str | None = None
    status: int = 0
    reason: str = ""
    stream: bool = False
    client_left: bool = False
    queue_ms: float | None = None
    load_ms: float | None = None
    first_byte_ms: float | None = None
    first_token_ms: float | None = None
    duration_ms: float = 0.0
    server_ms: float | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    cached_tokens: int | None = None
    draft_tokens: int | None = None
    draft_accepted: int | None = None
    prompt_per_second: float | None = None
    tokens_per_second: float | None = None
    request_bytes: int = 0
    response_bytes: int = 0
    has_capture: bool = False


class RequestStarted(Event, frozen=True, kw_only=True):
    """A request is in flight under the number *serial*; an ``ActivityRecorded`` ends it."""

    serial: int
    request_id: str
    requested: str
    model_id: str = ""
    path: str = ""


class ActivityRecorded(Event, frozen=True):
    """A request ended, well or not; its record is filed."""

    record: ActivityRecord


class TokenMetrics(Event, frozen=True):
    """A request that the published metrics list shows (status 200) is filed."""

    record: ActivityRecord


class ChatCompletionStats(Event, frozen=True):
    """A generation ended after *tokens_generated* tokens."""

    tokens_generated: int
    model_id: str = ""
    request_id: str = ""
