"""Samples of host, model processes and GPUs."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import gevent
import msgspec
import pytest
from gevent.monkey import get_original

from llmsnap.telemetry import sampling as module
from llmsnap.telemetry.sampling import RETRY_S, GpuSample, PsutilHost, SysfsGpus, find_gpus
from tests.fakes.clock import Clock
from tests.telemetry.nvml import FakeNvml

psutil = pytest.importorskip("psutil")


@pytest.fixture
def child():
    """A process with a child of its own."""
    process = subprocess.Popen(["sh", "-c", "sleep 60 & wait"], start_new_session=True)
    while not psutil.Process(process.pid).children():
        assert process.poll() is None
    yield process
    os.killpg(process.pid, 9)
    process.wait()


def test_the_host_has_memory_a_load_and_the_details_of_its_last_sample():
    host = PsutilHost()
    assert host.details() == module.HostDetails()
    sample, details = host.host(), host.details()
    assert 0 < sample.memory_used < sample.memory_total
    assert min(sample.cpu_percent, sample.load_1m) >= 0
    assert len(details.cores_percent) == psutil.cpu_count()
    assert details.swap_total is not None
    assert "lo" not in {one.name for one in details.network}
    assert host.processes({"llama": 2**22 + 1}) == host.processes({}) == []


class ProcWithoutChildren(type(Path())):
    """The /proc of a kernel that was built without these files."""

    def __truediv__(self, name):
        return super().__truediv__(name.replace("children", "none"))


@pytest.mark.parametrize("proc", [Path("/proc"), ProcWithoutChildren("/proc"), Path("/none")])
def test_a_models_memory_is_that_of_its_whole_family(child, proc, monkeypatch):
    monkeypatch.setattr(module, "PROC", proc)
    (sample,) = PsutilHost().processes({"llama": child.pid})
    family = [child.pid, *(one.pid for one in psutil.Process(child.pid).children())]
    resident = [psutil.Process(pid).memory_info().rss for pid in family]
    assert len(resident) == 2
    assert sample.rss_bytes > resident[0]
    assert (sample.model_id, sample.cpu_percent) == ("llama", None)


def test_cpu_is_what_was_used_since_the_last_sample():
    host = PsutilHost(clock=iter([10.0, 12.0, 14.0, 16.0]).__next__)
    found = [host._percent("llama", used_s) for used_s in (5.0, 8.0, 1.0, 2.0)]
    assert found == [None, 150.0, None, 50.0]


NVML = FakeNvml(
    {
        "Name": b"RTX 4090", "UUID": b"GPU-1", "FanSpeed": 30, "PowerUsage": 120_500,
        "MemoryInfo": SimpleNamespace(used=5, total=24), "Temperature": 61,
        "UtilizationRates": SimpleNamespace(gpu=80, memory=40),
    },
    {},
)  # fmt: skip
SYSFS = {
    "mem_info_vram_total": "16000",
    "mem_info_vram_used": "4000",
    "gpu_busy_percent": "37",
    "mem_busy_percent": "12",
    "unique_id": "9b2d",
    "hwmon/hwmon3/name": "amdgpu",
    "hwmon/hwmon3/temp1_input": "54000",
    "hwmon/hwmon3/power1_average": "98000000",
    "hwmon/hwmon3/temp3_label": "mem",
    "hwmon/hwmon3/temp3_input": "71000",
    "hwmon/hwmon3/pwm1": "102",
}


@pytest.fixture
def card(tmp_path):
    device = tmp_path / "card0" / "device"
    for folder in (device / "hwmon/hwmon3", tmp_path / "card0-DP-1", tmp_path / "card1/device"):
        folder.mkdir(parents=True)
    for name, text in SYSFS.items():
        (device / name).write_text(f"{text}\n")
    return device


def test_nvml():
    assert module.NvmlGpus(NVML).sample() == [
        GpuSample(0, "RTX 4090", 80.0, 5, 24, 61, 120.5, "GPU-1", None, 40.0, 30),
        GpuSample(1, "NVIDIA GPU"),
    ]


def test_sysfs(card):
    gpus = SysfsGpus(card.parent.parent)
    assert len(gpus) == 1
    (sample,) = gpus.sample()
    assert sample == GpuSample(0, "amdgpu", 37, 4000, 16000, 54.0, 98.0, "9b2d", 71.0, 12, 40.0)
    sensors = card / "hwmon" / "hwmon3"
    (sensors / "power1_average").rename(sensors / "power1_input")  # in newer kernels
    assert SysfsGpus(card.parent.parent).sample() == [sample]
    for path in sorted(card.glob("hwmon/*/*")):
        path.unlink()
    (card / "gpu_busy_percent").write_text("n/a")
    (card / "product_name").write_text("Radeon\n")
    (sample,) = SysfsGpus(card.parent.parent).sample()
    assert (sample.name, sample.utilization_percent, sample.power_w) == ("Radeon", None, None)


def test_all_gpus_of_all_providers(card, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", NVML)
    monkeypatch.setattr(module, "SysfsGpus", lambda: SysfsGpus(card.parent.parent))
    names = [gpu.name for gpu in find_gpus().sample()]
    assert names == ["RTX 4090", "NVIDIA GPU", "amdgpu"]
    monkeypatch.setitem(sys.modules, "pynvml", None)
    monkeypatch.setattr(module, "SysfsGpus", lambda: SysfsGpus(tmp_path / "none"))
    assert find_gpus() is None
    monkeypatch.setitem(sys.modules, "psutil", None)
    host = module.find_host()
    assert (host.host(), host.processes({"llama": 1})) == (module.HostSample(), [])


class FakeHost:
    DETAILS = module.HostDetails(
        (5.0, 15.0), 9 * module.MIB, 0, 0, 0.2, None, (module.NetworkCounters("eth0", 7, 8),)
    )

    def host(self):
        return module.HostSample(10.0, 1, 2, 0.1)

    def details(self):
        return self.DETAILS

    def processes(self, pids):
        return [module.ProcessSample(model, pid * 10) for model, pid in pids.items()]


class FakeGpus:
    def __init__(self):
        self.asked = 0
        self.lock = get_original("_thread", "allocate_lock")()
        self.lock.acquire()

    def sample(self):
        self.asked += 1
        return [GpuSample(0, "RTX", 80.0)]


class HangingGpus(FakeGpus):
    """A driver that does not answer before its lock is released."""

    def sample(self):
        super().sample()
        self.lock.acquire()


class FailingGpus(FakeGpus):
    def sample(self):
        super().sample()
        raise OSError("GPU is lost")


@pytest.fixture
def taken():
    made = []

    def performance(host, gpus, **settings):
        settings |= {"find_host": lambda: host, "find_gpus": lambda: gpus}
        settings["wall"] = lambda: 1000.0 + len(made[-1]._samples)
        made.append(module.Performance(lambda: {"llama": 4}, **settings))
        return made[-1]

    yield performance
    for one in made:
        one.close()


def test_a_sample_has_host_processes_and_gpus(taken):
    performance = taken(FakeHost(), FakeGpus())
    assert performance.last is None
    sample = performance.sample()
    assert (sample.host, sample.gpus) == (FakeHost().host(), (GpuSample(0, "RTX", 80.0),))
    assert sample.processes == (module.ProcessSample("llama", 40),)
    assert performance.last is sample
    without = taken(FakeHost(), None)
    assert (without.sample().host, without._gpus.given_up) == (FakeHost().host(), True)
    without.configure(enabled=False, every_s=5.0)
    without.sample()
    assert without.last is None, "it ended after sampling was disabled"


def test_the_history_can_be_asked_from_a_moment_on(taken):
    performance = taken(FakeHost(), None)
    ends = iter([False, False, False, True])
    performance.run(lambda seconds: next(ends))
    shown = msgspec.to_builtins(performance.history(since_ms=1_000_000))
    assert [sample["at_ms"] for sample in shown["samples"]] == [1_001_000, 1_002_000]
    assert (shown["schema_version"], shown["every_s"]) == (1, module.EVERY_S)
    assert shown["samples"][0]["host"]["cpu_percent"] == 10.0


@pytest.mark.parametrize(
    ("gpus", "said"), [(HangingGpus, "no answer within 0.05 s"), (FailingGpus, "GPU is lost")]
)
def test_a_driver_that_hangs_or_fails_is_not_waited_for_and_tried_again(taken, caplog, gpus, said):
    made, clock = gpus(), Clock()
    hangs = gpus is HangingGpus
    performance = taken(FakeHost(), made, clock=clock)
    performance._gpus._timeout_s = 0.05 if hangs else 60
    # A hanging call is waited for before the next one, and the delay grows.
    for wait_s, asked in ((0, 1), (0, 1), (0, 1), (RETRY_S, 2), (RETRY_S, 2)):
        clock.now += wait_s
        assert performance.sample().gpus == ()
        while not made.asked:
            gevent.idle()
        assert made.asked == (1 if hangs else asked)
    assert caplog.text.count("the next attempt is in 60 s") == 1
    assert said in caplog.text
    if hangs:
        made.lock.release()
        while performance._gpus._worker.stuck:
            gevent.idle()
        performance._gpus._timeout_s = 60
    made.__class__ = FakeGpus
    clock.now += module.MOST_RETRY_S
    assert len(performance.sample().gpus) == 1


def test_samples_in_llama_swaps_shape_have_null_for_what_is_unknown(taken):
    performance = taken(FakeHost(), FakeGpus())
    performance.sample()
    shown = msgspec.to_builtins(module.llama_swap_samples(performance.samples()))
    assert shown["sys_stats"] == [
        {
            "timestamp": "1970-01-01T00:16:40Z", "cpu_util_per_core": (5.0, 15.0),
            "mem_total_mb": 0, "mem_used_mb": 0, "mem_free_mb": 9, "swap_total_mb": 0,
            "swap_used_mb": 0, "load_avg_1": 0.1, "load_avg_5": 0.2, "load_avg_15": None,
            "net_io": [{"name": "eth0", "bytes_recv": 7, "bytes_sent": 8}],
        }
    ]  # fmt: skip
    (gpu,) = shown["gpu_stats"]
    assert (gpu["name"], gpu["gpu_util_pct"], gpu["power_draw_w"]) == ("RTX", 80.0, None)
    assert module.llama_swap_samples([])["gpu_stats"] is None
