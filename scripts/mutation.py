#!/usr/bin/env python3
"""Mutation testing: changes one place of a part's code at a time and runs the tests of the part.

    scripts/mutation.py PART [--only MODULE] [--count N] [--seed N] [--minutes N]

Works on a copy of the checkout in ``build/mutation-PART``. A mutant that no test detects survives:
each is printed with its place, and at the end the share of each module that was killed. The same
seed chooses the same places of a module as long as its code is the same.

The tests that most mutants of a module die in run first. Each mutant is tried in a fork
of this process, which has imported all but the part's own package.
"""

# ruff: noqa: T201 - a command that talks to a person

from __future__ import annotations

import argparse
import ast
import importlib
import os
import random
import resource
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
COPY = ROOT / "build" / f"mutation-{sys.argv[1] if len(sys.argv) > 1 else ''}"
LIMIT_S = 120
"""CPU seconds after which tests are treated as caught in a loop, which counts as detected."""

ROUTING = "scheduler swaps state entries timing policies residency explain"
PARTS = {
    "routing": {f"routing/{name}.py": "routing/test_*.py" for name in ROUTING.split()},
    "residency": {
        f"routing/{module}.py": " ".join(f"{name}.py" for name in tests.split())
        for module, tests in {
            "memory": "routing/test_memory* routing/test_[pty]* routing/test_budget",
            "cover": "routing/test_cover routing/test_memory_plans",
            "preview": "routing/test_preview routing/test_m* routing/test_pools",
            "together": "routing/test_together commands/test_check",
            "entries": "routing/test_s[tw]* routing/test_[lqr]* routing/test_memory",
            "matrix": "routing/test_matrix routing/test_swaps",
            "pools": "routing/test_pools",
            "residency": "routing/test_re* routing/test_[bm]* routing/test_swaps",
        }.items()
    },
    "http1": {"server/http1.py": "server/test_[hr]*.py"},
}
"""Modules below ``llmsnap``, and what may notice a change of them, the likeliest first."""
LEFT_OUT = {"test_barrier.py", "test_driver.py", "test_names.py", "test_selectors.py"}
"""They are not pure, or concern other modules."""
LAST = ["test_recording.py", "test_bound.py", "test_scheduler_properties.py"]
"""Slow, and most mutants die before."""

OTHER: dict[type, Any] = {ast.Mult: ast.Add}
for _pair in ("Lt LtE", "Gt GtE", "Eq NotEq", "Is IsNot", "In NotIn", "Add Sub", "And Or"):
    _one, _other = (getattr(ast, name) for name in _pair.split())
    OTHER |= {_one: _other, _other: _one}

Change = tuple[ast.AST, str, object]
"""A node, the name of one of its fields, and the value in the mutant."""


def changes(node: ast.AST, *, in_function: bool = False) -> Iterator[Change]:
    """Yield the possible changes, in order; strings, annotations and ``__repr__`` are excluded."""
    name = node.name if isinstance(node, ast.FunctionDef) else ""
    if name in {"__repr__", "__str__"} or isinstance(node, ast.JoinedStr):
        return
    if isinstance(node, ast.keyword) and node.arg == "strict":  # what zip raises is no behaviour
        return
    in_function = in_function or bool(name)
    if change := of_operator(node) or of_value(node) or (in_function and of_statement(node)):
        yield (node, *change)
    for field, value in ast.iter_fields(node):
        if field not in {"annotation", "returns", "decorator_list"}:
            children = value if isinstance(value, list) else [value]
            for child in (each for each in children if isinstance(each, ast.AST)):
                yield from changes(child, in_function=in_function)


def of_operator(node: ast.AST) -> tuple[str, object] | None:
    """Another operator."""
    match node:
        case ast.Compare() if type(node.ops[0]) in OTHER:
            return "ops", [OTHER[type(node.ops[0])](), *node.ops[1:]]
        case ast.BinOp() | ast.BoolOp() if type(node.op) in OTHER:
            return "op", OTHER[type(node.op)]()
        case ast.UnaryOp(op=ast.Not()):
            return "operand", ast.UnaryOp(ast.Not(), node.operand)
    return None


def of_value(node: ast.AST) -> tuple[str, object] | None:
    """Another value: the next number, the other branch, the other extreme."""
    match node:
        case ast.Constant(value=bool()):
            return "value", not node.value
        case ast.Constant(value=int() | float() as number):
            return "value", number + 1
        case ast.IfExp():
            return "test", ast.UnaryOp(ast.Not(), node.test)
        case ast.Call(func=ast.Name(id="min" | "max" as name)):
            return "func", ast.Name("max" if name == "min" else "min", ast.Load())
    return None


def of_statement(node: ast.AST) -> tuple[str, object] | None:
    """A call that is not made, an attribute or item that is not set."""
    match node:
        case ast.Expr(value=ast.Call()):
            return "value", ast.Constant(None)
        case ast.Assign(targets=[ast.Attribute() | ast.Subscript()]):
            return "targets", [ast.Name("_", ast.Store())]
    return None


def tests_of(patterns: str) -> list[str]:
    """Return the tests of *patterns*, the likeliest to notice a change first."""
    paths = [path for each in patterns.split() for path in sorted((COPY / "tests").glob(each))]
    paths.sort(key=lambda path: path.name in LAST)
    return [str(path) for path in dict.fromkeys(paths) if path.name not in LEFT_OUT]


def prepare(part: str) -> None:
    """Import what the tests need from the copy, but for the package that is changed."""
    os.chdir(COPY)
    sys.dont_write_bytecode = True
    sys.path.insert(0, str(COPY))
    os.environ.pop("HYPOTHESIS_PROFILE", None)
    package = "llmsnap." + next(iter(PARTS[part])).split("/")[0]
    for name in ("llmsnap._monkey", package, "tests", "hypothesis", "pytest"):
        importlib.import_module(name)
    for name in [name for name in sys.modules if name.startswith((package, "tests"))]:
        del sys.modules[name]


def is_noticed(tests: list[str]) -> bool:
    """Run *tests* in a fork; return whether one of them fails."""
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        import pytest  # noqa: PLC0415 - what it imports has to be patched first

        try:
            resource.setrlimit(resource.RLIMIT_CPU, (LIMIT_S, LIMIT_S))
            devnull = os.open(os.devnull, os.O_WRONLY)
            os.dup2(devnull, 1)
            os.dup2(devnull, 2)
            options = ["-x", "-q", "-W", "ignore", "-p", "no:cacheprovider"]
            os._exit(int(pytest.main([*options, *tests])))
        finally:
            os._exit(1)
    return os.waitpid(pid, 0)[1] != 0


def is_killed(path: Path, number: int, tests: list[str]) -> bool:
    """Make change *number* to the module at *path*; return whether *tests* detect it."""
    text = path.read_text()
    tree = ast.parse(text)
    node, field, value = list(changes(tree))[number]
    line = node.lineno  # type: ignore[attr-defined]
    setattr(node, field, value)
    try:
        path.write_text(ast.unparse(ast.fix_missing_locations(tree)))
        noticed = is_noticed(tests)
    finally:
        path.write_text(text)
    if not noticed:
        print(f"survived: {path.name}:{line}: {text.splitlines()[line - 1].strip()}")
        print(f"     now: {ast.unparse(node)}", flush=True)
    return noticed


def main() -> int:
    """Mutate and report; fail if the tests fail on the unchanged code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("--only", action="append", help="a module of the part; may be repeated")
    parser.add_argument("--count", type=int, default=40, help="mutants of each module")
    parser.add_argument("--seed", type=int, default=20261130)
    parser.add_argument("--minutes", type=float, default=25.0)
    chosen = parser.parse_args()
    shutil.rmtree(COPY, ignore_errors=True)
    shutil.copytree(ROOT, COPY, ignore=shutil.ignore_patterns(".*", "build", "docs", "bench"))
    prepare(chosen.part)
    began = time.monotonic()
    for module, patterns in PARTS[chosen.part].items():
        path, tests = COPY / "llmsnap" / module, tests_of(patterns)
        if chosen.only and path.stem not in chosen.only:
            continue
        if is_noticed(tests):
            print(f"{path.name}: its tests fail before anything is changed")
            return 1
        places = range(sum(1 for _ in changes(ast.parse(path.read_text()))))
        chance = random.Random(chosen.seed)  # noqa: S311 - repeatable, not secret
        killed = tried = 0
        for number in chance.sample(places, min(chosen.count, len(places))):
            if time.monotonic() - began < chosen.minutes * 60:
                killed += is_killed(path, number, tests)
                tried += 1
        share = f"{killed / max(tried, 1):.0%}"
        print(f"{path.name}: {killed} of {tried} killed ({share}), of {len(places)} places")
    return 0


if __name__ == "__main__":
    sys.exit(main())
