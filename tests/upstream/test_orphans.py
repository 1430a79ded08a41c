import os
import signal
import sys
from pathlib import Path

import pytest
from gevent import subprocess

from llmsnap.upstream import orphans


@pytest.fixture
def marked():
    popen = subprocess.Popen(
        ["sleep", "60"],
        env={**os.environ, orphans.CHILD_MARK: f"orphan-test-{os.getpid()}:m:with:colons:3"},
        start_new_session=True,
    )
    yield popen
    popen.kill()
    popen.wait()


def test_marked_processes_are_found_and_stopped(marked) -> None:
    prefix = f"orphan-test-{os.getpid()}:"
    assert orphans.scan(prefix) == [(marked.pid, f"{prefix}m:with:colons:3")]
    assert orphans.stop_marked(prefix) == [f"pid {marked.pid} of model m:with:colons"]
    assert marked.wait(4) == -signal.SIGTERM
    assert orphans.stop_marked(prefix) == []


def test_one_that_begins_another_program_is_seen_a_moment_later(marked, monkeypatch) -> None:
    true_environ, blank = orphans._environ, []

    def environ(pid: str) -> bytes | None:
        if pid == str(marked.pid) and not blank:
            blank.append(pid)
            return b""
        return true_environ(pid)

    monkeypatch.setattr(orphans, "_environ", environ)
    prefix = f"orphan-test-{os.getpid()}:"
    assert orphans.scan(prefix) == [(marked.pid, f"{prefix}m:with:colons:3")]
    assert blank
    blank.clear()
    assert orphans.kill_marked(prefix) == [], "which does not wait"


LEAVES_ONE = "trap 'setsid sleep 60 & exit 0' TERM; echo ready; while :; do sleep 0.01; done"


def test_what_begins_while_others_are_stopped_is_stopped_as_well() -> None:
    prefix = f"orphan-test-{os.getpid()}:"
    popen = subprocess.Popen(
        ["sh", "-c", LEAVES_ONE],
        env={**os.environ, orphans.CHILD_MARK: f"{prefix}m:1"},
        start_new_session=True,
        stdout=subprocess.PIPE,
    )
    assert popen.stdout.readline() == b"ready\n"
    lines = orphans.stop_marked(prefix)
    assert lines[0] == f"pid {popen.pid} of model m"
    assert len(set(lines)) > 1
    popen.wait(4)
    assert orphans.scan(prefix) == []
    popen.stdout.close()


def test_killing_by_mark_is_immediate(marked) -> None:
    assert orphans.kill_marked(f"orphan-test-{os.getpid()}:") == [marked.pid]
    assert marked.wait(4) == -signal.SIGKILL


def test_a_group_that_is_gone_is_told_so(marked) -> None:
    assert orphans.signal_group(marked.pid, 0)
    marked.kill()
    marked.wait()
    assert not orphans.signal_group(marked.pid, signal.SIGTERM)
    assert orphans.wait_empty(marked.pid, [marked.pid], 0)


def test_a_wait_for_a_group_that_stays_has_an_end(marked) -> None:
    assert not orphans.wait_empty(marked.pid, [], 0.02)


def test_this_system_tells_of_its_processes() -> None:
    assert orphans.has_proc() == Path("/proc/self").is_dir()


# Takes in the orphans of its descendants, as PID 1 does, and tells who is left of them.
ADOPTER = """
import llmsnap._monkey
import ctypes, os
import gevent
from gevent import monkey, subprocess
from llmsnap.upstream import orphans
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
    done = subprocess.run(
        [sys.executable, "-c", ADOPTER], capture_output=True, text=True, timeout=4, check=False
    )
    assert (done.stdout, done.stderr) == ("[1, 2, 3, 4, 5]\n", "")
