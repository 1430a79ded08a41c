"""The workloads at the extremes: very many streams, very many models, no requests."""

from __future__ import annotations

import statistics
import time
from contextlib import ExitStack, closing

from cost import Asker, Costs
from loads import Figures, Load
from processes import Running, chat, cpu_s, wake_ups, wake_ups_since
from subjects import SHORT_S, Subject
from targets import Setup

STREAMS, STREAMS_SHORT = 2000, 100
INTERVAL_MS, INTERVAL_SHORT_MS = 1000, 20
SETTLE_S, SETTLE_WITH_MODELS_S = 1.0, 6.0
"""After a start; the second is when the first sample of the host has been taken."""
IDLE_S = 5.0
FEW_MODELS, MANY_MODELS = 10, 1000
BATCH, WARM_UP = 50, 300
"""Requests."""


def streams2000(subject: Subject, seconds: float) -> Figures:
    """Hold streams open for *seconds*; CPU and memory are those of this time."""
    short = seconds < SHORT_S
    count = STREAMS_SHORT if short else STREAMS
    load = Load(count, interval_ms=INTERVAL_SHORT_MS if short else INTERVAL_MS, spread=True)
    with subject.fresh(seconds) as running:
        chat(running.port, "m")
        pids, before = running.pids(), running.rss_bytes()
        figures = load.hold(running.port, seconds, lambda: (cpu_s(pids), running.rss_bytes()))
    if "most_bytes" in figures:
        figures["stream_bytes"] = max(0.0, float(figures["most_bytes"]) - before) / count
    return figures


def idle(subject: Subject, seconds: float) -> Figures:
    """Watch an instance with one ready model that gets no request."""
    short = seconds < SHORT_S
    with subject.fresh(seconds) as running:
        chat(running.port, "m")
        time.sleep(seconds if short else _settling_s(subject))
        pids = running.pids()
        began, used, woken = time.monotonic(), cpu_s(pids), wake_ups(pids)
        time.sleep(seconds if short else max(IDLE_S, seconds))
        took_s = time.monotonic() - began
        return {
            "rss_bytes": running.rss_bytes(),
            "idle_cpu": (cpu_s(pids) - used) / took_s,
            "wake_ups_per_s": wake_ups_since(woken, pids) / took_s,
        }


def _settling_s(subject: Subject) -> float:
    return SETTLE_WITH_MODELS_S if subject.target.has_models else SETTLE_S


def models1000(subject: Subject, seconds: float) -> Figures:
    """Send to an instance with many models and to one with few in turns, over a connection each.

    Twice, since of two equal instances the later one can cost a quarter more, depending on its
    placement by the system.
    """
    costs = {FEW_MODELS: Costs(), MANY_MODELS: Costs()}
    for order in ((FEW_MODELS, MANY_MODELS), (MANY_MODELS, FEW_MODELS)):
        with ExitStack() as stack:
            askers = []
            for count in order:
                running = subject.running
                if count == MANY_MODELS or seconds >= SHORT_S:
                    running = stack.enter_context(subject.another(Setup(count)))
                asker = stack.enter_context(closing(_warm(running, seconds)))
                asker.costs = costs[count]
                askers.append(asker)
            _take_turns(askers, seconds)
    return _compared(costs[FEW_MODELS], costs[MANY_MODELS])


def _take_turns(askers: list[Asker], seconds: float) -> None:
    turns, end = list(askers), time.monotonic() + seconds
    while time.monotonic() < end or not askers[0].costs.cpu_us:
        for asker in turns:
            asker.measure(BATCH)
        turns.reverse()


def _warm(running: Running, seconds: float) -> Asker:
    chat(running.port, "m")
    asker = Asker(running)
    asker.ask(WARM_UP if seconds >= SHORT_S else 1)
    return asker


def _compared(few: Costs, many: Costs) -> Figures:
    few_us, many_us = few.low_quartile_us(), many.low_quartile_us()
    few_p50, many_p50 = statistics.median(few.latency_us), statistics.median(many.latency_us)
    return {
        "few_cpu_us": few_us,
        "many_cpu_us": many_us,
        "cpu_ratio": many_us / few_us,
        "few_latency_p50_us": few_p50,
        "many_latency_p50_us": many_p50,
        "latency_ratio": many_p50 / few_p50,
    }
