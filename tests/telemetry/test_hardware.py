"""Hardware detection from recorded files of machines, and from a stand-in for NVML."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from gevent.monkey import get_original

from llmsnap.telemetry.hardware import HardwareProbe, detect
from tests.telemetry.nvml import FakeNvml

INTEL_CPU = "\n".join(
    f"processor\t: {number}\nvendor_id\t: GenuineIntel\nmodel name\t: Intel(R) Xeon(R) w5-2455X\n"
    f"physical id\t: {number}\nflags\t\t: fpu vme {{flags}}\n"
    for number in (0, 1)
)

NVML = FakeNvml(
    {
        "Name": "NVIDIA GeForce RTX 4090", "Architecture": 8, "PowerManagementLimit": 450_000,
        "MemoryInfo": SimpleNamespace(total=24 << 30, used=1),
    },
    {"Name": "NVIDIA Odd"},
)  # fmt: skip


def no_nvml() -> Any:
    raise ImportError("pynvml")


def write(root: Path, name: str, text: str) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text + "\n")


def card(root: Path, number: int, **files: str) -> Path:
    for name, text in files.items():
        write(root, f"sys/class/drm/card{number}/device/{name.replace('__', '/')}", text)
    return root / f"sys/class/drm/card{number}/device"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write(tmp_path, "proc/cpuinfo", INTEL_CPU.format(flags=""))
    write(tmp_path, "etc/os-release", 'NAME="Arch Linux"\n# a comment\nVERSION_ID=24.04')
    return tmp_path


def test_processor_and_system_are_read_from_their_files(root: Path) -> None:
    found = detect(root, no_nvml)
    assert (found.operating_system.name, found.operating_system.version) == ("Arch Linux", "24.04")
    cpu = found.cpu
    assert (cpu.vendor, cpu.model) == ("GenuineIntel", "Intel(R) Xeon(R) w5-2455X")
    assert (cpu.socket_count, found.memory_bytes is None, found.accelerators) == (2, False, ())


@pytest.mark.parametrize(
    ("mark", "kind", "name"),
    [
        ("etc/os-release", "native", None),
        (".dockerenv", "container", "docker"),
        ("run/.containerenv", "container", "podman"),
        ("var/run/secrets/kubernetes.io/token", "container", "kubernetes"),
        ("sys/class/dmi/id/sys_vendor", "virtual_machine", "QEMU"),
    ],
)
def test_a_container_and_a_virtual_machine_are_recognised(root, mark, kind, name) -> None:
    write(root, mark, "QEMU")
    if kind == "virtual_machine":
        write(root, "proc/cpuinfo", INTEL_CPU.format(flags="hypervisor"))
    environment = detect(root, no_nvml).environment
    assert (environment.kind, environment.name) == (kind, name)


def test_nvidia_cards_come_from_nvml_and_what_one_does_not_tell_is_unknown(root: Path) -> None:
    card(root, 0, vendor="0x10de")
    first, second = detect(root, lambda: NVML).accelerators
    assert (first.index, first.vendor, first.architecture) == (0, "nvidia", "Ada")
    assert (first.memory.kind, first.memory.capacity_bytes) == ("dedicated", 24 << 30)
    assert (first.driver.name, first.driver.version) == ("nvidia", "580.65.06")
    assert (second.index, second.model) == (1, "NVIDIA Odd")
    assert (second.architecture, second.memory.capacity_bytes) == (None, None)
    assert (first.power_limit_watts, second.power_limit_watts) == (450, None)
    (found,) = detect(root, no_nvml).accelerators
    assert (found.vendor, found.memory.kind, found.model) == ("nvidia", "unknown", None)


def test_other_cards_come_from_sysfs_without_connectors_and_consoles(root: Path) -> None:
    files = {"mem_info_vram_total": str(48 << 30), "hwmon__hwmon3__power1_cap": "295000000"}
    amd = card(root, 1, vendor="0x1002", product_name="Radeon PRO W7900", **files)
    driver = root / "sys/bus/pci/drivers/amdgpu"
    driver.mkdir(parents=True)
    (amd / "driver").symlink_to(driver)
    card(root, 2, vendor="0x8086")
    card(root, 3, vendor="0x1a03")
    write(root, "sys/class/drm/card1-DP-1/device/vendor", "0x1002")
    radeon, arc = detect(root, no_nvml).accelerators
    assert (radeon.vendor, radeon.model) == ("amd", "Radeon PRO W7900")
    assert (radeon.memory.kind, radeon.memory.capacity_bytes) == ("dedicated", 48 << 30)
    assert (radeon.driver.name, radeon.power_limit_watts) == ("amdgpu", 295)
    assert (arc.index, arc.vendor, arc.memory.kind) == (1, "intel", "shared_system")
    assert (arc.memory.capacity_bytes, arc.driver.name) == (None, None)


def test_a_driver_that_fails_or_hangs_leaves_the_hardware_unknown(root, caplog) -> None:
    def fail() -> Any:
        raise RuntimeError("the driver is gone")

    lock = get_original("threading", "Lock")()
    lock.acquire()
    for detects, limit in ((fail, {}), (lock.acquire, {"limit_s": 0.05})):
        probe = HardwareProbe(detects, **limit)
        probe.run()
        assert (probe.found, probe.has_ended) == (None, True)
    lock.release()
    assert "hardware detection failed: RuntimeError('the driver is gone')" in caplog.text
    assert "/api/hardware stays empty" in caplog.text
    probe = HardwareProbe(lambda: detect(root, no_nvml))
    probe.run()
    assert probe.found is not None
