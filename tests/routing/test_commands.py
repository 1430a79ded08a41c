from itertools import count

import pytest

from llmsnap.errors import ProcessError, SleepNotConfigured
from llmsnap.routing.commands import Commands
from llmsnap.routing.effects import Answer, Outcome


def test_an_answer_ends_the_wait() -> None:
    commands = Commands(count(1))
    number = commands.begin("m")
    commands.answer(Answer(number, Outcome.OK))
    commands.wait(number)
    commands.forget(number)
    commands.forget(number)
    assert repr(commands) == "<Commands 0 open>"


def test_a_failure_is_raised_where_somebody_waits() -> None:
    commands = Commands(count(1))
    number = commands.begin("m")
    commands.answer(Answer(number, Outcome.SLEEP_NOT_CONFIGURED))
    with pytest.raises(SleepNotConfigured, match="m cannot sleep"):
        commands.wait(number)
    failed = commands.begin("m")
    commands.answer(Answer(failed, Outcome.FAILED, ProcessError("m: no")))
    with pytest.raises(ProcessError, match="m: no"):
        commands.wait(failed)


def test_an_answer_nobody_waits_for_is_no_trouble() -> None:
    commands = Commands(count(1))
    commands.answer(Answer(99, Outcome.OK))
    assert commands.begin("m") == 1
