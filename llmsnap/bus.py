"""Tells who asked what happens inside llmsnap (events.py).

Publishing is synchronous and never switches greenlets, so a handler sees the world exactly as it
was when the event happened. Handlers must not block: they note the fact, or put it into a bounded
queue of their own. Log output is not on the bus; each log stream has its own subscribers.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, TypeVar

from llmsnap.events import Event

log = logging.getLogger(__name__)

E = TypeVar("E", bound="Event")


class Subscription:
    """One handler on a bus, until ``close()``."""

    def __init__(self, bus: EventBus, types: tuple[type[Event], ...], handler: Any) -> None:
        self.types = types
        self.handler: Callable[[Any], None] = handler
        self.closed = False
        self._bus = bus

    def __repr__(self) -> str:
        names = ", ".join(kind.__name__ for kind in self.types)
        return f"<Subscription {names}{' closed' if self.closed else ''}>"

    def close(self) -> None:
        """Hear nothing more, not even of an event that is being told right now."""
        if not self.closed:
            self.closed = True
            self._bus._remove(self)  # noqa: SLF001 - the bus and its subscriptions are one thing


class EventBus:
    """Tells each published event to its subscribers, in the order they subscribed."""

    def __init__(self) -> None:
        # Tuples are replaced, never changed, so publish() may walk one while it is replaced.
        self._subscribers: dict[type[Event], tuple[Subscription, ...]] = {}

    def __repr__(self) -> str:
        count = len({id(s) for group in self._subscribers.values() for s in group})
        return f"<EventBus, {count} subscribers>"

    def subscribe(
        self, types: type[E] | tuple[type[E], ...], handler: Callable[[E], None]
    ) -> Subscription:
        """Call *handler* with each event of exactly these *types* from now on; no replay."""
        kinds: tuple[type[Event], ...] = types if isinstance(types, tuple) else (types,)
        subscription = Subscription(self, kinds, handler)
        for kind in kinds:
            self._subscribers[kind] = (*self._subscribers.get(kind, ()), subscription)
        return subscription

    def is_heard(self, kind: type[Event]) -> bool:
        """Tell whether anyone would hear an event of this type, so that it is worth making one."""
        return kind in self._subscribers or Event in self._subscribers

    def publish(self, event: Event) -> None:
        """Tell all subscribers of the event's type before returning. Never switches, never raises.

        A handler that fails is logged; publisher and other handlers do not notice.
        """
        for subscription in self._subscribers.get(type(event), ()):
            self._tell(subscription, event)
        for subscription in self._subscribers.get(Event, ()):
            self._tell(subscription, event)

    def _tell(self, subscription: Subscription, event: Event) -> None:
        if subscription.closed:
            return
        try:
            subscription.handler(event)
        except Exception:
            log.exception("handler of %s failed", type(event).__name__)

    def _remove(self, subscription: Subscription) -> None:
        for kind in subscription.types:
            left = tuple(s for s in self._subscribers.get(kind, ()) if s is not subscription)
            if left:
                self._subscribers[kind] = left
            else:
                self._subscribers.pop(kind, None)
