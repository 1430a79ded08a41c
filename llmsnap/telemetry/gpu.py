"""Memory, load, temperature and power of GPUs, where NVML or sysfs gives them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

log = logging.getLogger(__name__)

DRM = Path("/sys/class/drm")


@dataclass(frozen=True, slots=True)
class GpuSample:
    """One GPU at one moment; None where the driver does not say."""

    index: int
    name: str
    utilization_percent: float | None = None
    memory_used: int | None = None
    memory_total: int | None = None
    temperature_c: float | None = None
    power_w: float | None = None


class GpuProvider(Protocol):
    """Samples GPUs; each call may block, even for ever when a driver hangs."""

    def sample(self) -> list[GpuSample]:
        """Return all GPUs now."""
        ...


class NvmlGpus:
    """NVIDIA GPUs through NVML, which is loaded with the first object of this class."""

    def __init__(self, nvml: Any = None) -> None:
        self._nvml = nvml if nvml is not None else import_module("pynvml")
        self._nvml.nvmlInit()

    def sample(self) -> list[GpuSample]:
        """Return all NVIDIA GPUs now."""
        return [self._one(index) for index in range(self._nvml.nvmlDeviceGetCount())]

    def _one(self, index: int) -> GpuSample:
        nvml = self._nvml
        gpu = nvml.nvmlDeviceGetHandleByIndex(index)
        memory = self._ask(nvml.nvmlDeviceGetMemoryInfo, gpu)
        rates = self._ask(nvml.nvmlDeviceGetUtilizationRates, gpu)
        power_mw = self._ask(nvml.nvmlDeviceGetPowerUsage, gpu)
        name = self._ask(nvml.nvmlDeviceGetName, gpu) or "NVIDIA GPU"
        return GpuSample(
            index=index,
            name=name.decode() if isinstance(name, bytes) else name,
            utilization_percent=None if rates is None else float(rates.gpu),
            memory_used=None if memory is None else memory.used,
            memory_total=None if memory is None else memory.total,
            temperature_c=self._ask(nvml.nvmlDeviceGetTemperature, gpu, nvml.NVML_TEMPERATURE_GPU),
            power_w=None if power_mw is None else power_mw / 1000,
        )

    def _ask(self, call: Callable[..., Any], *args: object) -> Any:
        """Return what NVML says, None for what this GPU cannot tell."""
        try:
            return call(*args)
        except self._nvml.NVMLError:
            return None


class SysfsGpus:
    """GPUs whose Linux driver tells of them in sysfs (amdgpu and others)."""

    def __init__(self, root: Path = DRM) -> None:
        self._cards = [
            card / "device"
            for card in sorted(root.glob("card[0-9]*"))
            if (card / "device/mem_info_vram_total").exists()
        ]

    def __len__(self) -> int:
        return len(self._cards)

    def sample(self) -> list[GpuSample]:
        """Return all such GPUs now."""
        return [self._one(index, card) for index, card in enumerate(self._cards)]

    def _one(self, index: int, card: Path) -> GpuSample:
        sensors = next(iter(sorted((card / "hwmon").glob("hwmon*"))), card)
        temperature = _number(sensors / "temp1_input")
        power = _number(sensors / "power1_average")
        if power is None:
            power = _number(sensors / "power1_input")
        return GpuSample(
            index=index,
            name=_text(card / "product_name") or _text(sensors / "name") or "GPU",
            utilization_percent=_number(card / "gpu_busy_percent"),
            memory_used=_number(card / "mem_info_vram_used"),
            memory_total=_number(card / "mem_info_vram_total"),
            temperature_c=None if temperature is None else temperature / 1000,
            power_w=None if power is None else power / 1_000_000,
        )


class AllGpus:
    """The GPUs of several providers, numbered through."""

    def __init__(self, providers: Sequence[GpuProvider]) -> None:
        self._providers = providers

    def sample(self) -> list[GpuSample]:
        """Return all GPUs now."""
        return [gpu for provider in self._providers for gpu in provider.sample()]


def find_gpus() -> GpuProvider | None:
    """Return what samples the GPUs of this system, None without any. May block."""
    providers: list[GpuProvider] = []
    try:
        nvidia = NvmlGpus()
        nvidia.sample()
        providers.append(nvidia)
    except Exception as error:  # noqa: BLE001 - no library, no driver, no GPU: NVML says it variously
        log.debug("no NVIDIA GPUs: %r", error)
    others = SysfsGpus()
    if len(others):
        providers.append(others)
    return AllGpus(providers) if providers else None


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return ""


def _number(path: Path) -> int | None:
    text = _text(path)
    return int(text) if text.lstrip("-").isdecimal() else None
