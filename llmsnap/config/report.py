"""What is found wrong or odd while a configuration is read."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from llmsnap import suggestions
from llmsnap.errors import Problem

from .nodes import dotted

if TYPE_CHECKING:
    from .nodes import Node, Path

MOST = 500  # a file of pure nonsense must not produce a report larger than itself
MOST_SUGGESTIONS = 50  # comparing names is slow
MOST_CHARS = 500  # of what is said about one value, which may quote names of any length

_SAFE_WORDS = ("apiKeys", "key", "name", "models", "admin", "upstream")


class Report:
    """Collects problems (the file cannot be used) and advice (it can)."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []
        self.advice: list[Problem] = []
        self._suggestions = 0
        self._told: set[Path] = set()

    def error(self, path: Path, what: str, fix: str = "", at: Node | None = None) -> None:
        """Note why the file cannot be used."""
        self.silence(path)
        self._add(self.problems, path, what, fix, at)

    def silence(self, path: Path) -> None:
        """Note that what is wrong at *path* has been told already."""
        self._told.add(path)

    def is_told(self, path: Path) -> bool:
        """Tell whether the value at *path*, or what it stands in, could not be read."""
        return any(path[:length] in self._told for length in range(1, len(path) + 1))

    def advise(self, path: Path, what: str, fix: str = "", at: Node | None = None) -> None:
        """Note something odd that the file can live with."""
        self._add(self.advice, path, what, fix, at)

    def nearest(self, name: str, known: Iterable[str]) -> str:
        """Return ``did you mean "x"?`` for the closest of *known*, or an empty text."""
        if self._suggestions >= MOST_SUGGESTIONS:
            return ""
        self._suggestions += 1
        close = suggestions.nearest(name, known)
        return f'did you mean "{close[0]}"?' if close else ""

    @staticmethod
    def _add(found: list[Problem], path: Path, what: str, fix: str, at: Node | None) -> None:
        if len(found) < MOST:
            line, column = (at.line, at.column) if at else (0, 0)
            where = dotted(_shortened(_without_secrets(path)))
            what, fix = suggestions.shown(what, MOST_CHARS), suggestions.shown(fix, MOST_CHARS)
            found.append(Problem(where, what, fix, line, column))


def in_file_order(problems: Iterable[Problem]) -> tuple[Problem, ...]:
    """Return *problems* from the top of the file to its end, each once."""
    unique = dict.fromkeys(problems)
    return tuple(sorted(unique, key=lambda problem: (problem.line, problem.column)))


def _shortened(path: Path) -> Path:
    return tuple(
        suggestions.shown(part, MOST_CHARS) if isinstance(part, str) else part for part in path
    )


def _without_secrets(path: Path) -> Path:
    """Keep API keys out of *path*, also where they stand by mistake as the keys of a mapping."""
    if path[:1] != ("apiKeys",):
        return path
    return tuple(
        part if part in _SAFE_WORDS or isinstance(part, int) else "(hidden)" for part in path
    )
