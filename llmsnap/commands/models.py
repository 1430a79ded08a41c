"""What a running server tells of its models, in one form whatever the key may read."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from llmsnap.commands.client import Client
from llmsnap.errors import KeyRefused

STOPPED = frozenset({"stopped", "shutdown"})


@dataclass(frozen=True, slots=True)
class Model:
    """One model now. Seconds throughout; None where it is unknown or does not apply.

    *usual_s* is what a load, or a wake of one that sleeps, usually takes; None before the first.
    *why* and *eta_s* tell those who wait for it what for, and how long.
    """

    model: str
    state: str
    for_s: float | None
    ttl_s: float
    idle_in_s: float | None
    in_flight: int
    waiting: int
    aliases: tuple[str, ...] = ()
    usual_s: float | None = None
    why: str = ""
    eta_s: float | None = None

    @property
    def is_stopped(self) -> bool:
        """Whether it is not running, and nobody waits for it."""
        return self.state in STOPPED and not self.waiting

    def is_called(self, name: str) -> bool:
        """Whether *name* is its id or one of its aliases."""
        return name == self.model or name in self.aliases


def overview(client: Client) -> list[Model]:
    """Return all models, stopped ones too. Raises: KeyRefused for a key that is no admin's."""
    return [_of_overview(one) for one in client.get("/api/overview")["models"]]


def listed(client: Client) -> tuple[list[Model], bool]:
    """Return the models a key may know of, and whether the stopped ones are among them."""
    try:
        return overview(client), True
    except KeyRefused:
        now = time.time()
        return [_of_running(one, now) for one in client.get("/running")["running"]], False


def _of_overview(one: dict[str, Any]) -> Model:
    rouses = one["state"] in {"asleep", "waking"}
    return Model(
        model=one["model_id"],
        state=one["state"],
        for_s=one["state_for_s"],
        ttl_s=one["ttl_s"],
        idle_in_s=one["rest_in_s"],
        in_flight=one["in_flight"],
        waiting=one["waiting"],
        aliases=tuple(one["aliases"]),
        usual_s=one["durations"]["wake" if rouses else "start"]["p50_s"],
        why=one["why"],
        eta_s=one["eta_s"],
    )


def _of_running(one: dict[str, Any], now: float) -> Model:
    return Model(
        model=one["model"],
        state=one["state"],
        for_s=max(0.0, now - one["since"]),
        ttl_s=one["ttl"],
        idle_in_s=one["idle_in_s"],
        in_flight=one["in_flight"],
        waiting=one["waiting"],
    )
