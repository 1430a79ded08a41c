import sys
from types import SimpleNamespace

import pytest

from llmsnap.telemetry import sampling as module
from llmsnap.telemetry.sampling import AllGpus, GpuSample, NvmlGpus, SysfsGpus, find_gpus


class FakeNvml:
    """The part of pynvml that we use: one full GPU, one that tells little."""

    NVML_TEMPERATURE_GPU = 0

    class NVMLError(Exception):
        pass

    def nvmlInit(self):  # noqa: N802
        self.inited = True

    def nvmlDeviceGetCount(self):  # noqa: N802
        return 2

    def nvmlDeviceGetHandleByIndex(self, index):  # noqa: N802
        return index

    def __getattr__(self, name):
        answers = {
            "nvmlDeviceGetName": b"RTX 4090",
            "nvmlDeviceGetMemoryInfo": SimpleNamespace(used=5, total=24),
            "nvmlDeviceGetUtilizationRates": SimpleNamespace(gpu=80),
            "nvmlDeviceGetTemperature": 61,
            "nvmlDeviceGetPowerUsage": 120_500,
        }

        def call(gpu, *args):
            if gpu == 1:
                raise self.NVMLError("not supported")
            return answers[name]

        return call


@pytest.fixture
def card(tmp_path):
    device = tmp_path / "card0" / "device"
    sensors = device / "hwmon" / "hwmon3"
    sensors.mkdir(parents=True)
    (tmp_path / "card0-DP-1").mkdir()
    (tmp_path / "card1" / "device").mkdir(parents=True)
    for name, text in {
        "mem_info_vram_total": "16000\n",
        "mem_info_vram_used": "4000\n",
        "gpu_busy_percent": "37\n",
    }.items():
        (device / name).write_text(text)
    (sensors / "name").write_text("amdgpu\n")
    (sensors / "temp1_input").write_text("54000\n")
    (sensors / "power1_average").write_text("98000000\n")
    return device


def test_nvml():
    full, little = NvmlGpus(FakeNvml()).sample()
    assert full == GpuSample(0, "RTX 4090", 80.0, 5, 24, 61, 120.5)
    assert little == GpuSample(1, "NVIDIA GPU")


def test_sysfs(card):
    gpus = SysfsGpus(card.parent.parent)
    assert len(gpus) == 1
    assert gpus.sample() == [GpuSample(0, "amdgpu", 37, 4000, 16000, 54.0, 98.0)]


def test_sysfs_without_sensors(card):
    for path in sorted(card.glob("hwmon/*/*")):
        path.unlink()
    (card / "gpu_busy_percent").write_text("n/a")
    (card / "product_name").write_text("Radeon\n")
    (sample,) = SysfsGpus(card.parent.parent).sample()
    assert (sample.name, sample.utilization_percent, sample.power_w) == ("Radeon", None, None)


def test_newer_kernels_call_the_power_otherwise(card):
    sensors = card / "hwmon" / "hwmon3"
    (sensors / "power1_average").rename(sensors / "power1_input")
    assert SysfsGpus(card.parent.parent).sample()[0].power_w == 98.0


def test_all_gpus_of_all_providers(card, monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", FakeNvml())
    monkeypatch.setattr(module, "SysfsGpus", lambda: SysfsGpus(card.parent.parent))
    found = find_gpus()
    assert isinstance(found, AllGpus)
    assert [gpu.name for gpu in found.sample()] == ["RTX 4090", "NVIDIA GPU", "amdgpu"]


def test_without_library_or_gpu_there_is_no_provider(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", None)
    monkeypatch.setattr(module, "SysfsGpus", lambda: SysfsGpus(tmp_path))
    assert find_gpus() is None
