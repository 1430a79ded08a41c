"""The scheduler's events and effects as JSON lines, and their replay.

As the scheduler is pure, a recording is a test: fed with the same events it must decide the same
again. The first line says ``schema_version``, and ``first_number`` where swaps are not numbered
from 1; each further line is an event with its time and the effects it had. Errors are kept as their
type and text.
"""

from __future__ import annotations

import json
import logging
import os
import stat
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import MISSING, dataclass, fields, is_dataclass
from enum import Enum
from types import UnionType
from typing import IO, Any, Protocol, Union, get_args, get_origin, get_type_hints

from llmsnap.config import MatrixConfig
from llmsnap.errors import in_full
from llmsnap.routing import messages
from llmsnap.routing.matrix import Matrix
from llmsnap.routing.memory import Device, Memory, Need
from llmsnap.routing.messages import Effect, Event
from llmsnap.routing.pools import Pool, Pooled
from llmsnap.routing.residency import Group, Groups, Residency
from llmsnap.routing.scheduler import Scheduler

# --- events and effects as JSON -------------------------------------------------------------------

SCHEMA_VERSION = 1

RECORDED_NAMES: dict[type[Any], str] = {
    messages.RequestArrived: "Request",
    messages.WaiterGone: "ClientGone",
    messages.LoadDone: "Loaded",
    messages.LoadCancelled: "LoadAborted",
    messages.CommandDone: "Answer",
    messages.SwapEnded: "SwapFinished",
    messages.CheckStart: "Check",
    messages.SchedulerOptions: "Options",
}
"""What recordings call the types that have another name there: recordings stay readable."""


RECORDED_FIELDS = {"residency": "plan"}
"""The same for fields."""
_FIELDS = {recorded: name for name, recorded in RECORDED_FIELDS.items()}
NOT_RECORDED = {("SwapRecord", name) for name in ("plan", "due", "tickets")}
"""Fields that are left out: they follow from what is recorded."""


def recorded_name(kind: type[Any]) -> str:
    """Return what recordings call *kind*."""
    return RECORDED_NAMES.get(kind, kind.__name__)


EVENT_TYPES = {recorded_name(kind): kind for kind in get_args(messages.Event)}


class RecordedError(Exception):
    """An error read from a recording: what is left of it is its type's name and its text."""

    def __init__(self, kind: str, text: str) -> None:
        self.kind = kind
        super().__init__(text)


class Handles(Protocol):
    """What decides: a scheduler, or something that watches one."""

    def handle(self, event: Event, now: float) -> list[Effect]:
        """Apply *event* and return the effects."""


class DecisionRecorder:
    """Stands in for a scheduler's ``handle`` and writes down all that passes.

    *write* gets one line without its end at a time and must not block; the first event must be
    the scheduler's first, too.
    """

    def __init__(self, scheduler: Scheduler, write: Callable[[str], object]) -> None:
        self._scheduler = scheduler
        self._write = write
        self._begun = False

    def handle(self, event: Event, now: float) -> list[Effect]:
        """Have the scheduler handle *event*, and write down what came of it."""
        if not self._begun:
            self._begun = True
            first = self._scheduler.first_number
            self._write(_dump({"schema_version": SCHEMA_VERSION, "first_number": first}))
        effects = self._scheduler.handle(event, now)
        encoded = [encode(effect) for effect in effects]
        self._write(_dump({"at": now, "event": encode(event), "effects": encoded}))
        return effects


@dataclass(frozen=True, slots=True)
class Difference:
    """The first line at which a replay decided differently."""

    line: int
    event: Any
    recorded: list[Any]
    replayed: list[Any]


def replay(lines: Iterable[str]) -> Difference | None:
    """Feed a recording to a new scheduler; return the first difference, None when there is none.

    Raises ValueError: the recording is of another schema version, or damaged.
    """
    scheduler = Scheduler()
    for number, line in enumerate(lines, start=1):
        entry = json.loads(line)
        if number == 1:
            if entry.get("schema_version") != SCHEMA_VERSION:
                raise ValueError(f"not a recording of schema version {SCHEMA_VERSION}: {entry}")
            scheduler.count_from(entry.get("first_number", 1))
            continue
        effects = scheduler.handle(decode(entry["event"]), entry["at"])
        replayed = json.loads(_dump([encode(effect) for effect in effects]))
        if replayed != entry["effects"]:
            return Difference(number, entry["event"], entry["effects"], replayed)
    return None


def encode(value: Any) -> Any:
    """Return *value* made of what JSON knows; fields that have their default are left out."""
    if isinstance(value, (Groups, Memory, Matrix, Pooled)):
        return _encode_residency(value)
    if isinstance(value, Exception):
        kind = value.kind if isinstance(value, RecordedError) else type(value).__name__
        return {"type": kind, "text": in_full(value)}
    if isinstance(value, frozenset):
        return sorted(value)
    if isinstance(value, tuple):
        return [encode(item) for item in value]
    return _encode_fields(value) if is_dataclass(value) else value


def _encode_residency(value: Groups | Memory | Matrix | Pooled) -> Any:
    match value:
        case Groups():
            return encode(value.groups)
        case Memory():
            kept = {"devices": encode(value.devices), "needs": encode(value.needs)}
            return {"type": "Memory", **kept}
        case Pooled():
            return {"type": "Pooled", "here": encode(value.here), "pools": encode(value.pools)}
    return {**_encode_fields(value.config), "external": sorted(value.external)}


def _encode_fields(value: Any) -> dict[str, Any]:
    given = {
        f.name: getattr(value, f.name)
        for f in fields(value)
        if not _is_default(value, f) and (type(value).__name__, f.name) not in NOT_RECORDED
    }
    return {"type": recorded_name(type(value))} | {
        RECORDED_FIELDS.get(name, name): encode(v) for name, v in given.items()
    }


def decode(entry: dict[str, Any]) -> Event:
    """Return the event that *entry* was made of. Raises ValueError: it is none."""
    kind = EVENT_TYPES.get(entry["type"])
    if kind is None:
        raise ValueError(f"not an event of the scheduler: {entry['type']}")
    event: Event = _decode_fields(kind, entry)
    return event


def _decode_fields(kind: type[Any], entry: dict[str, Any]) -> Any:
    hints = get_type_hints(kind)
    given = {_FIELDS.get(name, name): v for name, v in entry.items() if name != "type"}
    return kind(**{name: _decode_as(hints[name], v) for name, v in given.items()})


def _decode_as(hint: Any, value: Any) -> Any:
    """Return *value* as what *hint* says it is."""
    origin = get_origin(hint)
    if origin in (UnionType, Union):
        inner = next(arg for arg in get_args(hint) if arg is not type(None))
        return None if value is None else _decode_as(inner, value)
    if origin in (tuple, frozenset):
        return origin(_decode_as(get_args(hint)[0], item) for item in value)
    return _decode_plain(hint, value) if isinstance(hint, type) else value


def _decode_plain(kind: type[Any], value: Any) -> Any:
    if kind is Residency:
        return _decode_residency(value)
    if kind is Exception:
        return RecordedError(value["type"], value["text"])
    if is_dataclass(kind):
        return _decode_fields(kind, value)
    return kind(value) if issubclass(kind, Enum) else value


def _decode_residency(value: Any) -> Residency:
    if isinstance(value, list):
        return Groups(_decode_fields(Group, group) for group in value)
    if value["type"] == "Memory":
        devices = [_decode_fields(Device, each) for each in value["devices"]]
        return Memory(devices, [_decode_fields(Need, each) for each in value["needs"]])
    if value["type"] == "Pooled":
        pools = [_decode_fields(Pool, each) for each in value["pools"]]
        return Pooled(_decode_residency(value["here"]), pools)
    config = {name: each for name, each in value.items() if name != "external"}
    return Matrix(_decode_fields(MatrixConfig, config), value["external"])


def _is_default(value: Any, field: Any) -> bool:
    return field.default is not MISSING and getattr(value, field.name) == field.default


def _dump(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))


# --- the file -------------------------------------------------------------------------------------

log = logging.getLogger(__name__)


class Recording:
    """Takes lines from its construction on; writes them from ``open`` to ``close``."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._file: IO[str] | None = None
        self._early: list[str] = []

    def __repr__(self) -> str:
        return f"<Recording {self.path}>"

    def __call__(self, line: str) -> None:
        """Write *line*. After an error the file is closed, with one warning."""
        if self._file is None:
            self._early.append(line)
            return
        try:
            self._file.write(line + "\n")
        except OSError as error:
            log.warning("decisions are not recorded any more: %s: %s", self.path, error.strerror)
            self.close()

    def open(self) -> None:
        """Begin a new file, which only our user may read. Raises: OSError."""
        fd = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with suppress(OSError):  # not ours, or no file: a pipe, the terminal
            if stat.S_ISREG(os.fstat(fd).st_mode):
                os.fchmod(fd, 0o600)
        self._file = os.fdopen(fd, "w", encoding="utf-8", buffering=1)
        early, self._early = self._early, []
        for line in early:
            self(line)

    def close(self) -> None:
        """End the file."""
        if self._file is not None:
            self._file.close()
            self._file = None
            self._early = []
