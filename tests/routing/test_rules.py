from llmsnap.routing.rules import ModelRules, Options, PolicyName


def test_the_defaults_are_the_documented_ones() -> None:
    assert Options() == Options(PolicyName.FAIR, max_hold_s=120.0, queue_timeout_s=3600.0)
    rules = ModelRules("a")
    assert (rules.concurrency_limit, rules.queue_limit, rules.priority) == (100, 1000, 0)
    assert (rules.ttl_s, rules.sleep_after_s, rules.can_sleep) == (0.0, 0.0, False)


def test_the_policies_are_named_as_in_the_configuration() -> None:
    assert [str(name) for name in PolicyName] == ["fair", "fifo"]
