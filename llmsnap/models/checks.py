"""Checks of servers: which answers to the canary are expected, and when a server is asked.

A server that was just started is asked twice, in the background and only while it has no request.
Its answer is remembered in the state directory by the definition of the model. After each wake the
server is asked again before requests are let in, and so it is when its requests fail in a row.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import gevent

from llmsnap.config import ModelConfig
from llmsnap.models.canary import (
    NUMBERS_KEPT,
    Answer,
    CanaryReply,
    Expected,
    Question,
    Rule,
    ask,
    expected_of,
    fault_in,
    kind_of,
)
from llmsnap.models.control import Address
from llmsnap.models.facts import definition_of
from llmsnap.models.failures import Failures
from llmsnap.models.transition import Interrupt
from llmsnap.remembered import Remembered
from llmsnap.statedir import StateDir
from llmsnap.tasks import TaskGroup

log = logging.getLogger(__name__)

FILE = "canaries.json"
MOST_FILE_BYTES = 16 << 20
MOST_CHARS = 1000
"""Of a remembered answer; eight tokens are far shorter."""
LIMIT_S = 3.0
"""How long a wake may be delayed by its check."""
LEARNING_LIMIT_S = 30.0
FAILING_LIMIT_S = 15.0
"""How long a server whose requests fail may take for an answer."""
QUIET_S = 1.0
"""A server is asked only after it had no request for so long."""
FAULTY_WAKES_ALLOWED = 2
"""So many faulty wakes in a row end the sleeping of a definition."""
SLEEP_OFF = (
    f"it answered wrong after {FAULTY_WAKES_ALLOWED} wakes in a row, so it is stopped instead, "
    "until its definition changes or llmsnap starts again"
)
CLOSE_S = 0.2


class RestLease(Protocol):
    """The right to use an idle model until a request comes."""

    on_cut: Callable[[], None] | None
    """Called, without switching greenlets, when a request comes or the model leaves."""

    def close(self) -> None:
        """Give it back."""


class OnFaultyWake(Protocol):
    """Is called when a server answers wrong after a wake."""

    def __call__(self, model_id: str, *, may_sleep: bool) -> None:
        """Note that *model_id* is restarted."""


@dataclass(slots=True)
class _Run:
    """A run of a server that was not asked yet."""

    model: ModelConfig
    address: Address
    asking: gevent.Greenlet[..., Any] | None = None


class ServerChecks:
    """The checks of all models; only ``open``, ``close`` and ``fault`` block.

    *rest* returns a lease on a model that is idle, else None. *on_faulty_wake* is called with the
    id of a model that is restarted, and whether it may sleep again; it never switches.
    """

    def __init__(
        self,
        state: StateDir,
        rest: Callable[[str], RestLease | None],
        on_faulty_wake: OnFaultyWake,
    ) -> None:
        self._rest, self._on_faulty_wake = rest, on_faulty_wake
        self._known = Remembered(state, FILE, "answers to checks", MOST_FILE_BYTES, _parsed)
        self._served: dict[str, ModelConfig] = {}  # models whose kind is known
        self._runs: dict[str, _Run] = {}
        self._faulty_wakes: dict[str, int] = {}
        self._failures: dict[str, Failures] = {}
        self._unreliable: set[str] = set()
        self._tasks = TaskGroup("wake checks")

    def __repr__(self) -> str:
        return f"<ServerChecks of {len(self._known)} definitions>"

    def open(self) -> None:
        """Read what earlier runs have remembered. Blocks briefly."""
        self._known.open()

    def close(self) -> None:
        """End the questions in the background. Blocks."""
        self._tasks.close(CLOSE_S)

    # --- what happens to models: none of these switches greenlets -----------------------------

    def note_start(self, model: ModelConfig, address: Address, *, may_ask: bool = True) -> None:
        """Note that the server of *model* was started; if it *may* be asked, it is once idle."""
        self._failures.pop(model.id, None)
        if model.checks_wakes and may_ask:
            self._runs[model.id] = _Run(model, address)
            self._ask_when_idle(model.id)

    def note_request(self, model: ModelConfig, path: str, status: int) -> None:
        """Note that a request to *path* of *model* has ended."""
        if self._served.get(model.id) is not model and status < 300:
            self._note_kind(model, path)
        if model.id in self._runs:
            self._ask_when_idle(model.id)

    def forget(self, model_id: str) -> None:
        """Forget what belongs to a run of a model: it has ended."""
        self._runs.pop(model_id, None)
        self._failures.pop(model_id, None)

    def sleep_off(self, model: ModelConfig) -> str:
        """Return why *model* must not sleep any more; empty if it may."""
        return SLEEP_OFF if definition_of(model) in self._unreliable else ""

    def unreliable(self, models: Iterable[ModelConfig]) -> frozenset[str]:
        """Return the ids of those *models* that must not sleep any more."""
        if not self._unreliable:
            return frozenset()
        return frozenset(model.id for model in models if definition_of(model) in self._unreliable)

    def _note_kind(self, model: ModelConfig, path: str) -> None:
        kind = kind_of(path)
        if kind is None:
            return
        self._served[model.id] = model
        name = definition_of(model)
        if name not in self._known:
            self._known.keep(name, Expected(kind))

    # --- after a wake -------------------------------------------------------------------------

    def applies(self, model: ModelConfig) -> bool:
        """Whether the server of *model* is asked after a wake. Never switches."""
        return model.checks_wakes and self._can_ask(model)

    def _can_ask(self, model: ModelConfig) -> bool:
        expected = self._known.get(definition_of(model))
        return expected is not None and expected.rule is not Rule.UNFIT

    def fault(self, model: ModelConfig, address: Address, interrupt: Interrupt) -> str:
        """Ask the woken server of *model*; return what is wrong with it, "" if nothing is.

        A fault counts only when it shows twice in a row. Blocks, up to LIMIT_S.
        Raises: what *interrupt* raises.
        """
        name = definition_of(model)
        expected = self._known[name]
        fault = self._twice_faulty(model, expected, address, interrupt)
        faulty = self._faulty_wakes[name] = self._faulty_wakes.get(name, 0) + 1 if fault else 0
        if faulty >= FAULTY_WAKES_ALLOWED and name not in self._unreliable:
            self._unreliable.add(name)
            log.warning(
                "<%s> answered wrong after %d wakes in a row: it does not sleep any more, but is "
                "stopped instead, until its definition changes or llmsnap starts again; set "
                "sleepMode to disable, or wakeCheck to false if its answers were right",
                model.id,
                faulty,
            )
        if fault:
            self._on_faulty_wake(model.id, may_sleep=name not in self._unreliable)
        return fault

    def _twice_faulty(
        self, model: ModelConfig, expected: Expected, address: Address, interrupt: Interrupt
    ) -> str:
        end, fault = time.monotonic() + LIMIT_S, ""
        for _ in range(2):
            left_s = end - time.monotonic()
            if left_s <= 0:
                return ""
            reply: CanaryReply = interrupt.call(
                "canary", partial(ask, address, expected.kind, _name_of(model), left_s)
            )
            if reply.is_late:
                log.debug("<%s> check after its wake: %s; it passes", model.id, reply.problem)
                return ""
            fault = fault_in(reply, expected)
            if not fault:
                return ""
            log.debug("<%s> check after its wake: %s", model.id, fault)
        return fault

    # --- after failures -----------------------------------------------------------------------

    def note_outcome(self, model: ModelConfig, status: int, now: float) -> bool:
        """Note that the server of *model* answered with *status*, or failed; whether to ask it.

        An answer that refuses the request is neither good nor a failure.
        """
        failures = self._failures.get(model.id)
        if status >= 500:
            failures = failures or self._failures.setdefault(model.id, Failures())
            return failures.fail(model.failures_before_restart, now) and self._can_ask(model)
        if failures is not None and status < 400:
            failures.succeed()
        return False

    def failure(self, model: ModelConfig, address: Address) -> str:
        """Ask the server of *model*, whose requests fail; return what is wrong, "" if nothing is.

        A fault counts only when it shows twice in a row, and being late is one. Blocks, up to twice
        FAILING_LIMIT_S.
        """
        expected, fault = self._known[definition_of(model)], ""
        for _ in range(2):
            reply = ask(address, expected.kind, _name_of(model), FAILING_LIMIT_S)
            fault = reply.problem if reply.is_late else fault_in(reply, expected)
            if not fault:
                break
        return fault

    # --- after a start ------------------------------------------------------------------------

    def _ask_when_idle(self, model_id: str) -> None:
        run = self._runs[model_id]
        if run.asking is None and definition_of(run.model) in self._known:
            run.asking = self._tasks.spawn(model_id, self._learn, run)

    def _learn(self, run: _Run) -> None:
        """Ask twice while the model is idle; the end of its next request begins it again."""
        model_id = run.model.id
        try:
            gevent.sleep(QUIET_S)
            lease = self._rest(model_id) if self._runs.get(model_id) is run else None
            if lease is None or run.asking is None:
                return
            lease.on_cut = partial(run.asking.kill, block=False)
            try:
                learned = self._ask_twice(run)
            finally:
                lease.on_cut = None
                lease.close()
        finally:
            run.asking = None
        if self._runs.get(model_id) is run:
            del self._runs[model_id]
            self._known.keep(definition_of(run.model), learned)
            self._known.write()

    def _ask_twice(self, run: _Run) -> Expected:
        kind = self._known[definition_of(run.model)].kind
        question = partial(ask, run.address, kind, _name_of(run.model), LEARNING_LIMIT_S)
        first, second = question(), question()
        learned = expected_of(kind, first, second, LIMIT_S)
        log.debug("<%s> its answer to the check is %r", run.model.id, learned)
        return learned


def _name_of(model: ModelConfig) -> str:
    """Return the name by which its server knows *model*."""
    return model.use_model_name or model.id


def _parsed(entry: Mapping[str, Any]) -> Expected:
    answer: Answer | None = None
    match entry["answer"]:
        case str() as text:
            answer = text[:MOST_CHARS]
        case list() as numbers:
            answer = tuple(map(float, numbers[:NUMBERS_KEPT]))
    return Expected(Question(entry["kind"]), Rule(entry["rule"]), answer)
