"""What concerns all models at once: a new configuration, and the end of the program."""

from __future__ import annotations

from llmsnap.models import State
from llmsnap.routing.closings import Closings
from llmsnap.routing.desk import Desk, choose_policy
from llmsnap.routing.effects import CutReason, Outcome, Refusal, Retired, ShutdownDone
from llmsnap.routing.ledger import Entry
from llmsnap.routing.messages import ConfigChanged, Shutdown
from llmsnap.routing.rules import ModelRules
from llmsnap.routing.sponsors import Sponsors
from llmsnap.routing.turns import Turns


class Changes:
    """Applies configurations while requests run, and winds everything down at the end."""

    def __init__(self, desk: Desk, turns: Turns, closings: Closings, sponsors: Sponsors) -> None:
        self._desk = desk
        self._turns = turns
        self._closings = closings
        self._sponsors = sponsors
        self._done = False

    def configure(self, event: ConfigChanged) -> None:
        """Take *event* as the truth. Nothing is evicted by it.

        Swaps that evicted nobody yet are decided anew, before those whose gates were shut for them
        are granted anything, so that no gate opens only because the file was saved.
        """
        desk = self._desk
        if event.plan != desk.plan or event.options != desk.options:
            self._turns.withdraw()
        desk.plan = event.plan
        desk.options = event.options
        desk.policy = choose_policy(event.options)
        self._sponsors.cancel(Outcome.SUPERSEDED)
        kept = {rules.model_id for rules in event.rules}
        for entry in list(desk.entries.values()):
            if entry.model_id not in kept and not entry.removed:
                self._remove(entry)
        for rules in event.rules:
            self._define(rules, restart=rules.model_id in event.restart)
        for name in event.changed & kept:
            desk.entries[name].backoff.clear()
        self._turns.decide()
        for entry in list(desk.wanting.values()):
            desk.fill(entry)
        desk.dirty = True

    def shut_down(self, event: Shutdown) -> None:
        """Refuse everybody, stop what is idle, and give the rest its time."""
        desk = self._desk
        desk.shutting_down = True
        self._sponsors.cancel(Outcome.SHUTDOWN)
        for entry in desk.entries.values():
            self._closings.turn_away(entry, Refusal.SHUTDOWN, Outcome.SHUTDOWN)
        for entry in desk.entries.values():
            self._closings.stop(entry)
        if event.drain_timeout_s > 0:
            desk.timers.set(("drain", 0), desk.now + event.drain_timeout_s)
        else:
            self.cut(0)

    def cut(self, _key: int) -> None:
        """End the requests that outlast the drain of a shutdown."""
        for entry in self._desk.entries.values():
            if entry.leases:
                self._closings.stop(entry, CutReason.SHUTDOWN)

    def finish(self) -> None:
        """Forget removed models nothing is left of, and say when a shutdown is complete."""
        desk = self._desk
        for entry in [entry for entry in desk.removed.values() if _is_gone(entry)]:
            del desk.removed[entry.model_id]
            del desk.entries[entry.model_id]
            desk.timers.cancel(("idle", entry.model_id))
            desk.out.append(Retired(entry.model_id))
        if desk.shutting_down and not self._done and not desk.swaps and not desk.works:
            self._done = all(e.stuck or e.state is State.STOPPED for e in desk.entries.values())
            if self._done:
                desk.timers.cancel(("drain", 0))
                desk.out.append(ShutdownDone())

    def _define(self, rules: ModelRules, *, restart: bool) -> None:
        """Add a model, or give a known one its new rules."""
        desk = self._desk
        entry = desk.entries.get(rules.model_id)
        if entry is None:
            desk.entries[rules.model_id] = Entry(rules, desk.now)
            return
        if entry.removed:
            # It was draining to be stopped and still is: removed and added again is a restart.
            del desk.removed[entry.model_id]
            entry.removed = False
            restart = True
        entry.rules = rules
        entry.limit = rules.concurrency_limit
        desk.timers.cancel(("idle", entry.model_id))
        entry.idle_armed = False
        desk.arm_idle(entry)
        if restart:
            entry.backoff.clear()
            self._closings.stop(entry)

    def _remove(self, entry: Entry) -> None:
        entry.removed = True
        self._desk.removed[entry.model_id] = entry
        self._closings.turn_away(entry, Refusal.UNKNOWN, Outcome.UNKNOWN)
        self._closings.stop(entry)


def _is_gone(entry: Entry) -> bool:
    """Nothing is left of *entry*: no process, no request, no work."""
    return (
        entry.state is State.STOPPED
        and entry.swap is None
        and entry.closing is None
        and not entry.leases
    )
