import os
import signal
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
