"""Inputs that are kept, because they once failed or reach what others do not, pass."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.fuzz import engine
from tests.fuzz.engine import FOUND, TARGETS, at_random, kept

FAR_OFF = float("inf")


@pytest.mark.parametrize("name", TARGETS)
def test_what_is_kept_passes(name: str) -> None:
    fuzzer = import_module(f"tests.fuzz.{name}")
    for number, data in enumerate(fuzzer.SEEDS):
        with naming(f"seed {number}"):
            fuzzer.check(data)
    for path in kept(name):
        with naming(path.name):
            fuzzer.check(path.read_bytes())


@contextmanager
def naming(what: str) -> Iterator[None]:
    """Adds to a failure which input it was."""
    try:
        yield
    except Exception as error:
        error.add_note(f"the input: {what}")
        raise


def fuzzer_that(check) -> SimpleNamespace:
    return SimpleNamespace(WORDS=[b"word"], SEEDS=[b"seed"], check=check)


@pytest.fixture
def corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(engine, "CORPUS", tmp_path)
    return tmp_path


def test_an_input_that_fails_ends_the_run_and_is_kept(corpus: Path) -> None:
    def check(data: bytes) -> None:
        assert b"word" not in data

    assert at_random("head", fuzzer_that(check), FAR_OFF, random.Random(1)) == FOUND
    (path,) = kept("head")
    assert b"word" in path.read_bytes()
    assert at_random("head", fuzzer_that(check), FAR_OFF, random.Random(2)) == FOUND
    assert kept("head") == [path], "what is kept comes first"


def test_an_input_that_takes_too_long_fails(corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def check(data: bytes) -> None:
        while True:
            pass

    monkeypatch.setattr(engine, "INPUT_LIMIT_S", 0.05)
    assert at_random("head", fuzzer_that(check), FAR_OFF, random.Random(1)) == FOUND
