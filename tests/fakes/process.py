"""A process whose transitions take as long as a test wants."""

from gevent.event import Event

from llmsnap.errors import ChildExited, LlmsnapError, LoadAborted
from llmsnap.models import State, Trigger


class FakeProcess:
    def __init__(self, model_id: str) -> None:
        self.model_id = model_id
        self.state = State.STOPPED
        self.handle_id = None
        self.local_pid: int | None = None
        self.machine = ""
        self.load_trigger = Trigger.START
        self.load_s = 0.25
        self.load_steps: tuple[tuple[str, float], ...] = ()
        self.leave_steps: tuple[tuple[str, float], ...] = ()
        self.loads = 0
        self.may_load = Event()
        self.may_load.set()
        self.may_stop = Event()
        self.may_stop.set()
        self.loading = Event()
        self.fail_load: LlmsnapError | None = None
        self.fail_sleep: LlmsnapError | None = None
        self.fail_check: LlmsnapError | None = None
        self.files_noted = self.checks = 0
        self.fault = ""
        self.files_changed = False
        self._aborted = Event()

    def __repr__(self) -> str:
        return f"<FakeProcess {self.model_id} {self.state}>"

    def check_start(self, leaving: frozenset[str] = frozenset()) -> None:
        if self.fail_check:
            raise self.fail_check

    def place(self, device: str) -> None:
        self.device = device

    def ensure_ready(self) -> None:
        if self.state is State.READY:
            return
        self.load_trigger = Trigger.WAKE if self.state is State.ASLEEP else Trigger.START
        self.state = State.STARTING
        self.loads += 1
        self._aborted.clear()
        self.loading.set()
        self.may_load.rawlink(lambda _: self._aborted.set())
        if not self.may_load.is_set():
            self._aborted.wait()
        if not self.may_load.is_set():
            self.state = State.STOPPED
            raise LoadAborted(f"{self.model_id}: given up")
        if self.fail_load:
            self.state = State.STOPPED
            raise self.fail_load
        self.state = State.READY

    def ensure_asleep(self) -> None:
        if self.fail_sleep:
            self.state = State.STOPPED
            raise self.fail_sleep
        self.state = State.ASLEEP

    def ensure_stopped(self, why: str = "") -> None:
        if self.state is State.STARTING:
            self._aborted.set()
        self.may_stop.wait()
        self.state = State.STOPPED

    def find_fault(self) -> str:
        self.checks += 1
        return self.fault

    def note_files(self) -> None:
        self.files_noted += 1

    def files_have_changed(self) -> bool:
        return self.files_changed

    def explain_exit(self) -> ChildExited:
        return ChildExited(f"{self.model_id}: ended with exit code 1")
