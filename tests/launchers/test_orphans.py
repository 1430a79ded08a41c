import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from gevent import subprocess
from gevent.event import Event

from llmsnap.launchers.base import LaunchSpec
from llmsnap.launchers.local import guardian, orphans
from llmsnap.launchers.local.child import LocalLauncher
from llmsnap.launchers.local.orphans import PidFile
from llmsnap.limits import child_setup
from tests.launchers import LIMIT_S, is_alive

INSTANCE = f"orphan-test-{os.getpid()}"
SLEEP = ["sleep", "60"]


def dead_owner() -> int:
    """The mark of an llmsnap that has ended."""
    popen = subprocess.Popen(["cat"], stdin=subprocess.PIPE)
    mark = guardian._pack(popen.pid, guardian.start_of(popen.pid))
    popen.communicate()
    return mark


def shown(mark: int, child: str = f"{INSTANCE}:m:with:colons:3") -> dict[str, str]:
    return {**os.environ, orphans.CHILD_MARK: child, guardian.VARIABLE: str(mark)}


class Marked:
    """Processes that carry a mark, each in a session of its own."""

    def __init__(self) -> None:
        self.all: list[subprocess.Popen] = []

    def start(self, mark: int, command: list[str] = SLEEP, **more) -> subprocess.Popen:
        more = {"env": shown(mark), "preexec_fn": child_setup(mark), **more}
        self.all.append(subprocess.Popen(command, start_new_session=True, **more))
        return self.all[-1]


@pytest.fixture
def marked() -> Iterator[Marked]:
    made = Marked()
    yield made
    for popen in made.all:
        popen.kill()
        popen.wait()


@pytest.fixture(params=["limit", "environment"])
def shows(request: pytest.FixtureRequest, monkeypatch) -> str:
    """How this system shows marks: as a limit too, or in the environment alone."""
    if request.param == "environment":
        monkeypatch.setattr(orphans, "inherits_mark", lambda: False)
        monkeypatch.setattr(guardian, "limit_mark", lambda _: 0)
    return request.param


def test_what_carries_a_mark_is_found_and_nothing_else(marked: Marked, shows: str) -> None:
    own = guardian.own_mark()
    one = marked.start(own + 1)
    ten = marked.start(own + 10)
    assert orphans.scan(own + 1) == [one.pid]
    assert orphans.scan(own + 10) == [ten.pid]
    assert orphans.kill_marked(own + 1) == [one.pid]
    assert one.wait(LIMIT_S) == -signal.SIGKILL
    assert orphans.scan(own + 1) == []
    assert ten.poll() is None


def test_a_cleared_environment_and_a_double_fork_do_not_hide_a_process(marked: Marked) -> None:
    mark = guardian.own_mark() + 2
    hides = ["sh", "-c", "env -i setsid sh -c 'sleep 60 & echo $!'"]
    popen = marked.start(mark, hides, stdout=subprocess.PIPE)
    hidden = int(popen.stdout.readline())
    popen.stdout.close()
    assert popen.wait(LIMIT_S) == 0
    orphans.end_group(popen.pid, mark, 4)
    assert not is_alive(hidden)


def test_one_that_begins_another_program_is_seen_a_moment_later(marked, monkeypatch) -> None:
    mark = guardian.own_mark() + 3
    popen = marked.start(mark)
    true_read, blank = guardian.read, []

    def read(pid: int, name: str) -> bytes | None:
        if (pid, name) == (popen.pid, "environ") and not blank:
            blank.append(pid)
            return b""
        return true_read(pid, name)

    monkeypatch.setattr(orphans, "inherits_mark", lambda: False)
    monkeypatch.setattr(guardian, "read", read)
    assert orphans.scan(mark) == [popen.pid]
    assert blank
    blank.clear()
    assert orphans.kill_marked(mark) == [], "which does not wait"


def test_what_a_dead_owner_left_is_stopped_and_told(marked: Marked, shows: str) -> None:
    popen = marked.start(dead_owner() + 1)
    assert f"pid {popen.pid} of model m:with:colons" in orphans.stop_debris("another instance")
    assert popen.wait(LIMIT_S) == -signal.SIGTERM
    assert popen.pid not in debris()


def debris() -> set[int]:
    """What is found; there may be more than a test's own, of anything that was killed meanwhile."""
    return {each.pid for each in orphans.list_debris(INSTANCE)}


def test_debris_without_an_environment_is_stopped_too(marked: Marked) -> None:
    popen = marked.start(dead_owner() + 1, env={})
    assert f"pid {popen.pid} of model unknown" in orphans.stop_debris(INSTANCE)


LEAVES_ONE = "trap 'setsid sleep 60 & exit 0' TERM; echo ready; while :; do sleep 0.01; done"


def test_what_begins_while_debris_is_stopped_is_stopped_as_well(marked, monkeypatch) -> None:
    # A shell that has just forked may take SIGTERM for its trap, and then run sleep all the same.
    monkeypatch.setattr(orphans, "TERM_GRACE_S", 1)
    popen = marked.start(dead_owner() + 1, ["sh", "-c", LEAVES_ONE], stdout=subprocess.PIPE)
    assert popen.stdout.readline() == b"ready\n"
    popen.stdout.close()
    lines = orphans.stop_debris(INSTANCE)
    assert len(lines) > 1
    assert orphans.stop_debris(INSTANCE) == []


def other_world(mark: int) -> int:
    return mark ^ (1 << (guardian.RUN_BITS + guardian.PID_BITS))


def living_owner(later: int = 0) -> int:
    """The mark of a process that runs, or of one with its id that began *later*."""
    return guardian._pack(os.getppid(), guardian.start_of(os.getppid()) + later)


@pytest.mark.parametrize(
    ("owner", "beside", "child", "is_debris"),
    [
        (guardian.own_mark, None, "another:m:1", False),
        (living_owner, None, f"{INSTANCE}:m:1", False),
        (lambda: guardian._pack(1, guardian.start_of(1)), None, f"{INSTANCE}:m:1", False),
        (lambda: other_world(dead_owner()), None, f"{INSTANCE}:m:1", False),
        (lambda: living_owner(1), None, "another:m:1", True),
        # An llmsnap may be a model of another one, and its own models may keep the limit.
        (dead_owner, living_owner, "another:m:1", False),
        (living_owner, dead_owner, "another:m:1", False),
    ],
    ids=[
        *("ours, of another instance", "a living owner", "init", "a namespace elsewhere"),
        *("its process id is in use again", "dead beside living", "living beside dead"),
    ],
)
def test_debris_is_what_a_dead_owner_left_for_certain(
    marked: Marked, owner, beside, child: str, is_debris: bool
) -> None:
    """An owner is its process id and its start time."""
    mark = owner() + 1
    variable = mark if beside is None else beside() + 1
    popen = marked.start(mark, env=shown(variable, child))
    assert (popen.pid in debris()) is is_debris
    assert popen.poll() is None


def test_an_owner_that_cannot_be_seen_counts_as_alive(marked: Marked, monkeypatch) -> None:
    monkeypatch.setattr(guardian, "stat", lambda pid: [])
    assert not guardian.is_orphan(guardian._pack(os.getppid(), 1))


def test_processes_of_other_users_are_left_alone(marked: Marked) -> None:
    if os.getuid() != 0:
        pytest.skip("only root can start a process of another user")
    popen = marked.start(dead_owner() + 1, user=65534)
    assert popen.pid not in debris()


def test_another_user_who_copies_a_mark_holds_nothing_up(marked, monkeypatch, shows) -> None:
    mark = guardian.own_mark() + 4
    marked.start(mark)
    monkeypatch.setattr(guardian, "may_signal", lambda pid: False)
    assert orphans.scan(mark) == []
    assert orphans.kill_marked(mark) == []


def test_neither_we_nor_our_ancestors_are_debris(monkeypatch) -> None:
    dead = dead_owner() + 1
    monkeypatch.setattr(guardian, "limit_mark", lambda pid: dead if pid == os.getppid() else 0)
    assert os.getppid() not in debris()


def test_a_mark_that_is_none_is_passed_over(monkeypatch) -> None:
    texts = [b"x", b"", b"-1", b"1" * 5000, b"12", b"\xb2", b"9" * 19]
    shown = {b"A=b\0LLMSNAP_MARK=%s\0": guardian.variable_mark}
    shown[b"Max file locks   %s  unlimited"] = guardian.limit_mark
    for form, mark_of in shown.items():
        contents = iter([form % text for text in texts])
        monkeypatch.setattr(guardian, "read", lambda *_, contents=contents: next(contents))
        assert {text: mark_of(1) for text in texts} == dict.fromkeys(texts, 0)


def test_a_group_that_is_gone_is_told_so(marked: Marked) -> None:
    popen = marked.start(0)
    assert orphans.signal_group(popen.pid, 0)
    popen.kill()
    popen.wait()
    assert not orphans.signal_group(popen.pid, signal.SIGTERM)
    assert orphans.wait_empty(popen.pid, [popen.pid], 0)


def test_a_wait_for_a_group_that_stays_has_an_end(marked: Marked) -> None:
    assert not orphans.wait_empty(marked.start(0).pid, [], 0.02)


# Takes in the orphans of its descendants, as PID 1 does, and tells who is left of them.
ADOPTER = """
import llmsnap._monkey
import ctypes, os
import gevent
from gevent import monkey, subprocess
from llmsnap.launchers.local import orphans
PR_SET_CHILD_SUBREAPER = 36
assert ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0
orphans.reap_adopted()


def leave_orphan():
    os.posix_spawn("/bin/sh", ["sh", "-c", "(sleep 0.05; exit 7) & exit 5"], os.environ)

def wait_until_alone():
    while open(f"/proc/self/task/{os.getpid()}/children").read().split():
        gevent.sleep(0.01)

leave_orphan()
wait_until_alone()
leave_orphan()
own = [subprocess.Popen(["sh", "-c", f"sleep 0.0{n}; exit {n}"]) for n in range(1, 6)]
codes = [one.wait() for one in own]
wait_until_alone()
print(codes)
"""


def test_adopted_orphans_are_reaped_and_nobody_loses_a_status() -> None:
    if not Path(f"/proc/self/task/{os.getpid()}/children").exists():
        pytest.skip("this system does not tell who is whose child")
    command = [sys.executable, "-c", ADOPTER]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    assert (done.stdout, done.stderr) == ("[1, 2, 3, 4, 5]\n", "")


def started(pid: int) -> str:
    return str(guardian.start_of(pid) or "")


@pytest.mark.parametrize(
    ("noted", "is_gone", "is_stopped"),
    [(started, False, True), (started, True, False), (lambda _: "last week", False, False)],
)
def test_a_noted_child_is_stopped_by_the_next_run_if_it_is_still_that_program(
    tmp_path: Path, marked: Marked, noted, is_gone: bool, is_stopped: bool
) -> None:
    child, pid_file = marked.start(0), PidFile(tmp_path, noted)
    pid_file.add(child.pid, "llama")
    for _ in range(2 * is_gone):
        pid_file.remove(child.pid)
    lines = PidFile(tmp_path, started).stop_leftovers()
    assert lines == [f"pid {child.pid} of model llama"] * is_stopped
    assert child.wait(LIMIT_S) == -15 if is_stopped else child.poll() is None


@pytest.mark.parametrize("text", ["", "[]", '{"children": [{"pid": 1}]}'])
def test_a_file_that_makes_no_sense_is_passed_over(tmp_path: Path, caplog, text: str) -> None:
    (tmp_path / "children.json").write_text(text)
    assert PidFile(tmp_path, started).stop_leftovers() == []
    assert "cannot be used" in caplog.text


def test_a_folder_that_cannot_be_written_is_only_warned_about(tmp_path: Path, caplog) -> None:
    PidFile(tmp_path / "nowhere", started).add(os.getpid(), "llama")
    assert "cannot be written" in caplog.text


def test_the_launcher_keeps_the_pid_file(tmp_path: Path) -> None:
    launcher = LocalLauncher("pid-file-test", PidFile(tmp_path, started))
    spec = LaunchSpec("m", "sleep 60", "http://10.0.0.1:1")
    child = launcher.start(spec, lambda _: None, Event())
    assert str(child.local_pid) in (tmp_path / "children.json").read_text()
    assert f"pid {child.local_pid} of model m" in launcher.stop_leftovers()
    assert child.gone.wait(LIMIT_S)
    child.stop(1)
    launcher.close()
    assert str(child.local_pid) not in (tmp_path / "children.json").read_text()
