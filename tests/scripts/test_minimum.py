"""The oldest versions that CI tests are the lower bounds that setup.py promises."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
BOUND = re.compile(r"([A-Za-z0-9-]+)(?:\[[a-z]+\])?>=([0-9.]+)(?:; .+)?")
BENEATH = {"greenlet"}  # not named in setup.py, but it has to fit the oldest gevent
PIN = re.compile(r"([A-Za-z0-9-]+)==([0-9.]+)")


def lists_of_setup() -> dict[str, list[str]]:
    """The lists of requirements in setup.py that have a name."""
    tree = ast.parse((ROOT / "setup.py").read_text())
    return {
        node.targets[0].id: ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.List)
    }


def test_each_lower_bound_is_tested_and_nothing_else() -> None:
    found = lists_of_setup()
    wanted = [*found["REQUIRES"], *found["GUNICORN"], *found["GPU"]]
    bounds = dict(BOUND.fullmatch(line).groups() for line in wanted)
    lines = (ROOT / "scripts/minimum.txt").read_text().splitlines()
    pins = dict(PIN.fullmatch(line).groups() for line in lines if not line.startswith("#"))
    assert pins.pop(*BENEATH)
    assert pins == bounds


def test_nothing_is_capped() -> None:
    assert not [line for lines in lists_of_setup().values() for line in lines if "<" in line]
