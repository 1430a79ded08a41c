"""Pretend devices: simulators share their memory through a file."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from llmsnap.memory import find_devices
from llmsnap.memory.processes import started
from llmsnap.simulator.devices import DeviceFull, PretendMemory, find_pretend_memory, sizes
from llmsnap.simulator.options import parse

GIB = 1024**3


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "devices.json"
    path.write_text(json.dumps({"gpu0": {"capacity": 4 * GIB}, "gpu1": {"capacity": 2 * GIB}}))
    monkeypatch.setenv("LLMSNAP_DEVICES", f"file:{path}")
    return path


def used() -> dict[str, int]:
    return {each.name: each.used // GIB for each in find_devices().read()}


def test_the_options_of_memory() -> None:
    options = parse(["--memory=7", "--memory", "gpu0=1.5GiB,ram=1KiB", "--asleep-memory=ram=2MiB"])
    assert options.memory == 7
    assert options.device_memory == {"gpu0": 1.5 * GIB, "ram": 1024}
    assert options.asleep_memory == {"ram": 2 * 1024**2}


@pytest.mark.parametrize("text", ["", "gpu0", "gpu0=1", "gpu0=1GB", "=1GiB", "gpu0=1GiB,"])
def test_a_size_has_a_device_and_a_unit(text: str) -> None:
    with pytest.raises(ValueError, match="is not of the form gpu0=18GiB"):
        sizes(text)


@pytest.mark.parametrize(
    ("visible", "device"), [("", "gpu0"), ("1", "gpu1"), ("pretend-gpu1", "gpu1")]
)
def test_memory_on_any_gpu_is_on_the_visible_one(file: Path, visible: str, device: str) -> None:
    PretendMemory(file, visible).hold({"any": GIB})
    assert used() == {"gpu0": 0, "gpu1": 0} | {device: 1}


def test_what_is_held_replaces_what_was(file: Path) -> None:
    memory = PretendMemory(file)
    memory.hold({"gpu0": 3 * GIB, "gpu1": GIB})
    memory.hold({"gpu0": 4 * GIB})
    assert used() == {"gpu0": 4, "gpu1": 0}
    with pytest.raises(DeviceFull) as full:
        memory.hold({"gpu0": GIB, "gpu1": 3 * GIB})
    assert (full.value.device, full.value.wanted) == ("gpu1", 3 * GIB)
    assert used() == {"gpu0": 0, "gpu1": 0}
    with pytest.raises(DeviceFull):
        memory.hold({"gpu7": 1})
    assert find_pretend_memory({}) is None


def test_a_server_reports_what_it_holds_and_less_asleep(file: Path, serve) -> None:
    sim = serve(device_memory={"gpu0": 3 * GIB}, asleep_memory={"gpu0": GIB})
    assert used()["gpu0"] == 3
    assert sim.post("/sleep").status == 200
    assert used()["gpu0"] == 1
    devices = json.loads(file.read_text())
    devices["gpu0"]["used"][f"{os.getppid()}.{started(os.getppid())}"] = 2 * GIB
    file.write_text(json.dumps(devices))
    assert sim.post("/wake_up").status == 500
    assert sim.get("/is_sleeping").json == {"is_sleeping": True}


@pytest.mark.e2e
def test_a_full_device_ends_the_start_and_a_killed_server_frees_it(file: Path) -> None:
    command = [sys.executable, "-m", "llmsnap.simulator", "--port=0", "--memory=gpu0=3GiB"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout is not None
        while "listening" not in first.stdout.readline():
            assert first.poll() is None
        second = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert second.returncode == 1
        assert "on device 0: cudaMalloc failed: out of memory" in second.stdout
        assert used()["gpu0"] == 3
        first.kill()
    assert used()["gpu0"] == 0
