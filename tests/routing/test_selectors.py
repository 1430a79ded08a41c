"""The rules of selectors, and what they remember, without requests."""

from random import Random

import pytest

from llmsnap.config import SelectorConfig, loads
from llmsnap.errors import NoTarget, Unreachable
from llmsnap.routing import Names, SelectorRoute, Selectors, Standing, TargetView, selectors
from llmsnap.routing.messages import ModelRules
from llmsnap.routing.selectors import choose, same_again
from tests.drawn import cases
from tests.parity import parity
from tests.routing.world import World

COLD = Standing.STOPPED
WORDS = {
    "R": Standing.READY,
    "S": Standing.STARTING,
    "A": Standing.ASLEEP,
    "c": Standing.STOPPED,
    "d": Standing.DRAINING,
    "l": Standing.LEAVING,
    "f": Standing.FAILING,
    "p": Standing.REMOTE,
}


def views(*words: str) -> list[TargetView]:
    """``R2``: ready, with two requests; the target is called by its place, from 1."""
    return [
        TargetView(str(place), WORDS[word[0]], int(word[1:] or 0))
        for place, word in enumerate(words, 1)
    ]


def chosen(strategy: str, *words: str, turn: int = 0, spillover: int = 1) -> str:
    selector = SelectorConfig("s", strategy, (), spillover=spillover)
    found = choose(selector, views(*words), turn)
    return found.target if found is not None else ""


@parity(
    "Selectors",
    "`pin`, `warm`, `spillover`: which target is chosen",
    "the same for ready and stopped models; waking counts as starting, asleep comes before "
    "stopped, and failing last",
)
@pytest.mark.parametrize(
    ("strategy", "words", "target"),
    [
        ("pin", "c R", "1"),
        ("warm", "c R S", "2"),
        ("warm", "c A S", "3"),
        ("warm", "c l c", "1"),
        ("warm", "d c A", "3"),
        ("warm", "f c", "2"),
        ("spillover", "c c p", "1"),
        ("spillover", "R1 c p", "2"),
        ("spillover", "R1 c A", "3"),
        ("spillover", "R1 p A", "2"),
        ("spillover", "R1 d l", "2"),
        ("spillover", "R1 S c", "2"),
        ("spillover", "c1 c", "2"),
        ("spillover", "R2 S1 p1", "2"),
        ("spillover", "l2 R5", "2"),
        ("spillover", "l", ""),
        ("spillover", "f c", "2"),
        ("spillover", "f l", ""),
        ("spillover", "f f", "1"),
        ("failover", "c R", "1"),
        ("failover", "f l R", "2"),
        ("failover", "f f", ""),
    ],
)
def test_the_choice(strategy, words, target) -> None:
    assert chosen(strategy, *words.split()) == target


@parity("Selectors", "equally busy targets of `spillover` take turns")
def test_equals_are_chosen_in_rotation() -> None:
    words = ("R1", "c", "R1", "R2")
    turns = [chosen("spillover", *words, turn=turn, spillover=2) for turn in range(4)]
    assert turns == ["1", "3", "1", "3"]


def some_words(chance: Random) -> list[str]:
    kinds = chance.sample(sorted(WORDS), chance.randint(1, 4))
    return [f"{chance.choice(kinds)}{chance.randint(0, 5)}" for _ in range(chance.randint(1, 6))]


@cases(200)
def test_spillover_loads_nothing_while_there_is_room(chance: Random) -> None:
    words, limit, turn = some_words(chance), chance.randint(1, 4), chance.randint(0, 100)
    found = chosen("spillover", *words, turn=turn, spillover=limit)
    working = [one for one in views(*words) if one.standing is not Standing.FAILING]
    active = [one for one in working if one.is_in_use]
    cold = [one for one in working if not one.is_in_use and one.standing is not Standing.LEAVING]
    targets = {one.target: one for one in views(*words)}
    if not found:
        assert working, "where all fail, one of them says why"
        assert not active
        assert not cold
    elif cold and not any(one.count < limit for one in active):
        assert targets[found] in cold
    elif active:
        assert targets[found].is_in_use
        assert targets[found].count == min(one.count for one in active)


@cases(200)
def test_what_fails_is_chosen_last(chance: Random) -> None:
    words, strategy = some_words(chance), chance.choice(["pin", "warm", "spillover", "failover"])
    found = chosen(strategy, *words)
    if found and strategy != "pin" and words[int(found) - 1].startswith("f"):
        assert strategy != "failover"
        assert all(word.startswith("f") for word in words)


@pytest.mark.parametrize(
    ("words", "before", "again"),
    [
        ("R1 R0", "1", True),
        ("R2 R0", "1", False),
        ("p1 p0", "1", True),
        ("R0 c0", "2", False),
        ("R0 f0", "2", False),
        ("R5 c0", "1", True),
        ("R0", "", False),
    ],
)
def test_a_session_stays_where_it_was(words, before, again) -> None:
    assert (same_again(views(*words.split()), before) is not None) is again


# --- what is remembered ---------------------------------------------------------------------------

TEXT = """\
models: {a: {cmd: "x ${PORT}"}, b: {cmd: "x ${PORT}"}}
groups: {all: {swap: false, members: [a, b]}}
selectors:
  s: {strategy: STRATEGY, targets: [a, b], settings: {affinity: true}}
"""


class Memory:
    def __init__(self, strategy: str = "spillover", standing: Standing = Standing.READY) -> None:
        self.config = loads(TEXT.replace("STRATEGY", strategy), environ={})
        self.now = 0.0
        self.selectors = Selectors(lambda _: standing, lambda: self.now)
        route = Names(self.config).resolve("s")
        assert isinstance(route, SelectorRoute)
        self.route = route

    def begin(self, session: str = ""):
        selection = self.selectors.begin(self.route, session)
        selection.next()
        return selection

    @property
    def counts(self) -> list[int]:
        return [one.count for one in self.selectors.views(self.route)]


def test_a_place_is_given_back_once() -> None:
    memory = Memory()
    first, second = memory.begin(), memory.begin()
    assert memory.counts == [1, 1]
    first.close()
    first.close()
    assert memory.counts == [0, 1]
    memory.selectors.configure({})
    second.close()
    assert memory.counts == [0, 0]


def test_sessions_are_forgotten_after_an_hour_and_when_there_are_too_many(monkeypatch) -> None:
    monkeypatch.setattr(selectors, "MOST_SESSIONS", 3)
    memory = Memory()

    def target(session: str) -> str:
        selection = memory.begin(session)
        selection.close()
        return selection.target

    first = target("x")
    assert [target("x") for _ in range(3)] == [first] * 3
    for number in range(3):
        target(f"{number}")
    assert len(memory.selectors.sessions) == 3
    assert memory.selectors.sessions.counts(memory.now).total() == 3
    memory.now += 3601
    assert not memory.selectors.sessions.counts(memory.now)
    target("y")
    assert len(memory.selectors.sessions) == 1


def test_a_reload_keeps_counts_and_forgets_failures_of_what_is_gone() -> None:
    memory = Memory("failover")
    selection = memory.begin()
    for _ in range(3):
        selection.failed(Unreachable("gone"))
    assert [one.failures for one in memory.selectors.views(memory.route)] == [3, 0]
    assert memory.begin().target == "b"
    memory.selectors.configure(memory.config.selectors)
    assert memory.counts == [1, 1]
    assert [one.retry_in_s for one in memory.selectors.views(memory.route)] == [60.0, 0.0]
    gone = loads(TEXT.replace("STRATEGY", "failover").replace("[a, b], s", "[b], s"), environ={})
    memory.selectors.configure(gone.selectors)
    assert [one.failures for one in memory.selectors.views(memory.route)] == [0, 0]


def test_what_fails_together_counts_once() -> None:
    memory = Memory("failover")
    together = [memory.begin() for _ in range(5)]
    for _ in range(2):
        memory.now += 1
        for selection in together:
            selection.failed(Unreachable("gone"))
    assert memory.selectors.views(memory.route)[0].failures == 1
    again = memory.begin()
    assert again.target == "a"
    again.failed(Unreachable("gone"))
    assert memory.selectors.views(memory.route)[0].failures == 2


def test_a_probe_without_a_verdict_lets_the_next_request_probe() -> None:
    memory = Memory("failover")
    for _ in range(3):
        selection = memory.begin()
        selection.failed(Unreachable("gone"))
        selection.close()
    memory.now += 60
    probe = memory.begin()
    assert probe.target == "a"
    assert memory.begin().target == "b"
    probe.close()
    assert memory.begin().target == "a"


def test_without_a_target_the_detail_says_how_each_stands() -> None:
    memory = Memory(standing=Standing.LEAVING)
    with pytest.raises(NoTarget) as caught:
        memory.begin()
    assert caught.value.detail == ": a (leaving), b (leaving)"
    assert caught.value.retry_after_s == 1.0


# --- how models stand -----------------------------------------------------------------------------


def standings(world: World, *names: str) -> list[Standing]:
    return [world.scheduler.standing(name, world.now) for name in names]


def test_how_soon_a_model_can_serve() -> None:
    world = World("a b", a=ModelRules("a", can_sleep=True))
    assert standings(world, "a", "b", "none") == [COLD, COLD, Standing.FAILING]
    first = world.request("a")
    assert standings(world, "a") == [Standing.STARTING]
    world.run(100.0)
    assert standings(world, "a") == [Standing.READY]
    world.request("b").after(10.0)
    assert standings(world, "a", "b") == [Standing.DRAINING, Standing.STARTING]
    world.finish(first)
    assert standings(world, "a") == [Standing.LEAVING]
    world.run(1.0)
    assert standings(world, "a") == [Standing.ASLEEP]
    world.unload("a")
    assert standings(world, "a") == [Standing.LEAVING]


def test_a_model_that_may_not_be_started_yet_is_failing() -> None:
    world = World("a")
    world.fail("a")
    assert standings(world, "a") == [Standing.FAILING]
    world.run(60.0)
    assert standings(world, "a") == [COLD]
