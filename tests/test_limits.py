import os
import resource

from gevent import subprocess

from llmsnap import limits


def test_open_files_are_raised_for_us_and_restored_for_children() -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(256, before[1]), before[1]))
    limits._original_nofile = None
    try:
        assert limits.raise_open_files() == before[1]
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == before[1]
        assert limits.raise_open_files() == before[1]
        child = subprocess.Popen(
            ["sh", "-c", "ulimit -n"], stdout=-1, preexec_fn=limits.child_setup()
        )
        assert int(child.communicate()[0]) == min(256, before[1])
    finally:
        limits._original_nofile = None
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_a_child_whose_parent_is_gone_ends_itself(monkeypatch) -> None:
    monkeypatch.setattr(limits.os, "getpid", os.getppid)
    setup = limits.child_setup()
    child = subprocess.Popen(["sleep", "60"], preexec_fn=setup)
    assert child.wait(4) == 1
