"""Whatever is fed in: a Config comes out, or a ConfigError; nothing else."""

import re
from pathlib import Path
from random import Random

from llmsnap.config import Config
from llmsnap.config.loader import loads
from llmsnap.config.nodes import MOST
from llmsnap.config.schema import all_keys
from llmsnap.errors import ConfigError, Problem
from tests.drawn import cases

LINES = (Path(__file__).parents[2] / "conf" / "llmsnap.example.yaml").read_text().splitlines()
KEYS = sorted({path.rpartition(".")[2].rstrip("[]") for path, _ in all_keys()})
OF_MODELS = [path.split(".")[2] for path, _ in all_keys() if re.fullmatch(r"models\.\*\.\w+", path)]
WORDS = [*KEYS, "a", "b", "m", "é", "1", "'x y'", '""', "true", "'${a}'", "'${env.X}'"]
SCALARS = [
    *WORDS,
    *(
        "'${PORT}'",
        "'${MODEL_ID}'",
        "${env.X}",
        "'${env.NO}'",
        "'x ${b} y'",
        "' '",
        '"\\0\\t\\u2028"',
    ),
    *("http://h", "enable", "none", "-1", "0", "7.5", "1e999", "2026-02-03", ".nan", "0x", "~", ""),
    *("false", "'5'", "18446744073709551616", "gpu0", "1GiB", "[[", "&x y", "*x", "10m", "/x"),
]
SIGNS = " \n-:[]{}&*#|>!?%@`'\"<~$abe.\t,é\0"


def tree(random: Random, depth: int = 4) -> str:
    """A value as YAML: a scalar, or a list or a mapping of values."""
    kind = random.random() if depth else 1
    if kind > 0.6:
        return random.choice(SCALARS)
    below = [tree(random, depth - 1) for _ in range(random.randrange(5))]
    return f"[{', '.join(below)}]" if kind < 0.2 else mapping(random, WORDS, below)


def mapping(random: Random, names: list[str], values: list[str]) -> str:
    pairs = zip(random.sample(names, len(values)), values, strict=True)
    return f"{{{', '.join(f'{name}: {value}' for name, value in pairs)}}}"


def any_text(random: Random) -> str:
    return "".join(random.choices(SIGNS, k=random.randrange(60)))


def any_tree_under_known_keys(random: Random) -> str:
    return mapping(random, KEYS, [tree(random) for _ in range(random.randrange(9))])


def any_models(random: Random) -> str:
    models = [
        mapping(random, OF_MODELS, [tree(random, 3) for _ in range(random.randrange(9))])
        for _ in range(random.randrange(4))
    ]
    return f"macros: {{a: 1, b: '${{a}}'}}\nmodels: {mapping(random, WORDS, models)}"


def any_mutation_of_the_example(random: Random) -> str:
    lines = [*LINES]
    for _ in range(random.choice((1, 1, 2, 5))):
        index = random.randrange(len(lines))
        line = lines[index]
        at = random.randint(0, len(line))
        new = random.choice([*SCALARS, any_text(random)[:8], "- ", ": ", "[", "  "])
        lines[index] = random.choice([line[:at] + new + line[at:], line[at:], new, line + line])
    return "\n".join(lines)


def outcome(text: str) -> Config | tuple[Problem, ...]:
    try:
        return loads(text, environ={"X": "value"})
    except ConfigError as error:
        problems = error.problems
    assert problems
    assert all(each.what for each in problems)
    return problems


@cases(30)
def test_any_file(chance: Random) -> None:
    for make in (any_text, any_tree_under_known_keys, any_models, any_mutation_of_the_example):
        outcome(make(chance))


def test_an_alias_bomb_in_metadata() -> None:
    bomb = "x0: &a0 [a, a]\n" + "".join(
        f"x{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 12)
    )
    found = outcome(f"{bomb}models: {{m: {{cmd: 's ${{PORT}}', metadata: {{b: *a11}}}}}}")
    assert "too large" in str(found)


def test_megabytes() -> None:
    words = "x " * 1_050_000
    found = outcome(f"models: {{m: {{cmd: 's ${{PORT}} {words}'}}}}")
    assert "longer than any system accepts" in str(found)
    text = f"models: {{m: {{cmd: 's ${{PORT}}', description: '{words}'}}}}"
    assert isinstance(outcome(text), Config)


def test_macros_grow_to_32_megabytes_in_all_models_together() -> None:
    model = f"{{cmd: 's ${{PORT}}', description: '{'${a}' * 9}'}}"
    text = f"macros: {{a: {'x' * 1_000_000}}}\nmodels: {{a: {model}, b: {model}, c: {model}"
    assert isinstance(outcome(f"{text}}}"), Config)
    assert "more than 32 MB" in str(outcome(f"{text}, d: {model}}}"))


def test_hundreds_of_faults() -> None:
    found = outcome("models:\n" + "".join(f"  m{i}: {{ttl: x, cmdd: y}}\n" for i in range(300)))
    assert (isinstance(found, tuple), len(found)) == (True, MOST)  # type: ignore[arg-type]
