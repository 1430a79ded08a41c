"""Devices of a machine, from recorded files and a pretend driver."""

import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from llmsnap.limits import memory_bytes, memory_used
from llmsnap.memory import DeviceMemory, find_devices
from llmsnap.memory.devices import MachineDevices
from llmsnap.memory.gpus import DrmDevices, NvmlDevices, drm_client
from llmsnap.memory.processes import started

KIB, MIB, GIB = 1024, 1024**2, 1024**3

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
BROKEN = "drm-pdev: 0000:00:02.0\ndrm-client-id: 1\ndrm-resident-vram: many\n"


@pytest.mark.parametrize(
    ("text", "device", "on_card", "in_ram"),
    [
        (AMDGPU, "0000:03:00.0", 9000 * KIB, 2048 * KIB),
        (AMDGPU_NEW, "0000:03:00.0", 8000 * KIB, 2048 * KIB),
        (XE, "0000:00:02.0", 16384 * KIB, 4096),
        (I915, "0000:00:02.0", 4 * MIB, 128 * KIB),
        (BROKEN, "0000:00:02.0", 0, 0),
    ],
    ids=["amdgpu", "newer amdgpu", "xe", "i915", "no number"],
)
def test_gpu_memory_of_a_descriptor(text: str, device: str, on_card: int, in_ram: int) -> None:
    found = drm_client(text)
    assert found is not None
    assert (found.device, found.use.on_card, found.use.in_ram) == (device, on_card, in_ram)


def test_other_descriptors_are_no_gpu_clients() -> None:
    assert drm_client("pos:\t0\nflags:\t02\n") is None


class Machine:
    """A machine of recorded files below *root*."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.proc, self.drm = root / "proc", root / "sys/class/drm"
        self.proc.mkdir(parents=True)
        self.drm.mkdir(parents=True)
        (self.proc / "meminfo").write_text("MemTotal: 64 kB\nMemAvailable: 24 kB\nMemFree: 9 kB\n")

    def card(self, number: int, address: str, **files: str) -> None:
        device = self.root / "sys/devices" / address
        for name, text in files.items():
            path = device / name.replace("__", "/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text + "\n")
        card = self.drm / f"card{number}"
        card.mkdir()
        (card / "device").symlink_to(device)
        (self.drm / f"card{number}-DP-1").mkdir()

    def process(self, pid: int, *descriptors: str) -> None:
        for name in ("fd", "fdinfo"):
            (self.proc / str(pid) / name).mkdir(parents=True)
        for number, text in enumerate(descriptors):
            (self.proc / str(pid) / "fd" / str(number)).symlink_to("/dev/dri/renderD128")
            (self.proc / str(pid) / "fdinfo" / str(number)).write_text(text)

    def read(self) -> dict[str, DeviceMemory]:
        devices = MachineDevices([DrmDevices(self.drm, self.proc)], self.root)
        return {each.name: each for each in devices.read()}


def test_cards_are_found_by_their_drivers_in_order_of_their_addresses(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    machine.card(
        0,
        "0000:03:00.0",
        vendor="0x1002",
        mem_info_vram_total=str(16 * GIB),
        mem_info_vram_used=str(GIB),
        mem_info_vram_vendor="samsung",
        unique_id="ab12",
    )
    machine.card(1, "0000:00:02.0", vendor="0x8086", tile0__physical_vram_size_bytes=str(8 * GIB))
    machine.card(2, "0000:09:00.0", vendor="0x1234")
    machine.process(20, AMDGPU, AMDGPU)
    machine.process(21, AMDGPU, XE)  # it inherited the first: the same client
    found = machine.read()
    assert found["gpu0"] == DeviceMemory(
        "gpu0", 8 * GIB, 16 * MIB, {21: 16 * MIB}, "0000:00:02.0", "intel"
    )
    assert found["gpu1"] == DeviceMemory("gpu1", 16 * GIB, GIB, {20: 9000 * KIB}, "GPU-ab12", "amd")
    assert found["gpu1"].free == 15 * GIB
    assert list(found) == ["gpu0", "gpu1", "ram"]
    assert (found["ram"].used, found["ram"].aliases) == (40 * KIB, ())


def test_a_gpu_without_memory_of_its_own_is_an_alias_of_ram(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    machine.card(
        1,
        "0000:03:00.0",
        vendor="0x1002",
        mem_info_vram_total=str(512 * MIB),
        mem_info_vram_used=str(100 * MIB),
        mem_info_vram_vendor="unknown",
    )
    machine.process(20, AMDGPU)
    ram = machine.read()["ram"]
    assert list(machine.read()) == ["ram"]
    assert ram.aliases == ("gpu0",)
    assert ram.total == memory_bytes(tmp_path) + 512 * MIB
    assert ram.used == 40 * KIB + 100 * MIB
    assert ram.pids == {20: 11048 * KIB}


@pytest.mark.parametrize(
    ("cgroup", "folder", "files", "used"),
    [
        (
            *("0::/box\n", "box"),
            {"max": "5000", "current": "4000", "stat": "anon 900\nfile 3000\nshmem 100"},
            1100,
        ),
        (
            *("4:cpu,memory:/box\n", "memory"),
            {
                "limit_in_bytes": "5000",
                "usage_in_bytes": "4000",
                "stat": "cache 1\ntotal_cache 3000\ntotal_shmem 100",
            },
            1100,
        ),
        ("", "box", {"max": "5000"}, 40 * KIB),
    ],
    ids=["version 2", "version 1", "no cgroup"],
)
def test_ram_in_use_is_that_of_the_cgroup_with_the_limit(
    tmp_path: Path, cgroup: str, folder: str, files: dict[str, str], used: int
) -> None:
    own = Machine(tmp_path).proc / "self"
    own.mkdir()
    (own / "cgroup").write_text(cgroup)
    (tmp_path / "sys/fs/cgroup" / folder).mkdir(parents=True)
    for name, text in files.items():
        (tmp_path / "sys/fs/cgroup" / folder / f"memory.{name}").write_text(text + "\n")
    assert memory_used(tmp_path) == used
    assert (memory_bytes(tmp_path) == 5000) == (used == 1100)


class FakeNvml:
    """Three GPUs, the last without memory of its own; a process is a client of both kinds.

    *fault* is the call that fails for the first one, *lost* the number of those that are gone.
    """

    NVMLError = RuntimeError
    fault = ""
    lost = 0

    def nvmlInit(self) -> None: ...  # noqa: N802 - NVML's names

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        return 3 - self.lost

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:  # noqa: N802
        self.check("handle", index)
        return index + self.lost

    def check(self, call: str, gpu: int) -> None:
        if self.fault == call and gpu == 0:
            raise RuntimeError("GPU is lost")

    def nvmlDeviceGetUUID(self, gpu: int) -> Any:  # noqa: N802
        self.check("uuid", gpu)
        return [b"GPU-a", "GPU-b", "GPU-c"][gpu]

    def nvmlDeviceGetMemoryInfo(self, gpu: int) -> Any:  # noqa: N802
        self.check("memory", gpu)
        if gpu == 2:
            raise RuntimeError("not supported")
        return SimpleNamespace(total=1000 + gpu, used=300)

    def nvmlDeviceGetComputeRunningProcesses(self, gpu: int) -> list[Any]:  # noqa: N802
        held = [(10, 100), (11, None)] if gpu == 0 else [(10, 7)]
        return [SimpleNamespace(pid=pid, usedGpuMemory=used) for pid, used in held]

    def nvmlDeviceGetGraphicsRunningProcesses(self, gpu: int) -> list[Any]:  # noqa: N802
        if gpu == 1:
            raise RuntimeError("not supported")
        return [SimpleNamespace(pid=10, usedGpuMemory=90)]


def test_nvidia_memory_is_by_card_and_process(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    machine.process(10)
    nvidia = NvmlDevices(FakeNvml(), machine.proc)
    first, second, ram = MachineDevices([nvidia], tmp_path).read()
    assert first == DeviceMemory("gpu0", 1000, 300, {10: 100}, "GPU-a", "nvidia")
    assert second == DeviceMemory("gpu1", 1001, 300, {10: 7}, "GPU-b", "nvidia", 1)
    assert (ram.name, ram.aliases, ram.pids) == ("ram", ("gpu2",), {10: 90})
    (machine.proc / "10").rename(machine.proc / "12")  # they are those of another namespace
    assert [each.pids for each in nvidia.read()] == [{}, {}, {}]


@pytest.mark.parametrize("fault", ["handle", "uuid", "memory"])
def test_a_card_that_cannot_be_read_is_as_it_was_last(tmp_path: Path, fault: str) -> None:
    nvml = FakeNvml()
    machine = MachineDevices([NvmlDevices(nvml, Machine(tmp_path).proc)], tmp_path)
    before = machine.read()
    nvml.fault = fault
    assert machine.read() == before


def test_cards_keep_their_names_when_one_is_lost(tmp_path: Path) -> None:
    names: dict[str, str] = {}
    nvml, proc = FakeNvml(), Machine(tmp_path).proc
    MachineDevices([NvmlDevices(nvml, proc)], tmp_path, names).read()
    nvml.lost = 1
    found = MachineDevices([NvmlDevices(nvml, proc)], tmp_path, names).read()
    assert [(each.name, each.uuid) for each in found] == [("gpu1", "GPU-b"), ("ram", "")]
    assert found[-1].aliases == ("gpu2",)


def test_this_machine_has_ram() -> None:
    ram = find_devices({}).read()[-1]
    assert ram.name == "ram"
    assert 0 < ram.used < ram.total == memory_bytes()


def test_pretend_devices_forget_processes_that_ended(tmp_path: Path) -> None:
    path = tmp_path / "devices.json"
    environ = {"LLMSNAP_DEVICES": f"file:{path}"}
    me = f"{os.getpid()}.{started(os.getpid())}"
    used = {me: 3, f"{os.getpid()}.1": 4, "999999999.5": 5}
    path.write_text(json.dumps({"gpu0": {"capacity": 9, "used": used}, "ram": {"capacity": 7}}))
    assert find_devices(environ).read() == (
        DeviceMemory("gpu0", 9, 3, {os.getpid(): 3}, "pretend-gpu0"),
        DeviceMemory("ram", 7, 0, {}, "pretend-ram", index=1),
    )


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        '{"gpu0": {}}',
        '{"gpu0": 7}',
        '{"gpu0": {"capacity": -1}}',
        '{"gpu0": {"capacity": true}}',
        '{"gpu0": {"capacity": 1, "used": []}}',
        '{"gpu0": {"capacity": 1, "used": {"ME": 1e999}}}',
        '{"gpu0": {"capacity": 1, "used": {"x.1": 1}}}',
        '{"gpu0": ' + "[" * 5000,
        '{"gpu0": {"capacity": 1' + " " * (1 << 20) + "}}",
        None,
    ],
)
def test_pretend_devices_that_make_no_sense_are_an_error(tmp_path: Path, text: str | None) -> None:
    path = tmp_path / "devices.json"
    if text is None:
        os.mkfifo(path)
    else:
        path.write_text(text.replace("ME", f"{os.getpid()}.{started(os.getpid())}"))
    with pytest.raises(ValueError, match=r"."):
        find_devices({"LLMSNAP_DEVICES": f"file:{path}"}).read()
