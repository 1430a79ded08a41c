"""Terminal output: tables, colours, and a status line."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import TextIO

from llmsnap.ansi import strip_controls

BAR_CELLS = 20
CLEAR_LINE = "\r\x1b[K"


class Colour(StrEnum):
    """The colours in use (ECMA-48, SGR)."""

    GREEN = "32"
    YELLOW = "33"
    BLUE = "34"
    GREY = "90"


STATE_COLOURS = {
    "ready": Colour.GREEN,
    "starting": Colour.YELLOW,
    "waking": Colour.YELLOW,
    "sleepPending": Colour.YELLOW,
    "stopping": Colour.YELLOW,
    "asleep": Colour.BLUE,
    "stopped": Colour.GREY,
}


class Terminal:
    """The output stream: a terminal gets colours and a status line, a pipe or file plain lines.

    NO_COLOR disables colours (no-color.org); a dumb terminal gets neither.
    """

    def __init__(self, out: TextIO, environ: Mapping[str, str]) -> None:
        self._out = out
        self.is_live = out.isatty() and environ.get("TERM") != "dumb"
        self.has_colours = self.is_live and not environ.get("NO_COLOR")
        self._has_status = False

    def __repr__(self) -> str:
        return f"<Terminal {'live' if self.is_live else 'plain'}>"

    def paint(self, text: str, colour: Colour | None) -> str:
        """Return *text* in *colour*, if colours are enabled."""
        if colour is None or not self.has_colours:
            return text
        return f"\x1b[{colour.value}m{text}\x1b[0m"

    def line(self, text: str = "") -> None:
        """Write a line, replacing the status line if there is one."""
        self.clear()
        self._out.write((strip_controls(text) if self.is_live else text) + "\n")
        self._out.flush()

    def status(self, text: str) -> None:
        """Show *text* in the status line, which the next output replaces; only on a terminal."""
        if self.is_live:
            width = shutil.get_terminal_size().columns
            self._out.write(CLEAR_LINE + strip_controls(text)[: width - 1])
            self._out.flush()
            self._has_status = True

    def clear(self) -> None:
        """Remove the status line."""
        if self._has_status:
            self._out.write(CLEAR_LINE)
            self._has_status = False

    def table(self, rows: Sequence[Sequence[str]]) -> None:
        """Write *rows* in columns; names of states are coloured."""
        for line in self._columns(rows):
            self.line(line)

    def _columns(self, rows: Sequence[Sequence[str]]) -> list[str]:
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = []
        for row in rows:
            cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
            cells[-1] = cells[-1].rstrip()
            lines.append("  ".join(self._painted(cell) for cell in cells).rstrip())
        return lines

    def _painted(self, cell: str) -> str:
        word = cell.rstrip()
        return self.paint(word, STATE_COLOURS.get(word)) + cell[len(word) :]


def bar(share: float, cells: int = BAR_CELLS) -> str:
    """Return a progress bar filled to *share*, clipped to 1."""
    full = round(max(0.0, min(1.0, share)) * cells)
    return "#" * full + "-" * (cells - full)


def duration(seconds: float) -> str:
    """Return *seconds* for display: ``0.4 s``, ``45 s``, ``61 min``, ``5 h``, ``3 d``."""
    for unit, length_s, limit_s in (("s", 1, 120), ("min", 60, 7200), ("h", 3600, 172_800)):
        if seconds < limit_s:
            digits = 1 if seconds < 10 else 0
            return f"{seconds / length_s:.{digits}f} {unit}"
    return f"{seconds / 86_400:.0f} d"
