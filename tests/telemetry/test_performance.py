import gevent
import msgspec
import pytest
from gevent.monkey import get_original

from llmsnap.telemetry.sampling import EVERY_S, GpuSample, HostSample, Performance, ProcessSample


class FakeHost:
    def host(self):
        return HostSample(10.0, 1, 2, 0.1)

    def processes(self, pids):
        return [ProcessSample(model, pid * 10) for model, pid in pids.items()]


class FakeGpus:
    def __init__(self):
        self.asked = 0

    def sample(self):
        self.asked += 1
        return [GpuSample(0, "RTX", 80.0)]


class HangingGpus(FakeGpus):
    """A driver that never answers."""

    def __init__(self):
        super().__init__()
        self.lock = get_original("_thread", "allocate_lock")()
        self.lock.acquire()

    def sample(self):
        self.asked += 1
        self.lock.acquire()


@pytest.fixture
def taken():
    made = []

    def performance(host, gpus, **settings):
        made.append(
            Performance(
                lambda: {"llama": 4},
                find_host=lambda: host,
                find_gpus=lambda: gpus,
                wall=lambda: 1000.0 + len(made[0]._samples),
                **settings,
            )
        )
        return made[0]

    yield performance
    for one in made:
        one.close()


def test_a_sample_has_host_processes_and_gpus(taken):
    performance = taken(FakeHost(), FakeGpus())
    assert performance.last is None
    sample = performance.sample()
    assert sample.host.cpu_percent == 10.0
    assert sample.processes == (ProcessSample("llama", 40),)
    assert sample.gpus == (GpuSample(0, "RTX", 80.0),)
    assert performance.last is sample
    assert repr(performance) == "<Performance, 1 samples>"


def test_the_history_can_be_asked_from_a_moment_on(taken):
    performance = taken(FakeHost(), None)
    for _ in range(3):
        performance.sample()
    shown = msgspec.to_builtins(performance.history(since_ms=1_000_000))
    assert [sample["at_ms"] for sample in shown["samples"]] == [1_001_000, 1_002_000]
    assert (shown["schema_version"], shown["every_s"]) == (1, EVERY_S)
    assert shown["samples"][0]["host"]["cpu_percent"] == 10.0


def test_a_driver_that_hangs_is_asked_once_and_never_waited_for(taken, caplog):
    gpus = HangingGpus()
    performance = taken(FakeHost(), gpus, timeout_s=0.2)
    for _ in range(3):
        assert performance.sample().gpus == ()
    assert gpus.asked == 1
    assert caplog.text.count("it is not asked again") == 1
    performance.close()
    gpus.lock.release()
    while performance._gpus._worker.stuck:
        gevent.idle()


def test_a_driver_that_fails_is_not_asked_again(taken, caplog):
    class FailingGpus:
        def sample(self):
            raise OSError("GPU is lost")

    performance = taken(FakeHost(), FailingGpus())
    assert [performance.sample().gpus for _ in range(2)] == [(), ()]
    assert caplog.text.count("GPU is lost") == 1


def test_without_gpus_the_host_is_sampled_all_the_same(taken):
    performance = taken(FakeHost(), None)
    assert performance.sample().host == FakeHost().host()
    assert performance._gpus.given_up


def test_it_samples_until_it_is_told_to_end(taken):
    performance = taken(FakeHost(), FakeGpus())
    ends = iter([False, False, True])
    performance.run(lambda seconds: next(ends))
    assert len(performance.history()["samples"]) == 2
