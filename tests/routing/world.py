"""A scheduler on a virtual clock with a driver that does nothing but take its time.

``World`` carries out effects as the contract in ``messages`` says, keeps its own account of every
request and process, and checks at each effect what must never happen.
"""

import heapq
import itertools
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from llmsnap.config import loads
from llmsnap.models import State
from llmsnap.routing import messages as msg
from llmsnap.routing.budget import grown
from llmsnap.routing.entries import ModelState
from llmsnap.routing.explain import ModelView
from llmsnap.routing.matrix import Matrix
from llmsnap.routing.memory import Memory
from llmsnap.routing.messages import ModelRules, SchedulerOptions, SwapRecord
from llmsnap.routing.pools import here_of
from llmsnap.routing.residency import Action, Group, Groups, LoadKind, Residency
from llmsnap.routing.scheduler import Scheduler

BOOM = RuntimeError("exited with code 1")
FULL = RuntimeError("no machine was free")
HELD = "gpu0 has 1.0 GiB free of 2.0 GiB"


@dataclass
class Model:
    """One fake process and how long its moves take."""

    model_id: str
    load_s: float = 1.0
    wake_s: float = 0.1
    sleep_s: float = 0.2
    stop_s: float = 0.5
    failures: int = 0  # how many of the next loads fail
    lacks: int = 0  # how many of the next loads run out of memory
    sleep_fails: bool = False
    stop_fails: bool = False
    check_fails: bool = False  # the driver refuses its swaps before anybody is evicted
    held_s: float = 0.0  # how long its load waits for memory
    faulty: bool = False  # it does not work when it is asked
    outruns_abort: bool = False  # its load is over in the moment it is aborted
    leave_steps: tuple[msg.Step, ...] = ()  # the parts of its next stop or sleep
    load_steps: tuple[msg.Step, ...] = ()
    state: State = State.STOPPED
    takes_room: bool = False
    unreported: bool = False  # the scheduler cannot know its state yet
    loaded_by: int = 0


@dataclass
class Swap:
    """What the fake driver does for one StartSwap."""

    start: msg.StartSwap
    plans: list[Residency]  # those in force since it began
    leaving: set[str]
    loading: bool = False
    aborted: bool = False
    stuck: bool = False
    over: bool = False


@dataclass
class Asked:
    """One request as its client sees it."""

    ticket: int
    model_id: str
    at: float
    hold_s: float | None
    run: Callable[[float], None]
    granted_at: float | None = None
    refused: msg.Refuse | None = None
    refused_at: float | None = None
    left: bool = False
    returned: bool = False
    lacks: int = 0
    then: Callable[[], None] | None = None

    def after(self, seconds: float) -> "Asked":
        """Let *seconds* pass; return itself, for what is so then."""
        self.run(seconds)
        return self

    @property
    def waited_s(self) -> float:
        assert self.granted_at is not None
        return self.granted_at - self.at

    @property
    def reason(self) -> msg.RefusalReason | None:
        return self.refused.reason if self.refused else None

    @property
    def pending(self) -> bool:
        return self.granted_at is None and self.refused is None and not self.left

    @property
    def in_flight(self) -> bool:
        return self.granted_at is not None and not self.returned


class World:
    """The test's handle on everything. Model ids are words: ``World("a b", group("g", "a b"))``.

    The *slow* ones take 600 s to load.
    """

    def __init__(
        self,
        names: str,
        *groups: Group,
        residency: Residency | None = None,
        policy: str = "fair",
        max_hold_s: float = 120.0,
        queue_timeout_s: float = 3600.0,
        slow: str = "",
        concurrency_limit: int = 0,
        **rules: ModelRules,
    ) -> None:
        self.now = 0.0
        self.options = SchedulerOptions(policy, max_hold_s, queue_timeout_s, concurrency_limit)
        self.rules = {n: rules.get(n, ModelRules(n)) for n in names.split()}
        self.residency = residency or Groups(groups or [group("all", names)])
        self.models = {name: Model(name) for name in self.rules}
        for name in slow.split():
            self.models[name].load_s = 600.0
        self.scheduler = Scheduler()
        self.asked: dict[int, Asked] = {}
        self.serving: dict[str, dict[int, Asked]] = defaultdict(dict)
        self.answers: dict[int, msg.CommandDone] = {}
        self.answered_at: dict[int, float] = {}
        self.goals: dict[int, tuple[str, State]] = {}
        self.stuck: set[str] = set()
        self.preloads: list[msg.PreloadEnded] = []
        self.records: list[SwapRecord] = []
        self.checks: list[msg.CheckStart] = []
        self.cuts: list[msg.CutRequests] = []
        self.retired: list[str] = []
        self.yielded: list[tuple[float, str]] = []
        self.roomless: list[tuple[str, str]] = []
        self.effects: list[msg.Effect] = []
        self.shutdown_done = False
        self.wake_at: float | None = None
        self.on_swap: Callable[[msg.StartSwap], None] | None = None
        self.finds_machine: Callable[[str], bool] = lambda _: True
        self.device_of: Callable[[str], str] = lambda _: ""
        self._swaps: dict[int, Swap] = {}
        self._agenda: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count(1)
        self.configure()

    # --- what clients and admins do --------------------------------------------------------

    def request(
        self,
        model_id: str,
        hold_s: float | None = None,
        *,
        max_wait_s: float | None = None,
        never_swap: bool = False,
        then: Callable[[], None] | None = None,
    ) -> Asked:
        """Ask for *model_id*; once granted it takes *hold_s*, None: until ``finish``."""
        asked = Asked(next(self._numbers), model_id, self.now, hold_s, self.run, then=then)
        self.asked[asked.ticket] = asked
        self.tell(msg.RequestArrived(asked.ticket, model_id, max_wait_s, never_swap))
        assert not (asked.granted_at is None and asked.refused is None and never_swap)
        return asked

    def refusal(self, model_id: str, **wishes: Any) -> msg.Refuse:
        """Ask for *model_id*; return the refusal, which comes at once."""
        refused = self.request(model_id, **wishes).refused
        assert refused
        return refused

    def requests(self, model_id: str, count: int, hold_s: float | None = None) -> list[Asked]:
        return [self.request(model_id, hold_s) for _ in range(count)]

    def occupy(self, model_id: str) -> Asked:
        """Load *model_id* within 5 s, and keep one request in flight on it."""
        asked = self.request(model_id)
        self.run(5.0)
        assert asked.in_flight
        return asked

    def serve(self, *model_ids: str) -> None:
        """Load each of *model_ids* within 5 s, one after the other, and let it idle."""
        for model_id in model_ids:
            self.request(model_id, 0.0)
            self.run(5.0)
            assert self.state(model_id) == "ready"

    def fail(self, model_id: str, times: int = 2) -> None:
        """Let the next *times* loads of *model_id* fail, each for a request of its own."""
        self.models[model_id].failures = times
        for _ in range(times):
            asked = self.request(model_id)
            self.run(1.0)
            assert asked.reason is msg.RefusalReason.FAILED

    def leave(self, asked: Asked) -> None:
        """The client goes, wherever its request is."""
        if asked.in_flight:
            self.finish(asked)
        elif asked.pending:
            asked.left = True
            self.tell(msg.WaiterGone(asked.ticket))

    def finish(self, asked: Asked) -> None:
        """The granted request ends."""
        if asked.in_flight:
            asked.returned = True
            del self.serving[asked.model_id][asked.ticket]
            self.tell(msg.LeaseReturned(asked.ticket, asked.model_id))
            if asked.then is not None:
                asked.then()

    def unload(self, model_id: str | None = None, *, drain: bool = False) -> int:
        event = msg.Unload(next(self._numbers), model_id, drain)
        return self._command(event, model_id, State.STOPPED)

    def sleep(self, model_id: str, *, drain: bool = True) -> int:
        event = msg.PutToSleep(next(self._numbers), model_id, drain)
        return self._command(event, model_id, State.ASLEEP)

    def suspect(self, model_id: str) -> None:
        self.tell(msg.Suspected(model_id))

    def load(self, model_id: str) -> int:
        return self._command(msg.Load(next(self._numbers), model_id), model_id, State.READY)

    def preload(self, *model_ids: str) -> None:
        self.tell(msg.Preload(model_ids))

    def configure(self, *, restart: Iterable[str] = (), changed: Iterable[str] = ()) -> None:
        """Apply ``rules``, ``residency`` and ``options`` as they are now."""
        for name in self.rules:
            self.models.setdefault(name, Model(name))
        for swap in self._swaps.values():
            swap.plans.append(self.residency)
        rules = tuple(self.rules.values())
        names = frozenset(restart), frozenset(changed)
        self.tell(msg.ConfigChanged(rules, self.residency, self.options, *names))

    def crash(self, model_id: str) -> None:
        """The process of a ready or asleep model dies, and with it what it serves."""
        assert self.models[model_id].state in (State.READY, State.ASLEEP)
        self.die(model_id)
        self._cut(model_id)

    def die(self, model_id: str) -> None:
        """A process that could not be stopped ends at last."""
        model = self.models[model_id]
        model.state = State.STOPPED
        model.takes_room = False
        self.stuck.discard(model_id)
        self.tell(msg.Exited(model.loaded_by, model_id, BOOM))

    def shutdown(self, drain_timeout_s: float = 10.0) -> None:
        self.tell(msg.Shutdown(drain_timeout_s))

    def _command(
        self, event: msg.Unload | msg.PutToSleep | msg.Load, model_id: str | None, goal: State
    ) -> int:
        if model_id is not None:
            self.goals[event.command] = (model_id, goal)
        self.tell(event)
        return event.command

    # --- time ------------------------------------------------------------------------------

    def run(self, seconds: float) -> None:
        """Let *seconds* pass."""
        end = self.now + seconds
        while (at := self.next_at()) is not None and at <= end:
            self.step()
        self.now = end

    def after(self, seconds: float) -> "World":
        """Let *seconds* pass; return itself, for what is so then."""
        self.run(seconds)
        return self

    def step(self) -> bool:
        """Go to the next thing that happens; False: nothing ever will."""
        at = self.next_at()
        if at is None:
            return False
        self.now = max(self.now, at)
        if self._agenda and self._agenda[0][0] <= self.now:
            heapq.heappop(self._agenda)[2]()
        else:
            self.wake_at = None
            self.tell(msg.Tick())
        return True

    def next_at(self) -> float | None:
        times = [self._agenda[0][0]] if self._agenda else []
        if self.wake_at is not None:
            times.append(self.wake_at)
        return min(times, default=None)

    def later(self, seconds: float, act: Callable[[], None]) -> None:
        heapq.heappush(self._agenda, (self.now + seconds, next(self._numbers), act))

    # --- facts for tests -------------------------------------------------------------------

    def preview(
        self,
        model_id: str,
        running: Collection[str] | None = None,
        capacities: Mapping[str, int] | None = None,
    ) -> dict[str, Any]:
        found = self.scheduler.preview(model_id, self.now, running, capacities)
        assert found is not None
        return found

    def view(self, model_id: str) -> ModelView:
        return next(v for v in self.scheduler.snapshot(self.now) if v.model_id == model_id)

    def state(self, model_id: str) -> str:
        """The scheduler's idea of a model's state; it must be the truth between moves."""
        state = self.view(model_id).state
        assert state is self.models[model_id].state
        return str(state)

    def outcome(self, command: int) -> msg.Outcome | None:
        answer = self.answers.get(command)
        return answer.outcome if answer else None

    def in_flight(self, model_id: str) -> int:
        return len(self.serving[model_id])

    def waiting(self, model_id: str) -> int:
        return sum(a.pending for a in self.asked.values() if a.model_id == model_id)

    @property
    def started(self) -> list[str]:
        """The targets of all swaps begun, in order."""
        return [e.target for e in self.effects if isinstance(e, msg.StartSwap)]

    # --- the driver ------------------------------------------------------------------------

    def tell(self, event: msg.Event) -> None:
        scheduler = self.scheduler  # or a recorder in front of it
        decided = set(scheduler._state.swaps) if isinstance(scheduler, Scheduler) else None
        for effect in self.scheduler.handle(event, self.now):
            self.effects.append(effect)
            if isinstance(effect, msg.StartSwap) and decided is not None:
                self._check_needed(effect, decided)
            self._act(effect)

    def _act(self, effect: msg.Effect) -> None:
        match effect:
            case msg.Grant():
                self._grant(effect)
            case msg.Refuse():
                asked = self.asked[effect.ticket]
                assert asked.pending, f"{asked} refused twice or after its end"
                asked.refused, asked.refused_at = effect, self.now
            case msg.StartSwap():
                self._start(effect)
            case msg.AbortLoad():
                self._abort(self._swaps[effect.work])
            case msg.StopModel() | msg.SleepModel():
                self._idle_one(effect)
            case msg.CutRequests():
                self.cuts.append(effect)
                self.later(0.0, lambda: self._cut(effect.model_id))
            case msg.CommandDone():
                assert effect.command not in self.answers, "answered twice"
                self.answers[effect.command] = effect
                self.answered_at[effect.command] = self.now
                self._believe(effect)
            case _:
                self._note(effect)

    def _believe(self, answer: msg.CommandDone) -> None:
        """An OK says where the model is, at this moment."""
        if answer.outcome is msg.Outcome.OK and answer.command in self.goals:
            model_id, state = self.goals[answer.command]
            assert self.models[model_id].state is state

    def _note(self, effect: msg.Effect) -> None:
        match effect:
            case msg.WakeMeAt(at):
                self.wake_at = at
            case msg.PreloadEnded():
                self.preloads.append(effect)
            case msg.SwapEnded(record):
                self.records.append(record)
            case msg.CheckModel():
                self._check(effect)
            case msg.CheckStart():
                self.checks.append(effect)
            case msg.Yielded() | msg.NoRoomAsleep() | msg.Retired():
                self._note_leaving(effect)
            case msg.ShutdownDone():
                assert all(m.state is State.STOPPED or m.stop_fails for m in self.models.values())
                self.shutdown_done = True

    def _note_leaving(self, effect: msg.Yielded | msg.NoRoomAsleep | msg.Retired) -> None:
        name = effect.model_id
        assert not self.in_flight(name)
        if isinstance(effect, msg.Yielded):
            assert not self.waiting(name)
            self.yielded.append((self.now, name))
        elif isinstance(effect, msg.NoRoomAsleep):
            self.roomless.append((name, effect.device))
        else:
            assert self.models[name].state is State.STOPPED
            self.retired.append(name)

    def _grant(self, grant: msg.Grant) -> None:
        asked = self.asked[grant.ticket]
        assert asked.pending, f"{asked} granted twice or after its end"
        assert self.models[asked.model_id].state is State.READY, f"{asked}: model not ready"
        assert not any(
            other.pending and other.model_id == asked.model_id and other.ticket < asked.ticket
            for other in self.asked.values()
        ), f"{asked} overtook another request"
        asked.granted_at = self.now
        self.serving[asked.model_id][asked.ticket] = asked
        assert abs(grant.waited_s - asked.waited_s) < 1e-6
        limit = self.rules[asked.model_id].concurrency_limit
        assert self.in_flight(asked.model_id) <= limit
        everywhere = sum(map(len, self.serving.values()))
        assert everywhere <= (self.options.concurrency_limit or everywhere)
        if asked.hold_s is not None:
            self.later(asked.hold_s, lambda: self.finish(asked))

    def _cut(self, model_id: str) -> None:
        for asked in list(self.serving[model_id].values()):
            self.finish(asked)

    def _start(self, start: msg.StartSwap) -> None:
        if self.on_swap is not None:
            self.on_swap(start)
        swap = Swap(start, [self.residency], {eviction.model_id for eviction in start.evict})
        self._swaps[start.work] = swap
        target = self.models[start.target]
        assert target.state is (State.ASLEEP if start.kind is LoadKind.WAKE else State.STOPPED)
        for eviction in start.evict:
            model = self.models[eviction.model_id]
            stops = eviction.action is Action.STOP
            assert model.state is State.READY or (stops and model.state is State.ASLEEP)
            assert not self.in_flight(eviction.model_id), f"{model} evicted while serving"
        if target.check_fails:
            self._refuse_swap(swap)
            return
        for eviction in start.evict:
            model = self.models[eviction.model_id]
            self._leave(model, eviction.action, lambda e: self._left(swap, e), start.work)
        if not swap.leaving:
            self._load(swap)

    def _refuse_swap(self, swap: Swap) -> None:
        """Nothing is touched, and the report comes a moment later."""
        names = [swap.start.target, *(eviction.model_id for eviction in swap.start.evict)]
        for name in names:
            self.models[name].unreported = True

        def report() -> None:
            for name in names:
                self.models[name].unreported = False
            target = self.models[swap.start.target]
            self._end(swap, msg.LoadFailed(swap.start.work, target.model_id, BOOM, target.state))

        self.later(0.0, report)

    def _check(self, check: msg.CheckModel) -> None:
        works = not self.models[check.model_id].faulty
        self.later(0.25, lambda: self.tell(msg.Checked(check.work, check.model_id, works)))

    def _idle_one(self, effect: msg.StopModel | msg.SleepModel) -> None:
        model = self.models[effect.model_id]
        sleeps = isinstance(effect, msg.SleepModel)
        fine = (State.READY,) if sleeps else (State.READY, State.ASLEEP, State.STOPPING)
        assert model.state in fine
        if sleeps:
            assert not self.in_flight(effect.model_id)
        self._leave(model, Action.SLEEP if sleeps else Action.STOP, self.tell, effect.work)

    def _leave(
        self, model: Model, action: Action, tell: Callable[[msg.Idled], None], work: int
    ) -> None:
        sleeps = action is Action.SLEEP
        model.state = State.SLEEP_PENDING if sleeps else State.STOPPING
        took_s, error = (model.sleep_s if sleeps else model.stop_s), None
        if sleeps and model.sleep_fails:
            took_s, error = model.sleep_s + model.stop_s, BOOM

        def left() -> None:
            to, why = (State.ASLEEP if sleeps and error is None else State.STOPPED), error
            if not sleeps and model.stop_fails:
                to, why = State.STOPPING, BOOM
            model.state = to
            model.takes_room &= to is State.STOPPING
            (self.stuck.add if to is State.STOPPING else self.stuck.discard)(model.model_id)
            tell(msg.Idled(work, model.model_id, to, took_s, why, model.leave_steps))

        self.later(took_s, left)

    def _left(self, swap: Swap, event: msg.Idled) -> None:
        swap.leaving.discard(event.model_id)
        swap.stuck |= event.state is State.STOPPING
        self.tell(event)
        if swap.leaving:
            return
        target = swap.start.target
        if swap.aborted:
            self._end(swap, msg.LoadCancelled(event.work, target, self.models[target].state))
        elif swap.stuck:
            self._end(swap, msg.LoadFailed(event.work, target, BOOM, self.models[target].state))
        else:
            self._load(swap)

    def _load(self, swap: Swap) -> None:
        swap.loading = True
        model = self.models[swap.start.target]
        assert model.state in (State.STOPPED, State.ASLEEP)
        present = [other.model_id for other in self.models.values() if other.takes_room]
        # What a reload lets come together, or lets stay together, may be together.
        apart = [self._forbidden(plan, model.model_id, present) for plan in swap.plans]
        assert not set.intersection(*apart), f"{model} loads beside {present}"
        wakes = model.state is State.ASLEEP
        model.takes_room = True
        model.state = State.WAKING if wakes else State.STARTING
        took_s = model.wake_s if wakes else model.load_s
        if model.held_s:
            self._hold(swap, HELD)
            self.later(model.held_s, lambda: self._hold(swap, ""))
        self.later(model.held_s + took_s, lambda: self._load_over(swap, wakes, took_s))

    def _hold(self, swap: Swap, why: str) -> None:
        if not swap.aborted:
            self.tell(msg.LoadHeld(swap.start.work, swap.start.target, why))

    def _forbidden(self, residency: Residency, target: str, present: list[str]) -> set[str]:
        """The models beside which *target* must not be loaded; the devices, for a memory budget."""
        residency = here_of(residency)
        if not isinstance(residency, Memory):
            return forbidden(residency, target, present)
        devices = {name: each.device for name, each in self.scheduler._state.models.items()}
        takes = residency.held(target, devices[target])
        sizes = [takes]
        sizes += [residency.holds(name, devices[name]) for name in present if name != target]
        resting = {
            name
            for name, each in self.models.items()
            if name not in {target, *present} and each.state in (State.ASLEEP, State.STOPPING)
        }
        sizes += [residency.holds(name, devices.get(name, ""), asleep=True) for name in resting]
        used = [sum(each) for each in zip(*sizes, strict=True)]
        return {
            each.name
            for each, taken, size in zip(residency.devices, used, takes, strict=True)
            if size and taken > each.capacity - each.reserve - each.others
        }

    def _check_needed(self, start: msg.StartSwap, decided: set[int]) -> None:
        """With a memory budget there would be no room for the target if one of its victims stayed.

        *decided* are the swaps of before this step; those decided in it count in their order.
        """
        memory = self.residency
        if not isinstance(memory, Memory):
            return
        known = self.scheduler._state.models
        how = {each.model_id: each.action for each in start.evict}
        takes = memory.held(start.target, known[start.target].device)
        room = [each.capacity - each.reserve - each.others for each in memory.devices]
        apart = {each.model_id: each.apart for each in memory.needs}
        others = [each for each in memory.needs if each.model_id in known.keys() - {start.target}]
        for spared in how:
            if apart[spared] and apart[spared] == apart[start.target]:
                continue
            left = {**how, spared: None}
            sizes = [
                _after_swaps(
                    memory, known[each.model_id], left, decided | set(range(start.work + 1))
                )
                for each in others
            ]
            used = [sum(each) for each in zip(takes, *sizes, strict=True)]
            assert any(a > b for a, b in zip(used, room, strict=True)), (
                f"{spared} might have stayed"
            )

    def _load_over(self, swap: Swap, wakes: bool, took_s: float) -> None:
        if swap.aborted or swap.over:
            return
        model = self.models[swap.start.target]
        work = swap.start.work
        if not wakes and not self.finds_machine(model.model_id):
            model.state = State.STOPPED
            model.takes_room = False
            self._end(swap, msg.LoadFailed(work, model.model_id, FULL, unplaced=True))
            return
        if model.failures or model.lacks:
            lacked = model.lacks > 0
            model.failures, model.lacks = max(0, model.failures - 1), max(0, model.lacks - 1)
            model.state = State.STOPPED
            model.takes_room = False
            if lacked:
                self._lack(model.model_id)
            steps = model.load_steps
            failed = msg.LoadFailed(work, model.model_id, BOOM, lacked=lacked, steps=steps)
            self._end(swap, failed)
            return
        self._ready(swap, LoadKind.WAKE if wakes else LoadKind.START, took_s)

    def _lack(self, model_id: str) -> None:
        """Memory ran out while *model_id* loaded: from now on it is taken to need more."""
        for asked in self.asked.values():
            if asked.model_id == model_id and asked.pending:
                asked.lacks += 1
                assert asked.lacks <= 2, f"{asked} was retried twice"
        self.refigure(with_lack(self.residency, model_id))

    def refigure(self, residency: Residency) -> None:
        """Decide by new figures from now on."""
        self.residency = residency
        for swap in self._swaps.values():
            swap.plans.append(residency)
        self.tell(msg.ResidencyChanged(residency))

    def _ready(self, swap: Swap, kind: LoadKind, took_s: float) -> None:
        model = self.models[swap.start.target]
        model.state = State.READY
        model.unreported = False
        model.loaded_by = swap.start.work
        device = self.device_of(model.model_id)
        work, steps = swap.start.work, model.load_steps
        done = msg.LoadDone(work, model.model_id, kind, took_s, steps, device)
        self._end(swap, done)

    def _abort(self, swap: Swap) -> None:
        assert not swap.aborted, "aborted twice"
        assert not swap.over, "aborted after its end"
        model = self.models[swap.start.target]
        if model.outruns_abort and swap.loading:
            swap.over = model.unreported = True
            self.later(0.0, lambda: self._ready(swap, LoadKind.START, 1.0))
            return
        swap.aborted = True
        if not swap.loading:
            return
        model.state = State.STOPPING

        def gone() -> None:
            model.state = State.STOPPING if model.stop_fails else State.STOPPED
            model.takes_room = model.stop_fails
            (self.stuck.add if model.stop_fails else self.stuck.discard)(model.model_id)
            self._end(swap, msg.LoadCancelled(swap.start.work, model.model_id, model.state))

        self.later(model.stop_s, gone)

    def _end(self, swap: Swap, event: msg.Event) -> None:
        swap.over = True
        del self._swaps[swap.start.work]
        self.tell(event)


def gate_shut(**settings: Any) -> tuple[World, Asked, Asked, Asked]:
    """A world with a stream on a, a waiter for b whose turn has come, and a later one for a."""
    world = World("a b", **settings)
    stream = world.occupy("a")
    world.run(100.0)
    asked = world.request("b")
    world.run(10.0)
    held = world.request("a")
    assert held.pending
    return world, stream, asked, held


def _after_swaps(
    memory: Memory, model: ModelState, how: Mapping[str, Action | None], decided: Collection[int]
) -> tuple[int, ...]:
    """What *model* holds once the swaps *decided* are over, if those of *how* leave so, or stay."""
    full = memory.holds(model.model_id, model.device)
    asleep = memory.holds(model.model_id, model.device, asleep=True)
    state, action = model.state, None
    if model.model_id in how:
        state, action = model.left_from, how[model.model_id]
    elif model.evicted_by is not None and model.evicted_by.work in decided and model.leaves:
        action = model.leaves[1]
    elif model.swap is not None and model.swap.work in decided and not model.swap.aborting:
        return full
    if action is Action.STOP or state in {State.STOPPED, State.STOPPING}:
        return (0,) * len(full)
    rests = action is Action.SLEEP or state in {State.ASLEEP, State.SLEEP_PENDING}
    return asleep if rests else full


def with_lack(residency: Residency, model_id: str) -> Residency:
    """Return *residency* after a load of *model_id* ran out of memory."""
    if not isinstance(residency, Memory):
        return residency
    needs = [grown(each, 1) if each.model_id == model_id else each for each in residency.needs]
    return Memory(residency.devices, needs)


def forbidden(residency: Residency, target: str, present: Collection[str]) -> set[str]:
    """The models among *present* beside which *target* must not be loaded."""
    if isinstance(residency, Matrix):
        return set() if residency.allows({target, *present}) else set(present)
    assert isinstance(residency, Groups)
    return {other for other in present if evicts(residency, target, other)}


def evicts(residency: Groups, target: str, other: str) -> bool:
    """Whether loading *target* makes *other* leave."""
    return other in Groups.plan(residency, target, [other], {}).victims


def matrix(names: str, costs: str = "", **sets: str) -> Matrix:
    """Return a matrix of *sets* over the models *names*; *costs* like ``a: 3``."""
    shown = "\n".join(f"    {name}: '{text}'" for name, text in sets.items())
    models = ", ".join(f"{name}: {{cmd: 's ${{PORT}}'}}" for name in names.split())
    evict_costs = costs if costs == "auto" else f"{{{costs}}}"
    found = loads(
        f"models: {{{models}}}\nmatrix:\n  evict_costs: {evict_costs}\n  sets:\n{shown}\n"
    )
    assert found.matrix is not None
    return Matrix(found.matrix)


def group(
    name: str,
    members: str,
    *,
    swap: bool = True,
    exclusive: bool = True,
    persistent: bool = False,
    places: str = "local",
) -> Group:
    return Group(name, tuple(members.split()), swap, exclusive, persistent, tuple(places.split()))
