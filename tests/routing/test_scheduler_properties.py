"""Random residencies, clients, failures, commands, reloads: what must hold whatever happens.

``World`` itself asserts at every effect that a request ends once, that no serving model is evicted,
that no limit is exceeded and that no two models run together that must not. Here the scheduler's
books are compared with what really happened, and at the end everything must come to rest.

``HYPOTHESIS_PROFILE=long`` searches for minutes instead of a second.
"""

import os
from dataclasses import replace
from random import Random
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from llmsnap.models import State
from llmsnap.routing import messages as msg
from llmsnap.routing.matrix import Matrix
from llmsnap.routing.memory import Memory, Share
from llmsnap.routing.messages import ModelRules, SchedulerOptions
from llmsnap.routing.policies import POLICIES
from llmsnap.routing.residency import Groups, LoadKind
from tests.routing.residencies import any_residency
from tests.routing.world import BOOM, Asked, World

LONG = os.environ.get("HYPOTHESIS_PROFILE") == "long"
NAMES = "abcde"

names = st.sampled_from(NAMES)
SPANS_S = (0.0, 0.3, 1.0, 4.0, 15.0, 130.0)
LOADS_S = (0.1, 1.0, 7.0, 40.0, 200.0)
spans = st.sampled_from(SPANS_S)


def model_rules(chance: Random, model_id: str) -> ModelRules:
    return ModelRules(
        model_id,
        concurrency_limit=chance.choice([1, 2, 100]),
        queue_limit=chance.choice([1, 2, 1000]),
        ttl_s=chance.choice([0.0, 3.0, 60.0]),
        sleep_after_s=chance.choice([0.0, 2.0]),
        can_sleep=chance.random() < 0.5,
        priority=chance.choice([0, 0, 1]),
    )


seeds = st.integers(0, 2**32)  # a draw from it takes less time than one with hypothesis
plans = seeds.map(lambda seed: any_residency(Random(seed), NAMES))
options = st.builds(
    SchedulerOptions,
    st.sampled_from(sorted(POLICIES)),
    st.sampled_from([2.0, 30.0, 120.0]),
    st.sampled_from([0.0, 300.0, 3600.0]),
    st.sampled_from([0, 0, 1, 3]),
)


faults = st.fixed_dictionaries(
    {},
    optional={
        "failures": st.integers(1, 3),
        "lacks": st.integers(1, 3),
        "held_s": spans,
        "sleep_fails": st.booleans(),
        "stop_fails": st.booleans(),
        "check_fails": st.booleans(),
        "outruns_abort": st.booleans(),
    },
)


class Life(RuleBasedStateMachine):
    """Anything a user, a client or a broken model may do."""

    @initialize(plan=plans, chosen=options, seed=seeds)
    def begin(self, plan: Groups | Matrix | Memory, chosen: SchedulerOptions, seed: int) -> None:
        chance = Random(seed)
        self.world = world = World(" ".join(NAMES))
        world.residency, world.options = plan, chosen
        for name in NAMES:
            world.rules[name] = model_rules(chance, name)
            model = world.models[name]
            model.load_s, model.wake_s = chance.choice(LOADS_S), chance.choice(LOADS_S)
            model.sleep_s, model.stop_s = chance.choice(SPANS_S), chance.choice(SPANS_S)
        world.configure()
        self.commands: list[int] = []

    @rule(
        name=names,
        hold_s=st.none() | spans,
        count=st.sampled_from([1, 1, 3]),
        max_wait_s=st.sampled_from([None, None, None, 0.0, 10.0]),
        never_swap=st.sampled_from([False, False, False, True]),
    )
    def request(
        self,
        name: str,
        hold_s: float | None,
        count: int,
        max_wait_s: float | None,
        never_swap: bool,
    ) -> None:
        for _ in range(count):
            self.world.request(name, hold_s, max_wait_s=max_wait_s, never_swap=never_swap)

    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        alive = [a for a in self.world.asked.values() if a.pending or a.in_flight]
        if alive:
            self.world.leave(data.draw(st.sampled_from(alive)))

    @rule(name=names)
    def all_leave(self, name: str) -> None:
        for asked in list(self.world.asked.values()):
            if asked.model_id == name:
                self.world.leave(asked)

    @rule(seconds=spans)
    def pass_time(self, seconds: float) -> None:
        self.world.run(seconds)

    @rule(steps=st.integers(1, 5))
    def pass_steps(self, steps: int) -> None:
        for _ in range(steps):
            self.world.step()

    @rule(name=st.none() | names, drain=st.booleans())
    def unload(self, name: str | None, drain: bool) -> None:
        self.commands.append(self.world.unload(name, drain=drain))

    @rule(name=names, drain=st.booleans())
    def sleep(self, name: str, drain: bool) -> None:
        self.commands.append(self.world.sleep(name, drain=drain))

    @rule(name=names)
    def load(self, name: str) -> None:
        self.commands.append(self.world.load(name))

    @rule(chosen=st.lists(names, max_size=4))
    def preload(self, chosen: list[str]) -> None:
        self.world.preload(*chosen)

    @rule(name=names)
    def crash(self, name: str) -> None:
        if self.world.models[name].state in (State.READY, State.ASLEEP):
            self.world.crash(name)

    @rule(name=names, faults=faults)
    def break_model(self, name: str, faults: dict[str, Any]) -> None:
        for fault, value in faults.items():
            setattr(self.world.models[name], fault, value)

    @rule(name=names, faulty=st.booleans())
    def suspect(self, name: str, faulty: bool) -> None:
        self.world.models[name].faulty = faulty
        self.world.suspect(name)

    @precondition(lambda self: isinstance(self.world.residency, Memory))
    @rule(
        others=st.lists(st.integers(0, 9), min_size=3, max_size=3),
        measured=st.dictionaries(
            names, st.builds(Share, st.sampled_from(["gpu0", "gpu1", "ram"]), st.integers(1, 9))
        ),
        asleep=st.booleans(),
    )
    def remeasure(self, others: list[int], measured: dict[str, Share], asleep: bool) -> None:
        """Other programs use more or less, and models hold more than they need."""
        budget = self.world.residency
        assert isinstance(budget, Memory)
        devices = [
            replace(each, others=size) for each, size in zip(budget.devices, others, strict=True)
        ]
        needs = [
            replace(
                each,
                measured=(measured[each.model_id],) if each.model_id in measured else (),
                is_measured_asleep=asleep,
            )
            for each in budget.needs
        ]
        self.world.refigure(Memory(devices, needs))

    @rule(name=names)
    def check_fails_late(self, name: str) -> None:
        self.world.tell(msg.CheckFailed(name, BOOM))
        self.world.tell(msg.CheckFailed("nope", BOOM))

    @rule(name=names, number=st.integers(0, 200))
    def noise(self, name: str, number: int) -> None:
        """Reports about nothing, and ticks that were not requested."""
        self.world.tell(msg.Tick())
        self.world.tell(msg.LeaseReturned(-number, name))
        self.world.tell(msg.WaiterGone(-number))
        self.world.tell(msg.Idled(-number, name, State.STOPPED, 1.0))
        self.world.tell(msg.LoadDone(-number, name, LoadKind.WAKE, 1.0))
        self.world.tell(msg.LoadFailed(-number, name, BOOM))
        self.world.tell(msg.LoadCancelled(-number, name))
        self.world.tell(msg.Checked(-number, name, works=False))
        for event in (msg.Exited(-number, "nope", BOOM), msg.LeaseReturned(-number, "nope")):
            self.world.tell(event)
        if name not in self.world.stuck:  # for those any end is the end
            self.world.tell(msg.Exited(-1 - number, name, BOOM))

    @rule(plan=plans, chosen=options, restart=st.sets(names, max_size=2))
    def regroup(
        self, plan: Groups | Matrix | Memory, chosen: SchedulerOptions, restart: set[str]
    ) -> None:
        self.world.residency = plan
        self.world.options = chosen
        self.world.configure(restart=restart)

    @rule(name=names, restart=st.booleans(), seed=seeds)
    def redefine(self, name: str, restart: bool, seed: int) -> None:
        """Change a model, or add it again after a removal."""
        self.world.rules[name] = model_rules(Random(seed), name)
        self.world.configure(restart=[name] if restart else [])

    @precondition(lambda self: len(self.world.rules) > 1)
    @rule(name=names)
    def remove(self, name: str) -> None:
        self.world.rules.pop(name, None)
        self.world.configure()

    @invariant()
    def the_books_are_right(self) -> None:
        world = self.world
        for view in world.scheduler.snapshot(world.now):
            name = view.model_id
            model = world.models[name]
            assert view.state is model.state or model.unreported
            assert view.in_flight == world.in_flight(name)
            assert view.waiting == world.waiting(name)
            assert view.eta_s is None or view.eta_s >= 0
            assert bool(view.why) == (view.eta_s is not None)

    def teardown(self) -> None:
        if not hasattr(self, "world"):
            return
        world = self.world
        for model in world.models.values():
            model.failures = model.lacks = 0
            model.stop_fails = model.check_fails = False
        if isinstance(world.residency, Memory):
            self.remeasure(others=[0, 0, 0], measured={}, asleep=False)
        for name in list(world.stuck):
            world.die(name)
        rest(world)
        everything_ended(world)
        assert all(command in world.answers for command in self.commands)
        world.shutdown(5.0)
        assert world.after(1e5).shutdown_done
        assert world.request("a").refused


def rest(world: World) -> None:
    """Let all requests end as they are granted, until no request waits.

    A pinned model may be on the card that another one needs: now and then idle ones are unloaded.
    """
    for number in range(5000):
        if number % 500 == 499:
            for name in world.rules:
                if not world.waiting(name) and not world.in_flight(name):
                    world.unload(name)
        held = [a for served in world.serving.values() for a in served.values() if not a.hold_s]
        for asked in held:
            world.finish(asked)
        if not any(a.pending or a.in_flight for a in world.asked.values()):
            break
        assert held or world.step(), "requests wait and nothing will ever happen"
    world.run(1e5)


def everything_ended(world: World) -> None:
    for asked in world.asked.values():
        assert ended(asked) == 1, asked


def ended(asked: Asked) -> int:
    return (asked.granted_at is not None) + (asked.refused is not None) + asked.left


TestLife = Life.TestCase
TestLife.settings = settings(
    max_examples=3000 if LONG else 25,
    stateful_step_count=120 if LONG else 40,
    deadline=None,
    derandomize=not LONG,
    database=None,
    suppress_health_check=list(HealthCheck),
)
