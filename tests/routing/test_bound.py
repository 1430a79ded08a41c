"""The fair policy's promise: how long the first in a queue waits at most.

With equal priorities and no failures, the oldest waiter of a model that has k-1 models ranked
before it is granted within min(S, maxHold) + k times (min(2 S, maxHold) + drain + swap). A drain
takes at most the longest request, or, with a reopening, maxHold + two such.
"""

import os
from dataclasses import dataclass
from functools import partial
from random import Random

from llmsnap.models import State
from llmsnap.routing.messages import ModelRules, RefusalReason, StartSwap
from tests.drawn import cases
from tests.routing.residencies import any_budget, any_groups, any_matrix
from tests.routing.world import Asked, World

LONG = os.environ.get("HYPOTHESIS_PROFILE") == "long"
NAMES = "abcde"
PAUSES_S = (0.0, 0.0, 0.1, 1.0, 5.0, 30.0)


@dataclass
class Promise:
    """*asked* was the first in its queue at *at*, with *turns* swaps to go."""

    asked: Asked
    at: float
    turns: int


class Watch:
    """Notes each request that becomes the first of a model that waits for a turn."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.promises: list[Promise] = []
        world.on_swap = self._evicts

    def request(self, model_id: str, hold_s: float) -> None:
        world = self.world
        asked = world.request(model_id, hold_s)
        if asked.pending and world.waiting(model_id) == 1:
            self._promise(model_id)

    def _evicts(self, start: StartSwap) -> None:
        """The turn of evicted models is over: requests for them wait for the next one."""
        for eviction in start.evict:
            if self.world.waiting(eviction.model_id):
                self._promise(eviction.model_id)

    def _promise(self, model_id: str) -> None:
        world = self.world
        state = world.scheduler._state
        model = state.models[model_id]
        if model.state is State.READY:
            return  # behind a gate: its turn is not over yet
        others = [e for e in state.awaited.values() if e.swap is None and e is not model]
        ahead = [e for e in others if e.state is not State.READY]
        first = next(a for a in world.asked.values() if a.pending and a.model_id == model_id)
        self.promises.append(Promise(first, world.now, 1 + len(state.swaps) + len(ahead)))


def bound_s(world: World, promise: Promise, longest_s: float) -> float:
    models = world.models.values()
    load_s = max(max(m.load_s, m.wake_s) for m in models)
    leave_s = max(max(m.sleep_s, m.stop_s) for m in models)
    hold_s = world.options.max_hold_s
    estimate_s = max(load_s, 5.0) + leave_s  # 5 s stand for a load never measured
    drain_s = longest_s if longest_s <= hold_s else hold_s + 2 * longest_s
    turn_s = min(2 * estimate_s, hold_s) + drain_s + leave_s + load_s
    return min(estimate_s, hold_s) + promise.turns * turn_s


@cases(3000 if LONG else 40)
def test_the_first_in_a_queue_is_granted_within_the_bound(chance: Random) -> None:
    draw = chance.choice(
        [any_groups, partial(any_matrix, learns=0.3), partial(any_budget, obstacles=False)]
    )
    world = World(" ".join(NAMES), max_hold_s=chance.choice([3.0, 15.0, 120.0]), queue_timeout_s=0)
    load_s, leave_s = chance.choice([0.5, 4.0, 20.0, 200.0]), chance.choice([0.0, 1.0, 10.0])
    limit, lengths = (
        chance.choice([1, 3, 100]),
        chance.choice([[0.0, 1.0, 5.0, 25.0, 90.0], [90.0]]),
    )
    requests = [
        (chance.choice(PAUSES_S), chance.choice(NAMES), chance.choice(lengths))
        for _ in range(chance.randint(5, 60))
    ]
    world.residency = draw(chance, NAMES)
    for name in NAMES:
        world.rules[name] = ModelRules(name, limit, can_sleep=chance.random() < 0.5)
        model = world.models[name]
        model.load_s, model.stop_s = load_s, leave_s
    world.configure()
    watch = Watch(world)
    for after_s, name, hold_s in requests:
        world.run(after_s)
        watch.request(name, hold_s)
    world.run(1e6)
    longest_s = max(hold_s for _, _, hold_s in requests)
    for promise in watch.promises:
        if promise.asked.reason is RefusalReason.NEVER_FITS:
            continue
        assert promise.asked.granted_at is not None, promise
        waited_s = promise.asked.granted_at - promise.at
        assert waited_s <= bound_s(world, promise, longest_s) + 1e-6, promise
