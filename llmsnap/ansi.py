"""What others wrote, made fit for a terminal: text and colours, and nothing that commands it.

A terminal takes orders in the text it shows: to move the cursor over what stands there, to change
its title, to fill the clipboard, to answer as if it had been typed.
"""

from __future__ import annotations

import codecs
import re

RESET = "\x1b[0m"
HELD_CHARS = 4096
"""An unfinished sequence is waited for up to this length."""

COLOUR = r"\x1b\[[0-9;:]*m"  # SGR, ECMA-48
CONTROL = r"\x1b\[[0-?]*[ -/]*[@-~]"  # CSI
STRING = r"\x1b[\]PX^_][^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)"  # OSC, DCS, SOS, PM, APC
SEQUENCES = re.compile(
    rf"(?P<colour>{COLOUR})|{CONTROL}|{STRING}|\x1b[ -/]*[0-~]"
    r"|\r(?=\n)|(?P<line>\r)|[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]"
)
UNFINISHED = re.compile(r"\x1b(?:\[[0-?]*[ -/]*|[\]PX^_][^\x07\x1b\x9c]*\x1b?|[ -/]*)\Z|\r\Z")


class AnsiFilter:
    """Lets text and colours through, in pieces of bytes as they come."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._held = ""
        self._coloured = False

    def __repr__(self) -> str:
        return f"<AnsiFilter, {len(self._held)} characters held>"

    def feed(self, data: bytes) -> bytes:
        """Return what to show of *data*; half a sequence waits for its end."""
        return self._shown(self._decoder.decode(data))

    def end(self) -> bytes:
        """Return what is left to show, and the terminal's own colour again."""
        shown = self._shown(self._decoder.decode(b"", final=True), final=True)
        return shown + (RESET.encode() if self._coloured else b"")

    def _shown(self, text: str, *, final: bool = False) -> bytes:
        text = self._held + text
        unfinished = UNFINISHED.search(text, max(0, len(text) - HELD_CHARS))
        cut = unfinished.start() if unfinished and not final else len(text)
        self._held = text[cut:]
        shown = strip_controls(text[:cut])
        self._coloured = self._coloured or "\x1b" in shown
        return shown.encode("utf-8", "replace")


def strip_controls(text: str) -> str:
    """*text* without anything that a terminal does more with than show it."""
    return SEQUENCES.sub(lambda found: found["colour"] or ("\n" if found["line"] else ""), text)
