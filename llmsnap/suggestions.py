"""Suggestions for an unknown name, in bounded time however long or many the names are.

What is compared: the names without case, blanks and ``_ - .``; then without what clients put
around them, a provider before (``openai/qwen``) and a tag behind (``qwen:latest``); then by edit
distance. Only the beginning of long names is looked at, and only so many of the known ones.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import islice

MAX_CHARS = 48
MAX_KNOWN = 2000
MAX_COMPARED = 30
"""Edit distances worked out for one name, some 100 us each."""
MAX_SHOWN = 100

_IGNORED = re.compile(r"[\s_.-]+")


def folded(name: str) -> str:
    """Return the beginning of *name* without what people mix up: case, blanks, ``_ - .``."""
    return _IGNORED.sub("", name[:MAX_CHARS]).casefold()[:MAX_CHARS]


def core(name: str) -> str:
    """Return *name* folded, without a provider before it and a tag behind it."""
    return folded(name[:MAX_CHARS].rpartition("/")[2].partition(":")[0])


def shown(name: str, most: int = MAX_SHOWN) -> str:
    """Return *name* as messages show it: beyond *most* characters it is cut."""
    return name if len(name) <= most else name[: most - 3] + "..."


def nearest(name: str, known: Iterable[str], most: int = 1) -> list[str]:
    """Return up to *most* of *known* that *name* may have been meant to be, the likeliest first."""
    wanted, bare = folded(name), core(name)
    limit = min(3, (len(wanted) + 1) // 4)
    letters = set(wanted)
    found: list[tuple[int, str]] = []
    compared = 0
    for one in islice(known, MAX_KNOWN):
        other = folded(one)
        if other == wanted:
            found.append((0, one))
        elif bare and bare in other and core(one) == bare:
            found.append((1 + (other != bare), one))
        elif (
            abs(len(other) - len(wanted)) <= limit
            and len(letters ^ set(other)) <= 2 * limit
            and compared < MAX_COMPARED
        ):
            compared += 1
            apart = distance(wanted, other, limit)
            if apart <= limit:
                found.append((2 + apart, one))
    return [one for _, one in sorted(found, key=lambda pair: pair[0])[:most]]


def distance(first: str, second: str, limit: int) -> int:
    """Return how many letters to change, add, drop or swap with their neighbour.

    More than *limit* is not counted to its end: *limit* + 1 says so.
    """
    beyond = limit + 1
    before: list[int] = []
    row = [min(n, beyond) for n in range(len(second) + 1)]
    for i, letter in enumerate(first, 1):
        last, row = row, [min(i, beyond)] + [beyond] * len(second)
        for j in range(max(1, i - limit), min(len(second), i + limit) + 1):
            same = letter == second[j - 1]
            row[j] = min(last[j - 1] + (not same), last[j] + 1, row[j - 1] + 1, beyond)
            if i > 1 < j and letter == second[j - 2] and first[i - 2] == second[j - 1]:
                row[j] = min(row[j], before[j - 2] + 1)
        before = last
        if min(row) >= beyond:
            return beyond
    return row[-1]
