"""The swap matrix: against a reference that expands everything, and the defects of llama-swap."""

import math
from collections.abc import Iterator, Mapping
from itertools import combinations, product
from random import Random

import pytest

from llmsnap.config import Expression, MatrixConfig
from llmsnap.config.matrix import allows
from llmsnap.models import State
from llmsnap.routing.matrix import Graph, Matrix, Solver, learned_costs
from llmsnap.routing.memory import Device, Memory, Need, Share
from llmsnap.routing.messages import Eviction, ModelRules, SwapOutcome
from llmsnap.routing.residency import Action, Lost, Plan, PlannedSwap, Residency
from tests.drawn import cases
from tests.parity import parity
from tests.routing.facts import Facts
from tests.routing.residencies import any_matrix
from tests.routing.world import World, matrix

MODELS = "abcdefg"

# --- the reference --------------------------------------------------------------------------------

Combination = frozenset[str]


def expanded(node: Expression, sets: Mapping[str, list[Combination]]) -> list[Combination]:
    """All combinations of an expression, in definition order."""
    if node.op == "model":
        return [frozenset({node.name})]
    if node.op == "set":
        return sets[node.name]
    parts = [expanded(each, sets) for each in node.operands]
    if node.op == "or":
        return [combination for part in parts for combination in part]
    if node.op == "and":
        return [frozenset().union(*chosen) for chosen in product(*parts)]
    return list(some_of(node.count, parts))


def some_of(count: int, parts: list[list[Combination]]) -> Iterator[Combination]:
    """*count* of *parts*: those with the first stand before those without it."""
    if not count:
        yield frozenset()
    elif len(parts) >= count:
        for first in parts[0]:
            yield from (first | rest for rest in some_of(count - 1, parts[1:]))
        yield from some_of(count, parts[1:])


def all_combinations(config: MatrixConfig) -> list[Combination]:
    sets: dict[str, list[Combination]] = {}
    for each in config.sets:
        sets[each.name] = expanded(each.expression, sets)
    return [combination for found in sets.values() for combination in found]


def best(
    config: MatrixConfig, target: str, running: set[str], facts: Mapping[str, Facts]
) -> tuple[float, set[str], Combination]:
    """Cost and victims of the best combination, and that combination; by trying all."""
    costs = {each.model_id: each.cost for each in config.costs}

    def key(numbered: tuple[int, Combination]) -> tuple[float, bool, float, int]:
        number, combination = numbered
        victims = running - combination
        return (
            sum(costs.get(name, 1) for name in victims),
            any(facts[name].busy for name in victims),
            max(
                (1e9 if facts[name].busy else facts[name].idle_since for name in victims),
                default=-1,
            ),
            number,
        )

    allowed = [each for each in enumerate(all_combinations(config)) if target in each[1]]
    chosen = min(allowed, key=key)[1] if allowed else frozenset()
    victims = running - chosen - {target}
    return sum(costs.get(name, 1) for name in victims), victims, chosen


# --- against the reference ------------------------------------------------------------------------


def some(chance: Random, part: float) -> list[str]:
    return [name for name in MODELS if chance.random() < part]


@cases(1500)
def test_plans_are_those_of_the_reference(chance: Random) -> None:
    rules, target = any_matrix(chance, MODELS), chance.choice(MODELS)
    running = set(some(chance, chance.random())) - {target}
    busy, times = some(chance, 0.3 * chance.randint(0, 2)), chance.choice([[0.0], [0.0, 1.0, 2.0]])
    facts = {name: Facts(busy=name in busy, idle_since=chance.choice(times)) for name in MODELS}
    plan = rules.plan(target, sorted(running), facts)
    cost, victims, combination = best(rules.config, target, running, facts)
    assert rules.plan(target, sorted(running), facts) == plan
    assert (plan.cost, set(plan.victims)) == (cost, victims)
    assert plan.stays == running - victims | {target}
    if combination:
        assert plan.allowed is not None
        assert set(plan.allowed.combination) == combination
    else:
        assert plan.allowed is None


def test_what_is_allowed_is_a_part_of_a_combination() -> None:
    rules = matrix("a b c d e", s="a & (b | c) | d", t="+s & e | 2 of (c, d, e)")
    combinations_ = all_combinations(rules.config)
    for size in range(1, 5):
        for names in combinations("abcde", size):
            expected = size == 1 or any(set(names) <= each for each in combinations_)
            assert rules.allows(set(names)) is expected
            assert allows(rules.config, frozenset(names)) is expected


def test_the_product_is_never_expanded() -> None:
    """10^12 combinations of 200 models, 12 of which run: few sets of models are looked at."""
    names = [f"m{number}" for number in range(200)]
    rows = [names[start : start + 10] for start in range(0, 120, 10)]
    text = " & ".join(f"({' | '.join(row)})" for row in rows)
    config = matrix(" ".join(names), s=text).config
    graph = Graph(config)
    assert graph.terms[graph.sets["s"]].size == 10**12
    solver = Solver(graph, graph.bits["m3"] | sum(graph.bits[row[0]] for row in rows))
    assert len(solver.largest(graph.sets["s"])) == 2
    plan = Matrix(config).plan("m3", [row[0] for row in rows], dict.fromkeys(names, Facts()))
    assert plan.victims == ("m0",)


# --- what an expression means ---------------------------------------------------------------------

EITHER = "a & c | b & c"


def leaving(rules: Matrix, target: str, running: str, **facts: Facts) -> str:
    known = {name: facts.get(name, Facts()) for name in {*running, target}}
    return "".join(rules.plan(target, list(running), known).victims)


@parity("Swap matrix", "`sets`: `&`, `|`, parentheses, `+name`")
@pytest.mark.parametrize(
    ("text", "target", "running", "victims"),
    [
        ("a & b | c", "a", "b", ""),
        ("a & b | c", "c", "ab", "ab"),
        ("a & (b | c)", "c", "ab", "b"),
        ("a & b & c", "a", "bc", ""),  # a part of a combination is allowed
        ("2 of (a, b, c)", "c", "a", ""),
        ("3 of (a, b & d, c)", "c", "adb", ""),
    ],
)
def test_who_leaves(text: str, target: str, running: str, victims: str) -> None:
    assert leaving(matrix("a b c d", s=text), target, running) == victims


@parity("Swap matrix", "`evict_costs`", "the same; `auto` takes measured load times")
def test_the_cheapest_leave() -> None:
    assert leaving(matrix("a b c", "a: 2", s=EITHER), "c", "ab") == "b"
    assert leaving(matrix("a b c", "b: 2", s=EITHER), "c", "ab") == "a"
    learns = matrix("a b c", "auto", s=EITHER)
    assert leaving(learns, "c", "ab", a=Facts(start_s=5.0), b=Facts(start_s=60.0)) == "a"


@pytest.mark.parametrize(
    ("measured", "costs"),
    [
        ([None, None], [1.0, 1.0]),
        ([0.2, 40.4], [1.0, 40.0]),
        ([None, 30.0, 50.0], [40.0, 30.0, 50.0]),  # as the median of the measured ones
    ],
)
def test_costs_are_learned_from_loads(measured: list[float | None], costs: list[float]) -> None:
    facts = {str(number): Facts(start_s=seconds) for number, seconds in enumerate(measured)}
    assert list(learned_costs(facts).values()) == costs


@parity(
    "Swap matrix",
    "among equal costs, the model named first stays",
    "an idle one leaves before a busy one, then the one used longest ago, then the order decides",
)
@pytest.mark.parametrize(
    ("facts", "victims"),
    [
        ({"a": Facts(busy=True), "b": Facts(idle_since=9.0)}, "b"),
        ({"a": Facts(idle_since=9.0), "b": Facts(idle_since=1.0)}, "b"),
        ({"a": Facts(idle_since=1.0), "b": Facts(idle_since=9.0)}, "a"),
        ({"a": Facts(state=State.STARTING), "b": Facts(busy=True)}, "b"),  # a is promised
        ({"a": Facts(busy=True), "b": Facts(busy=True)}, "b"),  # a & c is defined first
        ({}, "b"),
    ],
)
def test_equal_costs(facts: dict[str, Facts], victims: str) -> None:
    assert leaving(matrix("a b c", s=EITHER), "c", "ab", **facts) == victims


def test_a_set_that_another_one_refers_to_counts_as_defined_before_it() -> None:
    assert leaving(matrix("a b c", late="c & a | +early", early="c & b"), "c", "ab") == "a"


def test_a_plan_says_what_it_follows_and_what_it_was_preferred_to() -> None:
    rules = matrix("a b c d", "d: 9", s="d & (a | b | c) | a & b")
    facts = {"a": Facts(busy=True), "b": Facts(), "c": Facts(), "d": Facts()}
    plan = rules.plan("c", ["a", "d"], facts)
    assert plan.victims == ("a",)
    assert (plan.cost, plan.why) == (1.0, "set s allows d & c")
    assert plan.allowed is not None
    assert (plan.allowed.set_name, plan.allowed.combination) == ("s", ("d", "c"))
    any_two = matrix("a b c d", s="2 of (a, b, c, d)")
    many = any_two.plan("d", ["a", "b"], {**facts, "b": Facts(idle_since=3.0)})
    assert [(each.victims, each.lost_by) for each in many.considered] == [(("a",), Lost.BUSY)]


def test_models_that_are_leaving_cost_nothing_and_are_waited_for_if_they_conflict() -> None:
    rules = matrix("a b c d", "a: 5", s="c & d | a & b")
    facts = {name: Facts() for name in "abcd"} | {"a": Facts(state=State.STOPPING)}
    plan = rules.plan("c", ["a", "d"], facts)
    assert (plan.victims, plan.cost, plan.stays) == (("a",), 0.0, frozenset("cd"))
    assert rules.plan("b", ["a"], facts).victims == ()  # may run beside it


def test_gates_stay_shut_for_a_plan_as_long_as_none_is_cheaper_or_idle() -> None:
    rules = matrix("a b c d", "d: 2", s="c & (a | b | d)")
    current = Plan(("a", "d"))
    busy = {name: Facts(busy=True, idle_since=1.0) for name in "abcd"}
    two = matrix("a b c", s=EITHER)
    both = {name: Facts(busy=True) for name in "abc"}
    assert two.plan("c", ["a", "b"], both, Plan(("a",))).victims == ("a",)
    assert two.plan("c", ["a", "b"], both, Plan(("b",))).victims == ("b",)
    idle = {**both, "b": Facts()}
    assert two.plan("c", ["a", "b"], idle, Plan(("a",))).victims == ("b",)
    idle = {"a": Facts(idle_since=2.0), "b": Facts(idle_since=1.0), "c": Facts()}
    late = two.plan("c", ["a", "b"], idle, Plan(("a",)))
    assert [(late.victims, each.lost_by) for each in late.considered] == [(("a",), Lost.LATE)]
    cheaper = matrix("a b c", "a: 2", s=EITHER)
    assert cheaper.plan("c", ["a", "b"], both, Plan(("a",))).victims == ("b",)
    three = matrix("a b c d", "a: 2", s="c & (a & d | b & d | a & b)")
    used = {name: Facts(idle_since=each) for name, each in zip("abcd", (3, 3, 0, 1), strict=True)}
    assert three.plan("c", ["a", "b", "d"], used).victims == ("d",)
    # Either of the two might stay now; the gate of d is open, and the cheaper one leaves.
    assert three.plan("c", ["a", "b", "d"], used, Plan(("a", "b"))).victims == ("b",)
    assert rules.plan("c", ["b"], busy, current).victims == ()


# --- swaps side by side ---------------------------------------------------------------------------


def swap(rules: Matrix, target: str, running: str) -> PlannedSwap:
    """A swap beside one to c, which is promised."""
    facts = {name: Facts(busy=name == "c") for name in {*running, target}}
    plan = rules.plan(target, list(running), facts)
    return PlannedSwap(target, plan)


@pytest.mark.parametrize(
    ("text", "one", "other", "fit"),
    [
        ("2 of (a, b, c, d)", ("c", "ab"), ("d", "ac"), True),  # other victims, two in the end
        ("2 of (a, b, c, d)", ("c", "ab"), ("c", "ab"), False),
        ("a & b | c & d", ("c", "ab"), ("d", "c"), False),  # a and b are still there
        ("a & b | c & d", ("c", ""), ("d", "c"), True),
        ("a | b", ("a", ""), ("b", ""), False),
    ],
)
def test_swaps_fit_if_what_runs_is_allowed_at_all_times(
    text: str, one: tuple[str, str], other: tuple[str, str], fit: bool
) -> None:
    rules = matrix("a b c d", s=text)
    assert rules.compatible(swap(rules, *one), swap(rules, *other)) is fit


def test_more_than_a_few_swaps_at_once_wait_for_each_other() -> None:
    rules = matrix("a b c d e f g h i j k l", s="6 of (a, b, c, d, e, f, g, h, i, j, k, l)")
    swaps = rules.swap_set()
    pairs = list(zip("abcdef", "ghijkl", strict=True))
    admitted = []
    running = list("abcdef")
    for victim, target in pairs:
        running = [name for name in running if name != victim]
        planned = PlannedSwap(target, Plan((victim,), stays=frozenset([*running, target])))
        admitted.append(swaps.admits(planned))
        swaps.add(planned)
        running.append(target)
    assert admitted == [True, True, True, True, True, False]


# --- with the scheduler ---------------------------------------------------------------------------

ANY_TWO = "2 of (m1, m2, m3, m4)"
FOUR = "m1 m2 m3 m4"


def any_two(rule: str = "matrix") -> World:
    """Any two of four models; m1 and m2 run, m2 was used last."""
    names = FOUR.split()
    residency: Residency = matrix(FOUR, s=ANY_TWO)
    if rule == "memory":
        residency = Memory([Device("gpu0", 16)], [Need(n, (Share("gpu0", 8),)) for n in names])
    elif rule == "two cards":
        cards = [Device("gpu0", 8), Device("gpu1", 8)]
        residency = Memory(cards, [Need(name, anywhere=8) for name in names])
    world = World(FOUR, residency=residency)
    world.serve("m1", "m2")
    return world


either_rule = pytest.mark.parametrize("rule", ["matrix", "memory", "two cards"])


@parity(
    "Swap matrix",
    "the model that was loaded last may leave first",
    "the one used longest ago leaves",
)
@either_rule
def test_the_model_used_longest_ago_leaves(rule: str) -> None:
    world = any_two(rule)
    world.serve("m3", "m4")
    evicted = [[each.model_id for each in record.evicted] for record in world.records[2:]]
    assert evicted == [["m1"], ["m2"]]


@parity(
    "Swap matrix",
    "a request may wait for a busy model though an idle one could leave",
    "the idle one leaves at once",
)
@either_rule
def test_an_idle_model_leaves_before_a_busy_one_at_the_same_cost(rule: str) -> None:
    world = any_two(rule)
    stream = world.request("m1")
    assert world.request("m3", 1.0).after(2.0).waited_s == 1.5  # the stop of m2, and a load
    assert world.records[-1].evicted == (Eviction("m2", Action.STOP),)
    assert stream.in_flight


@parity(
    "Swap matrix",
    "replacements run one after another",
    "side by side if what runs is allowed at all times",
)
@either_rule
def test_two_replacements_run_side_by_side(rule: str) -> None:
    world = any_two(rule)
    both = [world.request("m3", 1.0), world.request("m4", 1.0)]
    world.run(2.0)
    assert [asked.waited_s for asked in both] == [1.5, 1.5]
    assert [record.waits_s for record in world.records[-2:]] == [(1.5,), (1.5,)]


@either_rule
def test_models_that_are_starting_count(rule: str) -> None:
    world = any_two(rule)
    world.models["m3"].load_s = 20.0
    world.request("m3", 1.0).after(5.0)
    world.request("m4", 1.0)
    assert world.after(5.0).records[-1].evicted == (Eviction("m2", Action.STOP),)
    assert [world.state(name) for name in ("m3", "m4")] == ["starting", "ready"]


@either_rule
def test_gates_open_when_a_cheaper_plan_is_found(rule: str) -> None:
    """One is drained for m3; the other becomes idle: it leaves, and the one drained serves on."""
    world = any_two(rule)
    streams = {name: world.request(name) for name in ("m1", "m2")}
    asked = world.request("m3", 1.0).after(30.0)
    (swap,) = world.scheduler._state.swaps.values()
    (drained,) = swap.victims
    stream = streams.pop(drained)
    late = world.request(drained)
    assert late.pending
    world.finish(*streams.values())
    assert late.in_flight
    assert asked.after(2.0).granted_at is not None
    ended = [(record.target, record.outcome, record.error) for record in world.records[2:]]
    assert ended == [
        ("m3", SwapOutcome.ABORTED, "there is a better plan"),
        ("m3", SwapOutcome.DONE, ""),
    ]
    assert stream.in_flight


def test_the_choice_stands_once_the_first_victim_leaves() -> None:
    world = any_two()
    world.models["m1"].stop_s = 30.0
    stream = world.request("m2")
    asked = world.request("m3", 1.0).after(1.0)
    world.finish(stream)
    assert asked.after(40.0).waited_s == 31.0
    assert world.state("m2") == "ready"


def test_a_victim_that_can_sleep_sleeps_and_takes_no_room() -> None:
    world = any_two()
    world.rules["m1"] = ModelRules("m1", can_sleep=True)
    world.configure()
    world.serve("m3", "m4")
    assert (world.state("m1"), world.state("m2")) == ("asleep", "stopped")
    assert math.isfinite(world.records[-1].ended_s)


def test_servers_of_other_programs_evict_none_and_stay() -> None:
    rules = Matrix(matrix("a b x", s="a | b").config, ["x"])
    facts = {name: Facts() for name in "abx"}
    assert rules.plan("x", ["a"], facts).victims == ()
    assert rules.plan("a", ["b", "x"], facts).victims == ("b",)
    assert rules.allows({"a", "x"})


def test_a_preview_says_what_a_load_would_do_with_other_models_loaded() -> None:
    world = any_two()
    ready = world.preview("m1")
    assert (ready["answer"], ready["leaving"]) == ("ready", [])
    found = world.preview("m3")
    assert (found["victims"], found["set"], found["combination"]) == (["m1"], "s", ["m2", "m3"])
    assert found["considered"] == [{"victims": ["m2"], "cost": 1.0, "lost_by": "recent"}]
    (leaves,) = found["leaving"]
    assert (leaves["model"], leaves["frees"], leaves["idle_s"] > 0) == ("m1", None, True)
    assert world.preview("m3", ["m4"])["victims"] == []
    world.request("m3")
    found = world.preview("m3")
    assert (found["answer"], found["eta_s"]) == ("under_way", None), "no load was measured"
    assert world.after(20.0).preview("m1")["eta_s"] > 0
    assert world.scheduler.preview("m9", world.now) is None
