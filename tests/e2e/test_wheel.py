"""The wheel in an empty environment, away from the checkout: start, demo, interface, a chat."""

import json
import os
import re
import shutil
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from gevent import subprocess

from llmsnap import __version__
from tests.e2e.harness import ROOT, STOP_LIMIT_S, Installed, Running, wait_until_it_answers
from tests.fakes.ports import free_port, free_ports

pytestmark = pytest.mark.e2e


PIP = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]


def run(*command: object, cwd: Path) -> str:
    done = subprocess.run(
        [str(word) for word in command], cwd=cwd, env=bare(), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip()


def bare() -> dict[str, str]:
    """The environment without what leads Python to the checkout."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where everything happens."""
    return tmp_path_factory.mktemp("wheel")


@pytest.fixture(scope="module")
def source(folder: Path) -> Path:
    """A clone with the files as they are now, committed or not."""
    source = folder / "source"
    run("git", "clone", "--quiet", "--shared", "--no-checkout", ROOT, source, cwd=folder)
    listing = run("git", "ls-files", "--cached", "--others", "--exclude-standard", cwd=ROOT)
    for name in listing.splitlines():
        if (ROOT / name).is_file():  # else it is about to be removed
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, source / name)
    run("git", "reset", "--quiet", cwd=source)
    return source


def build(what: Path, into: Path) -> Path:
    """Build the wheel of a checkout or an sdist."""
    run(*PIP, "wheel", "--no-deps", "--wheel-dir", into, what, cwd=into.parent)
    (built,) = into.glob("llmsnap-*.whl")
    return built


@pytest.fixture(scope="module")
def wheel(source: Path, folder: Path) -> Path:
    return build(source, folder / "dist")


@pytest.fixture(scope="module")
def program(wheel: Path, folder: Path) -> Path:
    """``llmsnap`` as installed, with all it needs, into an empty environment."""
    env = folder / "env"
    run(sys.executable, "-m", "venv", "--without-pip", env, cwd=folder)
    constraints = ROOT / "scripts/constraints.txt"
    run(*PIP, "--python", env / "bin/python", "install", "-c", constraints, wheel, cwd=folder)
    return env / "bin/llmsnap"


@pytest.fixture(scope="module")
def demo(program: Path, folder: Path) -> Iterator[Running]:
    """The installed demo configuration on the simulator."""
    (config,) = program.parent.parent.glob(
        "lib/python3*/site-packages/llmsnap/share/conf/demo.yaml"
    )
    text = config.read_text().replace("startPort: 18650", f"startPort: {free_ports(40)}")
    (folder / "demo.yaml").write_text(text)
    stand_in = shutil.copy(ROOT / "scripts/simulated_llama.py", folder)
    environ = {
        **bare(),
        "PATH": f"{program.parent}{os.pathsep}{os.environ['PATH']}",
        "LLMSNAP_DEMO_SERVER": f"'{program.parent / 'python'}' '{stand_in}'",
        "LLMSNAP_DEMO_MODEL": "m.gguf",
    }
    installed = Installed(program, environ, folder)
    server = Running("llmsnap", folder / "demo.yaml", installed=installed)
    server.wait_ready()
    yield server
    assert server.stop() == 0


def contents(wheel: Path) -> tuple[dict[str, bytes], str]:
    """The files of a wheel, and the commit that it is of."""
    with zipfile.ZipFile(wheel) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    commit = json.loads(files.pop("llmsnap/_build.json"))["commit"]  # beside the time of the build
    return {name: data for name, data in files.items() if not name.endswith("/RECORD")}, commit


def test_the_sdist_makes_the_same_wheel(wheel: Path, source: Path, folder: Path) -> None:
    command = [sys.executable, "setup.py", "--quiet", "sdist", "--dist-dir", folder / "sdist"]
    run(*command, cwd=source)
    (sdist,) = (folder / "sdist").iterdir()
    assert contents(build(sdist, folder / "again")) == contents(wheel)


def test_it_knows_its_commit_and_compiles_nothing(
    program: Path, source: Path, folder: Path
) -> None:
    commit = run("git", "rev-parse", "HEAD", cwd=source)
    said = run(program, "version", cwd=folder)
    assert re.fullmatch(
        rf"llmsnap [\d.]+ \({commit[:12]}(-modified)?\), built 2.*Z, pure Python, from .+", said
    )
    assert not list(program.parent.parent.glob("lib/python3*/site-packages/llmsnap/**/*.so"))


def test_it_starts_without_a_word_but_its_address(program: Path, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(
        f"startPort: {free_ports(10)}\nmodels:\n  alpha:\n    cmd: sleep ${{PORT}}\n"
    )
    port = free_port()
    out, err = tmp_path / "stdout", tmp_path / "stderr"
    environ = {**bare(), "HOME": str(tmp_path)}
    command = [program, "--config", "config.yaml", "--listen", f"127.0.0.1:{port}"]
    with out.open("wb") as stdout, err.open("wb") as stderr:
        process = subprocess.Popen(command, cwd=tmp_path, env=environ, stdout=stdout, stderr=stderr)
    url = f"http://127.0.0.1:{port}"
    try:
        wait_until_it_answers(url, process)
        assert err.read_text() == ""
        said = out.read_text().splitlines()
        # Tests that kill an llmsnap run beside this one: its models may be found here first.
        said = [line for line in said if "what an earlier run left behind" not in line]
        assert said == [f"llmsnap {__version__} (pure Python) listening on {url}"]
    finally:
        process.terminate()
        assert process.wait(STOP_LIMIT_S) == 0


def test_the_demo_chats_and_shows_its_interface(demo: Running) -> None:
    page = demo.get("/ui/")
    assert page.status_code == 200
    assets = re.findall(r'(?:src|href)="(static/[^"]+\.(?:js|css))"', page.text)
    assert assets
    for asset in assets:
        assert demo.get(f"/ui/{asset}").status_code == 200, asset
    assert demo.chat("gemma", max_tokens=3).json()["choices"][0]["message"]["content"]
    assert demo.running() == {"gemma": "ready"}


def test_its_commands_talk_to_it(demo: Running, program: Path, folder: Path) -> None:
    said = run(program, "ps", "--all", "--quiet", "--url", demo.url, cwd=folder)
    assert said.split() == ["gemma", "gemma-embed", "gemma-story", "sleeper"]
    said = run(program, "load", "sleeper", "--no-wait", "--url", demo.url, cwd=folder)
    assert said == "sleeper: asked for"
