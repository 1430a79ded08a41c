"""Runs one fuzzer for a while, until its time is up or an input fails.

    python -m tests.fuzz.engine NAME SECONDS SEED

Atheris (libFuzzer) where it is installed: guided by what code an input reaches. Otherwise inputs
are mutated at random, from the seed that is printed.
"""

import contextlib
import hashlib
import importlib
import random
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn, Protocol

CORPUS = Path(__file__).parent / "corpus"
ROOT = CORPUS.parents[2]
WORK = ROOT / "build" / "fuzz"
TARGETS = ("head", "chunks", "forms", "documents", "streams", "configs")
INPUT_LIMIT_S = 10
"""An input that takes longer is a finding."""
MAX_BYTES = 4096
FOUND = 77  # libFuzzer's exit code for an input that failed


class Fuzzer(Protocol):
    """A module below this folder: what it feeds, and how it judges."""

    WORDS: Sequence[bytes]
    """What inputs are made of, besides bytes."""
    SEEDS: Sequence[bytes]
    """Inputs to begin with, besides those in ``corpus/NAME``."""

    @staticmethod
    def check(data: bytes) -> None:
        """Raise whatever shows that something is wrong with how *data* was taken."""


def kept(name: str) -> list[Path]:
    """The files of inputs that are kept, those that once failed among them."""
    return sorted((CORPUS / name).glob("*"))


def save(name: str, data: bytes) -> Path:
    """Keep an input that fails; the unit tests feed it from now on."""
    path = CORPUS / name / f"crash-{hashlib.sha1(data).hexdigest()}"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def main(arguments: Sequence[str]) -> int:
    name, seconds, seed = arguments[0], int(arguments[1]), int(arguments[2])
    try:
        atheris = importlib.import_module("atheris")
    except ImportError:
        atheris = None
    if atheris is None:
        print(f"{name}: seed {seed}, at random (atheris is not installed)", flush=True)
        fuzzer = importlib.import_module(f"tests.fuzz.{name}")
        return at_random(name, fuzzer, time.monotonic() + seconds, random.Random(seed))
    print(f"{name}: seed {seed}, guided by atheris", flush=True)
    with atheris.instrument_imports(include=["llmsnap"]):
        fuzzer = importlib.import_module(f"tests.fuzz.{name}")
    return guided(atheris, name, fuzzer, seconds, seed)


def guided(atheris: Any, name: str, fuzzer: Fuzzer, seconds: int, seed: int) -> int:
    """Hand over to libFuzzer, which ends the process."""
    grown = WORK / name
    for folder in (grown, CORPUS / name):
        folder.mkdir(parents=True, exist_ok=True)
    for number, data in enumerate(fuzzer.SEEDS):
        (grown / f"seed-{number}").write_bytes(data)
    words = WORK / f"{name}.dict"
    words.write_text("".join(f'"{quoted(word)}"\n' for word in fuzzer.WORDS))
    options = [
        f"-max_total_time={seconds}",
        f"-seed={seed}",
        f"-timeout={INPUT_LIMIT_S}",
        f"-max_len={max(MAX_BYTES, *map(len, fuzzer.SEEDS))}",
        f"-dict={words}",
        f"-artifact_prefix={CORPUS / name}/",
        "-print_final_stats=1",
        str(grown),
        str(CORPUS / name),
    ]
    atheris.Setup([sys.argv[0], *options], fuzzer.check)
    atheris.Fuzz()
    raise AssertionError("atheris ends the process")


def quoted(word: bytes) -> str:
    """*word* as libFuzzer's dictionaries have it."""
    return "".join(f"\\x{c:02x}" for c in word)


def at_random(name: str, fuzzer: Fuzzer, until: float, chance: random.Random) -> int:
    """Feed mutations of what is kept until *until*, on the monotonic clock."""
    pool = [*fuzzer.SEEDS, *(path.read_bytes() for path in kept(name))]
    waiting = list(pool)
    runs = 0
    while time.monotonic() < until:
        data = waiting.pop() if waiting else mutated(chance, pool, fuzzer.WORDS)
        runs += 1
        try:
            with within(INPUT_LIMIT_S):
                fuzzer.check(data)
        except Exception:  # noqa: BLE001 - whatever it is, it is what is looked for
            traceback.print_exc()
            print(f"{name}: input {runs} fails, kept as {save(name, data)}", flush=True)
            return FOUND
    print(f"{name}: {runs} inputs", flush=True)
    return 0


@contextlib.contextmanager
def within(seconds: float) -> Iterator[None]:
    """Interrupt what takes longer, with TimeoutError."""

    def interrupt(number: int, frame: object) -> NoReturn:
        raise TimeoutError(f"an input took longer than {seconds} s")

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def mutated(chance: random.Random, pool: Sequence[bytes], words: Sequence[bytes]) -> bytes:
    """An input of the pool after a few changes."""
    data = chance.choice(pool)
    for _ in range(chance.choice((1, 1, 2, 3, 5, 8))):
        change = chance.choice(CHANGES)
        start, end = sorted(chance.randint(0, len(data)) for _ in range(2))
        if chance.random() < 0.5:
            end = min(end, start + chance.randint(0, 8))
        data = data[:start] + change(chance, data[start:end], pool, words) + data[end:]
    return data[: max(MAX_BYTES, *map(len, pool))]


Change = Callable[[random.Random, bytes, Sequence[bytes], Sequence[bytes]], bytes]
CHANGES: list[Change] = [
    lambda chance, old, pool, words: b"",
    lambda chance, old, pool, words: old * chance.choice((2, 2, 3, 40)),
    lambda chance, old, pool, words: chance.choice(words),
    lambda chance, old, pool, words: old + chance.choice(words),
    lambda chance, old, pool, words: chance.randbytes(len(old) or 1),
    lambda chance, old, pool, words: old + bytes([chance.randrange(256)]),
    lambda chance, old, pool, words: old.swapcase(),
    lambda chance, old, pool, words: spliced(chance, chance.choice(pool)),
    lambda chance, old, pool, words: str(chance.choice((0, 1, 9, 255, 2**32, 2**64))).encode(),
]


def spliced(chance: random.Random, other: bytes) -> bytes:
    start, end = sorted(chance.randint(0, len(other)) for _ in range(2))
    return other[start:end]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
