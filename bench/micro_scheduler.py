"""Microseconds per scheduler event on the hot path, and per plan of matrix and memory budget.

Run: python bench/micro_scheduler.py. The numbers of the hot path (a ready model, no request
waiting) must not grow with the number of models or of waiting requests. A plan of a matrix with 200
models, 12 of them running, takes less than a millisecond, however many combinations there are; so
does one of a memory budget. What its plans cost is compared with the optimum.
"""

from __future__ import annotations

import argparse
import random
from itertools import combinations
from math import inf
from statistics import median
from time import perf_counter, process_time

from llmsnap.config import loads
from llmsnap.models import State
from llmsnap.routing.cover import Way, cheapest, greedy
from llmsnap.routing.entries import ModelState
from llmsnap.routing.matrix import Matrix
from llmsnap.routing.memory import GIB, Device, Memory, Need, Share
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


# --- plans of a matrix ----------------------------------------------------------------------------

NAMES = [f"m{number}" for number in range(200)]
ROWS = [NAMES[start : start + 10] for start in range(0, 120, 10)]
SHAPES = {
    "12 rows of 10, one of each": " & ".join(f"({' | '.join(row)})" for row in ROWS),
    "any 12 of 200": f"12 of ({', '.join(NAMES)})",
    "any 2 of 40, as pairs": " | ".join(f"{a} & {b}" for a, b in combinations(NAMES[:40], 2)),
}


def matrix_of(text: str) -> Matrix:
    """Return a matrix with one set."""
    models = "".join(f"  {name}: {{cmd: 's ${{PORT}}'}}\n" for name in NAMES)
    config = loads(f"models:\n{models}matrix:\n  sets:\n    s: {text}\n", environ={})
    if config.matrix is None:
        raise ValueError("no matrix")
    return Matrix(config.matrix)


def measure_plans(rules: Matrix, running: list[str]) -> tuple[float, float]:
    """Return the milliseconds of CPU of the slowest plan: the first time, and the second."""
    facts = {name: ModelState(ModelRules(name), float(n)) for n, name in enumerate(NAMES)}
    for each in facts.values():
        each.state = State.READY
    first_s = again_s = 0.0
    for target in [name for name in NAMES[:60] if name not in running]:
        began = process_time()
        rules.plan(target, running, facts)
        between = process_time()
        rules.plan(target, running, facts)
        first_s, again_s = max(first_s, between - began), max(again_s, process_time() - between)
    return first_s * 1e3, again_s * 1e3


def plans() -> None:
    """Print one line per shape of a matrix, with allowed models running, and with any."""
    chance = random.Random(1)
    for shape, text in SHAPES.items():
        for what, running in (
            ("allowed", [row[1] for row in ROWS][: 2 if "pairs" in shape else 12]),
            ("random", chance.sample(NAMES[:120], 12)),
        ):
            slowest = [measure_plans(matrix_of(text), running) for _ in range(3)]
            first_ms, again_ms = min(slowest)
            print(
                f"matrix, {shape}, {what} models running: "
                f"slowest plan {first_ms:.2f} ms, {again_ms:.3f} ms again"
            )


# --- plans of a memory budget ---------------------------------------------------------------------


def budget_of(chance: random.Random, running: int) -> tuple[Memory, list[str]]:
    """Return a budget of two cards and RAM with 200 models, of which *running* about fill them."""
    needs = []
    for name in NAMES:
        size = chance.randint(2, 12) * GIB
        shares = (
            Share(chance.choice(("gpu0", "gpu1")), size),
            Share("ram", chance.randint(0, GIB)),
        )
        needs.append(Need(name, shares if chance.random() < 0.7 else (), anywhere=size // 2))
    chosen = chance.sample(NAMES, running)
    empty = Memory([Device("gpu0", 0), Device("gpu1", 0), Device("ram", 0)], needs)
    held = [
        empty.held(name, "gpu1" if number % 2 else "gpu0") for number, name in enumerate(chosen)
    ]
    capacities = [sum(sizes) + GIB for sizes in zip(*held, strict=True)]
    devices = [
        Device(each.name, max(16 * GIB, capacity))
        for each, capacity in zip(empty.devices, capacities, strict=True)
    ]
    return Memory(devices, needs), chosen


def facts_of(chance: random.Random, running: list[str]) -> dict[str, ModelState]:
    """Return what is known of all models; *running* ones are idle or, some of them, busy."""
    facts = {name: ModelState(ModelRules(name, can_sleep=True), 0.0) for name in NAMES}
    for number, name in enumerate(running):
        model = facts[name]
        model.state, model.device = State.READY, "gpu1" if number % 2 else "gpu0"
        model.idle_since, model.uses = chance.random() * 3600, chance.random() * 5
        model.starts.append(chance.uniform(2.0, 60.0))
        if chance.random() < 0.2:
            model.leases[number] = 0.0
    return facts


def memory_plans(running: int, rounds: int = 300) -> None:
    """Print what plans take with *running* models loaded."""
    chance = random.Random(2)
    times = []
    for _ in range(rounds):
        budget, names = budget_of(chance, running)
        facts = facts_of(chance, names)
        target = chance.choice([name for name in NAMES if name not in names])
        began = process_time()
        budget.plan(target, names, facts)
        times.append((process_time() - began) * 1e3)
    times.sort()
    print(
        f"memory, {running} of 200 models running: plan {median(times):.2f} ms, "
        f"p99 {times[len(times) * 99 // 100]:.2f} ms"
    )


def ratios(least: int, most: int, rounds: int = 200) -> None:
    """Print what plans cost in relation to the optimum, for *least* to *most* candidates."""
    chance = random.Random(3)
    found = []
    started = []
    while len(found) < rounds:
        candidates = [candidate(chance) for _ in range(chance.randint(least, most))]
        freed = [sum(ways[-1].frees[device] for ways in candidates) for device in range(2)]
        need = tuple(int(size * chance.uniform(0.2, 0.8)) for size in freed)
        best, start = cheapest(candidates, need), greedy(candidates, need)
        optimum = cheapest(candidates, need, most_nodes=inf)
        if best is None or start is None or optimum is None:
            continue
        found.append(best.key[0] / optimum.key[0])
        started.append(start.key[0] / optimum.key[0])
    for what, values in (("plan", sorted(found)), ("greedy alone", sorted(started))):
        p99 = values[len(values) * 99 // 100]
        print(
            f"memory, {least} to {most} candidates: {what} costs {median(values):.3f} of the "
            f"optimum, p99 {p99:.3f}, worst {values[-1]:.3f}"
        )


def candidate(chance: random.Random) -> list[Way]:
    """Return a model that may sleep or stop, on two cards."""
    tie = (chance.random() < 0.2, chance.random())
    size = chance.choice(((1, 0), (0, 1), (1, 1)))
    frees = tuple(each * chance.randint(2, 24) * GIB for each in size)
    cost = chance.uniform(1.0, 60.0)
    stop = Way(cost, frees, tie)
    if chance.random() < 0.5:
        return [stop]
    return [Way(cost / 10, tuple(each * 9 // 10 for each in frees), tie), stop]


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
    plans()
    for running in (12, 24):
        memory_plans(running)
    for least, most in ((4, 12), (13, 24)):
        ratios(least, most)


if __name__ == "__main__":
    main()
