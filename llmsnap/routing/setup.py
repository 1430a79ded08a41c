"""From a configuration to what the scheduler must know of it. Pure."""

from __future__ import annotations

from llmsnap.config.settings import Config, ModelConfig
from llmsnap.routing.messages import ConfigChanged
from llmsnap.routing.plan import Group, Plan
from llmsnap.routing.rules import ModelRules, Options, PolicyName

NONE: frozenset[str] = frozenset()


def change_of(
    config: Config, restart: frozenset[str] = NONE, changed: frozenset[str] = NONE
) -> ConfigChanged:
    """Return the event that makes *config* the scheduler's own.

    *restart* models are replaced; *changed* ones are defined anew, so that earlier failures no
    longer count.
    """
    groups = [
        Group(group.id, group.members, group.swap, group.exclusive, group.persistent)
        for group in config.groups.values()
    ]
    priorities = config.scheduler.priorities
    rules = tuple(_rules(model, priorities.get(model.id, 0)) for model in config.models.values())
    options = Options(
        policy=PolicyName(config.scheduler.use),
        max_hold_s=config.scheduler.max_hold_s,
        queue_timeout_s=config.queue_timeout_s,
    )
    return ConfigChanged(rules, Plan(groups), options, restart, changed)


def _rules(model: ModelConfig, priority: int) -> ModelRules:
    return ModelRules(
        model_id=model.id,
        concurrency_limit=model.concurrency_limit,
        queue_limit=model.queue_limit,
        ttl_s=model.ttl_s,
        sleep_after_s=model.sleep_after_s,
        can_sleep=model.can_sleep,
        priority=priority,
    )
