"""Which changes of the files of a command end the back-off of its model."""

import os
from collections.abc import Callable
from itertools import product
from pathlib import Path

import gevent
import pytest
from gevent.event import Event

from llmsnap.launchers.base import LaunchSpec
from llmsnap.launchers.local import files
from llmsnap.launchers.local.child import LocalLauncher
from tests.launchers import LIMIT_S, until

ENV = ["WEIGHTS={dir}/env.gguf"]
COMMANDS = {
    "the program": ("{dir}/serve -m x", "serve"),
    "a program of the path": ("serve -m x", "serve"),
    "a program behind another": ("nice -n 5 env A=b serve -m x", "serve"),
    "a program in a shell's text": ("sh -c 'exec serve -m x || exit 1'", "serve"),
    "a script": ("bash {dir}/run.sh", "run.sh"),
    "a word": ("x -m {dir}/a.gguf", "a.gguf"),
    "a link": ("x -m {dir}/link.gguf", "a.gguf"),
    "a quoted word": ('x -m "{dir}/a b.gguf"', "a b.gguf"),
    "an option with its value": ("x --model={dir}/a.gguf", "a.gguf"),
    "a path in a shell's text": ("sh -c 'x -m {dir}/a.gguf --port 1'", "a.gguf"),
    "a quoted path in a shell's text": ("""sh -c 'x -m "{dir}/a.gguf"'""", "a.gguf"),
    "a value of the environment": ("x", "env.gguf"),
    "a file of a model's directory": ("vllm serve {dir}/qwen", "qwen/model.safetensors"),
    "a configuration there": ("vllm serve {dir}/qwen", "qwen/config.json"),
}


def change(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"x")


def touch(path: Path) -> None:
    os.utime(path, ns=(1, path.stat().st_mtime_ns + 1))


def replace(path: Path) -> None:
    """Put another file of the same size and time in its place."""
    new, times = path.with_suffix(".new"), path.stat()
    new.write_bytes(bytes(times.st_size))
    new.chmod(times.st_mode)
    os.utime(new, ns=(times.st_atime_ns, times.st_mtime_ns))
    new.rename(path)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch) -> Path:
    (tmp_path / "qwen").mkdir()
    for _, name in COMMANDS.values():
        (tmp_path / name).write_bytes(b"12")
    (tmp_path / "link.gguf").symlink_to(tmp_path / "a.gguf")
    (tmp_path / "serve").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    return tmp_path


@pytest.fixture
def look(folder: Path) -> Callable[[str], files.Fingerprint | None]:
    """What a launcher finds of the files of a command."""
    launcher = LocalLauncher("files")
    env = tuple(each.format(dir=folder) for each in ENV)

    def found(cmd: str) -> files.Fingerprint | None:
        text = cmd.format(dir=folder)
        return launcher.fingerprint(LaunchSpec("m", text, "http://localhost:1", env))

    return found


def test_a_file_that_changes_goes_or_comes_is_noticed(folder: Path, look) -> None:
    elsewhere = folder / "elsewhere"
    ways = (change, touch, replace, lambda path: path.rename(elsewhere), elsewhere.rename)
    for (title, (cmd, name)), how in product(COMMANDS.items(), ways):
        before = look(cmd)
        assert look(cmd) == before, title
        how(folder / name)
        assert look(cmd) != before, (title, how)


def test_what_is_no_part_of_the_model_is_not(folder: Path, look) -> None:
    commands = (
        "x --log-dir {dir}",
        "x {dir}/qwen",
        "x -m {dir}/a.gguf",
        "x --port 1 -ngl 99 --flag",
        "",
        "x \0 " + "y" * 10_000,
        "'unterminated",
        " ".join(f"w{number}" for number in range(10_000)),
    )
    before = {cmd: look(cmd) for cmd in commands}
    (folder / "server.log").write_text("more")
    (folder / "qwen" / "lock").write_text("more")
    assert {cmd: look(cmd) for cmd in commands} == before


def test_a_file_system_that_does_not_answer_is_asked_once(look, monkeypatch) -> None:
    answers, asked = Event(), []

    def hang(*_: object) -> frozenset:
        asked.append(1)
        while not answers.is_set():  # in a thread of the pool, which has a hub of its own
            gevent.sleep(0.01)
        return frozenset()

    monkeypatch.setattr(files, "fingerprint", hang)
    monkeypatch.setattr(files, "LIMIT_S", 0.05)
    assert look("serve") is None
    until(lambda: asked)
    assert look("serve") is None
    assert asked == [1]
    answers.set()
    monkeypatch.setattr(files, "LIMIT_S", LIMIT_S)
    assert look("serve") == frozenset()
    assert asked == [1]
    assert look("serve") == frozenset()
    assert asked == [1, 1], "a new look after the end of the last"
