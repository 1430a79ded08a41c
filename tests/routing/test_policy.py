import pytest

from llmsnap.routing.desk import choose_policy
from llmsnap.routing.fair import Fair
from llmsnap.routing.fifo import Fifo
from llmsnap.routing.policy import AT_ONCE, NEVER, Policy
from llmsnap.routing.rules import Options, PolicyName
from tests.routing.entries import ready, waiting


def test_the_options_choose() -> None:
    assert isinstance(choose_policy(Options()), Fair)
    assert isinstance(choose_policy(Options(PolicyName.FIFO)), Fifo)
    assert choose_policy(Options(max_hold_s=7.0)).reopen_after_s == 7.0


@pytest.mark.parametrize("policy", [Fair(120.0), Fifo()])
def test_what_every_policy_keeps_to(policy: Policy) -> None:
    target = waiting("t", 10.0)
    assert policy.due_at(target, []) == AT_ONCE
    assert policy.due_at(target, [ready("m", 0.0)]) == AT_ONCE
    assert policy.due_at(target, [ready("m", 0.0, in_flight=1)]) > 10.0
    assert policy.due_at(waiting("t"), [ready("m", 0.0, in_flight=1)]) == NEVER
    assert policy.rank_changes_at(target, 1e9) == NEVER
    assert policy.rank(target, 50.0) < policy.rank(waiting("u", 20.0), 50.0)
