"""Finds and stops what a server left behind: its group, and what carries our mark.

Every child has ``LLMSNAP_CHILD=<instance>:<model>:<generation>`` in its environment, and so has
all it starts; /proc shows it, also after a crash of llmsnap and for processes that left the
group.
"""

from __future__ import annotations

import logging
import os
import signal
import time
from pathlib import Path

import gevent
from gevent.monkey import get_original

log = logging.getLogger(__name__)

CHILD_MARK = "LLMSNAP_CHILD"
TERM_GRACE_S = 5.0
"""What a crashed llmsnap left behind gets this long between SIGTERM and SIGKILL."""
KILL_LIMIT_S = 5.0
"""How long a killed process may take to go (a driver can hold it in the kernel)."""
DEAD = frozenset("ZX")
POLL_FIRST_S, POLL_LAST_S = 0.005, 0.1
ROUNDS = 5
"""How often what began meanwhile is looked for."""
EXEC_S = 0.005
KTHREADD = "2"
"""The parent of the kernel's threads, which have no environment at all."""

_sleep = get_original("time", "sleep")


def signal_group(pgid: int, number: int) -> bool:
    """Send *number* to every process of the group; False when none is left."""
    try:
        os.killpg(pgid, number)
    except ProcessLookupError:
        return False
    except PermissionError:  # a member changed its user; the others got it
        return True
    return True


def reap_adopted() -> None:
    """Have the event loop reap every child that ends, those included that were never started here.

    PID 1 of a container, and a subreaper, is given the orphans of its descendants. gevent's loop
    asks for all children at each SIGCHLD and tells its own watchers of theirs, so nobody's exit
    status is taken away; but it begins only with the first child it starts. Main thread only.
    """
    gevent.get_hub().loop.install_sigchld()


def end_group(pgid: int, mark: str, grace_s: float) -> None:
    """See to it that nothing is left of a server whose leader has exited. Blocks.

    Its group and whatever carries *mark* get SIGTERM, and SIGKILL after *grace_s*.
    """
    until = time.monotonic() + grace_s
    for _ in range(ROUNDS):
        strays = [pid for pid, _ in scan(mark)]
        if not strays and not _group_lives(pgid):
            return
        signal_group(pgid, signal.SIGTERM)
        if not _end(strays, mark, until, pgid):
            return


def stop_marked(prefix: str) -> list[str]:
    """Stop every process whose mark begins with *prefix*, and return a line about each. Blocks."""
    until = time.monotonic() + TERM_GRACE_S
    stopped: list[str] = []
    for _ in range(ROUNDS):
        found = scan(prefix)
        if not found:
            break
        stopped += [f"pid {pid} of model {_model(mark)}" for pid, mark in found]
        if not _end([pid for pid, _ in found], prefix, until):
            break
    return stopped


def _end(pids: list[int], prefix: str, until: float, pgid: int | None = None) -> bool:
    """End *pids* and what is left of group *pgid*; return whether they are gone. Blocks.

    They have *until* then, on the monotonic clock, before they are killed.
    """
    for pid in pids:
        _signal(pid, signal.SIGTERM)
    if wait_empty(pgid, pids, until - time.monotonic()):
        return True
    if pgid is not None:
        signal_group(pgid, signal.SIGKILL)
    return wait_empty(pgid, pids + kill_marked(prefix), KILL_LIMIT_S)


def kill_marked(prefix: str) -> list[int]:
    """SIGKILL every process whose mark begins with *prefix*; return their pids. Never switches."""
    found, _ = _look(_all_pids(), prefix)
    for pid, _ in found:
        _signal(pid, signal.SIGKILL)
    return [pid for pid, _ in found]


def _model(mark: str) -> str:
    return mark.split(":", 1)[-1].rsplit(":", 1)[0]


def scan(prefix: str) -> list[tuple[int, str]]:
    """Return what ``list_marked`` does, in a thread: a busy machine has thousands. Blocks."""
    found: list[tuple[int, str]] = gevent.get_hub().threadpool.apply(list_marked, (prefix,))
    return found


def list_marked(prefix: str) -> list[tuple[int, str]]:
    """Return (pid, mark) of every living process of ours whose mark begins with *prefix*.

    One that is about to run another program has no environment for a moment, and is looked at again
    after it. Blocks its thread, without gevent.
    """
    found, unsure = _look(_all_pids(), prefix)
    if unsure:
        _sleep(EXEC_S)
        found += _look(unsure, prefix)[0]
    return found


def _all_pids() -> list[str]:
    if not os.path.isdir("/proc"):  # noqa: PTH112 - hot
        return []
    me = str(os.getpid())
    return [entry for entry in os.listdir("/proc") if entry.isdigit() and entry != me]  # noqa: PTH208 - hot


def _look(pids: list[str], prefix: str) -> tuple[list[tuple[int, str]], list[str]]:
    """Return (pid, mark) of those that are marked, and which may be between two programs."""
    wanted = f"{CHILD_MARK}={prefix}".encode()
    found, unsure = [], []
    for pid in pids:
        environ = _environ(pid)
        for item in environ.split(b"\0") if environ else ():
            if item.startswith(wanted) and _alive(int(pid)):
                found.append((int(pid), item.decode(errors="replace").partition("=")[2]))
                break
        if environ == b"" and _may_begin(pid):
            unsure.append(pid)
    return found, unsure


def _environ(pid: str) -> bytes | None:
    """The environment of a process; None when it ended meanwhile, or is not ours."""
    try:
        return Path("/proc", pid, "environ").read_bytes()
    except OSError:
        return None


def _may_begin(pid: str) -> bool:
    """Whether a process without an environment may be between two programs."""
    fields = _stat(pid)
    return bool(fields) and fields[0] not in DEAD and fields[1] != KTHREADD


def wait_empty(pgid: int | None, pids: list[int], limit_s: float) -> bool:
    """Wait until group and *pids* are gone: no event tells of those who are not our children."""
    pause = POLL_FIRST_S
    deadline = time.monotonic() + limit_s
    while (pgid is not None and _group_lives(pgid)) or any(map(_alive, pids)):
        if time.monotonic() >= deadline:
            return False
        gevent.sleep(pause)
        pause = min(pause * 2, POLL_LAST_S)
    return True


def has_proc() -> bool:
    """Whether this system tells about processes under /proc, as Linux does."""
    return Path("/proc/self/stat").exists()


def _group_lives(pgid: int) -> bool:
    """Whether the group has a member that runs. Zombies wait for their parent, not for us."""
    if not signal_group(pgid, 0):
        return False
    if not has_proc():
        return True
    stats = (_stat(entry) for entry in os.listdir("/proc") if entry.isdigit())  # noqa: PTH208 - hot
    return any(fields and fields[2] == str(pgid) and fields[0] not in DEAD for fields in stats)


def _alive(pid: int) -> bool:
    fields = _stat(str(pid))
    return bool(fields) and fields[0] not in DEAD


def _stat(pid: str) -> list[str]:
    """State, parent, group and so on of a process (proc(5), from field 3); empty when gone."""
    try:
        text = Path("/proc", pid, "stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    return text.rpartition(")")[2].split()


def _signal(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except (ProcessLookupError, PermissionError) as error:
        log.debug("signal %d to pid %d: %s", number, pid, error)
