"""The guardian: a process that stops the servers of an llmsnap that was killed.

llmsnap starts this file as a program (``python -I -S guardian.py OWNER``) before its first server
and reports the runs of servers to it over standard input. End of file there means that llmsnap has
ended, for whatever reason. It imports only the standard library, and little of it: every module
costs memory for as long as llmsnap runs.

The first half, the mark that a server and all its descendants carry, serves llmsnap itself as well.
"""

from __future__ import annotations

import os
import select
import sys
import time

VARIABLE = "LLMSNAP_MARK"
RLIMIT_LOCKS = 10
"""A limit that Linux has not enforced since 2.4.25 (getrlimit(2)). Descendants inherit its value
through setsid, double forks and a cleared environment, and /proc shows it to every user."""

RUN_BITS, PID_BITS, WORLD_BITS, START_BITS = 9, 22, 16, 15
OURS = 1 << (RUN_BITS + PID_BITS + WORLD_BITS + START_BITS)
"""Set in every mark. A limit that was set on purpose is smaller."""
RUNS = 1 << RUN_BITS

SIGKILL, SIGTERM = 9, 15  # the signal module costs a megabyte
DEFAULT_GRACE_S = 5.0
"""Time between SIGTERM and SIGKILL for a process whose run is unknown."""
KILL_LIMIT_S = 5.0
"""How long a killed process may take to end (a driver can hold it in the kernel)."""
RESCAN_S = 0.25
POLL_FIRST_S, POLL_LAST_S = 0.005, 0.05
DEAD = frozenset("ZX")
STATE, PARENT, START = 0, 1, 19
"""Indexes into the result of ``stat``."""


def has_proc() -> bool:
    """Whether /proc shows the processes of this pid namespace (Linux)."""
    try:
        return os.readlink("/proc/self") == str(os.getpid())
    except OSError:
        return False


def pids() -> list[int]:
    """Return the ids of all processes but this one; none without /proc."""
    if not has_proc():
        return []
    me = os.getpid()
    return [int(name) for name in os.listdir("/proc") if name.isdigit() and int(name) != me]


def read(pid: int, name: str) -> bytes | None:
    """Return the content of a file in /proc/PID; None when it cannot be read (any more)."""
    try:
        with open(f"/proc/{pid}/{name}", "rb", buffering=0) as file:
            return file.read()
    except OSError:
        return None


def stat(pid: int) -> list[str]:
    """Return state, parent and so on (proc(5), from field 3); empty when the process has ended."""
    text = read(pid, "stat") or b""
    return text.decode(errors="replace").rpartition(")")[2].split()


def start_of(pid: int) -> int | None:
    """Return the start time of a process in clock ticks since boot; None if it has ended."""
    fields = stat(pid)
    return int(fields[START]) if fields and fields[STATE] not in DEAD else None


def may_signal(pid: int) -> bool:
    """Whether this user may signal a process: a mark can be forged, the user id cannot."""
    try:
        os.kill(pid, 0)
    except OSError:
        return False
    return True


def own_mark() -> int:
    """Return the mark of this process as an owner; each run of a server adds its number to it."""
    return _pack(os.getpid(), start_of(os.getpid()) or 0)


def owner_of(mark: int) -> int:
    """Return the part of a mark that all runs of an owner share."""
    return mark - mark % RUNS


def is_orphan(mark: int) -> bool:
    """Whether the owner has ended. False when that is not certain."""
    pid = (mark >> RUN_BITS) % (1 << PID_BITS)
    if _world_bits(mark) != _world_bits(_pack(pid, 0)):
        return False  # its process id means nothing here
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass  # it exists
    fields = stat(pid)
    if not fields:
        return False  # hidden from us (proc(5), hidepid)
    return fields[STATE] in DEAD or owner_of(mark) != _pack(pid, int(fields[START]))


def limit_mark(pid: int) -> int:
    """Return the mark that a process carries as its limit of locks; 0 without one."""
    text = read(pid, "limits") or b""
    _, _, rest = text.partition(b"Max file locks")
    return _checked(rest.split(None, 1)[0]) if rest else 0


def variable_mark(pid: int) -> int:
    """Return the mark in the environment of a process; 0 without one, or when not readable."""
    return _checked(variable(read(pid, "environ") or b"", VARIABLE))


def variable(environ: bytes, name: str) -> bytes:
    """Return a variable of an environment as /proc shows it; empty when it is not set."""
    _, _, rest = (b"\0" + environ).partition(f"\0{name}=".encode())
    return rest.partition(b"\0")[0]


def _checked(text: bytes) -> int:
    value = int(text) if text.isdigit() and len(text) < 20 else 0  # any program may have written it
    return value if OURS <= value < 2 * OURS else 0


def _pack(pid: int, start: int) -> int:
    mark = 1
    for value, bits in ((start, START_BITS), (_world(), WORLD_BITS), (pid, PID_BITS)):
        mark = mark << bits | value % (1 << bits)
    return mark << RUN_BITS


def _world_bits(mark: int) -> int:
    return (mark >> (RUN_BITS + PID_BITS)) % (1 << WORLD_BITS)


def _world() -> int:
    """Return a number for the namespaces in which process ids and start times are comparable."""
    total = 0
    for kind in ("pid", "time"):
        try:
            name = os.readlink(f"/proc/self/ns/{kind}")  # such as pid:[4026531836]
        except OSError:
            continue
        total = total * 31 + int("".join(filter(str.isdigit, name)) or 0)
    return total


class Run:
    """One run of a server: its grace time after SIGTERM, and the process group that it leads."""

    __slots__ = ("grace_s", "group", "start")

    def __init__(self, grace_s: float) -> None:
        self.grace_s = grace_s
        self.group = 0
        self.start: int | None = None


class Guardian:
    """Keeps the list of runs, and stops their remaining processes."""

    def __init__(self, owner: int) -> None:
        self._owner = owner
        self._runs: dict[int, Run] = {}
        self._closed = False
        self._found: dict[int, tuple[int | None, int]] = {}  # pid -> its start, its run
        self._asked: set[tuple[int, int | None]] = set()

    def listen(self, fd: int) -> None:
        """Read llmsnap's reports until end of file."""
        rest = b""
        while data := os.read(fd, 65536):
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                self.take(line.decode().split())

    def take(self, words: list[str]) -> None:
        """Note one line: ``run N GRACE``, ``group N PID START``, ``end N``, or ``close``.

        START is read by llmsnap before it reaps the process: by now the pid may have been reused.
        It is 0 without /proc.
        """
        match words:
            case ["run", number, grace_s]:
                self._runs.setdefault(int(number), Run(0)).grace_s = float(grace_s)
            case ["group", number, pid, start] if run := self._runs.get(int(number)):
                run.group, run.start = int(pid), int(start) or None
            case ["end", number]:
                self._runs.pop(int(number), None)
            case ["close"]:
                self._closed = True

    def stop(self) -> None:
        """Send SIGTERM to all remaining processes, SIGKILL after their grace, until all are gone.

        After an orderly end of llmsnap these are the runs it could not stop, else all it owns.
        """
        if self._closed and not self._runs:
            return
        began = time.monotonic()
        while self._look() or self._look():  # twice: one may have forked while we looked
            spent_s = time.monotonic() - began
            graces = {pid: self._grace_s(run) for pid, (_, run) in self._found.items()}
            if spent_s > max(graces.values()) + KILL_LIMIT_S:
                return
            for group, run in self._groups().items():
                if spent_s >= self._grace_s(run):
                    _kill(-group, SIGKILL)  # at once, so that no member can fork in between
            for pid, grace_s in graces.items():
                self._signal(pid, is_late=spent_s >= grace_s)
            next_s = min((grace_s for grace_s in graces.values() if grace_s > spent_s), default=0.0)
            self._wait(began + next_s)

    def _grace_s(self, run: int) -> float:
        return self._runs[run].grace_s if run in self._runs else DEFAULT_GRACE_S

    def _look(self) -> bool:
        """Find the remaining processes, also those whose mark is not visible; return if any are."""
        found = {pid: known for pid, known in self._found.items() if _lives(pid, known[0])}
        leaders = self._groups()
        for pid in pids():
            run = self._run_of(pid, leaders)
            if run is not None and (start := start_of(pid)) is not None and may_signal(pid):
                found[pid] = start, run
        if not has_proc():
            found |= {-group: (None, run) for group, run in leaders.items() if _lives(-group, None)}
        self._found = found
        return bool(found)

    def _groups(self) -> dict[int, int]:
        """Return the run of each process group whose leader is the process that was reported.

        Without its leader the number may be that of another group. Members that carry the owner's
        mark are found by it.
        """
        return {
            run.group: number
            for number, run in self._runs.items()
            if run.group and (start_of(run.group) == run.start)
        }

    def _run_of(self, pid: int, leaders: dict[int, int]) -> int | None:
        for mark in (limit_mark(pid), variable_mark(pid)):
            run = mark % RUNS
            if owner_of(mark) == self._owner and (run in self._runs or not self._closed):
                return run
        try:
            return leaders.get(os.getpgid(pid))
        except OSError:
            return None

    def _signal(self, pid: int, *, is_late: bool) -> None:
        start, _ = self._found[pid]
        if not is_late and (pid, start) in self._asked:
            return  # a second SIGTERM makes some servers skip what they do at the first
        self._asked.add((pid, start))
        if _lives(pid, start):
            _kill(pid, SIGKILL if is_late else SIGTERM)

    def _wait(self, deadline: float) -> None:
        """Wait until all are gone, or until *deadline* or the next scan."""
        now = time.monotonic()
        until = min(deadline, now + RESCAN_S) if deadline > now else now + RESCAN_S
        pause = POLL_FIRST_S
        while any(_lives(pid, start) for pid, (start, _) in self._found.items()):
            left_s = until - time.monotonic()
            if left_s <= 0:
                return
            select.select([], [], [], min(pause, left_s))
            pause = min(pause * 2, POLL_LAST_S)


def _kill(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except OSError:
        pass  # it has ended, or has another user now


def _lives(pid: int, start: int | None) -> bool:
    """Whether a process still runs, or, without /proc, any of a group (a negative *pid*)."""
    if pid > 0:
        return start_of(pid) == start
    try:
        os.kill(pid, 0)
    except OSError:
        return False
    return True


def main(argv: list[str]) -> None:
    """Run the guardian of the owner named in *argv* to its end."""
    guardian = Guardian(int(argv[1]))
    guardian.listen(0)
    guardian.stop()


if __name__ == "__main__":
    main(sys.argv)
    os._exit(0)
