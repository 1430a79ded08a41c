"""Whole-program life: what exists once, lives through reloads, and ends in order."""

from __future__ import annotations

import logging
import time

from gevent.lock import BoundedSemaphore

from llmsnap.config.settings import Config
from llmsnap.errors import Draining
from llmsnap.events import EventBus, ModelPreloaded, ProcessStateChanged, SwapFinished, SwapStarted
from llmsnap.logs.handler import LogHandler
from llmsnap.logs.hub import LogHub
from llmsnap.metrics.activity import ActivityLog
from llmsnap.metrics.captures import Captures
from llmsnap.metrics.policy import CapturePolicy
from llmsnap.metrics.recorder import Recorder
from llmsnap.proxy.dispatch import Dispatcher
from llmsnap.proxy.pool import ConnectionPool
from llmsnap.proxy.watch import new_watch
from llmsnap.routing import effects as do
from llmsnap.routing.driver import Driver
from llmsnap.routing.scheduler import Scheduler
from llmsnap.routing.setup import change_of
from llmsnap.routing.swaps import SwapRing
from llmsnap.runtime import Runtime
from llmsnap.tasks import TaskGroup
from llmsnap.upstream.child import LocalLauncher
from llmsnap.upstream.control import Address
from llmsnap.upstream.launcher import Launcher
from llmsnap.upstream.process import Process
from llmsnap.upstream.states import State, Trigger

log = logging.getLogger(__name__)

STOP_SLACK_S = 10.0
"""Beyond drain and unloadTimeout, how long the shutdown waits for the last process."""


class Service:
    """Owns bus, logs, scheduler, processes and the current runtime."""

    def __init__(
        self, config: Config, *, listen_host: str = "", launcher: Launcher | None = None
    ) -> None:
        self.runtime = Runtime(config, listen_host)
        self.listen_host = listen_host
        self.bus = EventBus()
        self.logs = LogHub(to_stdout=config.log_to_stdout, capacity=config.log_buffer_bytes)
        self.log_handler = LogHandler(
            self.logs.proxy, level=config.log_level, time_format=config.log_time_format
        )
        self.swaps = SwapRing()
        self.pool = ConnectionPool()
        self.watch = new_watch()
        self.launcher = launcher or LocalLauncher("llmsnap")
        self.driver = Driver(Scheduler(), self.process, self)
        self.activity = ActivityLog(config.metrics_max_in_memory)
        self.captures = Captures(config.capture_buffer_bytes)
        self.recorder = Recorder(self.activity, self.captures, self.bus, policy=_policy(config))
        self.dispatcher = Dispatcher(self.driver, self.address_of, self.pool, self.recorder)
        self.accepts = False
        """Whether requests are taken: not before ``open`` and not after ``close`` began."""
        self._processes: dict[str, Process] = {}
        self._tasks = TaskGroup("service")
        self._open_lock = BoundedSemaphore(1)
        self._closed = False

    def __repr__(self) -> str:
        return f"<Service {self.runtime!r}, {len(self._processes)} processes>"

    def open(self) -> None:
        """Start logging, tell the scheduler its models, preload. The first call counts."""
        with self._open_lock:
            if self.accepts or self._closed:
                return
            self.logs.open()
            root = logging.getLogger("llmsnap")
            root.addHandler(self.log_handler)
            root.setLevel(logging.DEBUG)
            config = self.runtime.config
            self.driver.reconfigure(change_of(config))
            self.accepts = True
            if config.preload:
                self.driver.preload(config.preload)

    def close(self, drain_timeout_s: float = 10.0) -> None:
        """Refuse newcomers, drain, stop all models, end all tasks. Blocks, bounded."""
        if self._closed:
            return
        self._closed = True
        self.accepts = False
        models = self.runtime.config.models.values()
        slowest_s = max((model.unload_timeout_s for model in models), default=0.0)
        if not self.driver.shutdown(drain_timeout_s, drain_timeout_s + slowest_s + STOP_SLACK_S):
            log.error("not all models could be stopped in time")
            self.kill()
        self.driver.close()
        self._tasks.close()
        self.pool.close()
        self.watch.close()
        logging.getLogger("llmsnap").removeHandler(self.log_handler)
        self.logs.close()

    def kill(self) -> None:
        """SIGKILL every server at once. Never switches greenlets."""
        for process in self._processes.values():
            process.kill()

    def check_accepting(self) -> None:
        """Raise Draining once the shutdown has begun."""
        if not self.accepts:
            raise Draining("the server is shutting down")

    # --- processes -----------------------------------------------------------------------------

    def process(self, model_id: str) -> Process:
        """Return the process of a configured model, made at first use. Raises: KeyError."""
        found = self._processes.get(model_id)
        if found is None:
            settings = self.runtime.config.models[model_id]
            output = self.logs.model(model_id)
            found = Process(settings, self.launcher, output, self._on_change)
            self._processes[model_id] = found
        return found

    def state(self, model_id: str) -> State:
        """Return the state of a model, without making a process for it."""
        process = self._processes.get(model_id)
        return process.state if process is not None else State.STOPPED

    def address_of(self, model_id: str) -> Address:
        """Return where a ready model answers. Raises: NotReady."""
        return self._processes[model_id].address

    def _on_change(self, model_id: str, old: State, new: State, trigger: Trigger) -> None:
        log.debug("<%s> %s -> %s (%s)", model_id, old, new, trigger)
        if trigger is Trigger.START:
            self.logs.model(model_id).restart()
        if trigger is Trigger.EXITED and (address := self._processes[model_id].last_address):
            self.pool.forget(address)
        self.bus.publish(ProcessStateChanged(model_id, str(old), str(new)))
        self.driver.crashed(model_id, old, trigger)

    # --- what the driver tells -----------------------------------------------------------------

    def on_swap_started(self, swap: do.StartSwap) -> None:
        """See routing.driver.Observer."""
        evicted = tuple(eviction.model_id for eviction in swap.evict)
        self.bus.publish(SwapStarted(swap_id=swap.work, target=swap.target, evicted=evicted))

    def on_swap_finished(self, finished: do.SwapFinished) -> None:
        """See routing.driver.Observer."""
        record = finished.record
        self.swaps.append(record)
        log.info("<%s> %s", record.target, record, extra={"swap_id": record.swap_id})
        self.bus.publish(
            SwapFinished(
                swap_id=record.swap_id,
                target=record.target,
                outcome=str(record.outcome),
                evicted=tuple(eviction.model_id for eviction in record.evicted),
                reason=record.reason,
                error=record.error,
                waiters=record.waiters,
                longest_wait_s=max(record.waits_s, default=0.0),
                started_at=time.time() - (record.ended_s - record.began_s),
                phases=record.phases,
            )
        )

    def on_preload_ended(self, ended: do.PreloadEnded) -> None:
        """See routing.driver.Observer."""
        success = ended.outcome is do.Outcome.OK
        reason = "" if success else str(ended.error or ended.outcome)
        if success:
            log.info("<%s> preloaded", ended.model_id)
        else:
            log.warning("<%s> not preloaded: %s", ended.model_id, reason)
        self.bus.publish(ModelPreloaded(ended.model_id, success, reason))

    def on_retired(self, model_id: str) -> None:
        """See routing.driver.Observer."""
        process = self._processes.pop(model_id, None)
        if process is not None:
            self._tasks.spawn(f"retire {model_id}", process.retire, "removed")
        self.logs.forget(model_id)


def _policy(config: Config) -> CapturePolicy:
    return CapturePolicy(
        max_body=config.capture_max_body_bytes,
        redact=config.capture_redact,
        masks=config.capture_mask,
    )
