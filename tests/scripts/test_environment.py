from __future__ import annotations

import functools
import os
import sys
from pathlib import Path

import environment
import pytest
from environment import Environment, SetupError


class Pip:
    """Stands in for pip: records what it installs, with which constraints; fails on demand."""

    def __init__(self) -> None:
        self.installed: list[str] = []
        self.constraints: set[str] = set()
        self.error = ""
        self.failing = ""

    def __call__(self, command: list[str]) -> None:
        self.constraints.add(Path(command[command.index("--constraint") + 1]).read_text())
        if "-e" not in command:
            return
        self.installed.append(command[-1])
        if self.error and command[-1].endswith(self.failing):
            raise SetupError(self.error)


@pytest.fixture
def pip(monkeypatch: pytest.MonkeyPatch) -> Pip:
    pip = Pip()
    monkeypatch.setattr(environment, "run_pip", pip)
    return pip


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    (tmp_path / "setup.py").write_text("install_requires = ['a']")
    return tmp_path


@pytest.fixture
def env(checkout: Path) -> Environment:
    """An environment whose Python is there already: the one that runs the tests."""
    env = Environment(checkout / ".venv", checkout)
    env.python.parent.mkdir(parents=True)
    env.python.symlink_to(sys.executable)
    (env.folder / "pyvenv.cfg").write_text(f"home = {Path(sys.base_prefix, 'bin')}\n")
    site = env.folder / "lib" / f"python3.{sys.version_info.minor}" / "site-packages" / "pip"
    site.mkdir(parents=True)
    (site / "__init__.py").touch()
    return env


def test_an_extra_is_installed_once(env: Environment, checkout: Path, pip: Pip) -> None:
    env.ensure("dev")
    env.ensure("dev")
    assert pip.installed == [f"{checkout}[dev]"]


def test_no_extra_installs_the_package_alone(env: Environment, checkout: Path, pip: Pip) -> None:
    env.ensure("")
    assert pip.installed == [str(checkout)]


def test_it_is_installed_again_when_the_requirements_change(
    env: Environment, checkout: Path, pip: Pip
) -> None:
    env.ensure("")
    (checkout / "setup.py").write_text("install_requires = ['a', 'b']")
    env.ensure("")
    assert len(pip.installed) == 2


def test_a_failed_installation_is_tried_again(env: Environment, pip: Pip) -> None:
    pip.error = "no network"
    with pytest.raises(SetupError, match="no network"):
        env.ensure("")
    pip.error = ""
    env.ensure("")
    env.ensure("")
    assert len(pip.installed) == 2


def test_the_failure_of_an_optional_extra_is_kept(
    env: Environment, checkout: Path, pip: Pip, capsys: pytest.CaptureFixture[str]
) -> None:
    pip.error, pip.failing = "no wheel", "[demo]"
    assert env.attempt("demo") == "no wheel"
    assert "no wheel" in capsys.readouterr().out
    assert env.attempt("demo") == "no wheel"
    assert pip.installed == [f"{checkout}[demo]", str(checkout)], "once, then without the extra"


def test_where_the_package_itself_fails_an_optional_extra_is_no_excuse(
    env: Environment, pip: Pip
) -> None:
    pip.error = "no network"
    with pytest.raises(SetupError, match="no network"):
        env.attempt("demo")


def test_versions_come_from_the_constraints(env: Environment, pip: Pip) -> None:
    env.ensure("dev")
    assert pip.constraints == {environment.CONSTRAINTS.read_text()}


def test_it_is_installed_again_when_the_constraints_change(
    env: Environment, checkout: Path, pip: Pip
) -> None:
    env.ensure("")
    newest = Environment(env.folder, checkout, environment.chosen_versions("newest"))
    newest.ensure("")
    newest.ensure("")
    assert len(pip.installed) == 2
    assert "" in pip.constraints


def test_the_pins_of_a_file_replace_the_usual_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual, oldest = tmp_path / "usual.txt", tmp_path / "oldest.txt"
    usual.write_text("# comment\nflask==3.1.3\npyyaml==6.0.4 ; python_version > '3'\npytest==9\n")
    oldest.write_text("Flask==3.0.0\nPyYAML==6.0\n")
    monkeypatch.setattr(environment, "CONSTRAINTS", usual)
    lines = environment.chosen_versions(str(oldest)).splitlines()
    assert lines == ["Flask==3.0.0", "PyYAML==6.0", "# comment", "pytest==9"]


def test_an_optional_extra_is_tried_again_when_the_requirements_change(
    env: Environment, checkout: Path, pip: Pip
) -> None:
    pip.error, pip.failing = "no wheel", "[demo]"
    env.attempt("demo")
    (checkout / "setup.py").write_text("install_requires = ['b']")
    pip.error = ""
    assert env.attempt("demo") == ""


def test_a_half_made_environment_is_made_anew(
    checkout: Path, pip: Pip, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Path] = []
    monkeypatch.setattr(
        environment.venv.EnvBuilder, "create", lambda _, folder: made.append(folder)
    )
    env = Environment(checkout / ".venv", checkout)
    env.folder.mkdir()
    env.ensure("")
    assert made == [env.folder]


def test_without_the_venv_module_it_says_what_to_install(
    checkout: Path, pip: Pip, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(environment.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(SetupError, match=rf"3\.{sys.version_info.minor}.*venv"):
        Environment(checkout / ".venv", checkout).attempt("demo")
    assert pip.installed == []


def test_pip_failing_shows_its_last_lines() -> None:
    script = "import sys; [print('line', n) for n in range(50)]; sys.exit('the reason')"
    with pytest.raises(SetupError) as caught:
        environment.run_pip([sys.executable, "-c", script])
    assert "the reason" in str(caught.value)
    assert "line 49" in str(caught.value)
    assert "line 3\n" not in str(caught.value)


def test_what_pip_fetches_is_reported_while_it_runs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    script = (
        "import os, pathlib, sys\n"
        "pathlib.Path(os.environ['TMPDIR'], 'a.whl').write_bytes(b'x' * 3_000_000)\n"
        "sys.stdin.close(); os.read(int(sys.argv[1]), 1)\n"
    )
    reader, writer = os.pipe()
    os.set_inheritable(reader, True)
    monkeypatch.setattr(environment, "REPORT_EVERY_S", 0.05)
    reported = environment.size

    def size(folder: Path) -> int:
        found = reported(folder)
        if found >= 3_000_000:
            os.write(writer, b"x")  # seen: the stand-in for pip may end
        return found

    monkeypatch.setattr(environment, "size", size)
    monkeypatch.setattr(
        environment.subprocess,
        "Popen",
        functools.partial(environment.subprocess.Popen, pass_fds=[reader]),
    )
    environment.run_pip([sys.executable, "-c", script, str(reader)])
    assert "3 MB fetched" in capsys.readouterr().out
    os.close(reader)
    os.close(writer)


def test_the_command_fails_where_a_needed_extra_fails(
    monkeypatch: pytest.MonkeyPatch, env: Environment, pip: Pip, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(environment, "Environment", lambda *_: env)
    pip.error, pip.failing = "no network", "]"
    assert environment.main(["demo?"]) == 0
    assert environment.main(["dev"]) == 1
    assert "no network" in capsys.readouterr().err


def test_what_was_compiled_in_the_checkout_is_swept_away(env: Environment, checkout: Path) -> None:
    (checkout / "llmsnap/proxy").mkdir(parents=True)
    gone = ["llmsnap__mypyc.cpython-311.so", "llmsnap/a.cpython-311.so", "llmsnap/proxy/b.so"]
    for name in [*gone, "llmsnap/a.py"]:
        (checkout / name).touch()
    env.sweep()
    assert not [name for name in gone if (checkout / name).exists()]
    assert (checkout / "llmsnap/a.py").exists()
