"""Resources held by a process, from the system and from its metrics."""

import contextlib
import re
from pathlib import Path
from typing import NamedTuple

import psutil
import requests


class Figures(NamedTuple):
    """Figures that must return to their initial values."""

    descriptors: int
    threads: int
    children: int
    tasks: int
    in_flight: int
    rss_mib: float


MARGINS = Figures(0, 0, 0, 0, 0, 32.0)
"""Allowed growth of each. Memory: the histories of requests and logs fill up."""


def figures(pid: int, url: str) -> Figures:
    """Return the figures of llmsnap, which has *pid* and listens on *url*."""
    descriptors = len(list(Path(f"/proc/{pid}/fd").iterdir()))  # without this request
    page = requests.get(f"{url}/metrics", headers={"Connection": "close"}, timeout=30).text
    status = Path(f"/proc/{pid}/status").read_text()
    return Figures(
        descriptors,
        int(number(status, r"Threads:\s+(\d+)")),
        len(psutil.Process(pid).children(recursive=True)),
        int(number(page, r"llmsnap_tasks (\S+)")),
        int(number(page, r"llmsnap_requests_in_flight\S* (\S+)")),
        number(status, r"VmRSS:\s+(\d+)") / 1024,
    )


def number(text: str, pattern: str) -> float:
    """Return the sum of the numbers that *pattern* finds at the beginnings of lines."""
    return sum(map(float, re.findall(rf"^{pattern}", text, re.MULTILINE)))


def is_back(start: Figures, now: Figures) -> list[bool]:
    """Whether each figure has returned, within its margin."""
    return [n <= s + more for s, n, more in zip(start, now, MARGINS, strict=True)]


def table(start: Figures, end: Figures) -> str:
    lines = [f"{'':<14}{'start':>9}{'end':>9}{'margin':>9}"]
    for name, *values, good in zip(
        Figures._fields, start, end, MARGINS, is_back(start, end), strict=True
    ):
        cells = "".join(f"{value:>9.6g}" for value in values)
        lines.append(f"{name:<14}{cells}  {'back' if good else 'NOT BACK'}")
    return "\n".join(lines)


def servers(pid: int) -> dict[int, tuple[str, float]]:
    """Return model and age in seconds of each model server, by its pid."""
    found = {}
    now = psutil.time.time()
    for child in psutil.Process(pid).children(recursive=True):
        with contextlib.suppress(psutil.Error):
            words = child.cmdline()
            for option in ("--alias", "--model"):
                if option in words[:-1]:
                    found[child.pid] = (words[words.index(option) + 1], now - child.create_time())
                    break
    return found
