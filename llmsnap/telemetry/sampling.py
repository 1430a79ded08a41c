"""Samples of host, model processes and GPUs over the last hour; a hanging driver costs nothing."""

from __future__ import annotations

import logging
import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

from llmsnap.memory import children
from llmsnap.telemetry.activity import rfc3339
from llmsnap.telemetry.workers import WorkerStuck, WorkerThread

log = logging.getLogger(__name__)

# --- host -----------------------------------------------------------------------------------------


PROC = Path("/proc")
LOOPBACK = frozenset({"lo", "lo0"})

ChildrenOf = Callable[[int], list[int]]


@dataclass(frozen=True, slots=True)
class HostSample:
    """The host at one point in time; None where the system does not report it."""

    cpu_percent: float | None = None
    memory_used: int | None = None
    memory_total: int | None = None
    load_1m: float | None = None


@dataclass(frozen=True, slots=True)
class NetworkCounters:
    """The bytes that one network interface has carried since the system started."""

    name: str
    received: int
    sent: int


@dataclass(frozen=True, slots=True)
class HostDetails:
    """Details of the host at one moment, sampled on request: single cores, swap, interfaces."""

    cores_percent: tuple[float, ...] = ()
    memory_free: int | None = None
    swap_used: int | None = None
    swap_total: int | None = None
    load_5m: float | None = None
    load_15m: float | None = None
    network: tuple[NetworkCounters, ...] = ()
    """All interfaces but loopback."""


@dataclass(frozen=True, slots=True)
class ProcessSample:
    """A model's process and all its descendants; *cpu_percent* is 100 per busy core."""

    model_id: str
    rss_bytes: int
    cpu_percent: float | None = None


class HostProvider(Protocol):
    """Samples the host; each call may block."""

    def host(self) -> HostSample:
        """Return the host now."""
        ...

    def details(self) -> HostDetails:
        """Return more about the host at the moment of the last ``host()``."""
        ...

    def processes(self, pids: Mapping[str, int]) -> list[ProcessSample]:
        """Return the usage of each model's process, given their pids; ended ones are left out."""
        ...


class NoHost:
    """A host without a provider (psutil is not installed)."""

    def host(self) -> HostSample:
        """Return a sample of unknown values."""
        return HostSample()

    def details(self) -> HostDetails:
        """Return a sample of unknown values."""
        return HostDetails()

    def processes(self, pids: Mapping[str, int]) -> list[ProcessSample]:
        """Return no samples."""
        return []


class PsutilHost:
    """Samples through psutil, which is loaded with the first object of this class."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._psutil: Any = import_module("psutil")
        self._clock = clock
        self._used: dict[str, tuple[float, float]] = {}  # model -> (when, CPU seconds by then)
        self._psutil.cpu_percent(percpu=True)  # the first call only sets the reference
        self._details = HostDetails()

    def host(self) -> HostSample:
        """Return the host now; CPU since the previous call."""
        memory = self._psutil.virtual_memory()
        cores = tuple(self._psutil.cpu_percent(percpu=True))
        load_1m, load_5m, load_15m = self._psutil.getloadavg()
        swap = self._psutil.swap_memory()
        self._details = HostDetails(
            cores_percent=cores,
            memory_free=memory.free,
            swap_used=swap.used,
            swap_total=swap.total,
            load_5m=load_5m,
            load_15m=load_15m,
            network=tuple(
                NetworkCounters(name, counted.bytes_recv, counted.bytes_sent)
                for name, counted in sorted(self._psutil.net_io_counters(pernic=True).items())
                if name not in LOOPBACK
            ),
        )
        return HostSample(
            cpu_percent=round(sum(cores) / len(cores), 1) if cores else None,
            memory_used=memory.total - memory.available,
            memory_total=memory.total,
            load_1m=load_1m,
        )

    def details(self) -> HostDetails:
        """Return more about the host at the moment of the last ``host()``."""
        return self._details

    def processes(self, pids: Mapping[str, int]) -> list[ProcessSample]:
        """Return the usage of each model's processes; reads the process table once."""
        self._used = {model: used for model, used in self._used.items() if model in pids}
        if not pids:
            return []
        children_of = self._family()
        samples = [self._tree(model, pid, children_of) for model, pid in pids.items()]
        return [sample for sample in samples if sample is not None]

    def _family(self) -> ChildrenOf:
        """Return a function from a pid to its children, as of now."""
        if (PROC / f"self/task/{os.getpid()}/children").exists():
            return children
        table: dict[int, list[int]] = {}
        for pid, parent in _parents_in_proc() if (PROC / "self/stat").exists() else self._parents():
            table.setdefault(parent, []).append(pid)
        return lambda pid: table.get(pid, [])

    def _parents(self) -> Iterator[tuple[int, int]]:
        for process in self._psutil.process_iter(["ppid"]):
            yield process.pid, process.info["ppid"]

    def _tree(self, model: str, pid: int, children_of: ChildrenOf) -> ProcessSample | None:
        rss, seconds, seen = 0, 0.0, 0
        waiting = [pid]
        while waiting:
            current = waiting.pop()
            waiting += children_of(current)
            try:
                process = self._psutil.Process(current)
                times = process.cpu_times()
                rss += process.memory_info().rss
            except self._psutil.Error:
                continue  # ended meanwhile
            seconds += times.user + times.system
            seen += 1
        return ProcessSample(model, rss, self._percent(model, seconds)) if seen else None

    def _percent(self, model: str, seconds: float) -> float | None:
        now = self._clock()
        before = self._used.get(model)
        self._used[model] = (now, seconds)
        # Fewer seconds than before: a child ended, or this is a new process.
        if before is None or now <= before[0] or seconds < before[1]:
            return None
        return (seconds - before[1]) / (now - before[0]) * 100


def _parents_in_proc() -> Iterator[tuple[int, int]]:
    """Yield (pid, parent) of every process, in a fifth of psutil's time (proc(5))."""
    for folder in PROC.iterdir():
        if folder.name.isdecimal():
            try:
                stat = (folder / "stat").read_bytes()
            except OSError:
                continue  # ended meanwhile
            # The name of the program, in parentheses, may contain any byte.
            yield int(folder.name), int(stat[stat.rfind(b")") + 2 :].split(None, 2)[1])


def find_host() -> HostProvider:
    """Return the provider for this host."""
    try:
        return PsutilHost()
    except ImportError:
        return NoHost()


# --- GPUs -----------------------------------------------------------------------------------------


DRM = Path("/sys/class/drm")


@dataclass(frozen=True, slots=True)
class GpuSample:
    """One GPU at one point in time; None where the driver does not report it."""

    index: int
    name: str
    utilization_percent: float | None = None
    memory_used: int | None = None
    memory_total: int | None = None
    temperature_c: float | None = None
    power_w: float | None = None
    uuid: str | None = None
    memory_temperature_c: float | None = None
    memory_utilization_percent: float | None = None
    fan_percent: float | None = None


class GpuProvider(Protocol):
    """Samples GPUs; each call may block, forever if a driver hangs."""

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
        return GpuSample(
            index=index,
            name=decoded(self._ask(nvml.nvmlDeviceGetName, gpu)) or "NVIDIA GPU",
            utilization_percent=None if rates is None else float(rates.gpu),
            memory_used=None if memory is None else memory.used,
            memory_total=None if memory is None else memory.total,
            temperature_c=self._ask(nvml.nvmlDeviceGetTemperature, gpu, nvml.NVML_TEMPERATURE_GPU),
            power_w=None if power_mw is None else power_mw / 1000,
            uuid=decoded(self._ask(nvml.nvmlDeviceGetUUID, gpu)),
            memory_utilization_percent=None if rates is None else float(rates.memory),
            fan_percent=self._ask(nvml.nvmlDeviceGetFanSpeed, gpu),
        )

    def _ask(self, call: Callable[..., Any], *args: object) -> Any:
        """Return NVML's value; None if this GPU does not support it."""
        try:
            return call(*args)
        except self._nvml.NVMLError:
            return None


class SysfsGpus:
    """GPUs whose Linux driver reports in sysfs (amdgpu and others)."""

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
        temperature = number_at(sensors / "temp1_input")
        power = number_at(sensors / "power1_average")
        if power is None:
            power = number_at(sensors / "power1_input")
        return GpuSample(
            index=index,
            name=text_at(card / "product_name") or text_at(sensors / "name") or "GPU",
            utilization_percent=number_at(card / "gpu_busy_percent"),
            memory_used=number_at(card / "mem_info_vram_used"),
            memory_total=number_at(card / "mem_info_vram_total"),
            temperature_c=None if temperature is None else temperature / 1000,
            power_w=None if power is None else power / 1_000_000,
            uuid=text_at(card / "unique_id") or None,
            memory_temperature_c=_memory_temperature(sensors),
            memory_utilization_percent=number_at(card / "mem_busy_percent"),
            fan_percent=_fan_percent(sensors),
        )


class AllGpus:
    """The GPUs of several providers."""

    def __init__(self, providers: Sequence[GpuProvider]) -> None:
        self._providers = providers

    def sample(self) -> list[GpuSample]:
        """Return all GPUs now."""
        return [gpu for provider in self._providers for gpu in provider.sample()]


def find_gpus() -> GpuProvider | None:
    """Return the provider for the GPUs of this host; None without GPUs. May block."""
    providers: list[GpuProvider] = []
    try:
        nvidia = NvmlGpus()
        nvidia.sample()
        providers.append(nvidia)
    except Exception as error:  # noqa: BLE001 - no library, no driver, no GPU: each its own error
        log.debug("no NVIDIA GPUs: %r", error)
    others = SysfsGpus()
    if len(others):
        providers.append(others)
    return AllGpus(providers) if providers else None


def _memory_temperature(sensors: Path) -> float | None:
    """Return the temperature of amdgpu's sensor labelled "mem", in degrees Celsius."""
    for label in sorted(sensors.glob("temp*_label")):
        if text_at(label) == "mem":
            value = number_at(label.with_name(label.name.replace("label", "input")))
            return None if value is None else value / 1000
    return None


def _fan_percent(sensors: Path) -> float | None:
    """Return the duty cycle of the first fan, which the kernel gives as 0 to 255."""
    duty = number_at(sensors / "pwm1")
    return None if duty is None else round(duty / 2.55, 1)


def decoded(value: Any) -> str | None:
    """Return a text of NVML, which older versions return as bytes."""
    return value.decode() if isinstance(value, bytes) else value


def text_at(path: Path) -> str:
    """Return the stripped text of a file, "" where it cannot be read."""
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return ""


def number_at(path: Path) -> int | None:
    """Return the whole number in a file, None where there is none."""
    text = text_at(path)
    return int(text) if text.lstrip("-").isdecimal() else None


# --- the samples ----------------------------------------------------------------------------------


SCHEMA_VERSION = 1
EVERY_S = 5.0
KEPT = 720  # an hour
TIMEOUT_S = 3.0
RETRY_S, MOST_RETRY_S = 60.0, 3600.0
"""First and longest delay before a provider that failed is tried again."""


@dataclass(frozen=True, slots=True)
class PerformanceSample:
    """All values at one moment, Unix milliseconds; *details* only in llama-swap's shape."""

    at_ms: int
    host: HostSample
    processes: tuple[ProcessSample, ...] = ()
    gpus: tuple[GpuSample, ...] = ()
    details: HostDetails = HostDetails()


class Source:
    """A provider, called in a thread of its own.

    After a time-out or a failure it is looked for again, with growing delays: a driver is updated,
    or resets a device. Where there is none, it is not looked for again.
    """

    def __init__(
        self,
        name: str,
        find: Callable[[], Any],
        timeout_s: float = TIMEOUT_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self.given_up = False
        self._find, self._timeout_s, self._clock = find, timeout_s, clock
        self._worker = WorkerThread(f"{name} sampler")
        self._provider: Any = None
        self._retry_at = self._delay_s = 0.0

    def ask(self, question: Callable[[Any], Any], unknown: Any) -> Any:
        """Return ``question(provider)``, or *unknown* if there is none or it failed. Blocks."""
        if self.given_up or self._clock() < self._retry_at:
            return unknown
        try:
            found = self._worker.run(self._ask, question, unknown, timeout_s=self._timeout_s)
        except WorkerStuck as error:
            self._put_off(str(error))
        except Exception as error:  # noqa: BLE001 - the errors of drivers cannot be listed
            self._put_off(f"{self.name} sampler failed: {error!r}")
        else:
            if self._delay_s:
                log.info("%s sampler works again", self.name)
            self._delay_s = 0.0
            return found
        return unknown

    def _put_off(self, reason: str) -> None:
        """Wait before the next attempt, twice as long each time; only the first is a warning."""
        level = logging.DEBUG if self._delay_s else logging.WARNING
        self._delay_s = min(2 * self._delay_s or RETRY_S, MOST_RETRY_S)
        self._retry_at = self._clock() + self._delay_s
        self._provider = None
        log.log(level, "%s; the next attempt is in %g s", reason, self._delay_s)

    def close(self) -> None:
        """End the thread, unless it hangs."""
        self._worker.close()

    def _ask(self, question: Callable[[Any], Any], unknown: Any) -> Any:
        if self._provider is None:
            self._provider = self._find()
        if self._provider is None:
            self.given_up = True
            return unknown
        return question(self._provider)


class Performance:
    """A ring of samples, taken by ``run`` every few seconds.

    *pids* returns the process of each running model.
    """

    def __init__(
        self,
        pids: Callable[[], Mapping[str, int]],
        *,
        find_host: Callable[[], HostProvider | None] = find_host,
        find_gpus: Callable[[], GpuProvider | None] = find_gpus,
        wall: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        self._pids, self._wall = pids, wall
        self._host = Source("host", find_host, timeout_s, clock)
        self._gpus = Source("GPU", find_gpus, timeout_s, clock)
        self._samples: deque[PerformanceSample] = deque(maxlen=KEPT)
        self._every_s = EVERY_S
        self.enabled = True

    def __repr__(self) -> str:
        return f"<Performance, {len(self._samples)} samples>"

    def configure(self, *, enabled: bool, every_s: float) -> None:
        """Sample every *every_s* seconds from now on; where not *enabled*, drop all samples."""
        self.enabled, self._every_s = enabled, every_s
        if not enabled:
            self._samples.clear()

    @property
    def last(self) -> PerformanceSample | None:
        """The newest sample."""
        return self._samples[-1] if self._samples else None

    def history(self, since_ms: int = 0) -> dict[str, Any]:
        """Return the samples after *since_ms*, oldest first, as ``GET /api/performance`` does."""
        samples = [
            {"at_ms": one.at_ms, "host": one.host, "processes": one.processes, "gpus": one.gpus}
            for one in self.samples(since_ms)
        ]
        return {"schema_version": SCHEMA_VERSION, "every_s": self._every_s, "samples": samples}

    def samples(self, since_ms: int = 0) -> list[PerformanceSample]:
        """Return the samples taken after *since_ms*, oldest first."""
        return [sample for sample in self._samples if sample.at_ms > since_ms]

    def sample(self) -> PerformanceSample:
        """Take a sample. Blocks for twice the time-out at most; a hanging driver only once."""
        pids = dict(self._pids())
        nothing = HostSample(), HostDetails()
        host, details = self._host.ask(lambda host: (host.host(), host.details()), nothing)
        processes = self._host.ask(lambda provider: provider.processes(pids), []) if pids else []
        gpus = self._gpus.ask(lambda provider: provider.sample(), [])
        at_ms = int(self._wall() * 1000)
        sample = PerformanceSample(at_ms, host, tuple(processes), tuple(gpus), details)
        if self.enabled:  # not disabled while it was taken
            self._samples.append(sample)
        return sample

    def run(self, ended: Callable[[float], object]) -> None:
        """Sample until ``ended(seconds)``, which waits that long at most, returns true. Blocks."""
        while not ended(self._every_s):
            if self.enabled:
                self.sample()

    def close(self) -> None:
        """End the threads, unless they hang."""
        self._host.close()
        self._gpus.close()


# --- llama-swap's shape ---------------------------------------------------------------------------


MIB = 1024 * 1024


def llama_swap_samples(
    samples: Sequence[PerformanceSample], *, enabled: bool = True
) -> dict[str, Any]:
    """Return *samples* as llama-swap lists them; unknown values are null, never 0."""
    gpus = [_gpu_stats(one, gpu) for one in samples for gpu in one.gpus]
    return {
        "enabled": enabled,
        "sys_stats": [_system_stats(one) for one in samples],
        "gpu_stats": gpus or None,
    }


def _system_stats(sample: PerformanceSample) -> dict[str, Any]:
    host, more = sample.host, sample.details
    return {
        "timestamp": rfc3339(sample.at_ms * 1_000_000),
        "cpu_util_per_core": more.cores_percent,
        "mem_total_mb": _mib(host.memory_total),
        "mem_used_mb": _mib(host.memory_used),
        "mem_free_mb": _mib(more.memory_free),
        "swap_total_mb": _mib(more.swap_total),
        "swap_used_mb": _mib(more.swap_used),
        "load_avg_1": host.load_1m,
        "load_avg_5": more.load_5m,
        "load_avg_15": more.load_15m,
        "net_io": [
            {"name": one.name, "bytes_recv": one.received, "bytes_sent": one.sent}
            for one in more.network
        ],
    }


def _gpu_stats(sample: PerformanceSample, gpu: GpuSample) -> dict[str, Any]:
    return {
        "timestamp": rfc3339(sample.at_ms * 1_000_000),
        "id": gpu.index,
        "name": gpu.name,
        "uuid": gpu.uuid,
        "temp_c": gpu.temperature_c,
        "vram_temp_c": gpu.memory_temperature_c,
        "gpu_util_pct": gpu.utilization_percent,
        "mem_util_pct": gpu.memory_utilization_percent,
        "mem_used_mb": _mib(gpu.memory_used),
        "mem_total_mb": _mib(gpu.memory_total),
        "fan_speed_pct": gpu.fan_percent,
        "power_draw_w": gpu.power_w,
    }


def _mib(count: int | None) -> int | None:
    return None if count is None else count // MIB
