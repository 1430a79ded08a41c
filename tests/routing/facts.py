"""Models and devices as plans and policies see them, without a scheduler around."""

from dataclasses import dataclass

from llmsnap.models import State
from llmsnap.routing.entries import ModelState, Waiter
from llmsnap.routing.memory import GIB, Device, Need, Share
from llmsnap.routing.messages import ModelRules
from llmsnap.routing.residency import Action, LoadKind


def gpu(size: int, *, others: int = 0, reserve: int = 0, name: str = "gpu0") -> Device:
    """A card of *size* GiB."""
    return Device(name, size * GIB, reserve * GIB, others * GIB, "game (pid 7)" if others else "")


def need(name: str, size: int, *, asleep: int = 0, **more: object) -> Need:
    """A model that needs *size* GiB of the first card."""
    shares = (Share("gpu0", size * GIB),) if size else ()
    kept = (Share("gpu0", asleep * GIB),) if asleep else ()
    return Need(name, shares, asleep=kept, **more)  # type: ignore[arg-type]


@dataclass
class Facts:
    """A model as a plan sees it; the default is ready and idle."""

    busy: bool = False
    idle_since: float = 0.0
    state: State = State.READY
    start_s: float | None = 10.0
    wake_s: float | None = 1.0
    leave_by: Action = Action.STOP
    leaves: tuple[str, Action] | None = None
    device: str = ""
    uses: float = 0.0
    priority: int = 0
    left_s: float = 5.0
    retries: int = 0

    def measured_s(self, move: LoadKind | Action) -> float | None:
        return self.wake_s if move is LoadKind.WAKE else self.start_s

    def answers_s(self, now: float) -> float:
        return self.left_s - now if self.busy else 0.0


def waiting(
    model_id: str, *since_s: float, priority: int = 0, turn_ended: float = -1e9
) -> ModelState:
    """A stopped model with one waiter for each time."""
    model = ModelState(ModelRules(model_id, priority=priority), 0.0)
    model.turn_ended = turn_ended
    for number, since in enumerate(since_s):
        model.waiters[number] = Waiter(number, model, since, number)
    return model


def ready(model_id: str, ready_at: float, *, in_flight: int = 0) -> ModelState:
    """A ready model, serving."""
    model = ModelState(ModelRules(model_id), 0.0)
    model.state = State.READY
    model.ready_at = ready_at
    model.leases = {-1 - number: ready_at for number in range(in_flight)}
    model.refresh()
    return model
