"""Shorthands: a text in, its configuration, its problems or its advice out."""

from textwrap import dedent

import pytest

from llmsnap.config import Config, ModelConfig
from llmsnap.config.loader import loads, loads_with_advice
from llmsnap.errors import ConfigError


def config(text: str, **environ: str) -> Config:
    return loads(dedent(text), environ=environ)


def model(text: str, model_id: str = "m", **environ: str) -> ModelConfig:
    """The model *model_id*, whose keys *text* gives; ``cmd`` is added unless it is there."""
    lines = dedent(text).strip().splitlines()
    if not any(line.startswith("cmd:") for line in lines):
        lines.insert(0, "cmd: srv ${PORT}")
    body = "\n".join(f"    {line}" for line in lines)
    return config(f"models:\n  {model_id}:\n{body}\n", **environ).models[model_id]


def problems(text: str, **environ: str) -> list[str]:
    try:
        loads(dedent(text), environ=environ)
    except ConfigError as error:
        return [str(problem) for problem in error.problems]
    raise AssertionError(f"it is accepted: {text}")


def problem(text: str, **environ: str) -> str:
    only, *others = problems(text, **environ)
    assert not others, (text, only, others)
    return only


def places(text: str) -> list[tuple[int, int]]:
    """The line and column of each problem."""
    with pytest.raises(ConfigError) as caught:
        loads(dedent(text), environ={})
    return [(each.line, each.column) for each in caught.value.problems]


def advice(text: str, **environ: str) -> list[str]:
    return [str(each) for each in loads_with_advice(dedent(text), environ=environ).advice]


def excerpt(said: str, words: str) -> str:
    """*words* if they stand in *said*, else all of it, so that a comparison of tables shows it."""
    return words if words in said else said
