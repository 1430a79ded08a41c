"""Each script is read by its shell, and asked what it would complete."""

import os
import shlex
import shutil
from pathlib import Path

import pytest
from gevent import subprocess

from llmsnap.commands import completion
from llmsnap.commands.catalog import COMMANDS

# What a server called its models; the last two must come through as they are.
MODELS = ["llama", "a b", "$(touch ran)", "`touch ran`"]
BASH = """
source ./script
ask() {
  COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) COMPREPLY=()
  _llmsnap
  printf '%s\\n' "${COMPREPLY[@]}" END
}
"""
FISH = """
source ./script
function ask
  complete -C "$argv"
  echo END
end
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


@pytest.mark.parametrize(
    ("program", "asks"), [(["bash", "--norc"], BASH), (["fish", "--no-config"], FISH)]
)
def test_a_shell_completes(program: list[str], asks: str, folder: Path, capsys) -> None:
    script(program[0], folder, capsys)
    for words, _ in CASES:
        line = ["llmsnap", *words]
        asks += f"ask {shlex.join(line if program[0] == 'bash' else [' '.join(line)])}\n"
    told: list[set[str]] = [set()]
    for line in run(folder, *program, "-c", asks):
        told.append(set()) if line == "END" else told[-1].add(line.partition("\t")[0])
    assert told[:-1] == [found for _, found in CASES]


def test_zsh_reads_its_script(folder: Path, capsys) -> None:
    script("zsh", folder, capsys)
    check = "compdef() { print $@ }; source ./script"  # zsh's own takes 0.3 s to load
    assert run(folder, "zsh", "-f", "-c", check) == ["_llmsnap llmsnap"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_script_knows_every_command_and_option(shell: str, capsys) -> None:
    assert completion.main([shell]) == 0
    script = capsys.readouterr().out
    options = ("watch-config", "key-file", "against", "concurrency", "break-stream-after")
    assert not [name for name in (*COMMANDS, *options) if name not in script]
    with pytest.raises(SystemExit, match=r"^2$"):
        completion.main(["tcsh"])
    assert "bash, fish, zsh" in capsys.readouterr().err.replace("'", "")
