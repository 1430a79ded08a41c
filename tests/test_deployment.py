"""What is there to deploy llmsnap names only what exists, and says what the program does."""

import configparser
import importlib.metadata
import json
import os
import re
import shlex
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from llmsnap.cli import build_parser
from llmsnap.config import load_with_advice
from llmsnap.options import Options, from_environ
from tests.parity import parity

ROOT = Path(__file__).parent.parent
DOCKERFILE = (ROOT / "Dockerfile").read_text()
UNIT = ROOT / "conf" / "llmsnap.service"


def instructions(name: str) -> list[str]:
    joined = re.sub(r"\\\n\s*", "", DOCKERFILE)
    return re.findall(rf"^{name} (.*)$", joined, re.MULTILINE)


def ignored_but() -> list[str]:
    """What .dockerignore lets through."""
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    assert lines[0] == "*"
    return [line[1:] for line in lines if line.startswith("!")]


def test_the_image_copies_what_is_there_and_is_sent() -> None:
    copied = [
        source
        for line in instructions("COPY")
        if "--from=" not in line
        for source in line.split()[:-1]
    ]
    assert copied
    for source in copied:
        assert (ROOT / source).exists(), source
        assert {source, source.split("/")[0]} & set(ignored_but()), source
    build = tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]
    backend = f"{build['backend-path'][0]}/{build['build-backend']}.py"
    needed = {"setup.py", "pyproject.toml", "llmsnap", "static", "templates", "conf", backend}
    assert needed <= set(copied)


def test_what_the_image_is_made_of_is_pinned() -> None:
    base, *stages = instructions("FROM")
    assert base == "ghcr.io/ggml-org/llama.cpp:${LLAMA_CPP} AS base"
    assert {stage.split()[0] for stage in stages} == {"base"}
    (default,) = re.findall(r"^ARG LLAMA_CPP=(.*)$", DOCKERFILE, re.MULTILINE)
    assert re.fullmatch(r"server-b\d+@sha256:[0-9a-f]{64}", default)
    assert "# syntax=" not in DOCKERFILE, "another image, which changes by itself"


def test_the_image_installs_what_the_lock_file_names_and_nothing_else() -> None:
    commands = "\n".join(instructions("RUN"))
    installs = re.findall(r"pip install (.*?)(?= && |$)", commands, re.MULTILINE)
    locked, ours = [set(words.split()) for words in installs]
    assert locked > {"--require-hashes", "--only-binary", "-r", "scripts/lock.txt"}
    assert ours == {"--no-cache-dir", "--no-deps", "--no-build-isolation", "."}


def test_the_lock_file_has_what_is_needed_each_with_its_hashes() -> None:
    text = (ROOT / "scripts" / "lock.txt").read_text().replace("\\\n", "")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    assert all(re.search(r" --hash=sha256:[0-9a-f]{64}", line) for line in lines)
    locked = {line.split("==")[0] for line in lines}
    needed = importlib.metadata.requires("llmsnap") or []
    extras = ("image",)
    for requirement in map(Requirement, needed):
        marker = requirement.marker
        if marker is None or any(marker.evaluate({"extra": extra}) for extra in extras):
            assert canonicalize_name(requirement.name) in locked, requirement


WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_actions_are_pinned_by_commit_and_tell_their_version(path: Path) -> None:
    used = re.findall(r"uses: (.*)", path.read_text())
    assert used
    for action in used:
        assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", action), action
    everywhere = {
        line for path in WORKFLOWS for line in re.findall(r"uses: (.*)", path.read_text())
    }
    assert len({line.split("@")[0] for line in everywhere}) == len(everywhere), "two pins of one"


def test_the_image_runs_as_nobody_in_particular_and_tells_its_health() -> None:
    (user,) = instructions("USER")
    assert user == "10001:10001", "a number: Kubernetes cannot tell that a name is not root"
    assert json.loads(instructions("ENTRYPOINT")[-1]) == ["llmsnap-container"]
    assert json.loads(instructions("VOLUME")[-1]) == ["/config"]
    assert "http://127.0.0.1:8080/health" in instructions("HEALTHCHECK")[-1]
    words = json.loads(instructions("CMD")[-1])
    assert build_parser().parse_args(words).watch_config


def test_the_variables_of_the_image_are_options() -> None:
    pairs = dict(word.split("=", 1) for word in shlex.split(instructions("ENV")[-1]))
    ours = {name: value for name, value in pairs.items() if name.startswith("LLMSNAP_")}
    options = Options(**from_environ(ours))
    assert len(from_environ(ours)) == len(ours)
    assert options.listen == ":8080"
    assert f"COPY conf/container.yaml {options.config}" in DOCKERFILE
    config = load_with_advice(ROOT / "conf" / "container.yaml", environ={}).config
    assert {tuple(model.cmd.split()[:2]) for model in config.models.values()} == {
        ("llmsnap", "sim")
    }


@parity(
    "Files and deployments",
    "images read `/app/config.yaml`",
    "the image prefers it to `/config/config.yaml`; the built-in simulated model is warned of",
)
@pytest.mark.parametrize(
    ("mounted", "argv", "used", "warned"),
    [
        ([], ["--watch-config"], "config", True),
        ([], [], "config", True),
        ([], ["-config", "/x.yaml"], "config", False),
        ([], ["version"], "config", False),
        (["config"], ["--watch-config"], "config", False),
        (["app"], ["--watch-config"], "app", False),
        (["app", "config"], [], "app", False),
    ],
)
def test_the_image_finds_the_configuration_that_is_mounted(
    tmp_path: Path, mounted: list[str], argv: list[str], used: str, warned: bool
) -> None:
    for name in ("app", "config", "opt/llmsnap", "bin"):
        (tmp_path / name).mkdir(parents=True)
    for file in ("config/config.yaml", "opt/llmsnap/container.yaml"):
        (tmp_path / file).write_text("models: {built-in: }\n")
    for name in mounted:
        (tmp_path / name / "config.yaml").write_text("models: {own: }\n")
    program = tmp_path / "bin" / "llmsnap"
    program.write_text('#!/bin/sh\necho "$LLMSNAP_CONFIG" "$@"\n')
    program.chmod(0o755)
    environ = {
        "PATH": f"{program.parent}:{os.environ['PATH']}",
        "ROOT": str(tmp_path),
        "LLMSNAP_CONFIG": f"{tmp_path}/config/config.yaml",
    }
    entry = ["sh", str(ROOT / "conf" / "container-entry.sh"), *argv]
    done = subprocess.run(entry, env=environ, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [f"{tmp_path}/{used}/config.yaml", *argv]
    assert ("a simulated model answers" in done.stderr) is warned


def test_the_compose_file_builds_this_image_for_both_machines() -> None:
    services = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
    assert services["llmsnap"]["build"] == "."
    assert services["cuda"]["build"]["args"].keys() <= set(
        re.findall(r"^ARG (\w+)", DOCKERFILE, re.MULTILINE)
    )
    for service in services.values():
        assert service["ports"] == ["127.0.0.1:8080:8080"], "the world needs keys first"
        assert {mount.split(":")[1] for mount in service["volumes"]} == {
            "/config",
            "/models",
            "/var/lib/llmsnap",
        }
        grace = int(service["stop_grace_period"].removesuffix("s"))
        assert grace > Options().drain_timeout + 30


def unit() -> configparser.SectionProxy:
    parser = configparser.ConfigParser(strict=False, interpolation=None, delimiters=("=",))
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read(UNIT)
    return parser["Service"]


def test_the_unit_starts_llmsnap_with_options_it_has_and_leaves_the_stopping_to_it() -> None:
    service = unit()
    known = vars(build_parser().parse_args(service["ExecStart"].split()[1:]))
    assert known["state_dir"].startswith("/var/lib/" + service["StateDirectory"])
    assert known["listen"].startswith("127.0.0.1:")
    assert int(service["TimeoutStopSec"]) > Options().drain_timeout + 30
    fixed = {"KillMode": "mixed", "Type": "notify", "OOMPolicy": "continue"}
    assert {name: service[name] for name in fixed} == fixed
    shut_out = {"PrivateDevices", "DevicePolicy", "ProtectClock", "SupplementaryGroups"}
    assert not shut_out & set(service), "they would shut out GPUs, or the start on other machines"


def test_the_drop_in_names_the_groups_there_are(tmp_path: Path) -> None:
    text = UNIT.read_text().replace("/etc/systemd/system", str(tmp_path))
    lines = [line.removeprefix("#").strip() for line in text.splitlines()]
    first = next(n for n, line in enumerate(lines) if line.startswith("mkdir"))
    script = "\n".join(lines[first : first + 3]).removesuffix("&& systemctl daemon-reload")
    for known, named in [("video:x:44:\nrender:x:105:", "video render"), ("video:x:44:", "video")]:
        getent = tmp_path / "bin" / "getent"
        getent.parent.mkdir(exist_ok=True)
        getent.write_text(f"#!/bin/sh\nprintf '{known}\\n'\n")
        getent.chmod(0o755)
        path = f"{getent.parent}:{os.environ['PATH']}"
        subprocess.run(["sh", "-ec", script], env={"PATH": path}, check=True)
        drop_in = (tmp_path / "llmsnap.service.d" / "gpu.conf").read_text()
        assert drop_in == f"[Service]\nSupplementaryGroups={named}\n"


def test_nothing_is_installed_by_a_name_that_anybody_may_take() -> None:
    """No distribution of the name is published: who installs by it gets a stranger's program."""
    shown = [
        *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "Dockerfile", "Makefile")),
        *(
            path
            for folder in ("docs", "conf", "llmsnap", "scripts")
            for path in (ROOT / folder).rglob("*")
        ),
    ]
    by_name = re.compile(r"\b(?:pipx? install|uv tool install|uvx)\b[^#\n]*\sllmsnap\b(?!/)[^\n]*")
    for path in filter(Path.is_file, shown):
        if path.suffix in {".md", ".py", ".service", ".yaml", "", ".conf"}:
            lines = by_name.findall(path.read_text(errors="replace"))
            assert [line for line in lines if "--from" not in line] == [], path


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="needs systemd-analyze")
def test_systemd_knows_every_line_of_the_unit(tmp_path: Path) -> None:
    copy = tmp_path / UNIT.name
    copy.write_text(UNIT.read_text().replace("/opt/llmsnap/bin/llmsnap", "/bin/true"))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(copy)], capture_output=True, check=False
    )
    assert (done.returncode, done.stderr.decode()) == (0, "")


def test_the_procfile_starts_what_is_there() -> None:
    command = (ROOT / "Procfile").read_text().removeprefix("web: ").split()
    assert (ROOT / command[command.index("-c") + 1]).exists()
    assert command[-1] == "llmsnap.wsgi:app"
