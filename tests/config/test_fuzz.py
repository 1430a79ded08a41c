"""Whatever is fed in: a Config comes out, or a ConfigError; nothing else."""

from pathlib import Path

import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llmsnap.config import Config
from llmsnap.config.loader import loads
from llmsnap.config.nodes import MOST
from llmsnap.config.schema import all_keys
from llmsnap.errors import ConfigError, Problem

EXAMPLE = (Path(__file__).parents[2] / "conf" / "llmsnap.example.yaml").read_text()

KEYS = sorted({path.rpartition(".")[2].rstrip("[]") for path, _ in all_keys()})
words = st.sampled_from(
    [*KEYS, "a", "b", "m", "${a}", "${PORT}", "${MODEL_ID}", "${env.X}", "${env.NO}", "x ${b} y"]
)
scalars = st.one_of(
    words,
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(),
    st.sampled_from(["http://h", "enable", "none", "-1", "1e999", "2026-02-03", ".nan", "0x", "~"]),
)
trees = st.recursive(
    scalars,
    lambda below: st.one_of(
        st.lists(below, max_size=4), st.dictionaries(st.one_of(words, st.text()), below, max_size=6)
    ),
    max_leaves=15,
)
files = st.dictionaries(st.sampled_from(KEYS), trees, max_size=8)
fast = settings(deadline=None, suppress_health_check=list(HealthCheck), max_examples=30)


def outcome(text: str) -> Config | tuple[Problem, ...]:
    try:
        return loads(text, environ={"X": "value"})
    except ConfigError as error:
        problems = error.problems
    assert problems
    assert all(each.what for each in problems)
    return problems


@fast
@given(st.one_of(st.text(), st.text(alphabet=" \n-:[]{}&*#|>!?%@`'\"<~$abe.\t,")))
def test_any_text(text: str) -> None:
    outcome(text)


@fast
@given(files)
def test_any_tree_under_known_keys(tree: object) -> None:
    outcome(yaml.safe_dump(tree, allow_unicode=True))


@fast
@given(st.dictionaries(words, st.dictionaries(st.sampled_from(KEYS), trees), max_size=3))
def test_any_models(models: object) -> None:
    tree = {"models": models, "macros": {"a": 1, "b": "${a}"}}
    outcome(yaml.safe_dump(tree, allow_unicode=True))


@fast
@given(st.data())
def test_any_mutation_of_the_example(data: st.DataObject) -> None:
    lines = EXAMPLE.splitlines()
    for _ in range(data.draw(st.integers(1, 5))):
        index = data.draw(st.integers(0, len(lines) - 1))
        line = lines[index]
        at = data.draw(st.integers(0, len(line)))
        new = data.draw(st.text(max_size=8) | words | st.sampled_from(["", "- ", ": ", "[", "  "]))
        lines[index] = data.draw(
            st.sampled_from([line[:at] + new + line[at:], line[at:], new, line + line])
        )
    outcome("\n".join(lines))


def test_an_alias_bomb_in_metadata() -> None:
    bomb = "x0: &a0 [a, a]\n" + "".join(
        f"x{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 12)
    )
    found = outcome(f"{bomb}models: {{m: {{cmd: 's ${{PORT}}', metadata: {{b: *a11}}}}}}")
    assert "too large" in str(found)


def test_megabytes() -> None:
    words = "x " * 2_000_000
    found = outcome(f"models: {{m: {{cmd: 's ${{PORT}} {words}'}}}}")
    assert "longer than any system accepts" in str(found)
    text = f"models: {{m: {{cmd: 's ${{PORT}}', description: '{words}'}}}}"
    assert isinstance(outcome(text), Config)


def test_macros_that_double() -> None:
    doubling = "".join(f"  m{i}: ${{m{i - 1}}}${{m{i - 1}}}\n" for i in range(1, 60))
    text = f"macros:\n  m0: {'x' * 1000}\n{doubling}models: {{m: {{cmd: 's ${{m59}} ${{PORT}}'}}}}"
    assert "more than 32 MB" in str(outcome(text))


def test_thousands_of_faults() -> None:
    found = outcome("models:\n" + "".join(f"  m{i}: {{ttl: x, cmdd: y}}\n" for i in range(2000)))
    assert (isinstance(found, tuple), len(found)) == (True, MOST)  # type: ignore[arg-type]
