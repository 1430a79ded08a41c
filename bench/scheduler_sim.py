"""Compares the policies: three hours of traffic on a virtual clock, by each policy.

Run from the root of the checkout: ``python -m bench.scheduler_sim``. Takes a few seconds; no
process is started and no time passes.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field

from llmsnap.routing.messages import Due, DueRule, SchedulerOptions
from llmsnap.routing.policies import AT_ONCE, NEVER, Candidate, Fair, Fifo, Policy
from tests.routing.world import Asked, World

HOUR_S = 3600.0


class AtOnce(Fair):
    """Closes every gate as soon as a request waits, as a strict queue does."""

    def due(self, target: Candidate, victims: object) -> Due:
        """Always due."""
        return Due(AT_ONCE, DueRule.FREE)

    @property
    def reopen_after_s(self) -> float:
        """Never reopens."""
        return NEVER


class Strict(Fair):
    """The fair policy without its second chance for long drains."""

    @property
    def reopen_after_s(self) -> float:
        """Never reopens."""
        return NEVER


POLICIES: dict[str, Callable[[SchedulerOptions], Policy]] = {
    "gate shut at once": AtOnce,
    "gate never shut (fifo)": Fifo,
    "fair, no reopening": Strict,
    "fair": Fair,
}


def world_of(policy: str, names: str, swap_s: float) -> World:
    """Return a world in which a swap takes *swap_s*: a tenth to stop, the rest to load."""
    world = World(names, queue_timeout_s=0.0)
    world.scheduler._state.policy = POLICIES[policy](world.options)  # noqa: SLF001 - variants exist only here
    for model in world.models.values():
        model.stop_s, model.load_s = swap_s * 0.1, swap_s * 0.9
    return world


@dataclass
class Client:
    """Sends the requests of *script* in turn, each when the one before is answered."""

    world: World
    script: str
    request_s: Callable[[], float]
    asked: list[Asked] = field(default_factory=list)

    def start(self, after_s: float = 0.0) -> None:
        """Send the first request *after_s* from now."""
        self.world.later(after_s, self._next)

    def _next(self) -> None:
        model_id = self.script[len(self.asked) % len(self.script)]
        asked = self.world.request(model_id, self.request_s(), then=self._next)
        self.asked.append(asked)


def served(clients: list[Client], model_id: str = "") -> int:
    """Return the number of responses that the clients got."""
    asked = [a for client in clients for a in client.asked]
    return sum(a.returned for a in asked if not model_id or a.model_id == model_id)


def longest_wait_s(clients: list[Client], model_id: str, now: float) -> float:
    """Return the longest wait for *model_id*, those who still wait included."""
    waits = [
        (a.granted_at if a.granted_at is not None else now) - a.at
        for client in clients
        for a in client.asked
        if a.model_id == model_id
    ]
    return max(waits, default=0.0)


def report(policy: str, world: World, clients: list[Client]) -> None:
    """Print one line."""
    names = sorted(world.models)
    counts = ", ".join(f"{name} {served(clients, name):5}" for name in names)
    waits = ", ".join(f"{n} {longest_wait_s(clients, n, world.now):6.0f} s" for n in names)
    print(
        f"  {policy:23} {served(clients):6} requests ({counts}), "
        f"{len(world.started):4} swaps, longest wait {waits}"
    )


def two_busy_models(policy: str) -> None:
    """Two models with eight busy clients each, 30 s swaps, one hour."""
    world = world_of(policy, "a b", 30.0)
    dice = random.Random(1)
    clients = [Client(world, name, lambda: dice.uniform(2.0, 4.0)) for name in "ab" * 8]
    for client in clients:
        client.start(dice.random())
    world.run(HOUR_S)
    report(policy, world, clients)


def mixed_clients(policy: str) -> None:
    """Twelve clients that each call A A A B in turn, 5 s swaps, one hour."""
    world = world_of(policy, "a b", 5.0)
    dice = random.Random(1)
    clients = [Client(world, "aaab", lambda: dice.uniform(1.0, 3.0)) for _ in range(12)]
    for client in clients:
        client.start(dice.random())
    world.run(HOUR_S)
    report(policy, world, clients)


def one_long_stream(policy: str) -> None:
    """A one-hour stream on A, six more A clients, one B client, 20 s swaps, 70 minutes."""
    world = world_of(policy, "a b", 20.0)
    dice = random.Random(1)
    world.request("a", HOUR_S)
    clients = [Client(world, name, lambda: dice.uniform(3.0, 7.0)) for name in "aaaaaab"]
    for client in clients:
        client.start(30.0 + dice.random())
    world.run(70 * 60.0)
    report(policy, world, clients)


def main() -> None:
    """Run every scenario by every policy."""
    for scenario in (two_busy_models, mixed_clients, one_long_stream):
        print(scenario.__doc__)
        for policy in POLICIES:
            scenario(policy)


if __name__ == "__main__":
    main()
