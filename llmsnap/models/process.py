"""The process of a model, which becomes ready, asleep or stopped on request.

At most one Transition runs. Callers with the same goal share its outcome, others wait for its end
first; only a stop may abort a load. Requests are counted elsewhere: the scheduler asks a process to
sleep or stop when none is in flight.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Hashable, Mapping
from dataclasses import replace
from typing import Protocol
from urllib.parse import urlsplit

from gevent import get_hub
from gevent.event import AsyncResult, Event

from llmsnap.config import HookCall, ModelConfig
from llmsnap.errors import (
    ChildExited,
    Draining,
    LlmsnapError,
    LoadAborted,
    NotReady,
    OutOfMemory,
    ProcessError,
    SleepFailed,
    SleepNotConfigured,
    StartFailed,
    UpstreamError,
    WakeFailed,
    in_full,
)
from llmsnap.http import redact_output, redact_text, secret_values, secret_variables
from llmsnap.launchers import Handle, Launcher, LaunchSpec
from llmsnap.limits import oom_kills
from llmsnap.memory import device_variables, files_bytes
from llmsnap.models.control import Address, is_sleeping, parse_address, run_endpoints, run_hook
from llmsnap.models.health import HealthCheck, wait_healthy
from llmsnap.models.out_of_memory import TAIL_LINES as SEARCHED_LINES
from llmsnap.models.out_of_memory import sign_of
from llmsnap.models.progress import LoadProgress, LoadState
from llmsnap.models.promptcache import SAVE_SHARE, PromptCache, PromptCaches
from llmsnap.models.states import RESIDENT, STOPPABLE, State, StateMachine, Trigger
from llmsnap.models.transition import Goal, Interrupt, Transition
from llmsnap.tasks import TaskGroup

log = logging.getLogger(__name__)

TAIL_LINES = 8
"""Number of last log lines in an error."""
GONE_LIMIT_S = 30.0
"""Seconds a start waits for the previous child to be gone."""
OUTPUT_LIMIT_S = 1.0
"""Seconds for which the output of a server that ended is waited for, to explain its end."""


class ProcessLog(Protocol):
    """Receives a server's output, and keeps its last lines."""

    def feed(self, data: bytes) -> object:
        """Append output. Never switches."""

    def tail(self, lines: int = 10) -> list[str]:
        """Return the last lines."""


class ServerCheck(Protocol):
    """Tells whether a server works."""

    def applies(self, model: ModelConfig) -> bool:
        """Whether the server of *model* is checked after a wake."""

    def fault(self, model: ModelConfig, address: Address, interrupt: Interrupt) -> str:
        """Return what is wrong with a server that just woke, "" if nothing is. Blocks: 3 s."""

    def failure(self, model: ModelConfig, address: Address) -> str:
        """Return what is wrong with a server whose requests fail. Blocks: 30 s."""


OnChange = Callable[[str, State, State, Trigger], None]
"""Called with (model id, old, new, trigger) at every change; must never switch greenlets."""

CANARY = "canary"
AT_GOAL = {Goal.READY: State.READY, Goal.ASLEEP: State.ASLEEP, Goal.STOPPED: State.STOPPED}


class Process:
    """One model's server. Its methods named ``ensure_*`` block until the goal is reached."""

    _prompts: PromptCache | None = None
    """What is kept of the prompts of this run of the server."""

    def __init__(  # noqa: PLR0913 - what it works with
        self,
        settings: ModelConfig,
        launchers: Mapping[str, Launcher],
        output: ProcessLog,
        on_change: OnChange,
        server_check: ServerCheck | None = None,
        prompts: PromptCaches | None = None,
        *,
        variables_of: Callable[[str], tuple[str, ...]] = device_variables,
    ) -> None:
        self.model_id = settings.id
        self.settings = settings
        self._launchers = launchers
        self._output = output
        self._on_change = on_change
        self._server_check, self._variables_of = server_check, variables_of
        self._caches = prompts
        self._machine = StateMachine(self._report_change)
        self._tasks = TaskGroup(settings.id)
        self._transition: Transition | None = None
        self._handle: Handle | None = None
        self._address: Address | None = None
        self.last_address: Address | None = None
        """Its last address, also after its end."""
        self._ended_in: State | None = None
        self._failed_with: Hashable | None = None
        self._generation = 0
        self._device = ""
        self.is_placing = False
        """Whether its start waits for a machine of a cluster."""
        self._next_settings: ModelConfig | None = None
        self._progress: LoadProgress | None = None
        self._files: AsyncResult[int] | None = None
        self.load_trigger = Trigger.START
        """The trigger of its last load: START or WAKE."""
        self.load_s = 0.0
        """Seconds that load took, without a failed wake before a start."""
        self.load_steps: tuple[tuple[str, float], ...] = ()
        self.leave_steps: tuple[tuple[str, float], ...] = ()
        """Parts of that load after the server was healthy, of a failed wake before it, or until a
        machine was found, and of its last stop or sleep before the server was asked to, with their
        seconds."""

    def __repr__(self) -> str:
        return f"<Process {self.model_id} {self.state}>"

    @property
    def state(self) -> State:
        """The current state. Callers read it as a hint: starts and stops are decided here."""
        return self._machine.state

    @property
    def is_moving(self) -> bool:
        """Whether a Transition runs."""
        return self._transition is not None and not self._transition.is_over

    @property
    def handle_id(self) -> str | None:
        """The id that the launcher gave this run of the server; None while there is none."""
        handle = self._running()
        return handle.id if handle else None

    @property
    def node(self) -> str:
        """The machine that its server runs on; empty while it does not, or if it is this one."""
        handle = self._running()
        return handle.node if handle else ""

    @property
    def machine(self) -> str:
        """Its ``node`` as the residency names it, ``LAUNCHER/NODE``; empty where that is."""
        node = self.node
        return f"{self.settings.launcher}/{node}" if node else ""

    @property
    def launcher_trouble(self) -> str:
        """Why no server can be started now, as far as its launcher knows. Never switches."""
        return self._launcher().trouble()

    @property
    def local_pid(self) -> int | None:
        """The server's process on this machine; None while it does not run, or runs elsewhere."""
        handle = self._running()
        return handle.local_pid if handle else None

    @property
    def run(self) -> int:
        """The number of its last start."""
        return self._generation

    @property
    def device(self) -> str:
        """The GPU that its starts use alone; empty: as the command says."""
        settings = self.settings
        if self._device or not settings.device.startswith("gpu") or settings.runs_on.is_remote:
            return self._device
        return settings.device

    @property
    def load_state(self) -> LoadState | None:
        """How far its load is; None while it does not load, or nothing is known."""
        is_loading = self.state in (State.STARTING, State.WAKING)
        return self._progress.state if is_loading and self._progress is not None else None

    @property
    def last_load_state(self) -> LoadState | None:
        """How far its last load came, as far as it was measured; None: it was not."""
        return self._progress.state if self._progress is not None else None

    @property
    def address(self) -> Address:
        """The server's address, as found by its health check. Raises: NotReady."""
        if self._address is None:
            raise NotReady(f"{self.model_id} is {self.state}")
        return self._address

    def configure(self, settings: ModelConfig, *, replaces: bool) -> None:
        """Use *settings*: at once, or from the next start on if the server must be replaced.

        A server that must be replaced is still stopped by its previous settings.
        """
        if replaces and self.state in RESIDENT:
            self._next_settings = settings
        else:
            self.settings, self._next_settings = settings, None
            if self._handle is not None:
                self._handle.allow(settings.unload_timeout_s)

    def check_start(self, leaving: frozenset[str] = frozenset()) -> None:
        """Raise StartFailed for problems detectable before a start. Changes nothing. Blocks.

        Resources of the servers with the ids *leaving*, such as a port, count as free.
        """
        _address_of(self.settings.proxy, self.settings)
        if self.state not in RESIDENT:
            self._launcher().check(self.launch_spec(), leaving)

    def ensure_ready(self) -> None:
        """Start or wake the server, and wait until it is healthy.

        Blocks: healthCheckTimeout, and when a wake fails its timeouts and a stop before that.
        Raises: StartFailed, HealthTimeout, ChildExited, LoadAborted; Draining when retired.
        """
        self._ensure(Goal.READY)

    def ensure_asleep(self) -> None:
        """Put the server to sleep, after its load if it is loading.

        Blocks. Raises: SleepNotConfigured; NotReady when there is nothing to put to sleep;
        SleepFailed, and then the server is stopped.
        """
        if not self.settings.can_sleep:
            raise SleepNotConfigured(
                f"{self.model_id} cannot sleep: set sleepMode to enable, with its endpoints"
            )
        self._ensure(Goal.ASLEEP)

    def ensure_stopped(self, why: str = "stopped") -> None:
        """Stop the server; a load or wake under way is aborted with the reason *why*.

        Blocks: unloadTimeout, and a few seconds more for a server that must be killed.
        """
        self._ensure(Goal.STOPPED, why)

    @property
    def has_restored_prompts(self) -> bool:
        """Whether this run of the server has restored prompts when it was started."""
        return self._prompts is not None and self._prompts.has_restored

    def retire(self, why: str) -> None:
        """Stop the server permanently: any later ``ensure_ready`` is refused. Blocks."""
        while self.state is not State.SHUTDOWN:
            self.ensure_stopped(why)
            if self.state is State.STOPPED and not self.is_moving:
                self._machine.fire(Trigger.RETIRE)
        self._tasks.close()

    def explain_exit(self) -> ChildExited:
        """Return the error that describes how the server ended, with its last lines."""
        handle, _ = self._resident()
        return self._explain_exit(handle)

    def note_files(self) -> None:
        """Record the state of the command's files after a failure. Blocks briefly."""
        self._failed_with = self._launcher().fingerprint(self.launch_spec())

    def files_have_changed(self) -> bool:
        """Whether a file of the command has changed since ``note_files``. Blocks briefly."""
        if self._failed_with is None:
            return False
        now = self._launcher().fingerprint(self.launch_spec())
        return now is not None and now != self._failed_with

    def wait_end(self, address: Address, limit_s: float) -> ChildExited | None:
        """Return how the server that answered at *address* ended; None when it still runs.

        *address* is the very object that ``address`` returned, which identifies one run of the
        server. A server closes its sockets before it exits: blocks up to *limit_s* for its exit,
        and longer if it ran on another machine (see Handle.wait_exit).
        """
        handle = self._handle
        if handle is not None and self._address is address:
            handle.wait_exit(limit_s)
            self._note_exit()
        if self._address is address:
            return None
        if handle is None or handle.status is None:
            return ChildExited(f"{self.model_id}: ended while it answered")
        return self._explain_exit(handle)

    def find_fault(self) -> str:
        """Ask the ready server whether it works; return what is wrong, "" if nothing is. Blocks."""
        address = self._address
        if self._server_check is None or address is None or self.state is not State.READY:
            return ""
        return self._server_check.failure(self.settings, address)

    def kill(self) -> None:
        """SIGKILL the server and all its descendants at once. Never switches greenlets."""
        if self._handle is not None:
            self._handle.kill()

    def _ensure(self, goal: Goal, why: str = "") -> None:
        while True:
            transition = self._transition
            if transition is None or transition.is_over:
                if self.state is AT_GOAL[goal]:
                    return
                self._refuse(goal)
                transition = self._transition = Transition(goal, self.model_id)
                transition.open(self._run, self._tasks)
            elif transition.goal is not goal:
                if goal is Goal.STOPPED:
                    transition.abort(why)
                transition.wait_end()
                continue
            transition.wait_outcome()
            return

    def _refuse(self, goal: Goal) -> None:
        if self.state is State.SHUTDOWN and goal is not Goal.STOPPED:
            raise Draining(f"{self.model_id} is shut down")
        if self.state is State.STOPPED and goal is Goal.ASLEEP:
            raise NotReady(f"{self.model_id} is stopped: there is nothing to put to sleep")

    def _run(self, transition: Transition) -> None:
        try:
            match transition.goal:
                case Goal.READY:
                    self._go_ready(transition)
                case Goal.ASLEEP:
                    self._go_asleep(transition)
                case Goal.STOPPED:
                    self._stop()
        except BaseException:
            self._note_exit()
            raise

    def _go_ready(self, transition: Transition) -> None:
        self.load_steps = ()
        if self.state is State.ASLEEP:
            began = time.monotonic()
            try:
                self._wake(transition)
            except LoadAborted:
                self._stop()
                raise
            except (ProcessError, UpstreamError) as error:
                why = in_full(error)
                log.warning("<%s> wake failed, starting it again: %s", self.model_id, why)
                self._stop()
                self.load_steps = _failed(self.load_steps, time.monotonic() - began)
            else:
                return
        killed_before = oom_kills()
        try:
            self._start(transition)
        except LlmsnapError as error:
            self._stop()
            if isinstance(error, ChildExited):
                raise self._explain_failed_load(killed_before) from error
            raise

    def _start(self, transition: Transition) -> None:
        if self._handle is not None and not self._handle.gone.wait(GONE_LIMIT_S):
            raise StartFailed(f"{self.model_id}: its previous process has not ended")
        _address_of(self.settings.proxy, self.settings)
        began = time.monotonic()
        self._machine.fire(Trigger.START)
        self._generation += 1
        self._ended_in = None
        handle = self._launch(transition)
        handle.exited.rawlink(self._on_exited)
        address = _address_of(handle.url, self.settings, handle.key)
        check = self._check(handle)
        interrupt = self._interrupt(transition, handle)
        self._address = wait_healthy(check, address, interrupt)
        self.last_address = self._address
        if handle.is_adopted and self.settings.can_sleep and is_sleeping(address, interrupt):
            endpoints = self.settings.wake_endpoints
            run_endpoints("wake", endpoints, self._address, interrupt, WakeFailed)
            wait_healthy(check, address, interrupt)
        self._after("afterReady", self.settings.hooks.after_ready, interrupt, StartFailed)
        self._restore_prompts(interrupt)  # last: what else is asked would take their slots
        self._become_ready(transition, Trigger.START, began)

    def _launch(self, transition: Transition) -> Handle:
        """Start the server. Blocks. Raises: StartFailed, LoadAborted."""
        self.is_placing = self.settings.runs_on.is_remote
        began = time.monotonic()
        try:
            self._prompts = self._caches.run(self.settings) if self._caches else None
            feed, spec = self._output.feed, self.launch_spec()
            handle = self._handle = self._launcher().start(spec, feed, transition.aborted)
        except LlmsnapError as error:
            self._machine.fire(Trigger.EXITED)
            raise (transition.explain_abort() if transition.aborted.is_set() else error) from error
        finally:
            if self.is_placing:
                self.load_steps += (("placing", time.monotonic() - began),)
            self.is_placing = False
        return handle

    def _wake(self, transition: Transition) -> None:
        handle, address = self._resident()
        began = time.monotonic()
        self._machine.fire(Trigger.WAKE)
        interrupt = self._interrupt(transition, handle)
        run_endpoints("wake", self.settings.wake_endpoints, address, interrupt, WakeFailed)
        wait_healthy(self._check(handle), address, interrupt)
        self._after("afterWake", self.settings.hooks.after_wake, interrupt, WakeFailed)
        self._check_wake(address, interrupt)
        self._become_ready(transition, Trigger.WAKE, began)

    def _after(
        self,
        what: str,
        calls: tuple[HookCall, ...],
        interrupt: Interrupt,
        error_class: type[ProcessError],
    ) -> None:
        """Make the calls of a hook that belongs to a load. Blocks, up to unloadTimeout."""
        _, address = self._resident()
        failure = run_hook(what, calls, address, interrupt, self.settings.unload_timeout_s)
        if failure:
            raise error_class(f"{self.model_id}: a hook failed", detail=f": {failure}")

    def _check_wake(self, address: Address, interrupt: Interrupt) -> None:
        """Ask the woken server whether it works. Blocks, up to 3 s. Raises: WakeFailed."""
        if self._server_check is None or not self._server_check.applies(self.settings):
            return
        began = time.monotonic()
        fault = self._server_check.fault(self.settings, address, interrupt)
        self.load_steps += ((CANARY, time.monotonic() - began),)
        if fault:
            raise WakeFailed(f"{self.model_id}: wrong answers after its wake", detail=f": {fault}")

    def _before_stop(self, handle: Handle) -> None:
        """Make the calls of ``beforeStop``. Blocks, up to unloadTimeout."""
        calls, address = self.settings.hooks.before_stop, self._address
        if not calls or address is None:
            return
        interrupt = self._until_exit(handle)
        try:
            run_hook("beforeStop", calls, address, interrupt, self.settings.unload_timeout_s)
        except ChildExited as error:
            log.warning("<%s> beforeStop: %s", self.model_id, error)

    def _restore_prompts(self, interrupt: Interrupt) -> None:
        """Restore what the last run has saved. Blocks, bounded. Raises: what *interrupt* raises."""
        handle, address = self._resident()
        prompts = self._prompts
        if prompts is not None:
            began = time.monotonic()
            pid = handle.local_pid
            interrupt.call("restore prompts", lambda: prompts.restore(address, pid))
            self.load_steps = (*self.load_steps, ("restore", time.monotonic() - began))

    def _save_prompts(self, handle: Handle) -> float:
        """Save what the server has read; return the seconds that took. Blocks, bounded."""
        prompts, address = self._prompts, self._address
        if prompts is None or address is None:
            return 0.0
        began = time.monotonic()
        limit_s = self.settings.unload_timeout_s * SAVE_SHARE
        interrupt = self._until_exit(handle)
        try:
            interrupt.call("save prompts", lambda: prompts.save(address, limit_s))
        except ChildExited as error:
            log.warning("<%s> its prompts are not saved: %s", self.model_id, error)
        self.leave_steps = (("save", time.monotonic() - began),)
        return time.monotonic() - began

    def _until_exit(self, handle: Handle) -> Interrupt:
        return Interrupt(handle.exited, Event(), lambda: self._explain_exit(handle), self._tasks)

    def _become_ready(self, transition: Transition, trigger: Trigger, began: float) -> None:
        """Fire HEALTHY, unless the server ended or the load was aborted meanwhile."""
        handle, _ = self._resident()
        self._interrupt(transition, handle).check()
        self.load_trigger, self.load_s = trigger, time.monotonic() - began
        self._machine.fire(Trigger.HEALTHY)

    def _go_asleep(self, transition: Transition) -> None:
        if self.state is not State.READY:
            raise NotReady(f"{self.model_id} is {self.state}: it cannot be put to sleep")
        handle, address = self._resident()
        self._machine.fire(Trigger.SLEEP)
        self.leave_steps = ()
        interrupt = self._interrupt(transition, handle)
        try:
            limit_s = self.settings.unload_timeout_s
            run_hook("beforeSleep", self.settings.hooks.before_sleep, address, interrupt, limit_s)
            run_endpoints("sleep", self.settings.sleep_endpoints, address, interrupt, SleepFailed)
            interrupt.check()
        except SleepFailed as error:
            if not is_sleeping(address, interrupt):
                log.warning("<%s> %s: stopping it", self.model_id, in_full(error))
                self._stop()
                what = f"{self.model_id}: {error}; it was stopped"
                raise SleepFailed(what, detail=error.detail) from error
            log.warning("<%s> %s, but it reports that it sleeps", self.model_id, in_full(error))
        except LoadAborted:
            self._stop()
            raise
        self._machine.fire(Trigger.SLEPT)

    def _stop(self) -> None:
        self._note_exit()
        handle = self._handle
        if handle is None or self.state not in STOPPABLE:
            return
        was_ready = self.state is State.READY
        self._machine.fire(Trigger.STOP)
        grace_s, self.leave_steps = self.settings.unload_timeout_s, ()
        if was_ready:
            self._before_stop(handle)
            grace_s -= self._save_prompts(handle)
        handle.stop(grace_s, self.settings.cmd_stop)
        self._note_exit()

    def _launcher(self) -> Launcher:
        return self._launchers[self.settings.launcher]

    def _running(self) -> Handle | None:
        """Return the running server; a start that waits for its launcher has none yet."""
        handle = self._handle
        return None if handle is None or handle.exited.is_set() else handle

    def _resident(self) -> tuple[Handle, Address]:
        if self._handle is None:
            raise NotReady(f"{self.model_id} is {self.state}")
        return self._handle, self._address or parse_address(self._handle.url)

    def _interrupt(self, transition: Transition, handle: Handle) -> Interrupt:
        def explain() -> LlmsnapError:
            return (
                self._explain_exit(handle) if handle.exited.is_set() else transition.explain_abort()
            )

        return Interrupt(handle.exited, transition.aborted, explain, self._tasks)

    def _explain_failed_load(self, killed_before: int) -> ChildExited:
        """Return the error of a load whose server ended. Blocks briefly, until its output ends."""
        handle, _ = self._resident()
        handle.gone.wait(OUTPUT_LIMIT_S)
        error = self._explain_exit(handle)
        kills = oom_kills() - killed_before if handle.local_pid is not None else 0
        sign = sign_of(self._output.tail(SEARCHED_LINES), handle.status, kills)
        if not sign:
            return error
        what = f"{self.model_id}: out of memory while loading ({sign}): ended with {handle.status}"
        return OutOfMemory(what, detail=error.detail)

    def _explain_exit(self, handle: Handle) -> ChildExited:
        state = self._ended_in or self.state
        doing = {State.STARTING: " while loading", State.WAKING: " while waking"}.get(state, "")
        last_lines = redact_output("\n".join(self._output.tail(TAIL_LINES)), self._secrets())
        detail = f"; its last output:\n{last_lines}" if last_lines else "; it printed nothing"
        return ChildExited(f"{self.model_id}: ended with {handle.status}{doing}", detail=detail)

    def _secrets(self) -> list[str]:
        """Return the secrets in the server's command and environment, which it may have printed."""
        given = dict(setting.partition("=")[::2] for setting in self.settings.env)
        return secret_values(self.settings.cmd) + secret_variables({**os.environ, **given})

    def _on_exited(self, _: object) -> None:
        """Run in the hub as soon as the child has ended; never switches."""
        self._note_exit()

    def _note_exit(self) -> None:
        handle = self._handle
        if handle is not None and handle.exited.is_set() and self.state in RESIDENT:
            self._address, self._ended_in = None, self.state
            if self._next_settings is not None:
                self.settings, self._next_settings = self._next_settings, None
            self._machine.fire(Trigger.EXITED)

    def place(self, device: str) -> None:
        """Have later starts use the GPU *device* alone; empty: as the settings say."""
        self._device = device

    def _report_change(self, old: State, new: State, trigger: Trigger) -> None:
        self._on_change(self.model_id, old, new, trigger)

    def _check(self, handle: Handle) -> HealthCheck:
        settings = self.settings
        # One thread at most: a network file system that hangs would take one more with each load.
        if self._files is None or self._files.ready():
            self._files = get_hub().threadpool.spawn(files_bytes, settings.cmd)
        files = self._files
        self._progress = LoadProgress(handle.local_pid, self._output.tail, lambda: files.value or 0)
        return HealthCheck(
            self.model_id,
            settings.check_endpoint,
            settings.health_check_timeout_s,
            settings.load_timeout_s,
            self._progress,
        )

    def launch_spec(self) -> LaunchSpec:
        """Return what its next start runs."""
        settings = self.settings
        own_env = () if settings.runs_on.is_remote else settings.runs_on.env
        command = self._prompts.command if self._prompts is not None else settings.cmd
        return LaunchSpec(
            model_id=self.model_id,
            cmd=command.replace("${DEVICE}", self.device.removeprefix("gpu") or "0"),
            url=settings.proxy,
            env=(*self._variables_of(self.device), *own_env, *settings.env),
            generation=self._generation,
            grace_s=settings.unload_timeout_s,
            listens=_mentions_port(settings) and settings.check_endpoint is not None,
            resources=settings.resources,
            keeps_engine_env=settings.keeps_engine_env,
            makes_key=not settings.api_key,
        )


def _failed(steps: tuple[tuple[str, float], ...], took_s: float) -> tuple[tuple[str, float], ...]:
    """Return the parts of a wake that failed, with the stop after it."""
    checked = tuple(("failed_check", seconds) for name, seconds in steps if name == CANARY)
    return (("failed_wake", took_s - sum(seconds for _, seconds in checked)), *checked)


def _address_of(url: str, settings: ModelConfig, key: str = "") -> Address:
    """Return the address of control calls to a server at *url*. Raises: StartFailed."""
    try:
        address = parse_address(url)
        name = f"the server of {settings.id}"
        headers = _control_headers(settings, key)
        return replace(address, name=name, headers=headers, key=key)
    except ValueError as error:
        what = f"{settings.id}: its proxy is no address"
        raise StartFailed(what, detail=f": {redact_text(str(error))}") from error


def _mentions_port(settings: ModelConfig) -> bool:
    """Whether command or environment have the port; else another server may be meant by it."""
    port = urlsplit(settings.proxy).port
    return port is None or str(port) in "\n".join((settings.cmd, *settings.env))


def _control_headers(settings: ModelConfig, key: str) -> tuple[tuple[str, str], ...]:
    """Return the headers of health checks, sleep and wake calls beside their own."""
    key = settings.api_key or key
    return ((("Authorization", f"Bearer {key}"),) if key else ()) + settings.headers
