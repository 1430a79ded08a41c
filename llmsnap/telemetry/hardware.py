"""The hardware of this machine, detected once: processor, memory, accelerators, container.

Unknown facts are None. A value that is not in the list of an enumeration becomes ``other``, with
the original in the ``raw_name`` beside it. Sources: os-release(5), proc(5), the kernel's DMI and
DRM class in sysfs, NVML.
"""

from __future__ import annotations

import logging
import platform
import re
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import Any

from llmsnap import __version__
from llmsnap.limits import memory_bytes
from llmsnap.telemetry.sampling import decoded, number_at, text_at
from llmsnap.telemetry.workers import WorkerStuck, WorkerThread

log = logging.getLogger(__name__)

SCHEMA_VERSION = 1
LIMIT_S = 10.0
"""Seconds after which an unresponsive driver is abandoned."""
VENDORS = {"0x10de": "nvidia", "0x1002": "amd", "0x8086": "intel"}
"""Of PCI devices; display adapters of other vendors run no models."""
ARCHITECTURES = {"x86_64": "x86_64", "amd64": "x86_64", "aarch64": "arm64", "arm64": "arm64"}
FAMILIES = {"linux": "linux", "darwin": "macos"}
HYPERVISORS = ("QEMU", "KVM", "VMware", "VirtualBox", "Xen", "Amazon EC2", "Google", "Hyper-V")
NVIDIA_ARCHITECTURES = (
    "KEPLER", "MAXWELL", "PASCAL", "VOLTA", "TURING", "AMPERE", "ADA", "HOPPER", "BLACKWELL",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Named:
    """The name and version of a piece of software."""

    name: str | None = None
    version: str | None = None


@dataclass(frozen=True, slots=True)
class Architecture:
    """The instruction set: ``x86_64``, ``arm64`` or ``other``."""

    name: str
    raw_name: str | None


@dataclass(frozen=True, slots=True)
class OperatingSystem:
    """*family* is ``linux``, ``macos`` or ``other``."""

    family: str
    name: str | None
    version: str | None
    kernel: str | None


@dataclass(frozen=True, slots=True)
class HostEnvironment:
    """*kind*: ``native``, ``container``, ``virtual_machine``, ``wsl``, ``other`` or ``unknown``."""

    kind: str
    name: str | None = None
    version: str | None = None


@dataclass(frozen=True, slots=True)
class Processor:
    """The processors of the machine, all sockets together."""

    vendor: str | None = None
    model: str | None = None
    socket_count: int | None = None
    physical_core_count: int | None = None
    logical_thread_count: int | None = None


@dataclass(frozen=True, slots=True)
class AcceleratorMemory:
    """*kind* is ``dedicated``, ``unified``, ``shared_system`` or ``unknown``."""

    kind: str = "unknown"
    capacity_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Accelerator:
    """One device that can run models beside the processor."""

    index: int
    vendor: str
    model: str | None = None
    kind: str = "gpu"
    architecture: str | None = None
    memory: AcceleratorMemory = AcceleratorMemory()
    driver: Named = Named()
    power_limit_watts: float | None = None


@dataclass(frozen=True, slots=True)
class Hardware:
    """The whole machine, as ``GET /api/hardware`` returns it."""

    captured_at: str
    architecture: Architecture
    operating_system: OperatingSystem
    environment: HostEnvironment
    cpu: Processor
    memory_bytes: int | None
    accelerators: tuple[Accelerator, ...]

    def document(self) -> dict[str, Any]:
        """Return the JSON document; its members are dataclasses, which msgspec encodes."""
        return {
            "schema_version": SCHEMA_VERSION,
            "captured_at": self.captured_at,
            "capture": {
                "scope": "inference_host",
                "method": "detected",
                "detector": Named("llmsnap", __version__),
            },
            "architecture": self.architecture,
            "operating_system": self.operating_system,
            "environment": self.environment,
            "cpu": self.cpu,
            "memory": {"capacity_bytes": self.memory_bytes},
            "accelerators": self.accelerators,
        }


def detect(root: Path = Path("/"), nvml: Callable[[], Any] | None = None) -> Hardware:
    """Return the hardware below *root*. Blocks while drivers answer; a driver may hang.

    Runs in a thread, where no child process can be started: ``platform.processor()`` starts one.
    """
    kernel = platform.release() or None
    machine = platform.machine()
    return Hardware(
        captured_at=datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        architecture=Architecture(ARCHITECTURES.get(machine.lower(), "other"), machine or None),
        operating_system=_operating_system(root, kernel),
        environment=_environment(root, kernel or ""),
        cpu=_processor(root),
        memory_bytes=_memory(root),
        accelerators=tuple(_accelerators(root, nvml or _load_nvml)),
    )


# --- system ---------------------------------------------------------------------------------------


def _operating_system(root: Path, kernel: str | None) -> OperatingSystem:
    family = FAMILIES.get(sys.platform, "other")
    if family == "macos":
        return OperatingSystem(family, "macOS", platform.mac_ver()[0] or None, kernel)
    release = _os_release(root)
    name = release.get("NAME") or (None if family == "linux" else sys.platform)
    return OperatingSystem(family, name, release.get("VERSION_ID"), kernel)


def _os_release(root: Path) -> dict[str, str]:
    """Return the fields of os-release(5)."""
    text = _text(root / "etc/os-release") or _text(root / "usr/lib/os-release") or ""
    pairs = (line.partition("=") for line in text.splitlines() if not line.startswith("#"))
    return {name.strip(): value.strip().strip("\"'") for name, equals, value in pairs if equals}


def _environment(root: Path, kernel: str) -> HostEnvironment:
    if "microsoft" in kernel.lower():
        return HostEnvironment("wsl", "WSL 2" if "wsl2" in kernel.lower() else "WSL")
    for mark, name in ((".dockerenv", "docker"), ("run/.containerenv", "podman")):
        if (root / mark).exists():
            return HostEnvironment("container", name)
    if (root / "var/run/secrets/kubernetes.io").exists():
        return HostEnvironment("container", "kubernetes")
    if "hypervisor" in _cpuinfo(root).get("flags", "").split():
        return HostEnvironment("virtual_machine", _hypervisor(root))
    if sys.platform == "linux" and not (root / "proc/cpuinfo").exists():
        return HostEnvironment("unknown")
    return HostEnvironment("native")


def _hypervisor(root: Path) -> str | None:
    """Return the name of the hypervisor, from the DMI tables."""
    dmi = root / "sys/class/dmi/id"
    vendor_text = f"{_text(dmi / 'sys_vendor') or ''} {_text(dmi / 'product_name') or ''}"
    return next((name for name in HYPERVISORS if name.lower() in vendor_text.lower()), None)


# --- processor and memory -------------------------------------------------------------------------


def _processor(root: Path) -> Processor:
    first = _cpuinfo(root)
    text = _text(root / "proc/cpuinfo") or ""
    sockets = set(re.findall(r"^physical id\s*:\s*(\d+)", text, re.MULTILINE))
    try:
        psutil: Any = import_module("psutil")
        cores, threads = psutil.cpu_count(logical=False), psutil.cpu_count()
    except ImportError:
        cores = threads = None
    model = first.get("model name") or first.get("Model")
    return Processor(
        vendor=first.get("vendor_id") or first.get("CPU implementer"),
        model=model,
        socket_count=len(sockets) or None,
        physical_core_count=cores,
        logical_thread_count=threads,
    )


def _cpuinfo(root: Path) -> dict[str, str]:
    """Return the fields of the first processor in /proc/cpuinfo (proc(5))."""
    block = (_text(root / "proc/cpuinfo") or "").partition("\n\n")[0]
    pairs = (line.partition(":") for line in block.splitlines())
    return {name.strip(): value.strip() for name, colon, value in pairs if colon}


def _memory(root: Path) -> int | None:
    try:
        return memory_bytes(root)
    except (OSError, ValueError):
        return None


# --- accelerators ---------------------------------------------------------------------------------


def _load_nvml() -> Any:
    """Return NVML, initialized. Raises: any error of the driver, or ImportError."""
    nvml = import_module("pynvml")
    nvml.nvmlInit()
    return nvml


def _accelerators(root: Path, nvml: Callable[[], Any]) -> Iterable[Accelerator]:
    try:
        found = list(_nvidia(nvml()))
    except Exception:  # noqa: BLE001 - no library, no driver, no GPU: NVML reports it variously
        found = []
    cards = [_card(card) for card in sorted((root / "sys/class/drm").glob("card[0-9]*"))]
    seen_by_nvml = bool(found)
    for one in cards:
        if one is not None and not (one.vendor == "nvidia" and seen_by_nvml):
            found.append(one)
    if sys.platform == "darwin" and platform.machine() == "arm64":
        memory = AcceleratorMemory("unified", memory_bytes(root))
        found.append(Accelerator(0, "apple", memory=memory))
    return [replace(one, index=index) for index, one in enumerate(found)]


def _nvidia(nvml: Any) -> Iterable[Accelerator]:
    def ask(call: str, *args: object) -> Any:
        try:
            return getattr(nvml, call)(*args)
        except (AttributeError, nvml.NVMLError):  # an older library, or not for this device
            return None

    driver = Named("nvidia", decoded(ask("nvmlSystemGetDriverVersion")))
    names = {
        getattr(nvml, f"NVML_DEVICE_ARCH_{name}", None): name.title()
        for name in NVIDIA_ARCHITECTURES
    }
    for index in range(nvml.nvmlDeviceGetCount()):
        gpu = nvml.nvmlDeviceGetHandleByIndex(index)
        memory = ask("nvmlDeviceGetMemoryInfo", gpu)
        limit_mw = ask("nvmlDeviceGetPowerManagementLimit", gpu)
        architecture = ask("nvmlDeviceGetArchitecture", gpu)
        yield Accelerator(
            index,
            "nvidia",
            decoded(ask("nvmlDeviceGetName", gpu)),
            architecture=None if architecture is None else names.get(architecture),
            memory=AcceleratorMemory("dedicated", None if memory is None else memory.total),
            driver=driver,
            power_limit_watts=None if limit_mw is None else limit_mw / 1000,
        )


def _card(card: Path) -> Accelerator | None:
    """Return the accelerator behind a DRM device; None for a connector, or another vendor's."""
    device = card / "device"
    vendor = VENDORS.get(_text(device / "vendor") or "")
    if vendor is None or not card.name.removeprefix("card").isdecimal():
        return None
    vram = number_at(device / "mem_info_vram_total")
    sensors = next(iter(sorted((device / "hwmon").glob("hwmon*"))), device)
    cap_uw = number_at(sensors / "power1_cap")
    driver = (device / "driver").resolve().name if (device / "driver").exists() else None
    kind = "dedicated" if vram else ("shared_system" if vendor == "intel" else "unknown")
    return Accelerator(
        0,
        vendor,
        _text(device / "product_name"),
        memory=AcceleratorMemory(kind, vram),
        driver=Named(driver, _text(device / "driver/module/version")),
        power_limit_watts=None if cap_uw is None else cap_uw / 1_000_000,
    )


def _text(path: Path) -> str | None:
    return text_at(path) or None


class HardwareProbe:
    """Detects the hardware once, in a thread of its own, since a driver may hang."""

    def __init__(self, find: Callable[[], Hardware] = detect, limit_s: float = LIMIT_S) -> None:
        self._find, self._limit_s = find, limit_s
        self.has_ended = False
        self.found: Hardware | None = None
        """The result; None during detection, and after a failed one."""

    def __repr__(self) -> str:
        return f"<HardwareProbe {'ended' if self.has_ended else 'not ended'}>"

    def run(self) -> None:
        """Detect the hardware; a failure is logged. Blocks for *limit_s* at most."""
        worker = WorkerThread("hardware detection")
        try:
            self.found = worker.run(self._find, timeout_s=self._limit_s)
        except WorkerStuck as error:
            log.warning("%s; /api/hardware stays empty until the next start", error)
        except Exception as error:  # noqa: BLE001 - drivers fail in many ways
            log.warning("hardware detection failed: %r", error)
        finally:
            self.has_ended = True
            worker.close()
