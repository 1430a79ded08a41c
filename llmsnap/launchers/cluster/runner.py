"""Runs one server on a machine of a cluster; it is sent along with the job that starts it.

Standard library, Python 3.8 and Linux, nothing of llmsnap. Engines end a job without all of its
processes (Ray forgets those that were re-parented), so this process stands between engine and
server: it adopts every descendant, forwards the output, and ends when none is left.

Its parameters are a JSON object in the variable LLMSNAP_RUN, the server's key is in LLMSNAP_KEY.
It prints a line when the server starts and one when all has ended, both with PREFIX and the id of
the job: what a server prints of a request must not pass for one of them.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time

PREFIX = "LLMSNAP1"
LATE = 75
"""Exit code of a start after the deadline: the server was not run."""
BUSY = 76
"""Exit code when the port is in use: the server was not run."""
NOT_FOUND = 127
ENGINE_PREFIXES = ("RAY_", "SLURM", "SBATCH_", "SRUN_")
EXIT_GRACE_S = 1.0
"""How long descendants may outlive a server that has ended by itself, before they are killed."""
KILL_LIMIT_S = 10.0
PAUSE_S = 0.05
SEND_LIMIT_S = 5.0
"""How long output may hold up a server; then the connection counts as broken."""
CONNECT_LIMIT_S = 1.0
CONNECT_AGAIN_S = 2.0
KEPT_BYTES = 65536
LOST = b"\n[some of the output was lost]\n"
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36

_libc = ctypes.CDLL(None, use_errno=True)


def main(environ: dict[str, str]) -> int:
    """Run the server that *environ* describes; return the exit code of the job."""
    run = json.loads(environ.pop("LLMSNAP_RUN"))
    key = environ.pop("LLMSNAP_KEY", "")
    if time.time() > run["not_after"]:
        print("too late: this start was given up", flush=True)
        return LATE
    if is_in_use(run["bind"], run["port"]):
        print("port", run["port"], "is in use on", socket.gethostname(), flush=True)
        return BUSY
    _libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    argv = [word.replace("${UPSTREAM_KEY}", key) for word in run["argv"]]
    begin = (
        f"{PREFIX} gen={run['gen']} host={socket.gethostname()} port={run['port']}"
        f" pid={os.getpid()} t={time.time():.3f}\n"
    ).encode()
    sink = Sink(run["log_to"], f"{run['gen']} {run['log_token']}\n".encode(), begin)
    env = server_environment(environ, key, keeps_engine=run["keep_env"])
    code = ServerTree(run, sink).run(argv, env)
    sink.write(f"{PREFIX} gen={run['gen']} exit={code}\n".encode())
    return code


def is_in_use(host: str, port: int) -> bool:
    """Return whether the port is in use on this machine; 0 never is."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
    except OSError as error:
        return error.errno == errno.EADDRINUSE  # of others the server says more itself
    return False


def server_environment(environ: dict[str, str], key: str, *, keeps_engine: bool) -> dict[str, str]:
    """Return the server's environment: without the engine's variables, with the server's *key*."""
    dropped = ("LLMSNAP_",) if keeps_engine else ("LLMSNAP_", *ENGINE_PREFIXES)
    keys = dict.fromkeys(("LLAMA_API_KEY", "VLLM_API_KEY"), key) if key else {}
    kept = {name: value for name, value in environ.items() if not name.startswith(dropped)}
    return {**keys, **kept}


def descendants() -> list[int]:
    """Return the process ids of all that descends from this process.

    Zombies too: other threads of a process whose first one has ended still run.
    """
    below: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            with open(f"/proc/{name}/stat", "rb") as file:
                parent = int(file.read().rpartition(b")")[2].split()[1])
        except OSError:
            continue
        below.setdefault(parent, []).append(int(name))
    found, ahead = [], [os.getpid()]
    while ahead:
        children = below.get(ahead.pop(), [])
        found += children
        ahead += children
    return found


def signal_all(number: int) -> None:
    """Signal all descendants."""
    for pid in descendants():
        try:
            os.kill(pid, number)
        except OSError:
            continue


class Sink:
    """Takes the output: standard output, or a connection to llmsnap at *address* (``HOST:PORT``).

    The connection is made again when it breaks, with *hello* and *begin*; of what is printed
    meanwhile the last KEPT_BYTES are kept.
    """

    def __init__(self, address: str, hello: bytes, begin: bytes) -> None:
        self.address = address
        self.begin = begin
        self.first = hello + begin
        self.kept = b""
        self.has_lost = False
        self.sock: socket.socket | None = None
        self.next_try = 0.0

    @property
    def pause_s(self) -> float | None:
        """How long to wait before ``write`` is called even without output; None: any time."""
        return CONNECT_AGAIN_S if self.address and self.sock is None else None

    @property
    def sockets(self) -> list:  # type: ignore[type-arg]
        """The connection, if there is one; readable when it has been closed."""
        return [] if self.sock is None else [self.sock]

    def attend(self, ready: list) -> None:  # type: ignore[type-arg]
        """Leave a connection that is *ready*, for llmsnap sends nothing; connect again."""
        if self.sock in ready:
            self.drop()
        if self.sock is None:
            self.write(b"")

    def open(self) -> None:
        """Pass on the line with which the output begins. Blocks up to CONNECT_LIMIT_S."""
        self.write(b"" if self.address else self.begin)

    def write(self, data: bytes) -> None:
        """Pass on *data*. Blocks up to SEND_LIMIT_S."""
        if not self.address:
            write_all(data)
            return
        self.kept += data
        if len(self.kept) > KEPT_BYTES:
            self.kept, self.has_lost = self.kept[-KEPT_BYTES:], True
        if self.sock is None:
            self.connect()
        if self.sock is not None and self.kept:
            try:
                self.sock.sendall(self.kept)
                self.kept = b""
            except OSError:
                self.drop()

    def connect(self) -> None:
        """Connect, unless that failed a moment ago."""
        if time.monotonic() < self.next_try:
            return
        host, _, port = self.address.rpartition(":")
        try:
            self.sock = socket.create_connection((host.strip("[]"), int(port)), CONNECT_LIMIT_S)
            self.sock.settimeout(SEND_LIMIT_S)
            self.sock.sendall(self.first + (LOST if self.has_lost else b""))
            self.has_lost = False
        except OSError:
            self.drop()

    def drop(self) -> None:
        """Close the connection, of which some may be lost; the next try is not at once.

        Counted from here: an attempt that takes its whole limit must not be followed by the next.
        """
        if self.sock is not None:
            self.sock.close()
            self.sock, self.has_lost = None, True
        self.next_try = time.monotonic() + CONNECT_AGAIN_S


class ServerTree:
    """The server and all its descendants."""

    def __init__(self, run: dict, sink: Sink) -> None:  # type: ignore[type-arg]
        self.sink = sink
        self.grace_s = float(run["grace"])
        self.output_left = int(run["cap"])
        self.code: int | None = None
        self.pid = 0
        self.ends_at: float | None = None
        """When what is left is killed; None while the server may run."""
        self.stops = 0
        self.is_alone = False
        """Whether there is no child, and so no descendant: those without a parent are adopted."""

    def run(self, argv: list[str], env: dict[str, str]) -> int:
        """Run the server until nothing of it is left; return its exit code as a shell shows it."""
        wake_up, wake = os.pipe()
        for fd in (wake_up, wake):
            os.set_blocking(fd, False)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self.ask_to_stop)
        signal.signal(signal.SIGCHLD, lambda *_: None)  # so that it wakes the loop
        output, writer = os.pipe()
        try:
            server = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=writer,
                stderr=writer,
                env=env,
                preexec_fn=die_with_parent,
            )
        except OSError as error:
            self.sink.open()
            self.sink.write(f"cannot run {argv[0]}: {error.strerror}\n".encode())
            return NOT_FOUND
        finally:
            os.close(writer)
        self.pid = server.pid
        self.sink.open()  # once the server runs: a connection may take its time
        self.watch(output, wake_up)
        self.copy(output)
        server.returncode = 128 + signal.SIGKILL if self.code is None else self.code
        return server.returncode

    def ask_to_stop(self, *_: object) -> None:
        """Note a signal: the first one begins the grace, the second one ends it."""
        self.stops += 1

    def watch(self, output: int, wake_up: int) -> None:
        """Forward the output and reap, until the last descendant has ended."""
        os.set_blocking(output, False)
        open_fds: list = [output, wake_up]  # type: ignore[type-arg]
        sink = self.sink
        asked = 0
        while True:
            timeout = sink.pause_s if self.ends_at is None else PAUSE_S
            ready = select.select([*open_fds, *sink.sockets], [], [], timeout)[0]
            sink.attend(ready)
            if wake_up in ready:
                os.read(wake_up, 4096)
            if output in ready and not self.copy(output):
                open_fds.remove(output)
            self.reap()
            if self.stops > asked:
                self.end(self.grace_s if self.stops == 1 else 0.0)
                asked = self.stops
            elif self.code is not None and self.ends_at is None:
                self.end(min(self.grace_s, EXIT_GRACE_S))
            if self.ends_at is not None and self.is_over(time.monotonic()):
                return

    def end(self, grace_s: float) -> None:
        """Ask all to end, and have what is left after *grace_s* killed."""
        signal_all(signal.SIGTERM)
        self.ends_at = time.monotonic() + grace_s

    def is_over(self, now: float) -> bool:
        """Return whether nothing is left; kill what is left when the grace is over."""
        ends_at = self.ends_at or now
        if now >= ends_at and not self.is_alone:
            signal_all(signal.SIGKILL)
        return self.is_alone or now > ends_at + KILL_LIMIT_S

    def reap(self) -> None:
        """Collect all children that have ended, adopted ones too.

        One that looks like a zombie may still have threads that end, and with them GPU memory.
        """
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                self.is_alone = True
                return
            if pid == 0:
                return
            if pid == self.pid:
                ended = os.WIFEXITED(status)
                self.code = os.WEXITSTATUS(status) if ended else 128 + os.WTERMSIG(status)

    def copy(self, output: int) -> bool:
        """Forward what can be read of the output; return False at its end.

        Beyond its limit it is dropped: engines never shorten the log of a job.
        """
        while True:
            try:
                data = os.read(output, 65536)
            except BlockingIOError:
                return True
            if not data:
                return False
            if self.output_left > 0:
                self.sink.write(data[: self.output_left])
                self.output_left -= len(data)
                if self.output_left <= 0:
                    self.sink.write(b"\n[the log of this run is full: later lines are not kept]\n")


def write_all(data: bytes) -> None:
    """Write *data* to standard output; where that is closed, the output is lost."""
    while data:
        try:
            data = data[os.write(1, data) :]
        except OSError:
            return


def die_with_parent() -> None:
    """Have the system kill this process when the runner ends; called in the new process."""
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)


if __name__ == "__main__":
    sys.exit(main(os.environ))  # type: ignore[arg-type]
