from llmsnap.config.loader import loads
from llmsnap.routing.rules import ModelRules, Options, PolicyName
from llmsnap.routing.setup import change_of

TEXT = """
queueTimeout: 60
models:
  a: {cmd: serve a, proxy: "http://localhost:1", ttl: 30, concurrencyLimit: 3, queueLimit: 7}
  b:
    cmd: serve b
    proxy: http://localhost:2
    sleepAfter: 5
    sleepMode: enable
    sleepEndpoints: [{endpoint: /sleep}]
    wakeEndpoints: [{endpoint: /wake}]
groups:
  both: {swap: false, exclusive: false, persistent: true, members: [a, b]}
routing:
  scheduler: {use: fifo, settings: {fair: {maxHold: 9}, fifo: {priority: {b: 4}}}}
"""


def test_a_configuration_becomes_rules_groups_and_options() -> None:
    change = change_of(loads(TEXT), frozenset({"a"}))
    assert change.rules == (
        ModelRules("a", concurrency_limit=3, queue_limit=7, ttl_s=30),
        ModelRules("b", sleep_after_s=5, can_sleep=True, priority=4),
    )
    assert not change.plan.evicts("a", "b")
    assert change.options == Options(PolicyName.FIFO, max_hold_s=9, queue_timeout_s=60)
    assert change.restart == frozenset({"a"})
