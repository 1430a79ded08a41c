"""What the scheduler knows about a model and about its own settings: frozen values, no more."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class PolicyName(StrEnum):
    """Which of the two schedulers decides when a swap may begin; see ``fair`` and ``fifo``."""

    FAIR = "fair"
    FIFO = "fifo"


@dataclass(frozen=True, slots=True)
class ModelRules:
    """One model's limits and clocks.

    *concurrency_limit*: requests served at once, at least 1. *queue_limit*: requests that may wait
    for a load, a wake or a gate, at least 1. *ttl_s*: idle seconds until it is stopped,
    *sleep_after_s*: idle seconds until it sleeps (0 = never). *can_sleep*: it sleeps instead of
    stopping when it has to leave. *priority*: higher goes first in the queue.
    """

    model_id: str
    concurrency_limit: int = 100
    queue_limit: int = 1000
    ttl_s: float = 0.0
    sleep_after_s: float = 0.0
    can_sleep: bool = False
    priority: int = 0


@dataclass(frozen=True, slots=True)
class Options:
    """Settings of the scheduler as a whole.

    *max_hold_s*: how long a waiting model is held off at most, and how long a drain may keep gates
    shut before they open once more. *queue_timeout_s*: the longest a request waits (0 = for ever).
    """

    policy: PolicyName = PolicyName.FAIR
    max_hold_s: float = 120.0
    queue_timeout_s: float = 3600.0
