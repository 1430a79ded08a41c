import sys
from pathlib import Path

import environment
import pytest
from environment import Environment, SetupError

pytestmark = pytest.mark.e2e  # starts programs


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
def env(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> Environment:
    """One that is there already, and works."""
    monkeypatch.setattr(Environment, "_works", lambda _: True)
    env = Environment(checkout / ".venv", checkout)
    env.folder.mkdir()
    return env


def test_an_extra_is_installed_once_and_again_when_requirements_or_constraints_change(
    env: Environment, checkout: Path, pip: Pip
) -> None:
    pip.error = "no network"
    with pytest.raises(SetupError, match="no network"):
        env.attempt("dev")
    pip.error, pip.installed = "", []
    for _ in range(2):
        env.ensure("dev")
    assert pip.installed == [f"{checkout}[dev]"], "once, after the failure"
    assert pip.constraints == {environment.CONSTRAINTS.read_text()}
    (checkout / "setup.py").write_text("install_requires = ['a', 'b']")
    env.ensure("dev")
    newest = Environment(env.folder, checkout, environment.chosen_versions("newest"))
    for _ in range(2):
        newest.ensure("dev")
    assert len(pip.installed) == 3
    assert "" in pip.constraints


def test_the_failure_of_an_optional_extra_is_kept(env, checkout, pip, capsys, monkeypatch) -> None:
    pip.error, pip.failing = "no wheel", "[demo]"
    assert env.attempt("demo") == "no wheel"
    assert "no wheel" in capsys.readouterr().out
    assert env.attempt("demo") == "no wheel"
    assert pip.installed == [f"{checkout}[demo]", str(checkout)], "once, then without the extra"
    monkeypatch.setattr(environment, "Environment", lambda *_: env)
    assert environment.main(["demo?"]) == 0
    assert environment.main(["demo"]) == 1
    assert "no wheel" in capsys.readouterr().err
    (checkout / "setup.py").write_text("install_requires = ['b']")
    pip.error = ""
    assert env.attempt("demo") == ""


def test_the_pins_of_a_file_replace_the_usual_ones(tmp_path, monkeypatch) -> None:
    usual, oldest = tmp_path / "usual.txt", tmp_path / "oldest.txt"
    usual.write_text("# comment\nflask==3.1.3\npyyaml==6.0.4 ; python_version > '3'\npytest==9\n")
    oldest.write_text("Flask==3.0.0\nPyYAML==6.0\n")
    monkeypatch.setattr(environment, "CONSTRAINTS", usual)
    lines = environment.chosen_versions(str(oldest)).splitlines()
    assert lines == ["Flask==3.0.0", "PyYAML==6.0", "# comment", "pytest==9"]


def test_a_half_made_environment_is_made_anew(checkout, pip, monkeypatch) -> None:
    made: list[Path] = []
    monkeypatch.setattr(
        environment.venv.EnvBuilder, "create", lambda _, folder: made.append(folder)
    )
    env = Environment(checkout / ".venv", checkout)
    env.folder.mkdir()
    env.ensure("")
    assert made == [env.folder]
    env.python.parent.mkdir(parents=True)
    env.python.symlink_to(sys.executable)
    (env.folder / "pyvenv.cfg").write_text(f"home = {Path(sys.base_prefix, 'bin')}\n")
    site = env.folder / "lib" / f"python3.{sys.version_info.minor}" / "site-packages" / "pip"
    site.mkdir(parents=True)
    (site / "__init__.py").touch()
    env.ensure("")
    assert made == [env.folder], "now it works"


def test_without_the_venv_module_it_says_what_to_install(checkout, pip, monkeypatch) -> None:
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


def test_what_pip_fetches_is_reported_while_it_runs(monkeypatch, capsys) -> None:
    script = (
        "import os, pathlib\n"
        "folder = pathlib.Path(os.environ['TMPDIR'])\n"
        "(folder / 'a.whl').write_bytes(b'x' * 3_000_000)\n"
        "while not (folder / 'seen').exists(): pass\n"
    )
    monkeypatch.setattr(environment, "REPORT_EVERY_S", 0.05)
    reported = environment.size

    def size(folder: Path) -> int:
        found = reported(folder)
        if found >= 3_000_000:
            (folder / "seen").touch()  # the stand-in for pip may end
        return found

    monkeypatch.setattr(environment, "size", size)
    environment.run_pip([sys.executable, "-c", script])
    assert "3 MB fetched" in capsys.readouterr().out


def test_what_was_compiled_in_the_checkout_is_swept_away(env: Environment, checkout: Path) -> None:
    (checkout / "llmsnap/proxy").mkdir(parents=True)
    gone = ["llmsnap__mypyc.cpython-311.so", "llmsnap/a.cpython-311.so", "llmsnap/proxy/b.so"]
    for name in [*gone, "llmsnap/a.py"]:
        (checkout / name).touch()
    env.sweep()
    assert not [name for name in gone if (checkout / name).exists()]
    assert (checkout / "llmsnap/a.py").exists()
