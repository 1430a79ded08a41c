"""Memory of process trees, from recorded files of /proc and from real processes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from llmsnap.memory import processes
from llmsnap.memory.processes import NvmlProcesses, TreeMemory, drm_client, tree_memory

KIB, MIB = 1024, 1024**2

AMDGPU = """\
pos:	0
flags:	02100002
drm-driver:	amdgpu
drm-client-id:	42
drm-pdev:	0000:03:00.0
drm-memory-vram:	9000 KiB
drm-memory-gtt:	2048 KiB
drm-memory-cpu: 	0 KiB
drm-engine-gfx:	0 ns
"""
AMDGPU_NEW = AMDGPU + "drm-total-vram:	10000 KiB\ndrm-resident-vram:	8000 KiB\n"
XE = """\
drm-driver:	xe
drm-client-id:	7
drm-pdev:	0000:00:02.0
drm-total-system:	0
drm-resident-system:	4096
drm-total-vram0:	23992 KiB
drm-resident-vram0:	16384 KiB
drm-resident-stolen:	0
"""
I915 = """\
drm-driver: i915
drm-pdev:	0000:00:02.0
drm-client-id: 9
drm-resident-system0:	128 KiB
drm-resident-local0:	3 MiB
drm-resident-local1:	1 MiB
"""


@pytest.mark.parametrize(
    ("text", "device", "on_card"),
    [
        (AMDGPU, "0000:03:00.0", 9000 * KIB),
        (AMDGPU_NEW, "0000:03:00.0", 8000 * KIB),
        (XE, "0000:00:02.0", 16384 * KIB),
        (I915, "0000:00:02.0", 4 * MIB),
        ("drm-pdev: 0000:00:02.0\ndrm-client-id: 1\ndrm-resident-vram: many\n", "0000:00:02.0", 0),
    ],
    ids=["amdgpu", "newer amdgpu", "xe", "i915", "no number"],
)
def test_gpu_memory_of_a_descriptor(text: str, device: str, on_card: int) -> None:
    found = drm_client(text)
    assert found is not None
    assert (found.device, found.on_card) == (device, on_card)


def test_other_descriptors_are_no_gpu_clients() -> None:
    assert drm_client("pos:\t0\nflags:\t02\n") is None


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
        gpus: tuple[str, ...] = (),
    ) -> None:
        here = self.root / str(pid)
        for name in ("task/1", "fd", "fdinfo"):
            (here / name).mkdir(parents=True)
        (here / "task/1/children").write_text(children)
        (here / "smaps").write_text(smaps)
        (here / "status").write_text(
            "Name:\tx\nRssAnon:\t 70 kB\nRssFile:\t 9 kB\nRssShmem:\t 5 kB\n"
        )
        if rollup:
            (here / "smaps_rollup").write_text(rollup)
        for number, text in enumerate(gpus):
            (here / "fd" / str(number)).symlink_to("/dev/dri/renderD128")
            (here / "fdinfo" / str(number)).write_text(text)


ROLLUP = (
    "5 [rollup]\nRss: 999 kB\nPss: 900 kB\nPss_Anon: 100 kB\nPss_File: 700 kB\nPss_Shmem: 20 kB\n"
)
SMAPS = """\
7f0000000000-7f0000400000 r--p 00000000 fe:00 26 /models/a b.gguf
Rss:                4096 kB
Pss:                3000 kB
7f0000400000-7f0000500000 rw-p 00000000 00:00 0
Pss:                  50 kB
7f0000500000-7f0000600000 r-xp 00000000 fe:00 27 /usr/lib/libc.so.6
Pss:                  60 kB
7f0000600000-7f0000700000 r--p 00400000 fe:00 26 /models/a b.gguf
Pss:                  10 kB
"""


def test_a_tree_is_the_sum_of_its_processes(tmp_path: Path) -> None:
    proc = FakeProc(tmp_path)
    proc.add(1, children="2 3", rollup=ROLLUP, smaps=SMAPS, gpus=(AMDGPU, AMDGPU))
    proc.add(2, children="", gpus=(AMDGPU,))  # inherited: the same client
    proc.add(3, children="1 3", gpus=(XE,))  # a circle, as a reused pid could make one
    found = tree_memory(
        1, weights=["/models/a b.gguf"], nvidia={2: {"GPU-1": 5}, 9: {"GPU-1": 7}}, proc=tmp_path
    )
    assert found == TreeMemory(
        ram=(120 + 75 + 75) * KIB,
        weights=3010 * KIB,
        gpus={"GPU-1": 5, "0000:03:00.0": 9000 * KIB, "0000:00:02.0": 16384 * KIB},
    )


def test_weights_that_a_gpu_holds_need_no_ram() -> None:
    assert TreeMemory(ram=10, weights=100, gpus={"0": 30}).ram_needed == 80
    assert TreeMemory(ram=10, weights=100, gpus={"0": 130}).ram_needed == 10


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
    command = [sys.executable, "-c", HOLDER, str(weights)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        found = tree_memory(os.getpid(), weights=[str(weights)])
        alone = tree_memory(process.pid)
        process.communicate()
    assert found is not None
    assert alone is not None
    assert found.weights == 16 * MIB
    assert 24 * MIB <= alone.ram < 24 * MIB + 16 * MIB
    assert alone.weights == 0
    assert found.ram > alone.ram
    assert tree_memory(process.pid) is None


class FakeNvml:
    """Two GPUs; one process is both a compute and a graphics client."""

    NVMLError = RuntimeError

    def nvmlInit(self) -> None: ...  # noqa: N802 - NVML's names

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        return 2

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:  # noqa: N802
        return index

    def nvmlDeviceGetUUID(self, gpu: int) -> Any:  # noqa: N802
        return [b"GPU-a", "GPU-b"][gpu]

    def nvmlDeviceGetComputeRunningProcesses(self, gpu: int) -> list[Any]:  # noqa: N802
        held = [(10, 100), (11, None)] if gpu == 0 else [(10, 7)]
        return [SimpleNamespace(pid=pid, usedGpuMemory=used) for pid, used in held]

    def nvmlDeviceGetGraphicsRunningProcesses(self, gpu: int) -> list[Any]:  # noqa: N802
        if gpu == 1:
            raise RuntimeError("not supported")
        return [SimpleNamespace(pid=10, usedGpuMemory=90)]


def test_nvidia_memory_is_by_process_and_card() -> None:
    assert NvmlProcesses(FakeNvml()).used() == {10: {"GPU-a": 100, "GPU-b": 7}}


def test_a_machine_without_nvml_has_no_nvidia_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "import_module", lambda name: 1 / 0)
    assert processes.find_nvidia_processes()() == {}
