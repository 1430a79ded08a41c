"""The swap matrix in a configuration: its places, its language, and every mistake."""

from llmsnap.config import EvictCost, MatrixConfig, advice_on, partners
from llmsnap.config.expressions import MAX_DEPTH, parse
from llmsnap.config.loader import loads_with_advice
from tests.config.reading import advice, config, excerpt, places, problem, problems
from tests.parity import parity

MODELS = """
models:
  a: &m {cmd: "s ${PORT}"}
  b: {<<: *m, aliases: [bee]}
  c: *m
  org/d:7: *m
"""


def matrix(text: str) -> str:
    return f"{MODELS}matrix: {text}\n"


def matrix_of(text: str, before: str = "") -> MatrixConfig:
    found = config(before + matrix(text)).matrix
    assert found is not None
    return found


@parity("Swap matrix", "`vars`, `evict_costs`, `sets`")
@parity("Swap matrix", "evict_costs: auto", "what it costs to evict a model is its load time")
def test_a_matrix_is_read() -> None:
    found = matrix_of(
        "{vars: {d: 'org/d:7'}, evict_costs: {d: 5, a: 2}, sets: {s: a & (b | d), t: +s | c}}"
    )
    assert found.costs == (EvictCost("a", 2), EvictCost("org/d:7", 5))
    sets = {each.name: str(each.expression) for each in found.sets}
    assert sets == {"s": "a & (b | org/d:7)", "t": "+s | c"}
    assert partners(found) == {"a": {"b", "org/d:7"}, "b": {"a"}, "org/d:7": {"a"}, "c": set()}
    assert not found.learns_costs
    assert matrix_of("{evict_costs: auto, sets: {s: a}}").learns_costs
    hidden = matrix_of("{vars: {a: c}, sets: {s: a}}")
    assert str(hidden.sets[0].expression) == "c", "a var hides a model of its name"
    late = matrix_of("{sets: {a: +late & b, other: c, late: a}}")
    assert [each.name for each in late.sets] == ["late", "a", "other"]


@parity("Swap matrix", "macros in expressions, costs and targets of `vars`")
def test_macros_apply_in_values() -> None:
    text = "{vars: {x: '${who}'}, evict_costs: {a: '${n}'}, sets: {s: '${both} | x'}}"
    found = matrix_of(text, "macros: {both: a & b, n: 3, who: c}\n")
    assert (found.costs, str(found.sets[0].expression)) == ((EvictCost("a", 3),), "a & b | c")


def test_expressions() -> None:
    same = ["a & b | c", "(a | b) & c", "2 of (a, b & c, +s)", "ä | 模型", "2 & of"]
    shown = dict(zip(same, same, strict=True)) | {"((a))": "a", "a\n & 3.5_x-y": "a & 3.5_x-y"}
    assert {text: str(parse(text)) for text in shown} == shown


SETS = "{sets: {s: a & b}}"
GROUPS = "{g: {members: [a]}}"
ROUTER = "routing: {router: "

DECIDES = {
    f"matrix: {SETS}": "matrix",
    "matrix: ": "group",
    ROUTER + f"{{settings: {{matrix: {SETS}}}}}}}": "matrix",
    ROUTER + f"{{settings: {{groups: {GROUPS}, matrix: {SETS}}}}}}}": "group",
    ROUTER + f"{{use: group, settings: {{matrix: {SETS}}}}}}}": "group",
    f"groups: {GROUPS}\n{ROUTER}{{use: matrix, settings: {{matrix: {SETS}}}}}}}": "matrix",
}


@parity("Swap matrix", "`routing.router.settings.matrix`, `routing.router.use`")
def test_what_decides_is_what_the_file_asks_for_or_has() -> None:
    found = {text: config(f"{MODELS}{text}\n") for text in DECIDES}
    assert {text: each.residency for text, each in found.items()} == DECIDES
    assert all((one.matrix is not None) is (one.residency == "matrix") for one in found.values())


CONTRADICTIONS = {
    f"groups: {GROUPS}\nmatrix: {SETS}": "matrix: stands beside groups, in line",
    ROUTER + "{use: matrix}}": "routing.router.use: there is no matrix - add matrix",
    ROUTER + "{use: random}}": "routing.router.use: must be one of",
    f"matrix: {SETS}\n{ROUTER}{{settings: {{matrix: {SETS}}}}}}}": "a matrix is given twice",
}


def test_places_that_contradict_each_other() -> None:
    for text, words in CONTRADICTIONS.items():
        assert words in problem(f"{MODELS}{text}\n")


@parity("Swap matrix", "top-level keys beside `routing.router`", "accepted with advice")
@parity("Swap matrix", "a matrix that is not in use", "its mistakes are advice")
def test_what_stands_beside_or_without_effect_is_advice() -> None:
    (found,) = advice(f"{MODELS}groups: {GROUPS}\n{ROUTER}{{use: group}}}}\n")
    assert found.startswith("groups: stands beside keys of routing.router")
    found = advice(f"{MODELS}{ROUTER}{{use: group, settings: {{matrix: {{sets: {{s: x}}}}}}}}}}\n")
    where = "routing.router.settings.matrix"
    assert found[0].startswith(f"{where}: has no effect with use: group")
    assert found[1].startswith(f'{where}.sets.s: "x" is neither a var nor a model')


MISTAKES = {
    "{}": "matrix.sets: a matrix needs at least one set",
    "[a]": "matrix: must be a mapping",
    "{sets: {s: [a]}}": "matrix.sets.s: must be an expression such as a & b",
    "{sets: {s: }}": "matrix.sets.s: is empty",
    "{sets: {s: '()'}}": 'an operand is missing before ")"',
    "{sets: {s: 'a &'}}": "ends where a name has to follow",
    "{sets: {s: a b}}": '"b" follows an operand directly - put & (both run) or |',
    "{sets: {s: (a & b}}": '"(" is not closed',
    "{sets: {s: a & b)}}": '")" closes nothing',
    "{sets: {s: 'a, b'}}": 'unexpected ","',
    "{sets: {s: 'a & org/d:7'}}": 'unexpected "/" - a name has letters, digits, _ - and .;',
    "{sets: {s: '+ s'}}": "+ stands alone",
    "{sets: {s: axe}}": '"axe" is neither a var nor a model',
    "{sets: {s: a, t: s & b}}": '"s" is a set, not a model - write +s',
    "{sets: {s: bee}}": '"bee" is an alias - write "b"',
    "{sets: {s: +chats, chat: a}}": 'no set "chats" - did you mean "chat"?',
    "{sets: {s: +s}}": "in a circle: s -> s - take one reference out",
    "{sets: {s: +t, t: +s, u: +t & a}}": "in a circle: s -> t -> s",
    "{sets: {s: '4 of (a, b, c)'}}": '"4" of 3 is not possible - write a number from 1 to 3',
    "{sets: {s: 'two of (a, b)'}}": '"two" of 2 is not possible',
    "{vars: {x: bee}, sets: {s: a}}": 'matrix.vars.x: "bee" is an alias - write "b"',
    "{vars: {x: z}, sets: {s: a}}": 'matrix.vars.x: "z", which x stands for, is no model',
    "{vars: {x_y: a}, sets: {s: a}}": '"x_y" is no short name',
    "{evict_costs: {x: 1}, sets: {s: a}}": '"x" is neither a var nor a model',
    "{evict_costs: {a: 0}, sets: {s: a}}": "matrix.evict_costs.a: must be at least 1",
    "{evict_costs: often, sets: {s: a}}": "evict_costs: must be a mapping, or auto",
    "{vars: {x: a}, evict_costs: {a: 1, x: 2}, sets: {s: a}}": 'model "a" has two costs',
}


@parity("Swap matrix", "what is refused")
def test_mistakes() -> None:
    said = {text: excerpt(problem(matrix(text)), words) for text, words in MISTAKES.items()}
    assert said == MISTAKES


def test_all_mistakes_are_told_at_once_with_their_places() -> None:
    text = (
        MODELS + 'matrix:\n  sets:\n    s: a & x & y\n    t: "a b"\n    u: |\n      a &\n      z\n'
    )
    first = MODELS.count("\n") + 3
    assert places(text) == [(first, 12), (first, 16), (first + 1, 11), (first + 2, 8)]
    assert '"z" is neither a var nor a model (character 5)' in problems(text)[3]


def test_depth_is_limited() -> None:
    assert config(matrix(f"{{sets: {{s: {'(' * MAX_DEPTH}a{')' * MAX_DEPTH}}}}}")).matrix
    deep = f"{{sets: {{s: {'(' * 1000}a{')' * 1000}}}}}"
    assert f"more than {MAX_DEPTH} parentheses" in problem(matrix(deep))
    chain = "".join(f"s{n}: '+s{n + 1} & a', " for n in range(300))
    assert "operators within operators" in problem(matrix(f"{{sets: {{{chain}s300: b}}}}"))


def test_targets_of_a_spillover_are_in_one_combination() -> None:
    spillover = "selectors: {s: {strategy: spillover, targets: [a, b, c]}}\n"
    pairs = matrix("{sets: {s: a & b | b & c | a & c}}") + spillover
    assert problem(pairs).startswith(
        "selectors.s.targets: its targets can not all run together - put them into one combination"
    )
    assert config(matrix("{sets: {s: a & b & c}}") + spillover).selectors["s"].targets == (*"abc",)


def test_what_is_odd_about_a_matrix() -> None:
    found = loads_with_advice(matrix("{sets: {two words: a}, set: {}}"), environ={}).advice
    assert [each.where for each in found] == ["matrix.sets.two words", "matrix.set"]


ADDING_NOTHING = {
    "{s: a & b, t: a & b & c}": {"s": "t allows"},
    "{t: a & b & c, s: c}": {"s": "t allows"},
    "{s: a & b, t: b & a}": {"t": "s allows"},
    "{t: a & b, u: c & d, s: a & b | c & d}": {"s": "t, u allow"},
    "{s: '2 of (a, b, c)', t: a & c}": {"t": "s allows"},
    "{s: a & b, t: +s & c}": {},
    "{s: a & b, t: b & c, u: a & c}": {},
    "{s: '2 of (a, b, c)', t: a & b & c, u: d}": {"s": "t allows"},
}


def test_a_set_that_adds_nothing_is_advised_about() -> None:
    for sets, names in ADDING_NOTHING.items():
        text = matrix(f"{{vars: {{d: 'org/d:7'}}, sets: {sets}}}")
        found = advice_on(loads_with_advice(text, environ={}))
        said = {each.where: each.what for each in found if "no set of the matrix" not in each.what}
        assert said == {
            f"matrix.sets.{name}": f"adds nothing: {others} all it allows"
            for name, others in names.items()
        }
