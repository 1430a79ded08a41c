"""Models that are to leave for good reasons of their own: unload, sleep, idle clocks, reload.

A closing shuts the gate at once, waits for what is in flight (or has it cut) and then stops the
model or puts it to sleep. It never waits behind another model.
"""

from __future__ import annotations

from llmsnap.models import State
from llmsnap.routing.desk import Desk
from llmsnap.routing.effects import (
    Answer,
    CutReason,
    CutRequests,
    Outcome,
    Refusal,
    SleepModel,
    StopModel,
)
from llmsnap.routing.ledger import Closing, Entry
from llmsnap.routing.messages import Idled, PutToSleep, Unload
from llmsnap.routing.turns import Turns


class Closings:
    """Shuts models down one by one, and answers those who asked for it."""

    def __init__(self, desk: Desk, turns: Turns) -> None:
        self._desk = desk
        self._turns = turns
        self._unloads: dict[int, set[str]] = {}

    # --- who asks --------------------------------------------------------------------------

    def unload(self, event: Unload) -> None:
        """Stop one model or all, refusing those who wait for it now."""
        desk = self._desk
        if event.model_id is not None and event.model_id not in desk.entries:
            desk.out.append(Answer(event.command, Outcome.UNKNOWN))
            return
        names = list(desk.entries) if event.model_id is None else [event.model_id]
        if not names:
            desk.out.append(Answer(event.command, Outcome.OK))
            return
        self._unloads[event.command] = set(names)
        for name in names:
            self.turn_away(desk.entries[name], Refusal.UNLOADED, Outcome.UNLOADED)
        for name in names:
            cut = None if event.drain else CutReason.UNLOADED
            self.stop(desk.entries[name], cut, event.command)

    def sleep(self, event: PutToSleep) -> None:
        """Put a model to sleep after what it is doing now."""
        desk = self._desk
        entry = desk.entries.get(event.model_id)
        outcome = self._sleep_outcome(entry)
        if entry is None or outcome is not None:
            desk.out.append(Answer(event.command, outcome or Outcome.UNKNOWN))
            return
        if entry.closing is None:
            entry.closing = Closing(State.ASLEEP)
            if entry.state in (State.STARTING, State.WAKING):
                entry.closing.owed = desk.next_number()
        entry.closing.commands.append(event.command)
        if not event.drain and entry.leases:
            desk.out.append(CutRequests(entry.model_id, CutReason.SLEEP))
        self.advance(entry)

    def stop(self, entry: Entry, cut: CutReason | None = None, command: int | None = None) -> None:
        """Stop *entry*; without *cut* its requests in flight end first. Aborts its load."""
        closing = self._closing_to_stop(entry)
        if command is not None:
            closing.commands.append(command)
        if cut is not None and entry.leases and closing.cut is None:
            self._desk.out.append(CutRequests(entry.model_id, cut))
        closing.cut = closing.cut or cut
        swap = entry.swap
        if swap is not None and not swap.draining:
            self._turns.abort(swap)
        self.advance(entry)

    def turn_away(self, entry: Entry, refusal: Refusal, outcome: Outcome) -> None:
        """Refuse all who wait for *entry*, sponsors included."""
        desk = self._desk
        desk.refuse_all(entry, refusal)
        desk.end_loads(entry, outcome)
        desk.end_preload(entry, outcome)
        desk.dirty = True

    def expire(self, model_id: str) -> None:
        """Look at the idle clocks of a model, one of which has run out if it was idle since."""
        desk = self._desk
        entry = desk.entries.get(model_id)
        if entry is None:
            return
        entry.idle_armed = False
        if entry.leases or entry.closing is not None:
            return
        if entry.wanted or entry.swap is not None:
            entry.idle_since = desk.now
        rest = entry.next_rest
        if rest is not None and rest[0] <= desk.now:
            self._rest(entry, rest[1])
        else:
            desk.arm_idle(entry)

    # --- going on --------------------------------------------------------------------------

    def advance(self, entry: Entry, error: Exception | None = None) -> None:
        """Do the next step of the closing of *entry*, if it has one and nothing is in its way."""
        closing = entry.closing
        entry.refresh()
        if closing is None or entry.moving:
            return
        if entry.state in (State.STOPPED, closing.to):
            self._finish(entry, closing, error)
        elif closing.to is State.STOPPED:
            if not entry.leases or closing.cut is not None or entry.state is State.ASLEEP:
                self._work(entry, State.STOPPING)
        elif not entry.leases and not self._owes(entry, closing):
            self._work(entry, State.SLEEP_PENDING)

    def idled(self, event: Idled) -> None:
        """Note the end of a stop or a sleep that a closing asked for."""
        desk = self._desk
        entry = desk.works.get(event.work)
        if entry is None or entry.model_id != event.model_id:
            return
        del desk.works[event.work]
        if entry.claim is not None:
            desk.release(entry)
        desk.left(entry, event)
        self.went(entry, event.error)

    def went(self, entry: Entry, error: Exception | None) -> None:
        """Go on after *entry* was stopped or put to sleep, or could not be stopped."""
        if not entry.stuck:
            self.advance(entry, error)
        elif entry.closing is not None:
            closing, entry.closing = entry.closing, None
            self._answer(entry, closing, Outcome.FAILED, error)

    # --- the steps -------------------------------------------------------------------------

    def _rest(self, entry: Entry, state: State) -> None:
        """Stop an idle *entry*, or let it sleep, because its clock ran out."""
        entry.closing = Closing(state)
        self.advance(entry)

    def _closing_to_stop(self, entry: Entry) -> Closing:
        """Return the closing that stops *entry*; it replaces one that only puts it to sleep."""
        closing = entry.closing
        if closing is None or closing.to is not State.STOPPED:
            if closing is not None:
                gone = Outcome.SHUTDOWN if self._desk.shutting_down else Outcome.STOPPED
                self._answer(entry, closing, gone, None)
            closing = entry.closing = Closing(State.STOPPED)
        return closing

    def _sleep_outcome(self, entry: Entry | None) -> Outcome | None:
        """Return what can be answered at once, None when the sleep has to be waited for."""
        if entry is None or entry.removed:
            return Outcome.UNKNOWN
        if self._desk.shutting_down:
            return Outcome.SHUTDOWN
        if not entry.rules.can_sleep:
            return Outcome.SLEEP_NOT_CONFIGURED
        if entry.closing is not None and entry.closing.to is State.STOPPED:
            return Outcome.STOPPED
        if entry.state in (State.STOPPED, State.STOPPING):
            return Outcome.STOPPED
        return Outcome.OK if entry.state is State.ASLEEP else None

    def _owes(self, entry: Entry, closing: Closing) -> bool:
        """Tell whether somebody who came before the sleep was asked for still waits."""
        oldest = entry.oldest
        return oldest is not None and oldest.number <= closing.owed

    def _work(self, entry: Entry, state: State) -> None:
        """Have the driver stop *entry* or put it to sleep."""
        desk = self._desk
        work = desk.next_number()
        desk.works[work] = entry
        desk.move(entry, state)
        message = StopModel if state is State.STOPPING else SleepModel
        desk.out.append(message(work, entry.model_id))

    def _finish(self, entry: Entry, closing: Closing, error: Exception | None) -> None:
        """Answer those who asked, and let the model be loaded again."""
        entry.closing = None
        entry.refresh()
        self._desk.dirty = True
        if closing.to is entry.state:
            self._answer(entry, closing, Outcome.OK, None)
        else:
            outcome = Outcome.STOPPED if error is None else Outcome.FAILED
            self._answer(entry, closing, outcome, error)

    def _answer(
        self, entry: Entry, closing: Closing, outcome: Outcome, error: Exception | None
    ) -> None:
        for command in closing.commands:
            if closing.to is State.ASLEEP or self._unloaded(command, entry, outcome):
                self._desk.out.append(Answer(command, outcome, error))

    def _unloaded(self, command: int, entry: Entry, outcome: Outcome) -> bool:
        """Tell whether an unload can be answered: its last model is gone, or one would not go."""
        left = self._unloads.get(command)
        if left is None:
            return False
        left.discard(entry.model_id)
        if left and outcome is Outcome.OK:
            return False
        del self._unloads[command]
        return True
