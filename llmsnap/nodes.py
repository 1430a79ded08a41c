"""Asks the engines of launchers for their machines, and hands on which GPUs jobs of others have.

Once a second while a model starts or a request waits, else every 15 seconds, one greenlet for each
launcher that models use. What an engine says is some seconds old. So what others seem to have grown
by is believed only once nothing of ours has begun or ended there for ``SETTLED_S``.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from gevent.event import Event

from llmsnap.config import Config
from llmsnap.launchers import Launcher, NodeView
from llmsnap.routing import FoundNode, Nodes
from llmsnap.tasks import TaskGroup

HURRIED_S, RESTING_S = 1.0, 15.0
"""Seconds between two looks at the machines of a launcher."""
SETTLED_S = 10.0
CLOSE_LIMIT_S = 0.5


@dataclass(frozen=True, slots=True)
class PlacedServer:
    """A server of ours on a launcher: its machine, empty until it has one, and its GPUs there.

    *is_moving*: it starts or stops.
    """

    launcher: str
    node: str
    gpus: float
    is_moving: bool


class NodeMeter:
    """Owns what is known of the machines of launchers.

    *servers* returns our servers on launchers; *changed* is called when a figure is another one;
    *is_waiting* says whether a request waits for a model. None of them may switch greenlets.
    """

    def __init__(
        self,
        launchers: Mapping[str, Launcher],
        servers: Callable[[], Iterable[PlacedServer]],
        changed: Callable[[], None],
        is_waiting: Callable[[], bool],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._launchers, self._servers, self._changed = launchers, servers, changed
        self._is_waiting, self._clock = is_waiting, clock
        self._tasks = TaskGroup("nodes")
        self._wakes: dict[str, Event] = {}
        self._moved_at: dict[str, float] = {}
        self._found: dict[str, tuple[FoundNode, ...]] = {}

    def __repr__(self) -> str:
        return f"<NodeMeter of {', '.join(self._wakes) or 'no launcher'}>"

    @property
    def found(self) -> Nodes:
        """The machines that are known, by launcher."""
        return dict(self._found)

    def use(self, config: Config) -> Nodes:
        """Ask the launchers that models of *config* use from now on. Never switches."""
        used = {each.launcher for each in config.models.values() if each.runs_on.is_remote}
        for name in self._wakes.keys() - used:
            self._wakes.pop(name).set()
            self._found.pop(name, None)
        for name in used - self._wakes.keys():
            self._wakes[name] = wake = Event()
            self._moved_at[name] = self._clock()  # jobs of an earlier run may still end there
            self._tasks.spawn(name, self._run, name, wake)
        return self.found

    def poke(self, name: str) -> None:
        """Look soon: a server on the launcher *name* has begun or ended. Never switches."""
        if name in self._wakes:
            self._moved_at[name] = self._clock()
            self._wakes[name].set()

    def close(self) -> None:
        """End all greenlets. Blocks briefly: a call under way may end."""
        wakes, self._wakes = self._wakes, {}
        for wake in wakes.values():
            wake.set()
        self._tasks.close(CLOSE_LIMIT_S)

    def _run(self, name: str, wake: Event) -> None:
        while self._wakes.get(name) is wake:
            wake.clear()
            views = self._launchers[name].nodes()
            if self._wakes.get(name) is wake:
                self.note(name, views)
                wake.wait(self.pause_s(name))

    def pause_s(self, name: str) -> float:
        """Return the time until the next look at the machines of a launcher."""
        is_settled = self._clock() >= self._moved_at[name] + SETTLED_S
        return RESTING_S if is_settled and not self._is_waiting() else HURRIED_S

    def note(self, name: str, views: Iterable[NodeView]) -> None:
        """Take what the engine of a launcher says now. Never switches."""
        now, ours = self._clock(), [each for each in self._servers() if each.launcher == name]
        if any(each.is_moving for each in ours):
            self._moved_at[name] = now
        is_settled = now >= self._moved_at[name] + SETTLED_S
        before = {each.name: each.others for each in self._found.get(name, ())}
        found = []
        for view in views:
            own = sum(each.gpus for each in ours if each.node == view.name)
            others = max(0.0, view.gpus - view.free_gpus - own)
            if not is_settled:  # after the start it may be a job that is still to be adopted
                others = min(others, before.get(view.name, 0.0))
            total, others = (view.gpus, round(others, 4)) if view.is_usable else (0.0, 0.0)
            found.append(FoundNode(view.name, total, others, view.labels))
        if self._found.get(name, ()) != tuple(found):
            self._found[name] = tuple(found)
            self._changed()
