"""Memory of process trees, from recorded files of /proc and from real processes."""

import mmap
import os
import subprocess
import sys
from pathlib import Path

import pytest

from llmsnap.memory import TreeMemory, tree_memory

KIB, MIB = 1024, 1024**2


class FakeProc:
    """A /proc of recorded files below *root*."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def add(
        self,
        pid: int,
        *,
        children: str = "",
        rollup: str = "",
        smaps: str = "",
    ) -> None:
        here = self.root / str(pid)
        (here / "task/1").mkdir(parents=True)
        (here / "task/1/children").write_text(children)
        (here / "smaps").write_text(smaps)
        (here / "status").write_text(
            "Name:\tx\nRssAnon:\t 70 kB\nRssFile:\t 9 kB\nRssShmem:\t 5 kB\n"
        )
        if rollup:
            (here / "smaps_rollup").write_text(rollup)


ROLLUP = (
    "5 [rollup]\nRss: 999 kB\nPss: 900 kB\nPss_Anon: 100 kB\nPss_File: 700 kB\nPss_Shmem: 20 kB\n"
)
SMAPS = """\
7f0000000000-7f0000400000 r--p 00000000 fe:00 26 /models/a b.gguf
Rss:                4096 kB
Pss:                3000 kB
7f0000400000-7f0000500000 rw-p 00000000 00:00 0
Rss:                  50 kB
7f0000500000-7f0000600000 r-xp 00000000 fe:00 27 /usr/lib/libc.so.6
Rss:                  60 kB
7f0000600000-7f0000700000 r--p 00400000 fe:00 26 /models/a b.gguf
Rss:                  20 kB
Pss:                  10 kB
"""


def test_a_tree_is_the_sum_of_its_processes(tmp_path: Path) -> None:
    proc = FakeProc(tmp_path)
    proc.add(1, children="2 3", rollup=ROLLUP, smaps=SMAPS)
    proc.add(2)
    proc.add(3, children="1 3")  # a circle, as a reused pid could make one
    found = tree_memory(
        1,
        weights=["/models/a b.gguf"],
        devices={"gpu0": {1: 5, 3: 6, 9: 7}, "gpu1": {9: 8}},
        proc=tmp_path,
    )
    assert found == TreeMemory((120 + 75 + 75) * KIB, 4116 * KIB, {"gpu0": 11})


def test_weights_that_a_gpu_holds_need_no_ram() -> None:
    assert TreeMemory(ram=10, weights=100, devices={"gpu0": 30}).ram_needed == 80
    assert TreeMemory(ram=10, weights=100, devices={"gpu0": 130}).ram_needed == 10


def test_a_process_that_ended_has_no_memory(tmp_path: Path) -> None:
    assert tree_memory(1, proc=tmp_path) is None


HOLDER = """
import mmap, sys
anonymous = bytearray(24 << 20)
file = open(sys.argv[1], "rb")
mapped = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
sum(mapped[at] for at in range(0, len(mapped), mmap.PAGESIZE))
print("ready", flush=True)
sys.stdin.read()
"""


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="needs /proc of Linux")
def test_a_real_process_is_measured(tmp_path: Path) -> None:
    weights = tmp_path / "weights.gguf"
    weights.write_bytes(os.urandom(16 * MIB))
    with weights.open("rb") as file:
        mapped_here_too = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
    assert any(mapped_here_too[:: mmap.PAGESIZE])
    command = [sys.executable, "-IS", "-c", HOLDER, str(weights)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        found = tree_memory(process.pid, weights=[str(weights)])
        alone = tree_memory(process.pid)
        family = tree_memory(os.getpid())
        process.communicate()
    assert found is not None
    assert alone is not None
    assert family is not None
    assert found.weights == 16 * MIB, "pages that another process maps count in full"
    assert 24 * MIB <= alone.ram < 24 * MIB + 16 * MIB
    assert alone.weights == 0
    assert family.ram > alone.ram
    assert tree_memory(process.pid) is None
