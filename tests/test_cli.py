import json
import os
import re
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from gevent import subprocess

from llmsnap import __version__, cli
from llmsnap.cli import build_parser, normalize
from llmsnap.commands.catalog import COMMANDS
from llmsnap.errors import CommandFailed, KeyRefused, NoServer, NoSuchModel, WrongUse
from tests.parity import parity


def test_flags_are_read_as_go_reads_them() -> None:
    read = {
        "-config x": {"config": "x"},
        "-config=x -listen :1": {"config": "x", "listen": ":1"},
        "-watch-config=false": {"watch_config": False},
        "--watch-config --config x": {"watch_config": True, "config": "x"},
        "--tls-cert c -tls-key=k": {"tls_cert_file": "c", "tls_key_file": "k"},
        "--drain-timeout 1.5": {"drain_timeout": 1.5},
        "": {},
    }
    for argv, expected in read.items():
        found = vars(build_parser().parse_args(normalize(argv.split())))
        assert {name: value for name, value in found.items() if name != "version"} == expected


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        ("--nope", "unrecognized arguments: --nope"),
        ("unlaod", "there is no command 'unlaod'; did you mean unload?"),
        ("positional", "there is no command 'positional'; there are check, doctor, "),
        (__file__, f"to serve this configuration: llmsnap --config {__file__}"),
        ("--watch-config=maybe", "maybe"),
        ("--conf", "unrecognized arguments: --conf"),
    ],
)
def test_wrong_use_exits_with_2(argv: str, said: str, capsys) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main([argv])
    assert caught.value.code == 2
    text = capsys.readouterr().err
    assert "usage: llmsnap" in text
    assert said in text


@pytest.mark.parametrize("argv", [["--version"], ["-version"], ["version"]])
def test_the_version_is_one_line(argv: list[str], capsys) -> None:
    assert cli.main(argv) == 0
    assert capsys.readouterr().out.startswith(f"llmsnap {__version__} (")
    cli.version(["--json"])
    found = json.loads(capsys.readouterr().out)
    assert found["version"] == __version__
    assert set(found) == {"version", "commit", "date", "compiled", "checkout", "folder"}


def test_a_bad_configuration_is_told_in_full(tmp_path, capsys) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("startPort: 0\nuiOrigin: nowhere\n")
    assert cli.main(["--config", str(path)]) == 1
    out = capsys.readouterr().out.splitlines()
    assert out[0] == "Error loading config"
    assert out[1].startswith(f"{path}:1:")
    assert "startPort" in out[1]
    assert "uiOrigin" in out[2]
    assert cli.main(["--tls-cert-file", "c.pem"]) == 1
    assert "--tls-key-file" in capsys.readouterr().out


@parity(
    "`-validate`",
    "one line with the numbers of models and peers, or the first error; exit code 0 or 1",
    "the same, with all errors and advice",
)
def test_a_configuration_is_validated_without_a_server(tmp_path, capsys) -> None:
    (tmp_path / "a.yaml").write_text("models: {a: {cmd: 'no-such-program ${PORT}'}}\n")
    (tmp_path / "b.yaml").write_text("peers: {p: {proxy: 'http://p', models: [m]}}\nx: 1\n")
    argv = ["-config-dir", str(tmp_path), "-validate"]
    assert cli.main(argv) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"{tmp_path}/b.yaml:2:1: advice: x: unknown key - remove it",
        f"{tmp_path}: valid, with 1 model and 1 peer",
    ]
    (tmp_path / "b.yaml").write_text("startPort: 0\n")
    assert cli.main(argv) == 1
    assert capsys.readouterr().out.startswith(f"{tmp_path}/b.yaml:1:12: startPort: must be")


def output(*argv: str) -> tuple[int, str, str]:
    """Run the real door in its own interpreter, as on a terminal of 80 columns."""
    done = subprocess.run(
        [sys.executable, "-c", LOADED, *argv],
        env={**os.environ, "COLUMNS": "80"},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


HEAVY = ["flask", "gevent", "requests", "ssl", "yaml"]
LOADED = f"""
import sys
try:
    from llmsnap.__main__ import main
    main()
finally:
    print(*(name for name in {HEAVY} if name in sys.modules), file=sys.stderr)
"""


@pytest.mark.e2e
@pytest.mark.parametrize(
    ("argv", "code"), [("version", 0), ("--version", 0), ("--help", 0), ("version --nope", 2)]
)
def test_what_is_small_loads_nothing_big(argv: str, code: int) -> None:
    found, _, said = output(*argv.split())
    assert (found, said.splitlines()[-1]) == (code, "")
    assert all(map(find_spec, HEAVY)), "a name of a module is wrong"


def test_each_help_fits_on_a_screen(monkeypatch, capsys) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    for name in ("", *COMMANDS):
        with pytest.raises(SystemExit) as caught:
            cli.main([name, "--help"] if name else ["--help"])
        assert caught.value.code == 0
        said = capsys.readouterr().out
        assert name or not [each for each in COMMANDS if f" {each}" not in said]
        lines = said.splitlines()
        assert (len(lines) <= 24, max(map(len, lines)) <= 80) == (True, True), said


@pytest.mark.parametrize(
    "name",
    [name for name, each in COMMANDS.items() if "--config FILE" in each.load()[0]().format_help()],
)
def test_a_command_says_what_is_wrong_with_a_configuration(name, tmp_path, capsys) -> None:
    config = tmp_path / "config.yaml"
    for text, problem in ((None, "there is no file"), ("models: {a: {}}", "cmd")):
        if text:
            config.write_text(text)
        assert cli.main([name, "--config", str(config)]) == 1
        said = capsys.readouterr()
        assert str(config) in said.err + said.out
        assert problem in said.err + said.out


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (CommandFailed("it failed"), 1),
        (WrongUse("it cannot be meant"), 2),
        (NoServer("no server there"), 3),
        (KeyRefused("a key, please"), 4),
        (NoSuchModel("who?"), 5),
    ],
)
def test_what_went_wrong_is_told_and_has_its_exit_code(error, code, monkeypatch, capsys) -> None:
    def fail(argv: list[str]) -> int:
        raise error

    monkeypatch.setattr("llmsnap.commands.models.ps", fail)
    assert cli.main(["ps"]) == code
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", f"llmsnap ps: {error}\n")


@pytest.mark.parametrize(("error", "code"), [(KeyboardInterrupt, 130), (BrokenPipeError, 141)])
def test_an_end_from_outside_leaves_quietly(error, code, monkeypatch, tmp_path) -> None:
    def fail(argv: list[str]) -> int:
        raise error

    monkeypatch.setattr("llmsnap.commands.logs.main", fail)
    with (tmp_path / "out").open("w") as out:
        monkeypatch.setattr(sys, "stdout", out)
        assert cli.main(["logs"]) == code
    assert (tmp_path / "out").read_text() == ""


def test_every_option_and_command_is_documented() -> None:
    text = (Path(__file__).parent.parent / "docs/cli.md").read_text()
    options = re.findall(r"--[a-z][a-z-]+", build_parser().format_help())
    assert not [word for word in {*options, *COMMANDS} - {"--help"} if word not in text]
    told = {int(code) for code in re.findall(r"^\| (\d+) \|", text, re.MULTILINE)}
    assert told == {0, 1, 2, 3, 4, 5, 6, 130, 141}
