"""Each script is read by its shell, and asked what it would complete."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from gevent import subprocess

from llmsnap.commands import completion
from llmsnap.commands.catalog import COMMANDS

# What a server called its models; the last two must come through as they are.
MODELS = ["llama", "a b", "$(touch ran)", "`touch ran`"]
ASK_BASH = """
source ./script
COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
_llmsnap
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the scripts are, and a llmsnap whose server has the models."""
    program = tmp_path / "bin" / "llmsnap"
    program.parent.mkdir()
    (tmp_path / "models").write_text("\n".join(MODELS) + "\n")
    program.write_text(f"#!/bin/sh\n[ \"$*\" = 'ps --all --quiet' ] && cat {tmp_path}/models\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    (tmp_path / "config.yaml").touch()
    return tmp_path


def script(shell: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    completion.main([shell])
    path = folder / "script"
    path.write_text(capsys.readouterr().out)
    return path


def run(folder: Path, *command: str) -> list[str]:
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed here")
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert not (folder / "ran").exists(), "a model's name was run"
    assert (done.returncode, done.stderr) == (0, "")
    return [line for line in done.stdout.splitlines() if line]


CASES = [
    (["l"], {"load", "logs"}),
    (["load", ""], set(MODELS)),
    (["load", "ll"], {"llama"}),
    (["logs", "p"], {"proxy"}),
    (["completion", ""], {"bash", "zsh", "fish"}),
    (["ps", "--js"], {"--json"}),
    (["--log-format", ""], {"text", "json"}),
    (["--config", "con"], {"config.yaml"}),
    (["check", "con"], {"config.yaml"}),
    (["--watch"], {"--watch-config"}),
]


@pytest.mark.parametrize(("words", "found"), CASES, ids=" ".join)
def test_bash_completes(words: list[str], found: set[str], folder: Path, capsys) -> None:
    script("bash", folder, capsys)
    told = run(folder, "bash", "--norc", "-c", ASK_BASH, "bash", "llmsnap", *words)
    assert set(told) == found


@pytest.mark.parametrize(("words", "found"), CASES, ids=" ".join)
def test_fish_completes(words: list[str], found: set[str], folder: Path, capsys) -> None:
    script("fish", folder, capsys)
    line = " ".join(["llmsnap", *words])
    told = run(folder, "fish", "--no-config", "-c", f"source ./script; complete -C '{line}'")
    assert {line.partition("\t")[0] for line in told} == found


def test_zsh_reads_its_script(folder: Path, capsys) -> None:
    script("zsh", folder, capsys)
    check = "autoload -U compinit; compinit -u -D; source ./script; print ${_comps[llmsnap]}"
    assert run(folder, "zsh", "-f", "-c", check) == ["_llmsnap"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_script_knows_every_command_and_option(
    shell: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert completion.main([shell]) == 0
    script = capsys.readouterr().out
    assert not [name for name in COMMANDS if name not in script]
    for option in ("watch-config", "key-file", "against", "concurrency", "break-stream-after"):
        assert option in script


def test_an_unknown_shell_is_wrong_use(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        completion.main(["tcsh"])
    assert caught.value.code == 2
    assert "'bash', 'fish', 'zsh'" in capsys.readouterr().err.replace(
        "bash, fish, zsh", "'bash', 'fish', 'zsh'"
    )
