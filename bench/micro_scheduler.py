"""Microseconds per scheduler event on the hot path: a ready model, no request waiting.

Run: python bench/micro_scheduler.py. The numbers must not grow with the number of models or of
waiting requests.
"""

from __future__ import annotations

import argparse
from time import perf_counter

from llmsnap.routing.messages import (
    ConfigChanged,
    LeaseReturned,
    LoadDone,
    ModelRules,
    RequestArrived,
    SchedulerOptions,
    StartSwap,
)
from llmsnap.routing.residency import Group, Groups
from llmsnap.routing.scheduler import Scheduler


def build(models: int, waiters: int) -> Scheduler:
    """Return a scheduler with one ready model, ``m0``, and *waiters* requests for others."""
    names = [f"m{number}" for number in range(models)]
    rules = tuple(ModelRules(name, ttl_s=600.0, queue_limit=10**6) for name in names)
    plan = Groups(
        [
            Group("loose", tuple(names[:1]), swap=False, exclusive=False, persistent=True),
            Group("rest", tuple(names[1:])),
        ]
    )
    scheduler = Scheduler()
    scheduler.handle(ConfigChanged(rules, plan, SchedulerOptions()), 0.0)
    effects = scheduler.handle(RequestArrived(0, "m0"), 0.0)
    swap = next(effect for effect in effects if isinstance(effect, StartSwap))
    scheduler.handle(LoadDone(swap.work, "m0", swap.kind, 1.0), 0.0)
    for number in range(waiters):
        scheduler.handle(RequestArrived(-1 - number, names[1 + number % (models - 1)]), 0.0)
    scheduler.handle(LeaseReturned(0, "m0"), 0.0)
    return scheduler


def measure(scheduler: Scheduler, rounds: int, in_flight: int) -> tuple[float, float]:
    """Return microseconds per request and per returned lease, with *in_flight* others running."""
    now = 1.0
    handle = scheduler.handle
    for ticket in range(in_flight):
        handle(RequestArrived(10**9 + ticket, "m0"), now)
    granted = returned = 0.0
    for start in range(1, rounds, 50):
        tickets = range(start, start + 50)
        began = perf_counter()
        for ticket in tickets:
            handle(RequestArrived(ticket, "m0"), now)
        between = perf_counter()
        for ticket in tickets:
            handle(LeaseReturned(ticket, "m0"), now)
        granted += between - began
        returned += perf_counter() - between
    for ticket in range(in_flight):
        handle(LeaseReturned(10**9 + ticket, "m0"), now)
    return granted / rounds * 1e6, returned / rounds * 1e6


def main() -> None:
    """Print one line per size."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=100_000)
    rounds = parser.parse_args().rounds
    for models, waiters in ((10, 0), (1000, 0), (1000, 10_000)):
        scheduler = build(models, waiters)
        grant_us, return_us = min(measure(scheduler, rounds, 1) for _ in range(3))
        print(
            f"{models:5} models, {waiters:6} waiting: "
            f"request -> grant {grant_us:.2f} us, lease returned {return_us:.2f} us"
        )


if __name__ == "__main__":
    main()
