"""Finds and stops the remaining processes of a server: its group, and all that carry its mark.

Every child and all its descendants carry the mark of the run (see guardian), even after leaving the
group. ``LLMSNAP_CHILD=<instance>:<model>:<generation>`` in the environment names the model.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import gevent
from gevent import subprocess
from gevent.monkey import get_original

from llmsnap.launchers.local import guardian
from llmsnap.limits import inherits_mark

log = logging.getLogger(__name__)

CHILD_MARK = "LLMSNAP_CHILD"
TERM_GRACE_S = 5.0
"""Seconds between SIGTERM and SIGKILL for processes that a crashed llmsnap left."""
KILL_LIMIT_S = guardian.KILL_LIMIT_S
POLL_FIRST_S, POLL_LAST_S = 0.005, 0.1
ROUNDS = 5
"""Seconds between two scans for processes that were started meanwhile."""
EXEC_S = 0.005
KTHREADD = "2"
"""The parent of the kernel's threads, which have no environment at all."""

_sleep = get_original("time", "sleep")


class Debris(NamedTuple):
    """A process left running by an llmsnap that has ended."""

    pid: int
    start: int
    what: str


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
    """Make the event loop reap every child that ends, adopted orphans included.

    PID 1 of a container, and a subreaper, adopts the orphans of its descendants. gevent's loop
    reaps all children at each SIGCHLD and informs its own watchers of theirs, so no exit status is
    lost; but it begins only with the first child that it starts. Main thread only.
    """
    gevent.get_hub().loop.install_sigchld()


def end_group(pgid: int, mark: int, grace_s: float) -> None:
    """Stop the remaining processes of a server whose leader has exited. Blocks.

    Its group and all processes that carry *mark* get SIGTERM, and SIGKILL after *grace_s*.
    """
    until = time.monotonic() + grace_s
    for _ in range(ROUNDS):
        strays = scan(mark)
        if not strays and not _group_lives(pgid):
            return
        signal_group(pgid, signal.SIGTERM)
        _signal(strays, signal.SIGTERM)
        if wait_empty(pgid, strays, until - time.monotonic()):
            continue
        signal_group(pgid, signal.SIGKILL)
        if not wait_empty(pgid, strays + kill_marked(mark), KILL_LIMIT_S):
            return


def kill_marked(mark: int) -> list[int]:
    """SIGKILL every process that carries *mark*; return their pids. Never switches."""
    found, _ = _look(guardian.pids(), mark)
    _signal(found, signal.SIGKILL)
    return found


def scan(mark: int) -> list[int]:
    """Run ``list_marked`` in a thread: a busy machine has thousands of processes. Blocks."""
    found: list[int] = gevent.get_hub().threadpool.apply(list_marked, (mark,))
    return found


def list_marked(mark: int) -> list[int]:
    """Return every living process that carries *mark*. Blocks its thread, without gevent.

    Where only the environment shows the mark, a process in the middle of exec has none for a
    moment, and is checked again.
    """
    found, unsure = _look(guardian.pids(), mark)
    if unsure:
        _sleep(EXEC_S)
        found += _look(unsure, mark)[0]
    return found


def _look(pids: list[int], mark: int) -> tuple[list[int], list[int]]:
    """Return the processes that carry *mark*, and those that may be in the middle of exec."""
    if inherits_mark():
        return [pid for pid in pids if guardian.limit_mark(pid) == mark and _is_ours(pid)], []
    found, unsure = [], []
    for pid in pids:
        environ = guardian.read(pid, "environ")
        if guardian.variable(environ or b"", guardian.VARIABLE) == b"%d" % mark and _is_ours(pid):
            found.append(pid)
        elif environ == b"" and _may_begin(pid):
            unsure.append(pid)
    return found, unsure


def _is_ours(pid: int) -> bool:
    return _alive(pid) and guardian.may_signal(pid)


def _may_begin(pid: int) -> bool:
    """Whether a process without an environment may be in the middle of exec."""
    fields = guardian.stat(pid)
    return (
        bool(fields)
        and fields[guardian.STATE] not in guardian.DEAD
        and fields[guardian.PARENT] != KTHREADD
    )


# --- processes of other instances ----------------------------------------------------------------


def stop_debris(instance: str) -> list[str]:
    """Stop the processes left by every llmsnap of this user that has ended. Blocks.

    Those of *instance* count too if its process is this one: it has replaced itself by exec(2).
    Returns a line about each process.
    """
    until = time.monotonic() + TERM_GRACE_S
    stopped: dict[tuple[int, int], str] = {}
    for _ in range(ROUNDS):
        found: list[Debris] = gevent.get_hub().threadpool.apply(list_debris, (instance,))
        if not found:
            break
        stopped |= {(each.pid, each.start): each.what for each in found}
        pids = [each.pid for each in found]
        _signal(pids, signal.SIGTERM)
        if wait_empty(None, pids, until - time.monotonic()):
            continue
        _signal([pid for pid, start, _ in found if guardian.start_of(pid) == start], signal.SIGKILL)
        if not wait_empty(None, pids, KILL_LIMIT_S):
            break
    return list(stopped.values())


def list_debris(instance: str) -> list[Debris]:
    """Return the processes that ``stop_debris`` stops. Blocks its thread, without gevent."""
    spared = set(_ancestors())
    pids = [pid for pid in guardian.pids() if pid not in spared]
    if any(guardian.read(pid, "environ") == b"" and _may_begin(pid) for pid in pids):
        _sleep(EXEC_S)
    return [debris for pid in pids if (debris := _debris(pid, instance)) is not None]


def _debris(pid: int, instance: str) -> Debris | None:
    environ = guardian.read(pid, "environ") or b""
    marks = {guardian.limit_mark(pid), guardian.variable_mark(pid)} - {0}
    child = guardian.variable(environ, CHILD_MARK).decode(errors="replace")
    if not marks or not _are_debris(marks, is_ours=child.startswith(f"{instance}:")):
        return None
    start = guardian.start_of(pid)
    if start is None or _user(pid) != str(os.getuid()):
        return None
    return Debris(pid, start, f"pid {pid} of model {_model(child) or 'unknown'}")


def _are_debris(marks: Iterable[int], *, is_ours: bool) -> bool:
    own = guardian.own_mark()
    return all(
        is_ours if guardian.owner_of(mark) == own else guardian.is_orphan(mark) for mark in marks
    )


def _ancestors() -> Iterable[int]:
    """Yield the parent of this process, its parent, and so on."""
    fields = guardian.stat(os.getpid())
    while fields and (pid := int(fields[guardian.PARENT])):
        yield pid
        fields = guardian.stat(pid)


def _user(pid: int) -> str:
    """Return the real user id of a process; the owner of /proc/PID may be root all the same."""
    status = (guardian.read(pid, "status") or b"").decode(errors="replace")
    return (status.partition("\nUid:")[2].split() or [""])[0]


def _model(child: str) -> str:
    return child.split(":", 1)[-1].rsplit(":", 1)[0]


# --- signals and waits ---------------------------------------------------------------------------


def wait_empty(pgid: int | None, pids: list[int], limit_s: float) -> bool:
    """Wait until group and *pids* are gone, by polling: no event reports exits of non-children."""
    pause = POLL_FIRST_S
    deadline = time.monotonic() + limit_s
    while (pgid is not None and _group_lives(pgid)) or any(map(_alive, pids)):
        if time.monotonic() >= deadline:
            return False
        gevent.sleep(pause)
        pause = min(pause * 2, POLL_LAST_S)
    return True


def _group_lives(pgid: int) -> bool:
    """Whether the group has a running member. Zombies do not count: their parent reaps them."""
    if not signal_group(pgid, 0):
        return False
    if not guardian.has_proc():
        return True
    return any(_group_of(pid) == pgid and _alive(pid) for pid in guardian.pids())


def _group_of(pid: int) -> int:
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return 0


def _alive(pid: int) -> bool:
    return guardian.start_of(pid) is not None


def _signal(pids: list[int], number: int) -> None:
    for pid in pids:
        try:
            os.kill(pid, number)
        except (ProcessLookupError, PermissionError) as error:
            log.debug("signal %d to pid %d: %s", number, pid, error)


# --- where /proc is missing -----------------------------------------------------------------------

SCHEMA_VERSION = 1
FILE_NAME = "children.json"


def start_time(pid: int) -> str:
    """Return the start time of process *pid* from ps(1) (POSIX ``lstart``); "" if it has ended."""
    asked = subprocess.run(
        ["ps", "-o", "lstart=", "-p", str(pid)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        check=False,
    )
    return str(asked.stdout.decode(errors="replace")).strip()


class PidFile:
    """A file in *folder* that lists the running children, each with its start time.

    A pid may have been reused meanwhile, so the start time has to match as well.
    """

    def __init__(self, folder: Path, started: Callable[[int], str] = start_time) -> None:
        self.path = folder / FILE_NAME
        self._started = started
        self._children: dict[int, tuple[str, str]] = {}

    def __repr__(self) -> str:
        return f"<PidFile {self.path}, {len(self._children)} children>"

    def add(self, pid: int, model_id: str) -> None:
        """Note a child that was just started. Blocks briefly."""
        self._children[pid] = model_id, self._started(pid)
        self._write()

    def remove(self, pid: int) -> None:
        """Note that no process of a child remains. Never switches."""
        if self._children.pop(pid, None) is not None:
            self._write()

    def stop_leftovers(self) -> list[str]:
        """Stop the groups of recorded children that still run; return a line about each. Blocks."""
        lines = []
        for pid, (model_id, started) in self._read().items():
            if started and self._started(pid) == started:
                signal_group(pid, signal.SIGTERM)
                if not wait_empty(pid, [], TERM_GRACE_S):
                    signal_group(pid, signal.SIGKILL)
                lines.append(f"pid {pid} of model {model_id}")
        return lines

    def _read(self) -> dict[int, tuple[str, str]]:
        try:
            document = json.loads(self.path.read_text(encoding="utf-8"))
            return {one["pid"]: (one["model"], one["started"]) for one in document["children"]}
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, KeyError, TypeError) as error:
            log.warning("%s cannot be used: %s", self.path, error)
            return {}

    def _write(self) -> None:
        children = [
            {"pid": pid, "model": model_id, "started": started}
            for pid, (model_id, started) in self._children.items()
        ]
        text = json.dumps({"schema_version": SCHEMA_VERSION, "children": children})
        new = self.path.with_suffix(".new")
        try:
            new.write_text(text, encoding="utf-8")
            new.replace(self.path)
        except OSError as error:
            log.warning("%s cannot be written: %s", self.path, error)
