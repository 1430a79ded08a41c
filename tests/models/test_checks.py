"""When servers are asked, what is remembered, and when a model must not sleep any more."""

import json
from collections.abc import Iterator
from pathlib import Path

import gevent
import pytest
from gevent.event import Event

from llmsnap.models import checks as module
from llmsnap.models.canary import Rule
from llmsnap.models.checks import FILE, ServerChecks
from llmsnap.models.control import parse_address
from llmsnap.models.facts import definition_of
from llmsnap.models.transition import Interrupt
from llmsnap.statedir import StateDir
from tests.config.reading import model
from tests.fakes.upstream import FakeUpstream

SLEEPY = """
cmd: serve ${PORT}
sleepMode: enable
sleepEndpoints: [{endpoint: /sleep}]
wakeEndpoints: [{endpoint: /wake_up}]
"""
CHAT = "/v1/chat/completions"
LIMIT_S = 20.0
"""Longer than any answer takes on a busy machine."""


class Lease:
    def __init__(self) -> None:
        self.on_cut = None
        self.closed = False

    def close(self) -> None:
        self.closed = True


class Bench:
    """Checks of one model, over a server that gives *answers* in turn, the last one for ever."""

    def __init__(self, upstream: FakeUpstream, state: StateDir, interrupt: Interrupt) -> None:
        self.upstream = upstream
        self.answers: list[object] = ["1 2 3"]
        self.asked = 0
        self.came = Event()
        self.hanging = Event()
        self.hanging.set()
        self.is_idle = True
        self.leases: list[Lease] = []
        self.faulty: list[tuple[str, bool]] = []
        self.model = model(SLEEPY)
        self.checks = ServerChecks(state, self._rest, self._on_faulty)
        self.interrupt = interrupt
        upstream.handler = self._answer
        upstream.start()
        self.address = parse_address(upstream.url)

    def _answer(self, environ, start_response):
        self.asked += 1
        self.came.set()
        self.hanging.wait()
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, int):
            start_response(f"{answer} -", [])
            return [b"{}"]
        start_response("200 OK", [])
        return [json.dumps({"choices": [{"message": {"content": answer}}]}).encode()]

    def _rest(self, model_id: str) -> Lease | None:
        if not self.is_idle:
            return None
        self.leases.append(Lease())
        return self.leases[-1]

    def _on_faulty(self, model_id: str, *, may_sleep: bool) -> None:
        self.faulty.append((model_id, may_sleep))

    def settle(self) -> None:
        gevent.joinall(list(self.checks._tasks._group))

    def serve(self, path: str = CHAT, status: int = 200) -> None:
        """Note a request that was served, and wait for what follows."""
        self.checks.note_request(self.model, path, status)
        self.settle()

    def learn(self, *answers: object) -> None:
        self.answers = list(answers) or self.answers
        self.checks.note_request(self.model, CHAT, 200)
        self.checks.note_start(self.model, self.address)
        self.settle()

    def fault(self, *answers: object) -> str:
        self.answers = list(answers) or self.answers
        return self.checks.fault(self.model, self.address, self.interrupt)


@pytest.fixture
def bench(upstream, interrupt, tmp_path: Path, monkeypatch) -> Iterator[Bench]:
    monkeypatch.setattr(module, "QUIET_S", 0.001)
    made = Bench(upstream, StateDir(tmp_path), interrupt)
    yield made
    made.hanging.set()
    made.checks.close()


def rule(bench: Bench) -> Rule:
    found = bench.checks._known[definition_of(bench.model)]
    return found.rule


def test_a_model_is_asked_twice_after_a_start_once_it_was_seen_serving(bench: Bench) -> None:
    bench.checks.note_start(bench.model, bench.address)
    bench.serve("/v1/audio/speech")
    bench.serve(CHAT, 500)
    assert (bench.asked, bench.checks.applies(bench.model)) == (0, False)
    bench.serve()
    assert (bench.asked, rule(bench)) == (2, Rule.SAME)
    bench.serve()
    assert bench.asked == 2, "once for each start"
    assert bench.checks.applies(bench.model)


@pytest.mark.parametrize("text", ["wakeCheck: false", "sleepMode: disable"])
def test_models_that_are_not_checked_are_not_asked(bench: Bench, text: str) -> None:
    name = text.partition(":")[0]
    lines = [line for line in SLEEPY.splitlines() if not line.startswith(name)]
    bench.model = model("\n".join([*lines, text]))
    bench.learn()
    assert (bench.asked, bench.checks.applies(bench.model)) == (0, False)


def test_a_busy_model_is_asked_after_its_requests(bench: Bench) -> None:
    bench.is_idle = False
    bench.learn()
    assert bench.asked == 0
    bench.is_idle = True
    bench.serve()
    assert rule(bench) is Rule.SAME
    assert all(lease.closed for lease in bench.leases)


def test_a_request_ends_the_question_which_is_asked_again_after_it(bench: Bench) -> None:
    bench.hanging.clear()
    bench.checks.note_request(bench.model, CHAT, 200)
    bench.checks.note_start(bench.model, bench.address)
    assert bench.came.wait(3)
    cut = bench.leases[0].on_cut
    assert cut is not None
    cut()
    bench.settle()
    assert (rule(bench), bench.leases[0].closed) == (Rule.UNKNOWN, True)
    bench.hanging.set()
    bench.serve()
    assert rule(bench) is Rule.SAME


@pytest.mark.parametrize("has_ended", [True, False])
def test_a_run_is_not_asked_that_has_ended_or_must_not_be(bench: Bench, has_ended: bool) -> None:
    bench.checks.note_request(bench.model, CHAT, 200)
    bench.checks.note_start(bench.model, bench.address, may_ask=has_ended)
    if has_ended:
        bench.checks.forget(bench.model.id)
    else:
        bench.serve()
    assert bench.asked == 0


def test_a_later_run_of_llmsnap_remembers_by_definition(bench: Bench, tmp_path: Path) -> None:
    bench.learn()
    assert (tmp_path / FILE).stat().st_mode & 0o777 == 0o600
    again = ServerChecks(StateDir(tmp_path), bench._rest, bench._on_faulty)
    again.open()
    assert again.applies(bench.model)
    assert not again.applies(model(SLEEPY.replace("serve", "other")))


@pytest.mark.parametrize(
    ("learned", "answers", "asked", "is_faulty"),
    [
        (["1 2 3"], ["1 2 3"], 1, False),
        (["1 2 3"], ["# #", "1 2 3"], 2, False),
        (["1 2 3"], ["# #"], 2, True),
        (["1 2 3"], [500], 2, True),
        (["a", "b"], ["# #"], 1, False),
        (["a", "b"], [""], 2, True),
    ],
)
def test_a_fault_counts_when_it_shows_twice_in_a_row(
    bench: Bench, learned: list, answers: list, asked: int, is_faulty: bool
) -> None:
    bench.learn(*learned)
    bench.asked = 0
    assert (bool(bench.fault(*answers)), bench.asked) == (is_faulty, asked)


def test_a_slow_answer_passes(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.learn()
    monkeypatch.setattr(module, "LIMIT_S", 0.02)
    bench.hanging.clear()
    assert bench.fault("# #") == ""


def test_two_faulty_wakes_in_a_row_end_the_sleeping_of_a_definition(bench: Bench, caplog) -> None:
    bench.learn()
    assert bench.fault("# #")
    assert not bench.fault("1 2 3")
    assert bench.fault("# #")
    assert bench.faulty == [(bench.model.id, True)] * 2
    assert bench.fault("# #")
    assert bench.faulty[2:] == [(bench.model.id, False)]
    assert "answered wrong after 2 wakes in a row" in caplog.text
    assert bench.checks.unreliable([bench.model]) == {bench.model.id}
    assert not bench.checks.unreliable([model(SLEEPY.replace("serve", "other"))])


@pytest.mark.parametrize(
    ("answers", "hangs", "asked", "is_faulty"),
    [
        (["1 2 3"], False, 1, False),
        ([500, "1 2 3"], False, 2, False),
        ([500], False, 2, True),
        ([404], False, 1, False),
        (["1 2 3"], True, 2, True),
    ],
)
def test_a_server_whose_requests_fail_is_asked_twice_before_it_is_given_up(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, answers, hangs, asked: int, is_faulty: bool
) -> None:
    monkeypatch.setattr(module, "FAILING_LIMIT_S", 0.02 if hangs else LIMIT_S)
    questions: list[object] = []
    ask = module.ask
    monkeypatch.setattr(module, "ask", lambda *each: questions.append(each) or ask(*each))
    bench.answers = answers
    bench.checks.note_request(bench.model, CHAT, 200)
    if hangs:
        bench.hanging.clear()
    fault = bench.checks.failure(bench.model, bench.address)
    assert (bool(fault), len(questions)) == (is_faulty, asked)


@pytest.mark.parametrize(
    ("statuses", "is_due"),
    [
        ([500] * 5, True),
        ([500] * 4 + [400, 500], True),
        ([500] * 4 + [200, 500], False),
        ([400] * 9, False),
        ([500] * 4, False),
    ],
)
def test_refusals_are_neither_good_nor_failures(bench: Bench, statuses, is_due: bool) -> None:
    bench.checks.note_request(bench.model, CHAT, 200)
    found = [bench.checks.note_outcome(bench.model, s, 9.0 * n) for n, s in enumerate(statuses)]
    assert any(found) is is_due


def test_failures_of_another_run_or_of_what_cannot_be_asked_do_not_count(bench: Bench) -> None:
    row = [bench.checks.note_outcome(bench.model, 500, 9.0 * n) for n in range(9)]
    assert not any(row), "it was not seen serving anything that can be asked"
    bench.checks.note_request(bench.model, CHAT, 200)
    for at in range(4):
        bench.checks.note_outcome(bench.model, 500, 100.0 + 9 * at)
    bench.checks.forget(bench.model.id)
    assert not bench.checks.note_outcome(bench.model, 500, 200.0)
