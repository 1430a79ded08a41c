"""The installed copy: which build it is, where its data files lie, on which systems it runs."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, replace
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from typing import TypeVar

from llmsnap import __version__

T = TypeVar("T")

HERE = Path(__file__).parent
UNKNOWN = "unknown"
EXTENSION = EXTENSION_SUFFIXES[0]


def as_python_has_it(kind: type[T]) -> type[T]:
    """Keep *kind* a class of Python's own where its module is compiled: for subclasses of those.

    The compiler would add fields of its own to what the base class has, among them one for weak
    references, which it forgets to clear when an instance goes (docs/adr/0011).
    """
    return kind


@dataclass(frozen=True, slots=True)
class Build:
    """What runs: *commit* and *date* are "unknown" where they are not recorded.

    *commit* ends in ``-modified`` when the files it was built from were not quite those.
    *compiled*: what every request passes through runs as C (docs/adr/0011).
    *folder*: where the running package lies. *checkout*: that is a git working tree, not an
    installed copy; a server started in a clone runs the clone's sources, whatever is installed.
    """

    version: str = __version__
    commit: str = UNKNOWN
    date: str = UNKNOWN
    compiled: bool = False
    checkout: bool = False
    folder: str = str(HERE)

    def __str__(self) -> str:
        built = "" if self.date == UNKNOWN else f", built {self.date}"
        return f"llmsnap {self.version} ({self._commit}){built}, {self._form}, from {self.folder}"

    @property
    def short(self) -> str:
        """Name, version and what runs: ``llmsnap 0.1.0 (compiled)``."""
        checkout = f", checkout {self._commit}" if self.checkout else ""
        return f"llmsnap {self.version} ({self._form}{checkout})"

    @property
    def _commit(self) -> str:
        commit, dash, rest = self.commit.partition("-")
        return f"{commit[:12]}{dash}{rest}"

    @property
    def _form(self) -> str:
        return "compiled" if self.compiled else "pure Python"


def identify(package: Path = HERE) -> Build:
    """Return what the release noted in ``_build.json``, else the commit of a checkout."""
    try:
        noted = json.loads((package / "_build.json").read_text(encoding="utf-8"))
        build = Build(commit=noted["commit"], date=noted["date"])
    except (OSError, ValueError, KeyError):
        git = package.parent / ".git"
        build = Build(commit=_checked_out(git), checkout=git.exists())
    compiled = any(package.rglob(f"*{EXTENSION}"))
    return replace(build, compiled=compiled, folder=str(package))


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


def data_root(package: Path = HERE) -> Path:
    """Return the folder that holds ``static``, ``templates`` and ``conf``."""
    installed = package / "share"
    return installed if installed.is_dir() else package.parent


def static_folder() -> Path:
    """Return the folder of the user interface's files."""
    return data_root() / "static"


def template_folder() -> Path:
    """Return the folder of the Jinja templates."""
    return data_root() / "templates"


def unsupported_reason(platform: str = sys.platform) -> str:
    """Return why llmsnap does not run on *platform*; empty where it does."""
    if platform in {"win32", "cygwin", "msys"}:
        return (
            "llmsnap does not run on Windows, which lacks the process groups and file locks it "
            "relies on: run it in WSL 2, in a container or on another machine"
        )
    return ""


def platform_warnings(platform: str = sys.platform) -> str:
    """Return what *platform* lacks that Linux has, as one sentence; empty for Linux."""
    if platform == "linux":
        return ""
    return (
        f"this system ({platform}) has no inotify, parent-death signal or /proc: a changed "
        "configuration is noticed within 2 s, and when llmsnap is killed, processes that have left "
        "the process group of their model run on"
    )
