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
    """*commit* and *date* are "unknown" where nothing tells them."""

    version: str = __version__
    commit: str = UNKNOWN
    date: str = UNKNOWN

    def __str__(self) -> str:
        return f"llmsnap {self.version} ({self.commit[:12]}), built {self.date}"


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
        return (git / head[5:]).read_text(encoding="ascii").strip()
    except OSError:
        return UNKNOWN
