"""The guardian process, and how llmsnap keeps one."""

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import gevent
import pytest
from gevent import subprocess

from llmsnap.launchers.local import guardian, guardian_client
from llmsnap.launchers.local.guardian_client import GuardianClient
from llmsnap.limits import child_setup
from tests.launchers import LIMIT_S, is_alive, until

STUBBORN = "trap '' TERM; echo up; exec sleep 60"
COUNTS = "trap 'echo asked' TERM; echo up; while :; do read x; done"


class Servers:
    """Processes that carry marks of *owner*, and their guardian.

    The owner lives, or any llmsnap that starts meanwhile would stop them; and it is not this
    process, whose other children a guardian must not stop.
    """

    def __init__(self) -> None:
        self.all: list[subprocess.Popen] = []
        pid = self._start(["sleep", "300"]).pid
        self.owner = guardian._pack(pid, guardian.start_of(pid))
        self.guardian = self._start([*guardian_client.COMMAND, str(self.owner)])

    def _start(self, command: list[str], **more) -> subprocess.Popen:
        more |= {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        popen = subprocess.Popen(command, start_new_session=True, **more)
        self.all.append(popen)
        return popen

    def start(self, run: int, script: str = "echo up; exec sleep 60") -> subprocess.Popen:
        mark = self.owner + run if run else 0
        popen = self._start(["sh", "-c", script], preexec_fn=child_setup(mark))
        assert popen.stdout.readline() == b"up\n"
        return popen

    def say(self, *lines: str) -> None:
        self.guardian.stdin.write("".join(f"{line}\n" for line in lines).encode())
        self.guardian.stdin.flush()

    def end(self, *lines: str) -> None:
        """llmsnap ends: in order when the last line is ``close``."""
        self.say(*lines)
        self.guardian.stdin.close()
        assert self.guardian.wait(LIMIT_S) == 0

    def close(self) -> None:
        for popen in self.all:
            popen.kill()
            popen.wait()
            popen.stdout.close()
            popen.stdin.close()


@pytest.fixture
def servers() -> Iterator[Servers]:
    made = Servers()
    yield made
    made.close()


def test_all_that_carries_a_mark_of_a_killed_owner_is_stopped(servers: Servers) -> None:
    known, unknown, stranger = servers.start(1), servers.start(2), servers.start(0)
    servers.end("run 1 4")
    assert (known.wait(LIMIT_S), unknown.wait(LIMIT_S)) == (-signal.SIGTERM, -signal.SIGTERM)
    assert stranger.poll() is None


def test_each_run_has_its_own_grace(servers: Servers) -> None:
    stubborn, patient = servers.start(1, STUBBORN), servers.start(2, COUNTS)
    servers.say("run 1 0.1", "run 2 60", "run 2 0.3")
    servers.end()
    assert stubborn.wait(LIMIT_S) == -signal.SIGKILL
    assert patient.wait(LIMIT_S) == -signal.SIGKILL
    assert patient.stdout.read() == b"asked\n", "a second SIGTERM makes some servers hurry"


def test_after_an_orderly_end_only_runs_that_are_left_are_stopped(servers: Servers) -> None:
    left, ended = servers.start(1), servers.start(2)
    servers.end("run 1 4", "run 2 4", "end 2", "close")
    assert left.wait(LIMIT_S) == -signal.SIGTERM
    assert ended.poll() is None


def test_a_group_is_stopped_though_no_member_shows_a_mark(servers: Servers) -> None:
    popen = servers.start(0, "sleep 60 & echo up; wait")
    (member,) = [pid for pid in guardian.pids() if _group_of(pid) == popen.pid != pid]
    servers.end("run 1 4", f"group 1 {popen.pid} {guardian.start_of(popen.pid)}")
    assert popen.wait(LIMIT_S) == -signal.SIGTERM
    assert not is_alive(member)


def _group_of(pid: int) -> int:
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return 0


def test_a_group_whose_number_was_used_again_is_left_alone(servers: Servers) -> None:
    popen = servers.start(0)
    servers.end("run 1 4", f"group 1 {popen.pid} {guardian.start_of(popen.pid) - 1}")
    assert popen.poll() is None


def test_what_forks_when_it_is_asked_to_end_is_stopped(servers: Servers) -> None:
    popen = servers.start(1, "trap 'setsid sleep 60 & exit 0' TERM; echo up; read x")
    servers.end("run 1 0.3")
    assert popen.wait(LIMIT_S) == 0
    marked = [pid for pid in guardian.pids() if guardian.limit_mark(pid) == servers.owner + 1]
    assert not any(map(is_alive, marked)), "only zombies are"


def test_lines_that_make_no_sense_change_nothing(servers: Servers) -> None:
    popen = servers.start(1)
    servers.end("run 1 4", "", "run", "what is this", "end 7", "group 7 1 1")
    assert popen.wait(LIMIT_S) == -signal.SIGTERM


def test_another_user_who_copies_a_mark_holds_nothing_up(servers: Servers, monkeypatch) -> None:
    popen = servers.start(1)
    monkeypatch.setattr(guardian, "may_signal", lambda pid: False)
    guardian.Guardian(servers.owner).stop()
    assert popen.poll() is None


def test_without_proc_groups_are_stopped(monkeypatch, servers: Servers) -> None:
    stubborn = servers.start(0, STUBBORN)
    servers.start(0)
    monkeypatch.setattr(guardian, "has_proc", lambda: False)
    monkeypatch.setattr(guardian, "read", lambda *_: None)
    here = guardian.Guardian(servers.owner)
    here.take(["run", "1", "0.1"])
    here.take(["group", "1", str(stubborn.pid), "0"])
    gevent.get_hub().threadpool.apply(here.stop)
    assert stubborn.wait(LIMIT_S) == -signal.SIGKILL
    assert servers.all[-1].poll() is None


# --- what llmsnap keeps ---------------------------------------------------------------------------


@pytest.fixture
def keep() -> Iterator[Callable[..., GuardianClient]]:
    made: list[GuardianClient] = []

    def make(*command: str) -> GuardianClient:
        made.append(GuardianClient(command or guardian_client.COMMAND))
        return made[-1]

    yield make
    for each in made:
        for number in list(each._runs):
            each.forget(number)
        each.close()


def child_of(mark: int) -> subprocess.Popen:
    more = {"preexec_fn": child_setup(mark), "env": {}}
    return subprocess.Popen(["sleep", "60"], start_new_session=True, **more)


def is_guardian(pid: int) -> bool:
    return guardian.__file__.encode() in (guardian.read(pid, "cmdline") or b"")


def test_the_guardian_begins_with_the_first_run_and_ends_with_us(keep) -> None:
    guarded = keep()
    assert guarded.pid is None
    first, second = guarded.register(4), guarded.register(4)
    assert guardian.owner_of(first) == guardian.owner_of(second) == guardian.own_mark()
    assert first != second
    pid = guarded.pid
    guarded.forget(first)
    guarded.forget(second)
    guarded.close()
    assert not Path(f"/proc/{pid}").exists(), "not even as a zombie"
    guarded.close()
    assert guarded.register(4)
    assert guarded.pid is None


def test_the_guardian_holds_nothing_of_ours_and_shows_no_secret_or_mark(keep, monkeypatch) -> None:
    monkeypatch.setenv("LLMSNAP_TEST_SECRET", "s3cret")
    guarded = keep()
    with gevent.socket.socket() as listener:
        os.set_inheritable(listener.fileno(), True)
        guarded.register(4)
    pid = guarded.pid
    until(lambda: is_guardian(pid))
    open_files: set[str] = set()
    for path in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile, while Python starts
            open_files.add(str(path.readlink()))
    assert len([name for name in open_files if not name.startswith("/")]) == 1, "its pipe"
    shown = b"".join(guardian.read(pid, name) or b"" for name in ("environ", "cmdline"))
    assert b"s3cret" not in shown
    assert guardian.limit_mark(pid) == guardian.variable_mark(pid) == 0, "we may be a model of one"
    assert os.getsid(pid) == pid
    assert Path(f"/proc/{pid}/cwd").readlink() == Path("/")


def test_only_sigkill_ends_a_guardian(keep) -> None:
    guarded = keep()
    guarded.register(4)
    pid = guarded.pid
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        os.kill(pid, number)
    status = (guardian.read(pid, "status") or b"").decode()
    ignored = int(status.partition("SigIgn:")[2].split()[0], 16)
    assert all(ignored >> (number - 1) & 1 for number in (1, 2, 3, 15))
    assert guarded.pid == pid


def test_a_guardian_that_dies_is_replaced_and_told_of_every_run(keep, caplog) -> None:
    guarded = keep()
    ended, mark = guarded.register(4), guarded.register(4)
    guarded.forget(ended)
    child = child_of(mark)
    guarded.lead(mark, child.pid)
    first = guarded.pid
    os.kill(first, signal.SIGKILL)
    until(lambda: guarded.pid not in (None, first))
    assert f"(pid {first}) ended with signal SIGKILL" in caplog.text
    guarded.close()  # with a run that is left
    assert child.wait(LIMIT_S) == -signal.SIGTERM
    guarded.forget(mark)


def test_without_servers_a_guardian_is_replaced_when_the_next_one_starts(keep) -> None:
    guarded = keep()
    guarded.forget(guarded.register(4))
    first = guarded.pid
    os.kill(first, signal.SIGKILL)
    until(lambda: guarded.pid is None)
    guarded.register(4)
    assert guarded.pid not in (None, first)


def test_a_guardian_that_does_not_read_is_replaced(keep) -> None:
    guarded = keep()
    mark = guarded.register(4)
    first = guarded.pid
    os.kill(first, signal.SIGSTOP)
    for _ in range(20_000):  # more than a pipe holds
        guarded.allow(mark, 4)
    until(lambda: guarded.pid not in (None, first))


@pytest.mark.parametrize("command", ["/no/such/python", "false"])
def test_servers_start_without_a_guardian_which_is_tried_ever_less(keep, caplog, command) -> None:
    guarded = keep(command)
    assert guarded.register(4)
    until(lambda: caplog.text.count("the guardian process") == 2)
    assert guarded._delay_s > guardian_client.DELAY_FIRST_S
    assert guarded.register(4), "which does not try again yet"
    assert guarded.pid is None


def test_numbers_of_runs_are_used_again_but_not_while_they_run(keep) -> None:
    guarded = keep("false")
    first = guarded.register(4)
    numbers = []
    for _ in range(2 * guardian.RUNS):
        mark = guarded.register(4)
        numbers.append(mark % guardian.RUNS)
        guarded.forget(mark)
    assert set(numbers) == set(range(1, guardian.RUNS)) - {first % guardian.RUNS}
    until(lambda: guarded.pid is None)


def test_it_is_small() -> None:
    """No module that the interpreter does not have anyway, but two small ones."""
    program = "import sys; sys.argv[1:] = ['0']; before = set(sys.modules)\n"
    program += f"exec(compile(open({guardian.__file__!r}).read(), 'guardian', 'exec'), {{}})\n"
    program += "print(sorted(set(sys.modules) - before))"
    command = [*guardian_client.COMMAND[:-1], "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=LIMIT_S)
    allowed = "__future__ os os.path stat _stat posixpath genericpath select _collections_abc"
    assert set(eval(done.stdout)) <= set(allowed.split())
