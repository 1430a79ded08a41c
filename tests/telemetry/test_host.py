import os
import subprocess
import sys
from pathlib import Path

import pytest

from llmsnap.telemetry import sampling as module
from llmsnap.telemetry.sampling import HostSample, NoHost, PsutilHost, find_host

psutil = pytest.importorskip("psutil")


@pytest.fixture
def child():
    """A process with a child of its own."""
    script = "import subprocess, sys; subprocess.run(['sleep', '60']); sys.exit()"
    process = subprocess.Popen(
        [sys.executable, "-c", script], start_new_session=True, stdout=subprocess.DEVNULL
    )
    while not psutil.Process(process.pid).children():
        assert process.poll() is None
    yield process
    os.killpg(process.pid, 9)
    process.wait()


def test_the_host_has_memory_and_a_load():
    sample = PsutilHost().host()
    assert 0 < sample.memory_used < sample.memory_total
    assert sample.cpu_percent >= 0
    assert sample.load_1m >= 0


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
    now = iter([10.0, 12.0, 14.0, 16.0])
    host = PsutilHost(clock=lambda: next(now))
    assert host._percent("llama", 5.0) is None
    assert host._percent("llama", 8.0) == 150.0
    assert host._percent("llama", 1.0) is None
    assert host._percent("llama", 2.0) == 50.0


def test_processes_that_are_gone_are_left_out():
    host = PsutilHost()
    assert host.processes({"llama": 2**22 + 1}) == []
    assert host.processes({}) == []


def test_a_system_without_psutil_knows_nothing(monkeypatch):
    monkeypatch.setitem(sys.modules, "psutil", None)
    host = find_host()
    assert isinstance(host, NoHost)
    assert (host.host(), host.processes({"llama": 1})) == (HostSample(), [])
