"""The output of one model, rate-limited so that it cannot overload the server.

Up to a limit per second output passes unchanged, except that a line repeated in succession is shown
three times and then counted. Beyond the limit only bytes are counted, without splitting lines; at
the end of the second, a line states how much is missing, and the last lines follow.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from itertools import groupby
from operator import eq

from gevent import get_hub

from llmsnap.logs.stream import LogStream

SHOWN_REPEATS = 3
MAX_LINES_PER_CHUNK = 4096  # a read with more lines passes unchecked, to bound the cost


class RepeatFolder:
    """Shows a repeated line three times, then counts it; partial lines pass at once."""

    def __init__(self) -> None:
        self.open = False  # the output so far ends within a line
        self._line: bytes | None = None
        self._run = 0
        self._folded = 0
        self._held = b""  # a partial line that may become another repeat
        self._count = 0

    @property
    def pending(self) -> bool:
        """Whether output is held back until ``flush``."""
        return self._folded > 0 or bool(self._held)

    def take_count(self) -> int:
        """Return the number of lines folded since the last call."""
        count, self._count = self._count, 0
        return count

    def feed(self, data: bytes) -> bytes:
        """Return the output to show for *data*."""
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
        """Return the held-back output, and reset."""
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


LIMIT_BYTES = 1024 * 1024
WINDOW_S = 1.0
TAIL_BYTES = 4096
TAIL_SOURCE_BYTES = 16 * 1024
TAIL_LINE_CHARS = 500

_ANSI = re.compile(rb"\x1b(\[[0-9;:?]*[ -/]*[@-~]|\][^\x07\x1b]*(\x07|\x1b\\)|[@-_])")

CallLater = Callable[[float, Callable[[], None]], Callable[[], None]]


def call_later(delay_s: float, call: Callable[[], None]) -> Callable[[], None]:
    """Run *call*, which must not switch, after *delay_s* seconds; return a cancel function."""
    timer = get_hub().loop.timer(delay_s, ref=False)
    timer.start(call)
    return timer.close


class ModelLog:
    """Writes a model's output to its *stream*; the reader of its pipe calls ``feed``."""

    def __init__(
        self,
        stream: LogStream,
        *,
        limit_bytes: int = LIMIT_BYTES,
        clock: Callable[[], float] = time.monotonic,
        later: CallLater = call_later,
    ) -> None:
        self.stream = stream
        self.limit_bytes = limit_bytes
        self.flooding = False
        self.dropped_bytes = 0
        self.folded_lines = 0
        self._clock = clock
        self._later = later
        self._cancel: Callable[[], None] | None = None
        self._window_end = 0.0
        self._left = limit_bytes
        self._dropped = 0
        self._last = b""
        self._fold = RepeatFolder()

    def __repr__(self) -> str:
        state = "flooding" if self.flooding else "quiet"
        return f"<ModelLog {self.stream.name}, {state}, {self.dropped_bytes} bytes dropped>"

    def feed(self, data: bytes) -> bool:
        """Process output of the model. Never blocks or switches.

        Returns True while the model exceeds its limit: the caller should then yield to other
        greenlets before it reads on.
        """
        if self.flooding:
            self._drop(data)
            return True
        now = self._clock()
        if now >= self._window_end:
            self._settle()
            self._window_end = now + WINDOW_S
        if len(data) > self._left:
            self._start_flood(data)
            return True
        self._left -= len(data)
        self.stream.write(self._fold.feed(data))
        if self._fold.pending and self._cancel is None:
            self._arm()
        return False

    def tail(self, lines: int = 10) -> list[str]:
        """Return the last *lines* non-empty lines, for an error message."""
        held = self.stream.snapshot(TAIL_SOURCE_BYTES) + self._last
        clean = _ANSI.sub(b"", held).decode("utf-8", "replace")
        # On a terminal, text after a carriage return overwrites the line.
        texts = (line.rstrip().rpartition("\r")[2].strip() for line in clean.split("\n"))
        return [text[:TAIL_LINE_CHARS] for text in texts if text][-lines:] if lines > 0 else []

    def restart(self) -> None:
        """Clear the history, because the model restarts."""
        self._reset()
        self.stream.clear()

    def close(self) -> None:
        """Write held-back output, and end every reader. Never switches."""
        self._settle()
        self._reset()
        self.stream.close()

    def _start_flood(self, data: bytes) -> None:
        self.stream.write(self._fold.flush())
        self.flooding = True
        self._drop(data)
        if self._cancel is None:
            self._arm()

    def _drop(self, data: bytes) -> None:
        self._dropped += len(data)
        self._last = data[-TAIL_BYTES:] if len(data) >= TAIL_BYTES else self._last + data
        if len(self._last) > 2 * TAIL_BYTES:
            self._last = self._last[-TAIL_BYTES:]

    def _arm(self) -> None:
        delay_s = max(0.0, self._window_end - self._clock())
        self._cancel = self._later(delay_s, self._window_over)

    def _window_over(self) -> None:
        self._disarm()
        self._settle()

    def _settle(self) -> None:
        """Write held-back output, and start a new window with the full allowance."""
        self.stream.write(self._fold.flush())
        self.folded_lines += self._fold.take_count()
        if self.flooding:
            self.flooding = False
            dropped, last = self._dropped, self._last
            self._dropped, self._last = 0, b""
            # Cut at the start of a line.
            shown = last[last.find(b"\n") + 1 :] if dropped > len(last) else last
            self.dropped_bytes += dropped - len(shown)
            self.stream.write(self._notice(dropped - len(shown)) + shown)
            self._fold.open = not shown.endswith(b"\n")
        self._left = self.limit_bytes
        self._window_end = 0.0

    def _notice(self, dropped: int) -> bytes:
        start = b"\n" if self._fold.open else b""
        limit = self.limit_bytes // 1024
        return start + b"[llmsnap: %d bytes dropped, beyond %d KiB/s]\n" % (dropped, limit)

    def _reset(self) -> None:
        self._disarm()
        self.flooding = False
        self._dropped, self._last = 0, b""
        self._left, self._window_end = self.limit_bytes, 0.0
        self._fold = RepeatFolder()

    def _disarm(self) -> None:
        if self._cancel is not None:
            self._cancel()
            self._cancel = None
