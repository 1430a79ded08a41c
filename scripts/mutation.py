#!/usr/bin/env python3
"""Mutation testing: changes one place of a part's code at a time and runs the tests of the part.

    scripts/mutation.py PART [--count N] [--seed N] [--minutes N]

Works on a copy of the checkout in ``build/mutation-PART``. A mutant that no test detects survives:
each is printed with its place, and at the end the share that was killed. The same seed chooses the
same places as long as the code is the same.
"""

# ruff: noqa: T201 - a command that talks to a person

from __future__ import annotations

import argparse
import ast
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
COPY = ROOT / "build" / f"mutation-{sys.argv[1] if len(sys.argv) > 1 else ''}"
LIMIT_S = 120
"""Seconds after which tests are treated as caught in a loop, which counts as detected."""

ROUTING = ["scheduler", "swaps", "state", "entries", "timing", "policies", "residency", "explain"]
PLANNER = ["residency", "matrix", "memory", "cover", "preview", "together"]
PARTS = {
    "routing": ([f"routing/{name}.py" for name in ROUTING], "tests/routing/test_*.py"),
    "residency": (
        [f"routing/{name}.py" for name in PLANNER],
        "tests/routing/test_[cmrt]*.py",
    ),
    "http1": (["server/http1.py"], "tests/server/test_[hr]*.py"),
}
"""Modules below ``llmsnap``, and their tests: without those of modules that are not pure."""
LEFT_OUT = {"test_driver.py", "test_names.py", "test_recording.py"}
LAST = {"test_scheduler_properties.py", "test_bound.py"}  # slow, and most mutants die before

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


def is_noticed(tests: list[str]) -> bool:
    """Run *tests* on the unchanged copy; return whether one of them fails."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *tests]
    env = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": str(COPY)}
    run = partial(subprocess.run, command, cwd=COPY, env=env, capture_output=True, check=False)
    try:
        return run(timeout=LIMIT_S).returncode != 0
    except subprocess.TimeoutExpired:
        return True


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
    parser.add_argument("--count", type=int, default=150)
    parser.add_argument("--seed", type=int, default=20261130)
    parser.add_argument("--minutes", type=float, default=25.0)
    chosen = parser.parse_args()
    shutil.rmtree(COPY, ignore_errors=True)
    shutil.copytree(ROOT, COPY, ignore=shutil.ignore_patterns(".*", "build", "docs", "bench"))
    modules, pattern = PARTS[chosen.part]
    found = (path for path in COPY.glob(pattern) if path.name not in LEFT_OUT)
    tests = [str(path) for path in sorted(found, key=lambda path: (path.name in LAST, path))]
    if is_noticed(tests):
        print("the tests fail before anything is changed")
        return 1
    paths = [COPY / "llmsnap" / module for module in modules]
    pool = [(path, i) for path in paths for i, _ in enumerate(changes(ast.parse(path.read_text())))]
    chance = random.Random(chosen.seed)  # noqa: S311 - repeatable, not secret
    began, killed, tried = time.monotonic(), 0, 0
    for path, number in chance.sample(pool, min(chosen.count, len(pool))):
        if time.monotonic() - began < chosen.minutes * 60:
            killed, tried = killed + is_killed(path, number, tests), tried + 1
    print(f"{killed} of {tried} killed ({killed / max(tried, 1):.0%}), of {len(pool)} places")
    return 0


if __name__ == "__main__":
    sys.exit(main())
