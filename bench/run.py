"""Measures the overhead of llmsnap, beside nginx and without a proxy: ``make bench``.

    bench/run.py [--rounds N] [--secs S] [--only WORKLOADS] [--targets TARGETS] [--json FILE]

Targets take turns within each round, so that a machine that gets slower does so for all. Prints
medians and ratios; see bench/README.md for what the rows mean. Exits with 1 if a request failed.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from processes import SIGNALS, BenchFailed
from report import Results, ratios, table
from subjects import Subject
from targets import DIRECT, TARGETS, Target
from workloads import WORKLOADS

from llmsnap import __version__


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Return the options in *argv*; wrong ones end the program."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="of each workload (5)")
    parser.add_argument("--secs", type=float, default=3.0, metavar="S", help="of each load (3)")
    parser.add_argument(
        "--only", type=some_of(WORKLOADS), default=list(WORKLOADS), metavar="WORKLOAD,..."
    )
    parser.add_argument(
        "--targets", type=some_of(TARGETS), default=list(TARGETS), metavar="TARGET,..."
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    return parser.parse_args(argv)


def some_of(known: Iterable[str]) -> Callable[[str], list[str]]:
    """Return a parser of a list of *known* names, which keeps each once and in their order."""
    names = list(known)

    def chosen(text: str) -> list[str]:
        wanted = {word.strip() for word in text.split(",")}
        if strange := sorted(wanted - set(names)):
            raise argparse.ArgumentTypeError(f"{', '.join(strange)}: not one of {', '.join(names)}")
        return [name for name in names if name in wanted]

    return chosen


def available(names: Iterable[str]) -> list[Target]:
    """Return the targets that can run here; print what the others lack."""
    found = []
    for name in names:
        if why := TARGETS[name].lacks():
            say(f"without {name}: {why}")
        else:
            found.append(TARGETS[name])
    return found


def say(line: str) -> None:
    """Print the progress on stderr; stdout has the table alone."""
    print(line, file=sys.stderr, flush=True)


def measure(options: argparse.Namespace, subjects: Sequence[Subject]) -> Results:
    """Run all rounds. Blocks. Raises: BenchFailed."""
    results = Results([subject.target.name for subject in subjects])
    for number in range(options.rounds):
        for name in options.only:
            say(f"round {number + 1} of {options.rounds}: {name}")
            for subject in _rotated(subjects, number):
                workload = WORKLOADS[name]
                if subject.target.has_models or not workload.models_only:
                    figures = workload.measure(subject, options.secs)
                    results.add(name, subject.target.name, figures)
    return results


def _rotated(subjects: Sequence[Subject], number: int) -> list[Subject]:
    """Return the subjects, rotated by *number*, so that their order has no influence."""
    first = number % max(1, len(subjects))
    return [*subjects[first:], *subjects[:first]]


@contextmanager
def started(targets: Iterable[Target]) -> Iterator[list[Subject]]:
    """Start an instance of each target, and stop all at the end."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="llmsnap-bench-")))
        upstream = stack.enter_context(DIRECT.start(folder / "upstream", 0))
        subjects = []
        for target in targets:
            own = folder / target.name
            running = stack.enter_context(target.start(own, upstream.port))
            subjects.append(Subject(target, running, own, upstream.port))
        yield subjects


def document(options: argparse.Namespace, results: Results) -> dict[str, object]:
    """Return what is written as JSON."""
    medians = results.medians()
    return {
        "llmsnap": __version__,
        "python": platform.python_version(),
        "system": platform.platform(),
        "cores": os.cpu_count(),
        "rounds": options.rounds,
        "secs": options.secs,
        "medians": medians,
        "ratios": ratios(medians),
        "measured": results.rounds,
    }


def run(options: argparse.Namespace) -> int:
    """Measure, print and write; return the exit code."""
    with started(available(options.targets)) as subjects:
        results = measure(options, subjects)
    for line in table(results):
        print(line)
    if options.json:
        options.json.write_text(json.dumps(document(options, results), indent=1))
    errors = results.errors()
    for line in errors:
        say(line)
    return 1 if errors else 0


def leave(number: int, _frame: object) -> None:
    """Stop all processes; later signals are ignored, since a second Ctrl-C would interrupt that."""
    for each in SIGNALS:
        signal.signal(each, signal.SIG_IGN)
    say("stopping")
    sys.exit(128 + number)


def main() -> int:
    options = parse(sys.argv[1:])
    for number in SIGNALS:
        signal.signal(number, leave)
    try:
        return run(options)
    except BenchFailed as error:
        say(f"failed: {error}")
        return 1


if __name__ == "__main__":
    sys.exit(main())
