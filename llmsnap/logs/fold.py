"""Counts a line that repeats at once instead of showing it again and again."""

from __future__ import annotations

from itertools import groupby
from operator import eq

SHOWN_REPEATS = 3
MAX_LINES_PER_CHUNK = 4096  # each line costs a look; more than this in one read passes raw


class RepeatFolder:
    """Shows a repeated line three times, then counts it; unfinished lines pass at once."""

    def __init__(self) -> None:
        self.open = False  # the last byte shown was not the end of a line
        self._line: bytes | None = None
        self._run = 0
        self._folded = 0
        self._held = b""  # the beginning of what may be one more repeat
        self._count = 0

    @property
    def pending(self) -> bool:
        """Whether something is held back that ``flush`` would show."""
        return self._folded > 0 or bool(self._held)

    def take_count(self) -> int:
        """Return how many lines were folded since the last call."""
        count, self._count = self._count, 0
        return count

    def feed(self, data: bytes) -> bytes:
        """Return what to show of *data*."""
        data = self._held + data
        self._held = b""
        if data.count(b"\n") > MAX_LINES_PER_CHUNK:
            shown = self._end_run() + data
            self.open = not data.endswith(b"\n")
            return shown
        *lines, rest = data.split(b"\n")
        out: list[bytes] = []
        if self.open and lines:
            out.append(lines.pop(0) + b"\n")
            self.open = False
        if lines and lines[0] != self._line and not any(map(eq, lines, lines[1:])):
            out.append(self._end_run() + b"\n".join(lines) + b"\n")
            self._line, self._run = lines[-1], 1
            lines = []
        for line, group in groupby(lines):
            self._add(line, len(list(group)), out)
        if rest:
            self._take_rest(rest, out)
        return b"".join(out)

    def flush(self) -> bytes:
        """Return what was held back, and begin anew."""
        held, self._held = self._held, b""
        shown = self._end_run() + held
        if held:
            self.open = True
        return shown

    def _add(self, line: bytes, count: int, out: list[bytes]) -> None:
        if line != self._line:
            out.append(self._end_run())
            self._line = line
        shown = max(0, min(count, SHOWN_REPEATS - self._run))
        out.append((line + b"\n") * shown)
        self._run += count
        self._folded += count - shown

    def _take_rest(self, rest: bytes, out: list[bytes]) -> None:
        if self._folded and self._line is not None and self._line.startswith(rest):
            self._held = rest
            return
        out.append(self._end_run() + rest)
        self.open = True

    def _end_run(self) -> bytes:
        folded, self._folded = self._folded, 0
        self._line, self._run = None, 0
        self._count += folded
        return b"[llmsnap: last line repeated %d more times]\n" % folded if folded else b""
