"""Medians over the rounds, ratios to other targets of the same run, and the table."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from loads import Figures
from workloads import WORKLOADS, Row

BASELINES = ("direct", "nginx", "bare")
LABEL_WIDTH = 34
COLUMN_WIDTH = 12

Medians = dict[str, dict[str, dict[str, float]]]
"""Workload -> target -> figure."""


@dataclass(slots=True)
class Results:
    """Everything measured, in the order of the targets: workload -> target -> rounds."""

    targets: list[str]
    rounds: dict[str, dict[str, list[Figures]]] = field(default_factory=dict)

    def add(self, workload: str, target: str, figures: Figures) -> None:
        """Take in one round."""
        self.rounds.setdefault(workload, {}).setdefault(target, []).append(figures)

    def medians(self) -> Medians:
        """Return the median of each figure over the rounds."""
        return {
            workload: {target: _medians(rounds) for target, rounds in by_target.items()}
            for workload, by_target in self.rounds.items()
        }

    def errors(self) -> list[str]:
        """Return a line for each target with failed requests, by workload."""
        return [
            f"{workload}, {target}: {_count_errors(rounds):.0f} errors: {_first_error(rounds)}"
            for workload, by_target in self.rounds.items()
            for target, rounds in by_target.items()
            if _count_errors(rounds)
        ]


def _count_errors(rounds: Sequence[Figures]) -> float:
    return sum(float(one.get("errors", 0)) for one in rounds)


def _first_error(rounds: Sequence[Figures]) -> str:
    """The error of the first failed request; wrk does not report it."""
    return next((str(why) for one in rounds if (why := one.get("first_error"))), "unknown")


def _medians(rounds: Sequence[Figures]) -> dict[str, float]:
    keys = dict.fromkeys(key for one in rounds for key in one)
    found = {
        key: [v for one in rounds if isinstance(v := one.get(key), int | float)] for key in keys
    }
    return {key: statistics.median(values) for key, values in found.items() if values}


def ratios(medians: Medians) -> Medians:
    """Return the figures as multiples of each baseline's: keys are "latency_p50_us/nginx"."""
    found: Medians = {}
    for workload, by_target in medians.items():
        for target, figures in by_target.items():
            found.setdefault(workload, {})[target] = {
                f"{key}/{base}": value / divisor
                for base in BASELINES
                for key, value in figures.items()
                if (divisor := by_target.get(base, {}).get(key))
            }
    return found


def table(results: Results) -> Iterator[str]:
    """Yield the lines to print."""
    medians = results.medians()
    shares = ratios(medians)
    yield " " * LABEL_WIDTH + _cells(results.targets)
    for workload, by_target in medians.items():
        yield WORKLOADS[workload].title
        for row in WORKLOADS[workload].rows:
            values = [by_target.get(name, {}).get(row.key) for name in results.targets]
            if any(value is not None for value in values):
                yield _line(f"  {row.label}", [_number(value, row.factor) for value in values])
                yield from _ratio_lines(row, shares[workload], results.targets)


def _ratio_lines(
    row: Row, shares: dict[str, dict[str, float]], targets: Sequence[str]
) -> Iterator[str]:
    for base in BASELINES if row.ratio else ():
        values = [shares.get(name, {}).get(f"{row.key}/{base}") for name in targets]
        if base in targets and any(value is not None for value in values):
            cells = ["" if value is None else f"{value:.2f}" for value in values]
            yield _line(f"      : {base}", cells)


def _line(label: str, cells: Sequence[str]) -> str:
    return f"{label:{LABEL_WIDTH}}{_cells(cells)}".rstrip()


def _cells(cells: Sequence[str]) -> str:
    return "".join(f"{cell:>{COLUMN_WIDTH}}" for cell in cells)


def _number(value: float | None, factor: float) -> str:
    if value is None:
        return "-"
    scaled = value * factor
    if scaled >= 100 or scaled == 0:
        return f"{scaled:,.0f}"
    return f"{scaled:.1f}" if scaled >= 5 else f"{scaled:.2f}"
