"""The program as a whole: what exists once, survives reloads, and is shut down in order."""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import gevent
from gevent.lock import BoundedSemaphore

from llmsnap.config import Config, Diff, Loaded, ModelConfig, advice_on, compare, load_contents
from llmsnap.configfile import REST_S, Look, settled, version_of
from llmsnap.deferred import DeferredQueue
from llmsnap.errors import ChildExited, ConfigError, Draining, NotFound, Problem, in_full
from llmsnap.http import Sessions
from llmsnap.installation import platform_warnings
from llmsnap.keepwarm import KeepWarm
from llmsnap.launchers import Launcher, Launchers, LaunchSpec, reap_adopted
from llmsnap.logs import TEXT, LogHandler, LogHub, LogStyle
from llmsnap.memory import DeviceMemory
from llmsnap.metering import MemoryMeter, RunningServer
from llmsnap.models import (
    RESIDENT,
    Address,
    Context,
    KnownFacts,
    Process,
    PromptCaches,
    ReadAhead,
    ReadAheadTarget,
    ServerChecks,
    State,
    Trigger,
    Voices,
    metrics_page,
)
from llmsnap.nodes import NodeMeter, PlacedServer
from llmsnap.proxy import BodyBudget, ConnectionPool, Dispatcher, new_watch
from llmsnap.routing import (
    Barrier,
    Driver,
    Figures,
    Memory,
    ModelView,
    NoRoomAsleep,
    Occupancy,
    Outcome,
    PreloadEnded,
    Recording,
    Residency,
    ResidencyChanged,
    Scheduler,
    StartSwap,
    SwapEnded,
    Yielded,
    change_of,
    memory_document,
    plan_document,
    pooled,
    when_document,
)
from llmsnap.runtime import Runtime
from llmsnap.sockets import exposed_addresses
from llmsnap.statedir import StateDir
from llmsnap.suggestions import nearest, shown
from llmsnap.tasks import TaskGroup
from llmsnap.telemetry import (
    ActivityRecord,
    ActivityRecorded,
    ConfigReload,
    EventBus,
    FilesRead,
    MemoryChanged,
    ModelPreloaded,
    ModelRestarted,
    PerformanceSample,
    ProcessStateChanged,
    ProfileChanged,
    PromptsKept,
    ReloadPhase,
    ResponseObserver,
    SwapFinished,
    SwapStarted,
    Telemetry,
)

log = logging.getLogger(__name__)

ANSWERING = RESIDENT - {State.STARTING, State.STOPPING}
"""States of a server that has been ready since its start."""
PROFILE_FILE = "profile"
"""File of the state directory with the name of the active profile."""
MOST_PROFILE_BYTES = 64 * 1024
STOP_SLACK_S = 10.0
"""How long the shutdown waits for the last process beyond drain and unloadTimeout."""


class Feed(Protocol):
    """A stream to a client that does not end on its own."""

    def end(self) -> None:
        """End the stream. Never switches."""


@dataclass(frozen=True, slots=True)
class ConfigStatus:
    """The configuration in force, since when (Unix time), and the problems of a newer one.

    *problems* is empty while the file on disk is the one in force, as far as is known.
    """

    config: Config
    problems: tuple[Problem, ...] = ()
    advice: tuple[Problem, ...] = ()
    """What is questionable in the configuration in force."""
    loaded_at: float = field(default_factory=time.time)


@dataclass(slots=True)
class _SwapUnderWay:
    """What devices held before a swap, and the tokens of prompts kept by it, by outcome."""

    before: Occupancy
    prompt_tokens: dict[str, int] = field(default_factory=dict)


class Service:
    """Owns bus, logs, scheduler, processes and the current runtime."""

    def __init__(  # noqa: PLR0913 - independent of each other, nearly all optional
        self,
        config: Config,
        *,
        listen_host: str = "",
        state: StateDir | None = None,
        launchers: Mapping[str, Launcher] | None = None,
        record: str = "",
        log_style: LogStyle = TEXT,
        advice: Sequence[Problem] = (),
    ) -> None:
        self.began_at, self.listen_host = int(time.time()), listen_host
        self.runtime = Runtime(config, listen_host, config.startup_profile)
        self._swaps: dict[str, int] = {}  # model -> the swap that moves it now
        self._leaving: dict[str, str] = {}  # model that leaves for no request -> why
        self._last_swap = ("", 0)  # of those that ended: its target, its number
        self._under_way: dict[int, _SwapUnderWay] = {}
        self.bus, self.deferred = EventBus(), DeferredQueue()
        self.logs = LogHub(to_stdout=config.log_to_stdout, capacity=config.log_buffer_bytes)
        self.log_handler = self._log_handler(config, log_style)
        self.pool, self.watch = ConnectionPool(), new_watch()
        self.bodies, self.sessions = BodyBudget(config), Sessions(time.monotonic)
        self.state_dir = state or StateDir(Path(config.source or "llmsnap"), is_writable=False)
        self.facts, self.voices = KnownFacts(self.state_dir), Voices()
        self.prompts = PromptCaches(config.prompt_cache, self.state_dir, self._on_prompts)
        self.launchers = Launchers(self.state_dir, launchers)
        self._recording = Recording(record) if record else None
        self.driver = Driver(
            Scheduler(),
            self.process,
            self,
            self._recording,
            barrier=Barrier(self._read_devices, lambda: self.runtime.config, self._pids),
        )
        self.checks, self.read_ahead, self.keep_warm = (
            ServerChecks(self.state_dir, self.driver.rest, self._on_faulty_wake),
            ReadAhead(config.read_ahead, self._ready_pids, self._on_read_ahead),
            KeepWarm(self.driver, self.driver.is_busy, lambda: bool(self.in_flight())),
        )
        self.feeds: set[Feed] = set()
        self.telemetry = Telemetry(config, self.bus, self._pids, self.deferred.add)
        self.dispatcher = Dispatcher(
            self.driver,
            self,
            self.pool,
            self.telemetry.recorder,
            self.deferred.run_some,
        )
        self.config_status = ConfigStatus(config, advice=tuple(advice))
        self.rest_s = REST_S
        """How long the configuration file must stay unchanged before a reload reads it."""
        self.accepts = False
        """Whether requests are accepted: from the end of ``open`` to the begin of ``close``."""
        self._processes: dict[str, Process] = {}
        self.meter, self.nodes = self._meters()
        self._tasks, self._closed = TaskGroup("service"), False
        self._open_lock, self._reload_lock, self._profile_lock = map(BoundedSemaphore, (1, 1, 1))

    def __repr__(self) -> str:
        return f"<Service {self.runtime!r}, {len(self._processes)} processes>"

    def _meters(self) -> tuple[MemoryMeter, NodeMeter]:
        def is_waiting() -> bool:
            return self.driver.has_waiters

        return (
            MemoryMeter(self.state_dir, self._servers, self._remeasured, is_waiting),
            NodeMeter(self.launchers, self._placed, self._nodes_changed, is_waiting),
        )

    def _log_handler(self, config: Config, style: LogStyle) -> LogHandler:
        handler = LogHandler(
            self.logs.proxy,
            level=config.log_level,
            time_format=config.log_time_format,
            style=style,
            swaps=self._swaps,
        )
        handler.deferred = self.deferred
        handler.write_entries = self.logs.write_entries
        return handler

    def open(self) -> None:
        """Start logging, stop processes left by a crash, configure the scheduler, preload.

        Further calls do nothing. Raises: StateInUse when another instance runs this configuration.
        """
        with self._open_lock:
            if self.accepts or self._closed:
                return
            config = self.runtime.config
            self.launchers.configure(config.launchers, config.key_variables)
            self.logs.open()
            root = logging.getLogger("llmsnap")
            root.addHandler(self.log_handler)
            root.setLevel(logging.DEBUG)
            if wanting := platform_warnings():
                log.warning("%s", wanting)
            self._log_advice()
            reap_adopted()
            self.state_dir.lock()
            self.facts.open()
            self.checks.open()
            self.bus.subscribe(ActivityRecorded, self._on_request)
            self._recall_profile()
            self.telemetry.open()
            self.driver.scheduler.count_from(self.telemetry.next_swap_id)
            if self._recording is not None:
                self._recording.open()
            adopted = self._adopt()
            self._stop_leftovers()
            self.meter.open(config)
            self.driver.reconfigure(change_of(config, figures=self._figures(config)))
            self._warn_of_open_door()
            self.accepts = True
            self._load_first((*adopted, *config.preload), config)

    def _load_first(self, model_ids: Collection[str], config: Config) -> None:
        """Preload *model_ids*, and do from now on what the hooks and the schedule say."""
        if model_ids:
            self.driver.preload(tuple(dict.fromkeys(model_ids)))
        self.keep_warm.configure(config)

    def _adopt(self) -> list[str]:
        """Take over servers of an earlier run; return the ids of their models. Blocks, bounded."""
        specs: dict[str, list[LaunchSpec]] = {}
        for model in self.runtime.config.models.values():
            if model.runs_on.is_remote:
                spec = self.process(model.id).launch_spec()
                specs.setdefault(model.launcher, []).append(spec)
        return self.launchers.adopt(specs)

    def _stop_leftovers(self) -> None:
        self.prompts.open(self.runtime.config.models.values())
        for line in self.launchers.stop_leftovers():
            log.warning("stopped what an earlier run left behind: %s", line)

    def _warn_of_open_door(self) -> None:
        if self.runtime.keyring.open and (addresses := exposed_addresses()):
            log.warning(
                "there are no apiKeys: every client that reaches %s may use, load and unload all "
                "models and read logs and captures; set apiKeys, or listen on 127.0.0.1",
                ", ".join(addresses),
            )

    def close(self, drain_timeout_s: float = 10.0) -> None:
        """Refuse new requests, drain, stop all models, end all tasks. Blocks for a bounded time."""
        if self._closed:
            return
        self._closed = True
        self.accepts = False
        self.keep_warm.close()
        self.end_feeds()
        models = self.runtime.config.models.values()
        slowest_s = max((model.unload_timeout_s for model in models), default=0.0)
        self.launchers.release()
        if not self.driver.shutdown(drain_timeout_s, drain_timeout_s + slowest_s + STOP_SLACK_S):
            log.error("not all models could be stopped in time")
            self.kill()
        self.driver.close()
        self.meter.close()
        self.nodes.close()
        self._tasks.close()
        self.launchers.close()
        for part in (self.read_ahead, self.facts, self.checks):
            part.close()
        self.prompts.close()
        self.voices.close()
        self.deferred.flush()
        self.telemetry.close()
        if self._recording is not None:
            self._recording.close()
        self.pool.close()
        self.watch.close()
        logging.getLogger("llmsnap").removeHandler(self.log_handler)
        self.deferred.flush()
        self.logs.close()
        self.state_dir.unlock()

    def kill(self) -> None:
        """Send SIGKILL to every model server. Never switches."""
        for process in self._processes.values():
            process.kill()

    def end_feeds(self) -> None:
        """End all streams that do not end on their own. Never switches."""
        for feed in tuple(self.feeds):
            feed.end()

    def check_accepting(self) -> None:
        """Check that requests are accepted. Raises: Draining once the shutdown has begun."""
        if not self.accepts:
            raise Draining("the server is shutting down")

    # --- configuration -------------------------------------------------------------------------

    def reload(self, found: Look | None = None) -> Diff:
        """Apply the configuration file as it is now; restart only the models that changed.

        Without *found*, waits until the file no longer changes. Blocks; one reload at a time.
        Raises: ConfigError with every problem; then nothing has changed.
        """
        with self._reload_lock:
            source, sources = self.runtime.config.source, self.runtime.config.sources
            self.bus.publish(ConfigReload(ReloadPhase.START, source))
            try:
                if found is None or found.version != version_of(sources):
                    found = settled(sources, rest_s=self.rest_s)
                loaded = self._read(found)
            except ConfigError as error:
                self._refuse(error)
                raise
            config, advice = loaded.config, advice_on(loaded)
            changes = compare(self.runtime.config, config)
            self.meter.prepare(config)
            self._apply(config, changes)
            self.config_status = ConfigStatus(config, advice=advice)
            log.info("configuration reloaded: %s", changes)
            self._log_advice()
            self.bus.publish(ConfigReload(ReloadPhase.END, source))
            return changes

    def activate_profile(self, name: str) -> None:
        """Have later requests resolve names by the profile *name*, by none if it is empty.

        Requests in flight keep the profile they began with; the next start has this one, too.
        Blocks briefly, on the file system. Raises: NotFound.
        """
        if name and name not in self.runtime.config.profiles:
            fix = nearest(name, self.runtime.config.profiles)
            hint = f"did you mean {fix[0]}?" if fix else "GET /api/profiles lists them"
            raise NotFound(f"there is no profile {shown(name)!r}; {hint}")
        before, self.runtime = self.runtime.profile, self.runtime.with_profile(name)
        self._tell_profile(before)
        with self._profile_lock:
            active = self.runtime.profile  # another may have been activated meanwhile
            try:
                gevent.get_hub().threadpool.apply(
                    self.state_dir.write, (PROFILE_FILE, active.encode())
                )
            except OSError as error:
                log.warning("the active profile is not remembered: %s", error)

    def _recall_profile(self) -> None:
        """Activate the profile of the last run, unless the configuration names one."""
        config = self.runtime.config
        if config.startup_profile or not config.profiles:
            return
        try:
            name = self.state_dir.read(PROFILE_FILE, MOST_PROFILE_BYTES).decode("utf-8", "replace")
        except OSError as error:
            log.warning("cannot read which profile was active: %s", error)
            return
        if name in config.profiles:
            self.runtime = self.runtime.with_profile(name)
            log.info("active profile: %s", name)

    def _tell_profile(self, before: str) -> None:
        active = self.runtime.profile
        if active != before:
            log.info("active profile: %s", active or "none")
            self.bus.publish(ProfileChanged(active))

    def _log_advice(self) -> None:
        source = self.runtime.config.source
        for problem in self.config_status.advice:
            log.warning("configuration: %s: %s", problem.place(source), problem)

    def _read(self, found: Look) -> Loaded:
        config = self.runtime.config
        if found.trouble is not None:
            raise ConfigError([found.trouble], config.source)
        return load_contents(found.contents, config.sources, previous=config)

    def _refuse(self, error: ConfigError) -> None:
        problems = tuple(map(str, error.problems))
        self.config_status = replace(self.config_status, problems=error.problems)
        for problem in error.problems:
            place = problem.place(error.source)
            log.error("configuration not reloaded: %s: %s", place, problem)
        self.bus.publish(ConfigReload(ReloadPhase.FAILED, error.source, problems))

    def _apply(self, config: Config, changes: Diff) -> None:
        """Change to *config* in one step: nothing in here switches greenlets."""
        restart = set(changes.restart)
        for model_id, process in self._processes.items():
            if model_id in config.models:
                replaces = model_id in restart or model_id in changes.added
                process.configure(config.models[model_id], replaces=replaces)
                if model_id in changes.added:
                    restart.add(model_id)  # removed before, and not gone yet
        preload = [name for name in config.preload if name not in self.runtime.config.preload]
        before = self.runtime
        runtime = Runtime(config, self.listen_host, _profile_after(before, config))
        if runtime.pages.port != before.pages.port:
            log.warning("another port in upstream.origin is opened by a restart only")
        self.runtime = runtime
        self._end_what_keys_opened(before)
        self.launchers.configure(config.launchers, config.key_variables)
        if not before.keyring.open:
            self._warn_of_open_door()
        self.logs.configure(to_stdout=config.log_to_stdout, capacity=config.log_buffer_bytes)
        self.log_handler.configure(level=config.log_level, time_format=config.log_time_format)
        self.telemetry.configure(config)
        self.prompts.configure(config.prompt_cache, config.models.values())
        self.read_ahead.configure(config.read_ahead)
        self.bodies.configure(config)
        self.dispatcher.selectors.configure(config.selectors)
        self.driver.reconfigure(
            change_of(
                config,
                frozenset(restart),
                frozenset(changes.hot),
                self._figures(config),
                self.checks.unreliable(config.models.values()),
            )
        )
        self._load_first(preload, config)
        self._tell_profile(before.profile)

    def _end_what_keys_opened(self, before: Runtime) -> None:
        """End sessions and feeds of keys that are gone, or have other rights. Never switches."""
        self.sessions.retain(self.runtime.keyring)
        if not self.runtime.keyring.covers(before.keyring):
            self.end_feeds()  # which key opened one is not known

    def load(self, model_id: str, *, wait: bool = True) -> None:
        """Load a model by hand, whatever failed before. With *wait*, blocks until it is ready."""
        model = self.runtime.config.models.get(model_id)
        never_fits = self.preview(model_id).get("answer") == "never_fits"
        if never_fits and model is not None and self.meter.forget_lacks(model):
            self.meter.refigure()
        self.driver.load(model_id, wait=wait)

    def _remeasured(self, memory: Memory) -> None:
        """Have plans made with newer figures. Never switches."""
        self._refigure(memory)

    def _nodes_changed(self) -> None:
        """Have plans made with what launchers have free now. Never switches."""
        if self.accepts:
            self._refigure(self.driver.scheduler.residency)

    def _refigure(self, here: Residency) -> None:
        residency = pooled(self.runtime.config, here, self.nodes.found)
        self.driver.reconfigure(ResidencyChanged(residency))
        self.bus.publish(MemoryChanged())

    def _figures(self, config: Config) -> Figures:
        return replace(self.meter.use(config), nodes=self.nodes.use(config))

    # --- processes -----------------------------------------------------------------------------

    def process(self, model_id: str) -> Process:
        """Return the process of a configured model, created at first use. Raises: KeyError."""
        found = self._processes.get(model_id)
        if found is None:
            settings = self.runtime.config.models[model_id]
            output = self.logs.model(model_id)
            found = Process(
                settings,
                self.launchers,
                output,
                self._on_change,
                self.checks,
                self.prompts,
                variables_of=self.meter.variables_of,
            )
            self._processes[model_id] = found
        return found

    def state(self, model_id: str) -> State:
        """Return the state of a model without creating its process."""
        process = self._processes.get(model_id)
        return process.state if process is not None else State.STOPPED

    def address_of(self, model_id: str) -> Address:
        """Return where a ready model answers. Raises: NotReady."""
        return self._processes[model_id].address

    def context_of(self, model: ModelConfig) -> Context | None:
        """Return the context length of a configured model; None: unknown. Never switches."""
        return self.facts.context(model, is_loaded=self.state(model.id) in ANSWERING)

    def known_properties(self, model: ModelConfig) -> dict[str, Any] | None:
        """See proxy.dispatch.Servers."""
        is_ready = self.state(model.id) is State.READY
        return None if is_ready else self.facts.properties(model)

    def models_now(self) -> list[ModelView]:
        """Return how every configured model fares at this moment. Never switches."""
        return self.driver.scheduler.snapshot(time.monotonic())

    def queue_places(self) -> dict[int, int]:
        """Return the place of each waiting ticket in the queue of its model. Never switches."""
        return self.driver.scheduler.places()

    def preview(
        self,
        model_id: str,
        running: Collection[str] | None = None,
        capacities: Mapping[str, int] | None = None,
    ) -> dict[str, Any]:
        """Return what a load would do now, or as supposed. Never switches.

        With *running* loaded and nothing else; with devices of *capacities* in bytes.
        """
        now = time.monotonic()
        return self.driver.scheduler.preview(model_id, now, running, capacities) or {}

    def occupancy(self) -> Occupancy:
        """Return what devices hold and models need, by the memory budget. Never switches."""
        return self.driver.scheduler.occupancy()

    def in_flight(self) -> list[ResponseObserver]:
        """Return the requests in flight, oldest first. Never switches."""
        return self.telemetry.recorder.in_flight()

    def records(self) -> list[ActivityRecord]:
        """Return the records of requests in memory, oldest first. Never switches."""
        return self.telemetry.activity.snapshot()

    @property
    def last_sample(self) -> PerformanceSample | None:
        """The last sample of host, GPUs and processes; None before the first."""
        return self.telemetry.performance.last

    def ready_addresses(self) -> dict[str, Address]:
        """Return where the models that are ready answer. Never switches."""
        ready = (one for one in self._processes.items() if one[1].state is State.READY)
        return {model_id: process.address for model_id, process in ready}

    def model_metrics(self) -> dict[str, bytes]:
        """Return the Prometheus pages of the ready models that have one. Blocks: a second.

        Asks past the scheduler: a scrape keeps no model loaded and takes no slot.
        """
        pages: dict[str, bytes] = {}

        def ask(model_id: str, address: Address) -> None:
            if page := metrics_page(address):
                pages[model_id] = page

        ready = sorted(self.ready_addresses().items())
        asking = [self._tasks.spawn(f"metrics of {name}", ask, name, at) for name, at in ready]
        gevent.joinall(asking)
        return {name: pages[name] for name, _ in ready if name in pages}

    def loaded(self, model_id: str) -> str:
        """See proxy.dispatch.Servers."""
        process = self._processes.get(model_id)
        state = process.load_state if process is not None else None
        return str(state) if state is not None else ""

    def wait_end(self, model_id: str, address: Address, limit_s: float) -> ChildExited | None:
        """See proxy.dispatch.Servers."""
        process = self._processes.get(model_id)
        if process is None:
            return ChildExited(f"{model_id}: ended while it answered")
        return process.wait_end(address, limit_s)

    def _pids(self) -> dict[str, int]:
        """The process of each model that runs on this machine."""
        pids = ((model_id, one.local_pid) for model_id, one in self._processes.items())
        return {model_id: pid for model_id, pid in pids if pid is not None}

    def _servers(self) -> dict[str, RunningServer]:
        """The servers that run, with what is needed to measure them."""
        return {
            model_id: RunningServer(one.run, one.state, one.local_pid, one.device)
            for model_id, one in self._processes.items()
            if one.state in RESIDENT
        }

    def _placed(self) -> list[PlacedServer]:
        """The servers on launchers that run, or are about to."""
        return [
            PlacedServer(
                one.settings.launcher,
                one.node,
                one.settings.resources.gpus or 0.0,
                one.state not in {State.READY, State.ASLEEP},
            )
            for one in self._processes.values()
            if one.state in RESIDENT and one.settings.runs_on.is_remote
        ]

    def _read_devices(self) -> Sequence[DeviceMemory]:
        """The devices now; none where they cannot be read. Blocks for seconds, if drivers hang."""
        return self.meter.read_devices()

    def _ready_pids(self) -> list[int]:
        """The processes on this machine of the models that are ready."""
        ready = [one for one in self._processes.values() if one.state is State.READY]
        return [pid for one in ready if (pid := one.local_pid) is not None]

    def _on_change(self, model_id: str, old: State, new: State, trigger: Trigger) -> None:
        log.debug("<%s> %s -> %s (%s)", model_id, old, new, trigger)
        if trigger is Trigger.START:
            self.logs.model(model_id).restart()
        if trigger is Trigger.EXITED and (address := self._processes[model_id].last_address):
            self.pool.forget(address)
        if old is State.STARTING and new is State.READY:
            process = self._processes[model_id]
            self.facts.ask(process.settings, process.address)
            # A question would take the place of a prompt that was just restored.
            may_ask = not process.has_restored_prompts
            self.checks.note_start(process.settings, process.address, may_ask=may_ask)
        if new is State.STOPPED:
            self.checks.forget(model_id)
        swap_id = self._swaps.get(model_id)
        reason = self._leaving.pop(model_id, "")
        self.bus.publish(
            ProcessStateChanged(model_id, str(old), str(new), swap_id=swap_id, reason=reason)
        )
        self.meter.poke()
        self.nodes.poke(self._processes[model_id].settings.launcher)
        self.driver.crashed(model_id, old, trigger)

    def _on_faulty_wake(self, model_id: str, *, may_sleep: bool) -> None:
        self.bus.publish(ModelRestarted(model_id, "wake"))
        if not may_sleep:
            self.driver.forbid_sleep(model_id)

    def _on_request(self, event: ActivityRecorded) -> None:
        """Note which of our models served a request, how it ended, and what was cached of it."""
        self.keep_warm.note_request()
        record = event.record
        model = self.runtime.config.models.get(record.model_id) if record.peer is None else None
        if model is not None:
            self.checks.note_request(model, record.path, record.status)
            speed = record.prompt_per_second
            self.prompts.note_answer(model.id, record.cached_tokens, record.input_tokens, speed)
            was_granted = record.queue_ms is not None and not record.client_left
            if was_granted and self.checks.note_outcome(model, record.status, time.monotonic()):
                self.driver.suspect(model.id)

    def _on_read_ahead(self, model_id: str, read_bytes: int) -> None:
        self.bus.publish(FilesRead(model_id, read_bytes))

    def _on_prompts(self, model_id: str, outcome: str, tokens: int) -> None:
        self.bus.publish(PromptsKept(model_id, outcome, tokens))
        swap = self._under_way.get(self._swaps.get(model_id, 0))
        if swap is not None:
            swap.prompt_tokens[outcome] = swap.prompt_tokens.get(outcome, 0) + tokens

    # --- callbacks of the driver -----------------------------------------------------------------

    def on_swap_started(self, swap: StartSwap) -> None:
        """See routing.driver.Observer."""
        evicted = tuple(eviction.model_id for eviction in swap.evict)
        self._swaps |= dict.fromkeys((swap.target, *evicted), swap.work)
        self._under_way[swap.work] = _SwapUnderWay(self.occupancy())
        self.bus.publish(SwapStarted(swap_id=swap.work, target=swap.target, evicted=evicted))
        self._begin_read_ahead(swap.target, first=True)

    def _begin_read_ahead(self, model_id: str, *, first: bool) -> None:
        process = self.process(model_id)
        if process.state in {State.STOPPED, State.STOPPING}:
            wanted = partial(self.driver.scheduler.is_awaited, model_id)
            self.read_ahead.begin(ReadAheadTarget(process.settings, wanted), first=first)

    def on_swap_finished(self, finished: SwapEnded) -> None:
        """See routing.driver.Observer."""
        record = finished.record
        for model_id in [name for name, swap in self._swaps.items() if swap == record.swap_id]:
            del self._swaps[model_id]
        self._last_swap = record.target, record.swap_id
        log.info("<%s> %s", record.target, record, extra={"swap_id": record.swap_id})
        offset_s = time.time() - record.ended_s
        begun = self._under_way.pop(record.swap_id, None)
        event = SwapFinished(
            swap_id=record.swap_id,
            target=record.target,
            outcome=str(record.outcome),
            kind=str(record.kind),
            evicted=tuple(eviction.model_id for eviction in record.evicted),
            reason=record.reason,
            error=record.error,
            waiters=record.waiters,
            longest_wait_s=max(record.waits_s, default=0.0),
            started_at=record.began_s + offset_s,
            phases=record.phases,
            load=self._load_of(finished),
            plan=plan_document(record.plan) if record.plan is not None else None,
            when=when_document(record, offset_s),
            how={eviction.model_id: str(eviction.action) for eviction in record.evicted},
            asked_by=self._askers(record.tickets),
            memory=tuple(memory_document(begun.before, self.occupancy())) if begun else (),
            prompt_tokens=begun.prompt_tokens if begun else {},
            node=self._processes[record.target].machine if record.target in self._processes else "",
        )
        self.bus.publish(event)

    def _askers(self, tickets: Sequence[int]) -> tuple[dict[str, Any], ...]:
        """Return those of *tickets* whose requests have not ended, in order."""
        waited = {each.context.ticket_number: each.context for each in self.in_flight()}
        requests = [waited[ticket].request for ticket in tickets if ticket in waited]
        return tuple(
            {"request_id": each.id, "key_name": each.key_name or None} for each in requests
        )

    def _load_of(self, finished: SwapEnded) -> dict[str, int] | None:
        """Return how much of the target's files was loaded in a swap; None: not known."""
        record = finished.record
        process = self._processes.get(record.target)
        state = process.last_load_state if process is not None else None
        began = any(name == "load" for name, _ in record.phases)
        if state is None or state.percent is None or not began or record.kind == "wake":
            return None
        percent = 100 if record.outcome == "done" else state.percent
        rate = round(state.bytes_per_s)
        return {"percent": percent, "total_bytes": state.total_bytes, "bytes_per_s": rate}

    def on_preload_ended(self, ended: PreloadEnded) -> None:
        """See routing.driver.Observer."""
        model_id, success = ended.model_id, ended.outcome is Outcome.OK
        reason = "" if success else in_full(ended.error) if ended.error else str(ended.outcome)
        swap_id = self._swaps.get(model_id)
        if ended.outcome is Outcome.FAILED and self._last_swap[0] == model_id:
            swap_id = self._last_swap[1]  # it failed in the same step
        ids = {"swap_id": swap_id}
        if success:
            log.info("<%s> preloaded", model_id, extra=ids)
        else:
            log.warning("<%s> not preloaded: %s", model_id, reason, extra=ids)
        self.bus.publish(ModelPreloaded(model_id, success, reason, swap_id=swap_id))

    def on_out_of_memory(self, model_id: str) -> bool:
        """See routing.driver.Observer."""
        config = self.runtime.config
        model = config.models.get(model_id)
        if config.residency != "memory" or model is None or not self.meter.note_lack(model):
            return False
        log.warning(
            "<%s> it ran out of memory while loading: it is taken to need a tenth more, until its "
            "command, its files or its `memory` are changed",
            model_id,
        )
        self.meter.refigure()
        return True

    def on_faulty(self, model_id: str, fault: str) -> None:
        """See routing.driver.Observer."""
        log.warning("<%s> is restarted: its requests fail, and %s", model_id, fault)
        self.bus.publish(ModelRestarted(model_id, "failures"))

    def on_waiting(self, model_id: str) -> None:
        """See routing.driver.Observer."""
        self.meter.poke()  # other programs may hold, or have given back, what it waits for
        self._begin_read_ahead(model_id, first=False)

    def on_yielded(self, yielded: Yielded) -> None:
        """See routing.driver.Observer."""
        reason = f"other programs took the memory of {yielded.device}"
        self._leaving[yielded.model_id] = reason
        log.info("<%s> leaves: %s: %s", yielded.model_id, reason, yielded.holders or "unknown")

    def on_no_room_asleep(self, refused: NoRoomAsleep) -> None:
        """See routing.driver.Observer."""
        reason = f"{refused.device} has no room for what it keeps asleep"
        self._leaving[refused.model_id] = reason
        log.info("<%s> is stopped after sleepAfter: %s", refused.model_id, reason)

    def on_retired(self, model_id: str) -> None:
        """See routing.driver.Observer."""
        process = self._processes.pop(model_id, None)
        if process is not None:
            self._tasks.spawn(f"retire {model_id}", process.retire, "removed")
        self.logs.forget(model_id)
        self.voices.forget(model_id)


def _profile_after(before: Runtime, config: Config) -> str:
    """Return the profile that is active once *config* has taken the place of *before*'s.

    The active one stays, unless it is gone or the file now names another one for the start.
    """
    changed = config.startup_profile != before.config.startup_profile
    is_gone = before.profile and before.profile not in config.profiles
    if is_gone or (changed and config.startup_profile):
        return config.startup_profile
    return before.profile
