"""The wheel in an empty environment, away from the checkout: demo, interface, a chat."""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from gevent import subprocess

from tests.e2e.harness import ROOT, Installed, Running
from tests.fakes.ports import free_ports

pytestmark = pytest.mark.e2e(limit_s=120)


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
def program(folder: Path) -> Path:
    """``llmsnap`` as installed from a wheel, which is built from the files as they are now."""
    source, env = folder / "source", folder / "env"
    run("git", "clone", "--quiet", "--shared", "--no-checkout", ROOT, source, cwd=folder)
    listing = run("git", "ls-files", "--cached", "--others", "--exclude-standard", cwd=ROOT)
    for name in listing.splitlines():
        if (ROOT / name).is_file():  # else it is about to be removed
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, source / name)
    run("git", "reset", "--quiet", cwd=source)
    (folder / "commit").write_text(run("git", "rev-parse", "HEAD", cwd=source))
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    run(*pip, "wheel", "--no-deps", "--wheel-dir", folder, source, cwd=folder)
    run(sys.executable, "-m", "venv", "--without-pip", env, cwd=folder)
    (wheel,) = folder.glob("llmsnap-*.whl")
    run(*pip, "--python", env / "bin/python", "install", wheel, cwd=folder)
    shutil.rmtree(source)
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


def test_it_knows_its_commit(program: Path, folder: Path) -> None:
    commit = (folder / "commit").read_text()
    said = run(program, "version", cwd=folder)
    assert re.fullmatch(
        rf"llmsnap [\d.]+ \({commit[:12]}(-modified)?\), built 2.*Z, compiled", said
    )


def test_the_demo_chats_and_shows_its_interface(demo: Running) -> None:
    page = demo.get("/ui/")
    assert page.status_code == 200
    assets = re.findall(r'(?:src|href)="(/ui/static/[^"]+\.(?:js|css))"', page.text)
    assert assets
    for asset in assets:
        assert demo.get(asset).status_code == 200, asset
    assert demo.chat("gemma", max_tokens=3).json()["choices"][0]["message"]["content"]
    assert demo.running() == {"gemma": "ready"}


def test_its_commands_talk_to_it(demo: Running, program: Path, folder: Path) -> None:
    said = run(program, "ps", "--all", "--quiet", "--url", demo.url, cwd=folder)
    assert said.split() == ["gemma", "gemma-embed", "gemma-story", "sleeper"]
    said = run(program, "load", "sleeper", "--no-wait", "--url", demo.url, cwd=folder)
    assert said == "sleeper: asked for"
