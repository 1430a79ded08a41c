"""Selectors: which of several targets serves a request. Facts and the time in, a choice out.

``choose`` is the rule of each strategy. ``Selectors`` remembers between requests what the rules
need: how many requests of the selector each target has, which failed, and which served a session.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum

from llmsnap.config import SelectorConfig
from llmsnap.errors import (
    Draining,
    LlmsnapError,
    LoadAborted,
    NoTarget,
    ProcessError,
    QueueTimeout,
    TooManyInFlight,
    UnknownModel,
    UpstreamError,
)
from llmsnap.routing.names import ModelRoute, PeerRoute, SelectorRoute

MOST_SESSIONS = 10_000
SESSION_IDLE_S = 3600.0
LEAST_RETRY_S = 1.0
BACK_OFF_RETRY_S = 5.0
"""Retry-After while a model may not be started yet; its own back-off is at most a minute."""
TOO_MANY = TooManyInFlight.status


class Standing(Enum):
    """How soon a target can serve a further request."""

    READY = "ready"
    STARTING = "starting"
    """Also waking, and waiting for others to leave."""
    ASLEEP = "asleep"
    STOPPED = "stopped"
    DRAINING = "draining"
    """Ready, but about to leave: further requests wait until it has been loaded again."""
    LEAVING = "leaving"
    FAILING = "failing"
    """It may not be started yet, because it has failed, or it is not configured any more."""
    REMOTE = "remote"


WARMTH = {Standing.READY: 0, Standing.STARTING: 1, Standing.ASLEEP: 2, Standing.FAILING: 4}
COLD = WARMTH[Standing.ASLEEP] + 1
ACTIVE = frozenset({Standing.READY, Standing.STARTING})
COUNTED = frozenset({Standing.ASLEEP, Standing.STOPPED, Standing.REMOTE})
"""Standings in which a target is in use as long as requests of the selector are on it."""


@dataclass(frozen=True, slots=True)
class TargetView:
    """A target now: *count* requests of the selector are on it, *failures* is how many in a row.

    *retry_in_s*: seconds for which it is skipped because of them.
    """

    target: str
    standing: Standing
    count: int = 0
    failures: int = 0
    retry_in_s: float = 0.0

    @property
    def is_failing(self) -> bool:
        """Whether it is skipped because it has failed."""
        return self.standing is Standing.FAILING

    @property
    def is_in_use(self) -> bool:
        """Whether a further request needs no further load."""
        return self.standing in ACTIVE or (self.count > 0 and self.standing in COUNTED)

    @property
    def keeps_sessions(self) -> bool:
        """Whether what it remembers of a session is still there."""
        return self.standing in ACTIVE or self.standing is Standing.REMOTE


def choose(
    selector: SelectorConfig, candidates: Sequence[TargetView], turn: int = 0
) -> TargetView | None:
    """Return the one of *candidates*, in order of preference, for a further request.

    *turn* counts the choices between equals. None: none of them can be used.
    """
    match selector.strategy:
        case "pin":
            return candidates[0] if candidates else None
        case "warm":
            return min(candidates, key=lambda one: WARMTH.get(one.standing, COLD), default=None)
        case "spillover":
            working = [one for one in candidates if not one.is_failing]
            return _spill(working or candidates, selector.spillover, turn)
        case _:
            working = [one for one in candidates if not one.is_failing]
            return working[0] if working else None


def _spill(candidates: Sequence[TargetView], limit: int, turn: int) -> TargetView | None:
    active = [one for one in candidates if one.is_in_use]
    cold = [one for one in candidates if not one.is_in_use and one.standing is not Standing.LEAVING]
    least = min((one.count for one in active), default=limit)
    if least < limit or not cold:
        idlest = [one for one in active if one.count == least]
        return idlest[turn % len(idlest)] if idlest else None
    return min(cold, key=lambda one: _coldness(one, cold[0]))


def _coldness(candidate: TargetView, first: TargetView) -> int:
    """Return the rank of a target out of use: in order, but asleep before stopped."""
    if candidate.standing is Standing.DRAINING:
        return 3
    if first.standing is Standing.REMOTE:
        return 0 if candidate is first else 1
    return 1 if candidate.standing is Standing.ASLEEP else 2


def same_again(candidates: Iterable[TargetView], target: str) -> TargetView | None:
    """Return *target*, which served a session before, unless it is left or clearly busier."""
    usable = [one for one in candidates if one.keeps_sessions]
    least = min((one.count for one in usable), default=0)
    found = (one for one in usable if one.target == target and one.count <= least + 1)
    return next(found, None)


# --- failures -------------------------------------------------------------------------------------

_NO_FAILURES = (LoadAborted, Draining, QueueTimeout)


def is_failure(selector: SelectorConfig, error: LlmsnapError) -> bool:
    """Whether *error* is a failure of the target, after which another one may serve.

    Not the client's fault, not a load that was given up, and not a wait for other models.
    """
    if isinstance(error, UnknownModel):  # it was removed while the request waited for it
        return selector.strategy != "pin"
    if selector.strategy == "spillover":
        return error.status == TOO_MANY
    if selector.strategy != "failover":
        return False
    if isinstance(error, TooManyInFlight):
        return TOO_MANY in selector.retry_status
    return isinstance(error, UpstreamError | ProcessError) and not isinstance(error, _NO_FAILURES)


def is_bad_status(selector: SelectorConfig, status: int) -> bool:
    """Whether an answer with *status* is a failure of the target, after which another may serve."""
    if selector.strategy == "failover":
        return status in selector.retry_status
    return selector.strategy == "spillover" and status == TOO_MANY


@dataclass(slots=True)
class Circuit:
    """The failures of a target in a row. After too many it is open: the target is skipped.

    What fails together counts once: a crash ends all requests in flight.
    """

    failures: int = 0
    failed_at: float = -math.inf
    open_until: float = -math.inf
    is_probing: bool = False

    def is_open(self, now: float) -> bool:
        """Whether the target is skipped: until its time has come, and while one request probes."""
        return self.is_probing or now < self.open_until

    def begin(self) -> bool:
        """Note a request; return whether it probes a target that failed."""
        self.is_probing = self.open_until > -math.inf
        return self.is_probing

    def end_probe(self) -> None:
        """Note that a request ended without a verdict."""
        self.is_probing = False

    def succeed(self) -> None:
        """Note an answer."""
        self.failures, self.open_until, self.is_probing = 0, -math.inf, False

    def fail(self, limit: int, began: float, now: float, retry_after_s: float) -> None:
        """Note that a request that *began* then has failed *now*.

        From the *limit*-th failure on, the target is skipped for *retry_after_s*.
        """
        if began < self.failed_at:
            return
        self.failures += 1
        self.failed_at = now
        self.is_probing = False
        if self.failures >= limit:
            self.open_until = now + retry_after_s


# --- what is remembered ---------------------------------------------------------------------------


@dataclass(slots=True)
class Traffic:
    """What one selector remembers of its targets, by their names."""

    counts: dict[str, int] = field(default_factory=dict)
    circuits: dict[str, Circuit] = field(default_factory=dict)
    turn: int = 0

    def take(self, target: str) -> None:
        """Count a request on *target*."""
        self.counts[target] = self.counts.get(target, 0) + 1

    def give_back(self, target: str) -> None:
        """Count a request on *target* no longer."""
        left = self.counts[target] - 1
        if left:
            self.counts[target] = left
        else:
            del self.counts[target]

    def circuit(self, target: str) -> Circuit:
        """Return the failures of *target*."""
        return self.circuits.setdefault(target, Circuit())

    def next_turn(self) -> None:
        """Count a choice."""
        self.turn += 1

    def view(self, target: str, standing: Standing, now: float) -> TargetView:
        """Return how *target* stands, if its server stands like that."""
        count, circuit = self.counts.get(target, 0), self.circuits.get(target)
        if circuit is None:
            return TargetView(target, standing, count)
        if circuit.is_open(now):
            standing = Standing.FAILING
        wait_s = max(0.0, circuit.open_until - now)
        return TargetView(target, standing, count, circuit.failures, wait_s)

    def keep(self, targets: Iterable[str]) -> None:
        """Forget the failures of all but *targets*."""
        self.circuits = {name: self.circuits[name] for name in targets if name in self.circuits}


_NO_TRAFFIC = Traffic()


class SessionTargets:
    """Which target served a session last; bounded in number and time."""

    def __init__(self) -> None:
        self._targets: OrderedDict[tuple[str, bytes], tuple[str, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._targets)

    def find(self, key: tuple[str, bytes], now: float) -> str:
        """Return the target of a session; "" if none is known."""
        target, used_at = self._targets.get(key, ("", now))
        return target if now - used_at <= SESSION_IDLE_S else ""

    def counts(self, now: float) -> Counter[tuple[str, str]]:
        """Return how many sessions each selector has on each of its targets."""
        fresh = (
            (key[0], target)
            for key, (target, used_at) in self._targets.items()
            if now - used_at <= SESSION_IDLE_S
        )
        return Counter(fresh)

    def note(self, key: tuple[str, bytes], target: str, now: float) -> None:
        """Remember that *target* serves a session, and forget what is old."""
        self._targets[key] = target, now
        self._targets.move_to_end(key)
        while self._targets:
            oldest, (_, used_at) = next(iter(self._targets.items()))
            if len(self._targets) <= MOST_SESSIONS and now - used_at <= SESSION_IDLE_S:
                return
            del self._targets[oldest]


class Selectors:
    """Chooses targets. No method switches greenlets.

    *standing* says how a local model stands, by its id.
    """

    def __init__(
        self, standing: Callable[[str], Standing], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.standing_of = standing
        self.clock = clock
        self.sessions = SessionTargets()
        self._traffic: dict[str, Traffic] = {}

    def __repr__(self) -> str:
        return f"<Selectors {len(self._traffic)} in use, {len(self.sessions)} sessions>"

    def begin(self, route: SelectorRoute, session: str = "") -> Selection:
        """Return the way of a request that names a selector; its ``next`` chooses a target.

        *session* is what the client calls the session it belongs to, "" for none.
        """
        return Selection(self, route, self.traffic(route.selector.id), session)

    def traffic(self, selector_id: str) -> Traffic:
        """Return what the selector remembers."""
        return self._traffic.setdefault(selector_id, Traffic())

    def configure(self, selectors: Mapping[str, SelectorConfig]) -> None:
        """Forget selectors, and failures of targets, that are not configured any more."""
        self._traffic = {name: self._traffic[name] for name in selectors if name in self._traffic}
        for name, traffic in self._traffic.items():
            traffic.keep(selectors[name].targets)

    def views(self, route: SelectorRoute) -> list[TargetView]:
        """Return how the targets of a selector stand, in order of preference."""
        traffic = self._traffic.get(route.selector.id, _NO_TRAFFIC)
        now = self.clock()
        return [
            traffic.view(target, self._standing(served), now)
            for target, served in route.targets.items()
        ]

    def _standing(self, route: ModelRoute) -> Standing:
        if isinstance(route, PeerRoute):
            return Standing.REMOTE
        return self.standing_of(route.model.id)


class Selection:
    """One request's way through the targets of its selector.

    ``next`` chooses a target and counts the request on it, until the next one or ``close``.
    """

    __slots__ = (
        "_began",
        "_is_counted",
        "_is_probe",
        "_memory",
        "_session",
        "_traffic",
        "_tried",
        "route",
        "target",
    )

    def __init__(
        self, memory: Selectors, route: SelectorRoute, traffic: Traffic, session: str
    ) -> None:
        self.route = route
        self.target = ""
        """The name of the target that serves it now, as the configuration has it."""
        self._memory = memory
        self._traffic = traffic
        self._session = (
            (route.selector.id, hashlib.blake2b(session.encode(), digest_size=16).digest())
            if session
            else None
        )
        self._tried: list[str] = []
        self._is_probe = self._is_counted = False
        self._began = 0.0

    def __repr__(self) -> str:
        return f"<Selection of {self.route.selector.id}, now {self.target or 'none'}>"

    def next(self) -> ModelRoute:
        """Return what serves the request now. Raises: NoTarget."""
        self.close()
        now, selector = self._memory.clock(), self.route.selector
        candidates = self._candidates()
        chosen = None
        if self._session is not None:
            chosen = same_again(candidates, self._memory.sessions.find(self._session, now))
        if chosen is None:
            chosen = choose(selector, candidates, self._traffic.turn)
            self._traffic.next_turn()
        if chosen is None:
            raise self._none()
        if self._session is not None:
            self._memory.sessions.note(self._session, chosen.target, now)
        self.target, self._began = chosen.target, now
        self._tried.append(chosen.target)
        self._traffic.take(chosen.target)
        self._is_counted = True
        if selector.strategy == "failover":
            self._is_probe = self._traffic.circuit(chosen.target).begin()
        return self.route.targets[chosen.target]

    def has_another(self) -> bool:
        """Whether a further target may be tried, and can be used now."""
        selector = self.route.selector
        if selector.max_attempts and len(self._tried) >= selector.max_attempts:
            return False
        return choose(selector, self._candidates()) is not None

    def goes_on_after(self, error: LlmsnapError) -> bool:
        """Whether *error* of the target leads to another one."""
        return is_failure(self.route.selector, error) and self.has_another()

    def failed(self, error: LlmsnapError) -> None:
        """Note how the target failed."""
        if is_failure(self.route.selector, error):
            self._fail()

    def rejects(self, status: int, *, can_repeat: bool) -> bool:
        """Whether an answer with *status* leads to another target; if not, note the answer.

        *can_repeat*: the request is still held, so that it can be sent again.
        """
        selector = self.route.selector
        if not is_bad_status(selector, status):
            self._succeed()
            return False
        if can_repeat and self.has_another():
            return True
        self._fail()
        return False

    def close(self) -> None:
        """Count the request on no target. Idempotent."""
        if self._is_probe:  # it ended without a verdict
            self._is_probe = False
            self._traffic.circuit(self.target).end_probe()
        if self._is_counted:
            self._is_counted = False
            self._traffic.give_back(self.target)

    def _fail(self) -> None:
        selector = self.route.selector
        self._is_probe = False
        if selector.strategy == "failover":
            circuit, now = self._traffic.circuit(self.target), self._memory.clock()
            circuit.fail(selector.failures, self._began, now, selector.retry_after_s)

    def _succeed(self) -> None:
        self._is_probe = False
        if self.target in self._traffic.circuits:
            self._traffic.circuit(self.target).succeed()

    def _candidates(self) -> list[TargetView]:
        """Return the targets that were not tried yet; after the first, only working ones."""
        views = self._memory.views(self.route)
        if not self._tried:
            return views
        return [one for one in views if one.target not in self._tried and not one.is_failing]

    def _none(self) -> NoTarget:
        views = self._memory.views(self.route)
        waits = [one.retry_in_s or BACK_OFF_RETRY_S for one in views if one.is_failing]
        shown = ", ".join(f"{one.target} ({one.standing.value})" for one in views)
        return NoTarget(
            f"no target of the selector {self.route.selector.id} can be used now",
            retry_after_s=max(LEAST_RETRY_S, min(waits, default=LEAST_RETRY_S)),
            detail=f": {shown}",
        )
