"""Which build of llmsnap this is."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from llmsnap import __version__

HERE = Path(__file__).parent
UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Build:
    """*commit* and *date* are "unknown" where nothing tells them.

    *commit* ends in ``-modified`` when the files it was built from were not quite those.
    """

    version: str = __version__
    commit: str = UNKNOWN
    date: str = UNKNOWN

    def __str__(self) -> str:
        commit, dash, rest = self.commit.partition("-")
        built = "" if self.date == UNKNOWN else f", built {self.date}"
        return f"llmsnap {self.version} ({commit[:12]}{dash}{rest}){built}"


def identify(package: Path = HERE) -> Build:
    """Return what the release noted in ``_build.json``, else the commit of a checkout."""
    try:
        noted = json.loads((package / "_build.json").read_text(encoding="utf-8"))
        return Build(commit=noted["commit"], date=noted["date"])
    except (OSError, ValueError, KeyError):
        return Build(commit=_checked_out(package.parent / ".git"))


def _checked_out(git: Path) -> str:
    """The commit HEAD is at, read without running git, which need not be there."""
    try:
        head = (git / "HEAD").read_text(encoding="ascii").strip()
        if not head.startswith("ref: "):
            return head
        loose = git / head[5:]
        if loose.is_file():
            return loose.read_text(encoding="ascii").strip()
        return _packed(git / "packed-refs", head[5:])
    except OSError:
        return UNKNOWN


def _packed(refs: Path, name: str) -> str:
    """The commit that *name* is at in the file where git gathers what seldom changes."""
    for line in refs.read_text(encoding="utf-8").splitlines():
        commit, _, found = line.partition(" ")
        if found == name:
            return commit
    return UNKNOWN
