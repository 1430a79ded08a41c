"""Servers as local child processes: spawn, read their output, signal their group, reap them.

Each child leads a session of its own, so that a signal reaches all its descendants, and carries a
mark (see guardian), so that those that left the group are found too.
"""

from __future__ import annotations

import logging
import os
import shutil
import signal
from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import gevent
from gevent import subprocess
from gevent.event import Event
from gevent.os import make_nonblocking, nb_read

from llmsnap.config import split_command
from llmsnap.errors import CommandProblem, StartFailed
from llmsnap.launchers.base import ExitStatus, Launcher, LaunchSpec, Output, exit_status
from llmsnap.launchers.local import files, guardian, orphans, ports
from llmsnap.launchers.local.guardian_client import GuardianClient
from llmsnap.launchers.local.orphans import PidFile
from llmsnap.limits import child_setup
from llmsnap.options import API_KEY
from llmsnap.statedir import StateDir
from llmsnap.tasks import TaskGroup

if TYPE_CHECKING:
    Popen = subprocess.Popen[bytes]
else:
    Popen = subprocess.Popen

log = logging.getLogger(__name__)

READ_BYTES = 65536
ID_PREFIX = "local-"
EOF_GRACE_S = 0.5
"""Seconds for which output is read after the exit, while a descendant holds the pipe open."""


class LocalLauncher(Launcher):
    """Runs servers as children of this process.

    *instance* identifies llmsnap in their environment; a *pid_file* replaces a missing /proc.
    """

    def __init__(self, instance: str, pid_file: PidFile | None = None) -> None:
        self.instance = instance
        self._pid_file = pid_file
        self._guard = GuardianClient()
        self._withheld = {API_KEY}
        self._fingerprints = files.Fingerprints()

    @classmethod
    def from_state(cls, state: StateDir) -> LocalLauncher:
        """Return the launcher of the llmsnap that has this state directory."""
        needs_pid_file = state.is_writable and not guardian.has_proc()
        return cls(state.instance, PidFile(state.path) if needs_pid_file else None)

    def check(self, spec: LaunchSpec, leaving: frozenset[str] = frozenset()) -> None:
        """Raise StartFailed if the command is empty or not found, or its port is in use."""
        _find_executable(spec)
        port, holder = _port_holder(spec, leaving)
        if holder and spec.listens:
            raise StartFailed(
                f"{spec.model_id}: its port is in use",
                detail=f": {port} is held by {holder}; "
                "stop that program, or give the model another port",
            )

    def start(self, spec: LaunchSpec, output: Output, cancelled: Event) -> Child:
        """Spawn the server of *spec*, unless *cancelled* by then. Raises: StartFailed.

        Blocks until exec has succeeded.
        """
        self.check(spec)
        argv = _find_executable(spec)
        port, holder = (0, "") if spec.listens else _port_holder(spec)
        if holder:
            log.warning(
                "<%s> its port %s, which cmd does not mention, is held by %s: taken for its server",
                *(spec.model_id, port, holder),
            )
        child = Child(spec, self.instance, output, self._guard, self._withheld)
        child.open(argv, cancelled)
        pid_file, pid = self._pid_file, child.local_pid
        if pid_file is not None and pid is not None:
            pid_file.add(pid, spec.model_id)
            child.gone.rawlink(lambda _: pid_file.remove(pid))
        return child

    def fingerprint(self, spec: LaunchSpec) -> files.Fingerprint | None:
        """Return the state of the files that the command and its variables name. Blocks briefly."""
        return self._fingerprints.read(spec.cmd, spec.env)

    def stop_leftovers(self) -> list[str]:
        """Stop processes left by an llmsnap that has ended; return a line about each. Blocks."""
        left = self._pid_file.stop_leftovers() if self._pid_file is not None else []
        return left + orphans.stop_debris(self.instance)

    def withhold(self, names: Iterable[str]) -> None:
        """Remove these variables, too, from the environment of servers started from now on."""
        self._withheld.update(names)

    def close(self) -> None:
        """End the guardian. Blocks, bounded."""
        self._guard.close()


class Child:
    """One local server process and its descendants; a ``launchers.Handle``."""

    def __init__(
        self,
        spec: LaunchSpec,
        instance: str,
        output: Output,
        guard: GuardianClient,
        withheld: Collection[str] = (),
    ) -> None:
        self.spec = spec
        self.id = ""
        self.url = spec.url
        self.local_pid: int | None = None
        self.node = self.key = ""
        self.is_adopted = False
        self.exited = Event()
        self.gone = Event()
        self.status: ExitStatus | None = None
        self._mark = 0
        self._name = f"{instance}:{spec.model_id}:{spec.generation}"
        self._guard = guard
        self._withheld = withheld
        self._output = output
        self._tasks = TaskGroup(spec.model_id)
        self._stop_asked = False
        self._stopper: gevent.Greenlet[..., Any] | None = None
        self._grace_s = orphans.TERM_GRACE_S

    def __repr__(self) -> str:
        return f"<Child {self.spec.model_id} pid {self.local_pid}, {self.status or 'running'}>"

    def open(self, argv: Sequence[str], cancelled: Event) -> None:
        """Spawn *argv*. Raises: StartFailed with the system's reason, or when *cancelled*."""
        self._mark = self._guard.register(self.spec.grace_s)
        if cancelled.is_set():
            self._guard.forget(self._mark)
            raise StartFailed(f"{self.spec.model_id}: its start was cancelled")
        try:
            popen, reader = _spawn(argv, self._environment(self._mark), self._mark)
        except OSError as error:
            self._guard.forget(self._mark)
            raise StartFailed(
                f"{self.spec.model_id}: its command cannot be started",
                detail=f": {argv[0]}: {error.strerror or error}",
            ) from error
        self.local_pid, self.id = popen.pid, f"{ID_PREFIX}{popen.pid}"
        self._guard.lead(self._mark, popen.pid)
        drained = self._tasks.spawn("output", self._read_output, reader)
        self._tasks.spawn("exit", self._watch_exit, popen, drained)

    def stop(self, grace_s: float, cmd_stop: str = "") -> None:
        """End it: *cmd_stop* or SIGTERM to the group, SIGKILL after *grace_s*. Blocks."""
        if not self._stop_asked:
            self._stop_asked = True
            self._grace_s = grace_s
            self._ask_to_stop(cmd_stop, grace_s)
        if not self.gone.wait(grace_s):
            log.warning("<%s> did not stop within %g s: killing it", self.spec.model_id, grace_s)
            self._signal(signal.SIGKILL)
        if not self.gone.wait(orphans.KILL_LIMIT_S + EOF_GRACE_S):
            log.error("<%s> pid %s did not exit after SIGKILL", self.spec.model_id, self.local_pid)
        if self._stopper is not None:
            self._stopper.join(EOF_GRACE_S)

    def kill(self) -> None:
        """SIGKILL the whole group at once. Never switches greenlets."""
        self._signal(signal.SIGKILL)

    def wait_exit(self, limit_s: float) -> None:
        """See Handle.wait_exit."""
        self.exited.wait(limit_s)

    def allow(self, grace_s: float) -> None:
        """Change the time between SIGTERM and SIGKILL, should llmsnap be killed. Never switches."""
        if not self.gone.is_set():
            self._guard.allow(self._mark, grace_s)

    def _ask_to_stop(self, cmd_stop: str, grace_s: float) -> None:
        if cmd_stop and not self.exited.is_set():
            self._stopper = self._tasks.spawn("cmdStop", self._run_stop_command, cmd_stop, grace_s)
        else:
            self._signal(signal.SIGTERM)

    def _run_stop_command(self, cmd_stop: str, limit_s: float) -> None:
        """Run ``cmdStop`` beside the grace timer; fall back to SIGTERM when it fails or hangs."""
        model_id = self.spec.model_id
        mark = self._guard.register(limit_s)
        try:
            argv = split_command(cmd_stop.replace("${PID}", str(self.local_pid)))
            code = _run(argv, self._environment(mark), self._output, limit_s, mark)
        except (OSError, CommandProblem) as error:
            log.warning("<%s> cmdStop cannot run: %s", model_id, error)
        else:
            if code == 0:
                return
            log.error(
                "<%s> cmdStop %s",
                model_id,
                f"ended with exit code {code}" if code is not None else "took too long",
            )
        finally:
            self._guard.forget(mark)
        self._signal(signal.SIGTERM)

    def _environment(self, mark: int) -> dict[str, str]:
        """Return the inherited environment without withheld variables, then the model's entries.

        Later entries win. An entry of the model's ``env`` may set a withheld variable all the same.
        """
        env = {name: value for name, value in os.environ.items() if name not in self._withheld}
        for entry in self.spec.env:
            name, _, value = entry.partition("=")
            if name:
                env[name] = value
        return env | {orphans.CHILD_MARK: self._name, guardian.VARIABLE: str(mark)}

    def _signal(self, number: int) -> None:
        if self.local_pid is not None and not self.gone.is_set():
            orphans.signal_group(self.local_pid, number)
            if number == signal.SIGKILL:
                orphans.kill_marked(self._mark)

    def _read_output(self, fd: int) -> None:
        make_nonblocking(fd)
        try:
            while data := nb_read(fd, READ_BYTES):
                if self._output(data):
                    gevent.sleep(0)  # it floods: let the others run between two pieces
        finally:
            os.close(fd)

    def _watch_exit(self, popen: Popen, drained: gevent.Greenlet[..., Any]) -> None:
        """Report the exit at once, then stop the remaining descendants."""
        code = popen.wait()
        self.status = exit_status(code)
        self.exited.set()
        try:
            orphans.end_group(popen.pid, self._mark, self._grace_s)
            drained.join(EOF_GRACE_S)
        finally:
            drained.kill()
            self._guard.forget(self._mark)
            self.gone.set()


def _spawn(argv: Sequence[str], env: dict[str, str], mark: int) -> tuple[Popen, int]:
    """Start a server; return it and the descriptor of its output. Raises: OSError."""
    reader, writer = os.pipe()
    try:
        popen = Popen(
            list(argv),
            stdin=subprocess.DEVNULL,
            stdout=writer,
            stderr=writer,
            env=env,
            close_fds=True,
            start_new_session=True,
            preexec_fn=child_setup(mark),
        )
    except BaseException:
        os.close(reader)
        raise
    finally:
        os.close(writer)
    return popen, reader


def _run(
    argv: Sequence[str], env: dict[str, str], output: Output, limit_s: float, mark: int
) -> int | None:
    """Run a helper command to its end; return its exit code, None when it took too long."""
    popen = Popen(
        list(argv),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=env,
        start_new_session=True,
        preexec_fn=child_setup(mark),
    )
    try:
        text, _ = popen.communicate(timeout=limit_s)
    except subprocess.TimeoutExpired:
        orphans.signal_group(popen.pid, signal.SIGKILL)
        with suppress(subprocess.TimeoutExpired):
            popen.communicate(timeout=EOF_GRACE_S)
        return None
    else:
        if text:
            output(text)
        return popen.returncode
    finally:
        orphans.signal_group(popen.pid, signal.SIGKILL)


def _port_holder(spec: LaunchSpec, leaving: frozenset[str] = frozenset()) -> tuple[int, str]:
    """Return the port of *spec* on this machine, and what listens there; empty: nothing. Blocks."""
    host, port = _loopback_port(spec.url)
    if not port or ports.is_free(host, port):
        return port, ""
    return port, gevent.get_hub().threadpool.apply(ports.holder, (port, _pids(leaving)))


def _find_executable(spec: LaunchSpec) -> list[str]:
    """Return the words of the command with the program's full path first.

    It is looked up in llmsnap's PATH, not in one that ``env`` sets (config compatibility); a name
    with a slash is relative to llmsnap's working directory.
    """
    try:
        argv = split_command(spec.cmd)
    except CommandProblem as error:
        raise StartFailed(f"{spec.model_id}: cmd has no command", detail=f": {error}") from error
    path = shutil.which(argv[0])
    if path is None:
        raise StartFailed(
            f"{spec.model_id}: its command was not found",
            detail=f": {argv[0]}; "
            "correct cmd, or install the program so that llmsnap's PATH has it",
        )
    return [path, *argv[1:]]


def _pids(ids: Iterable[str]) -> frozenset[int]:
    """Return the process ids of those handles that are local children."""
    ours = (each for each in ids if each.startswith(ID_PREFIX))
    return frozenset(int(each.removeprefix(ID_PREFIX)) for each in ours)


def _loopback_port(url: str) -> tuple[str, int]:
    """Return host and port of *url* if it is on this machine, else ("", 0)."""
    parts = urlsplit(url)
    host = (parts.hostname or "").lower()
    if host == "localhost" or host.startswith("127.") or host == "::1":
        return host, parts.port or (443 if parts.scheme == "https" else 80)
    return "", 0
