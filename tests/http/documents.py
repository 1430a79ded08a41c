"""JSON of every kind, made from a random number: cheaper than to draw each part with hypothesis."""

from random import Random
from typing import Any

NAMES = ["", "a", "b", "ab", "a.b", "é", "\u2028", 'q"', "\\", "😀", "\n", "0", "1"]
SCALARS = [*NAMES, None, True, False, 0, -7, 10**30, 0.5, -1e-7, 1e300, "\\ud83d", "{[,:]}", "x\0y"]
LAYOUTS = [(",", ":"), (", ", ": "), (" ,\n", "\t: ")]


def json_object(random: Random, depth: int = 3) -> dict[str, Any]:
    return {random.choice(NAMES): json_value(random, depth) for _ in range(random.randrange(6))}


def json_value(random: Random, depth: int = 3) -> Any:
    kind = random.random() if depth else 1
    if kind < 0.25:
        return json_object(random, depth - 1)
    if kind < 0.5:
        return [json_value(random, depth - 1) for _ in range(random.randrange(4))]
    return random.choice(SCALARS)
