import os
import resource
import sys
from pathlib import Path

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
    assert child.wait(10) == 1


# Prints its core limit, that of a child, whether it is dumpable, whether it can read the child.
PROTECTED = """
import os, resource, subprocess, sys
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


PLACES = {1_048_576: 10_000, 20_064: 10_000, 1024: 480, 400: 168, 64: 1, 16: 1}


def test_a_place_needs_two_files_beyond_those_that_are_reserved() -> None:
    assert {files: limits.places(files) for files in PLACES} == PLACES
    for files, places in PLACES.items():
        assert limits.places(files, 100) == min(places, 100)
        parts = [limits.places(files, files, share) for share in (0.8, 0.2)]
        assert sum(parts) <= max(limits.places(files, files), 2), files


GIB = 1 << 30
MACHINE = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
V1 = "8:cpu,cpuacct:/docker/x\n5:memory:/docker/x\n"


def write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


CGROUPS = [
    (None, {}, MACHINE),
    ("0::/\n", {"memory.max": "max\n"}, MACHINE),
    ("0::/\n", {"memory.max": f"{GIB // 4}\n"}, GIB // 4),
    ("0::/\n", {"memory.max": f"{1 << 62}\n"}, MACHINE),
    ("0::/a/b\n", {"a/b/memory.max": "max\n", "a/memory.max": f"{GIB // 8}\n"}, GIB // 8),
    ("0::/a\n", {"a/memory.max": f"{GIB // 8}", "memory.max": f"{GIB // 4}"}, GIB // 8),
    ("0::/../../host/path\n", {"memory.max": f"{GIB // 4}\n"}, GIB // 4),
    (V1, {"memory/docker/x/memory.limit_in_bytes": f"{GIB // 4}\n"}, GIB // 4),
    (V1, {"memory/memory.limit_in_bytes": f"{GIB // 4}\n"}, GIB // 4),
    (V1, {"memory/memory.limit_in_bytes": "9223372036854771712\n"}, MACHINE),
    ("nonsense\n", {}, MACHINE),
]


def test_memory_is_that_of_the_machine_or_what_cgroups_allow(tmp_path) -> None:
    for number, (cgroup, files, expected) in enumerate(CGROUPS):
        root = tmp_path / str(number)
        if cgroup is not None:
            write(root / "proc/self/cgroup", cgroup)
        for name, text in files.items():
            write(root / "sys/fs/cgroup" / name, text)
        assert limits.memory_bytes(root) == expected, (cgroup, files)


def test_kills_for_lack_of_memory_are_counted(tmp_path) -> None:
    assert 1 << 20 < limits.memory_bytes() <= MACHINE
    assert limits.oom_kills(tmp_path) == 0, "unknown"
    write(tmp_path / "proc/vmstat", "pgfault 7\noom_kill 3\noom_kill_x 9\n")
    assert limits.oom_kills(tmp_path) == 3


def test_available_memory_is_the_least_of_the_machine_and_its_cgroups(tmp_path) -> None:
    box = tmp_path / "sys/fs/cgroup/box"
    write(tmp_path / "proc/meminfo", "MemTotal: 1000 kB\nMemAvailable: 900 kB\n")
    assert limits.memory_available(tmp_path) == 900 * 1024
    write(tmp_path / "proc/self/cgroup", "0::/box\n")
    write(box / "memory.max", "800000\n")
    write(box / "memory.current", "700000\n")
    write(box / "memory.stat", "file 300000\nshmem 100000\n")  # files can be dropped, shmem not
    assert limits.memory_available(tmp_path) == 800_000 - 500_000
    write(box.parent / "memory.max", "max\n")
    assert limits.memory_available(tmp_path) == 300_000
