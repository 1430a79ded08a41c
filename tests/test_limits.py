import os
import resource
import sys

import pytest
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


# Prints its core limit, that of a child, whether it is dumpable, whether it can read the child.
PROTECTED = """
import llmsnap._monkey
import os, resource, sys
from gevent import subprocess
from llmsnap import limits
mode, user = sys.argv[1:]
subprocess.run(["true"])  # imports what cannot be read later
if user:
    os.setgroups([])
    os.setgid(int(user))
    os.setuid(int(user))
    limits._libc().prctl(limits.PR_SET_DUMPABLE, 1, 0, 0, 0)  # a change of the user took it away
resource.setrlimit(resource.RLIMIT_CORE, (4096, resource.getrlimit(resource.RLIMIT_CORE)[1]))
limits.protect_memory(debug=mode == "debug")
limits.protect_memory(debug=mode == "debug")
child = subprocess.Popen(["sh", "-c", "ulimit -c; read line"], stdin=-1, stdout=-1,
                         preexec_fn=limits.child_setup())
blocks = int(child.stdout.readline())
print(resource.getrlimit(resource.RLIMIT_CORE)[0], 512 * blocks,
      limits._libc().prctl(3, 0, 0, 0, 0),  # PR_GET_DUMPABLE
      b"SECRET" in open(f"/proc/{child.pid}/environ", "rb").read(), flush=True)
sys.stdin.readline()
child.communicate(b"end")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs prctl and /proc")
@pytest.mark.parametrize(
    ("mode", "said", "is_open"),
    [("serve", b"0 4096 0 True", False), ("debug", b"4096 4096 1 True", True)],
)
def test_memory_is_kept_from_core_files_and_from_our_user_but_that_of_children_is_not(
    mode: str, said: bytes, is_open: bool
) -> None:
    user = {} if os.getuid() else {"user": 65534, "group": 65534, "extra_groups": []}
    popen = subprocess.Popen(
        [sys.executable, "-c", PROTECTED, mode, str(user.get("user", ""))],
        env={**os.environ, "SECRET": "s3cret"},
        stdin=-1,
        stdout=-1,
    )
    line = popen.stdout.readline().strip()
    reader = subprocess.run(
        ["cat", f"/proc/{popen.pid}/environ"], capture_output=True, check=False, **user
    )
    popen.communicate(b"end")
    assert line == said
    assert (b"s3cret" in reader.stdout) is is_open
