"""The last hour of host, model processes and GPUs, sampled without trusting any driver."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from llmsnap.telemetry.gpu import GpuProvider, GpuSample, find_gpus
from llmsnap.telemetry.host import HostProvider, HostSample, ProcessSample, find_host
from llmsnap.telemetry.store.worker import Worker, WorkerStuck

log = logging.getLogger(__name__)

SCHEMA_VERSION = 1
EVERY_S = 5.0
KEPT = 720  # an hour
TIMEOUT_S = 3.0


@dataclass(frozen=True, slots=True)
class Sample:
    """Everything at one moment, Unix milliseconds."""

    at_ms: int
    host: HostSample
    processes: tuple[ProcessSample, ...] = ()
    gpus: tuple[GpuSample, ...] = ()


class Source:
    """Something that is asked in a thread of its own, and never again once it did not answer."""

    def __init__(self, name: str, find: Callable[[], Any], timeout_s: float = TIMEOUT_S) -> None:
        self.name = name
        self.given_up = False
        self._find, self._timeout_s = find, timeout_s
        self._worker = Worker(f"{name} sampler")
        self._provider: Any = None

    def ask(self, question: Callable[[Any], Any], unknown: Any) -> Any:
        """Return ``question(provider)``, or *unknown* if there is none or it failed. Blocks."""
        if self.given_up:
            return unknown
        try:
            return self._worker.run(self._ask, question, unknown, timeout_s=self._timeout_s)
        except WorkerStuck as error:
            log.warning("%s; it is not asked again", error)
        except Exception as error:  # noqa: BLE001 - drivers fail in ways nobody can list
            log.warning("%s sampler failed (%r); it is not asked again", self.name, error)
        self.given_up = True
        return unknown

    def close(self) -> None:
        """Give the thread back, unless it hangs."""
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

    *pids* tells the process of each running model.
    """

    def __init__(
        self,
        pids: Callable[[], Mapping[str, int]],
        *,
        find_host: Callable[[], HostProvider | None] = find_host,
        find_gpus: Callable[[], GpuProvider | None] = find_gpus,
        wall: Callable[[], float] = time.time,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        self._pids, self._wall = pids, wall
        self._host = Source("host", find_host, timeout_s)
        self._gpus = Source("GPU", find_gpus, timeout_s)
        self._samples: deque[Sample] = deque(maxlen=KEPT)

    def __repr__(self) -> str:
        return f"<Performance, {len(self._samples)} samples>"

    @property
    def last(self) -> Sample | None:
        """The newest sample."""
        return self._samples[-1] if self._samples else None

    def history(self, since_ms: int = 0) -> dict[str, Any]:
        """Return the samples after *since_ms*, oldest first, as ``GET /api/performance`` does."""
        samples = [sample for sample in self._samples if sample.at_ms > since_ms]
        return {"schema_version": SCHEMA_VERSION, "every_s": EVERY_S, "samples": samples}

    def sample(self) -> Sample:
        """Take a sample. Blocks, at most twice the time-out, and only once for a hanging driver."""
        pids = dict(self._pids())
        host = self._host.ask(lambda provider: provider.host(), HostSample())
        processes = self._host.ask(lambda provider: provider.processes(pids), []) if pids else []
        gpus = self._gpus.ask(lambda provider: provider.sample(), [])
        sample = Sample(int(self._wall() * 1000), host, tuple(processes), tuple(gpus))
        self._samples.append(sample)
        return sample

    def run(self, ended: Callable[[float], object]) -> None:
        """Sample until ``ended(seconds)``, which waits that long at most, returns true. Blocks."""
        while not ended(EVERY_S):
            self.sample()

    def close(self) -> None:
        """Give the threads back, unless they hang."""
        self._host.close()
        self._gpus.close()
