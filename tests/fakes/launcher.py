"""A launcher of scripted servers: the test decides when they respond and when they exit."""

from collections.abc import Hashable, Iterable

from gevent.event import Event

from llmsnap.errors import StartFailed
from llmsnap.launchers import ExitStatus, Launcher, LaunchSpec, Output


class FakeHandle:
    def __init__(self, spec: LaunchSpec, output: Output) -> None:
        self.spec = spec
        self.url = spec.url
        self.id = "fake-4711"
        self.local_pid = 4711
        self.node = self.key = ""
        self.is_adopted = False
        self.exited = Event()
        self.gone = Event()
        self.status: ExitStatus | None = None
        self.output = output
        self.grace_s = spec.grace_s
        self.stops: list[tuple[float, str]] = []
        self.stop_allowed = Event()
        self.stop_allowed.set()

    def exit(self, code: int = 0) -> None:
        self.status = ExitStatus(code)
        self.exited.set()
        self.gone.set()

    def stop(self, grace_s: float, cmd_stop: str = "") -> None:
        self.stops.append((grace_s, cmd_stop))
        self.stop_allowed.wait()
        if not self.exited.is_set():
            self.exit(0)

    def kill(self) -> None:
        self.exit(137)

    def wait_exit(self, limit_s: float) -> None:
        self.exited.wait(limit_s)

    def allow(self, grace_s: float) -> None:
        self.grace_s = grace_s


class FakeLauncher(Launcher):
    def __init__(self) -> None:
        self.handles: list[FakeHandle] = []
        self.checked: list[LaunchSpec] = []
        self.spawned = Event()
        self.refuse: StartFailed | None = None
        self.withheld: set[str] = set()
        self.is_closed = False
        self.leftovers: list[str] = []
        self.files: Hashable | None = None

    def check(self, spec: LaunchSpec, leaving: frozenset[str] = frozenset()) -> None:
        self.checked.append(spec)
        if self.refuse:
            raise self.refuse

    def start(self, spec: LaunchSpec, output: Output, cancelled: Event) -> FakeHandle:
        self.check(spec)
        handle = FakeHandle(spec, output)
        self.handles.append(handle)
        self.spawned.set()
        return handle

    def fingerprint(self, spec: LaunchSpec) -> Hashable | None:
        return self.files

    def stop_leftovers(self) -> list[str]:
        return self.leftovers

    def withhold(self, names: Iterable[str]) -> None:
        self.withheld |= set(names)

    def close(self) -> None:
        self.is_closed = True
