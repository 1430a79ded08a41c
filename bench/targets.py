"""The measured targets: each is a command that serves on a port and forwards requests."""

from __future__ import annotations

import json
import os
import pwd
import shlex
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from processes import ROOT, Running, free_ports

HERE = Path(__file__).parent
COMPILED = ROOT / "build" / "compiled"
UPSTREAM = [sys.executable, "-S", "-E", str(HERE / "upstream.py")]
SEARCH_PATH = f"{os.environ.get('PATH', '')}:/usr/local/sbin:/usr/sbin:/sbin"  # of Debian's nginx
LOAD_S = 0.6
WAKE_S = 0.05
MODELS = ("m", "sleeper", "swap-a", "swap-b")
SPARE_PORTS = 1
"""For a model that the settings of a run add."""
CONCURRENCY = 10_000
NGINX_WORKERS = 2

NGINX = """\
daemon off;
{user}
worker_processes {workers};
worker_rlimit_nofile 16384;
pid {folder}/nginx.pid;
error_log stderr;
events {{ worker_connections 8192; }}
http {{
  access_log off;
  client_max_body_size 64m;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  keepalive_requests 1000000;
  upstream model {{
    server 127.0.0.1:{upstream_port};
    keepalive 512;
    keepalive_requests 1000000;
  }}
  server {{
    listen 127.0.0.1:{port};
    location / {{
      proxy_pass http://model;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_buffering off;
    }}
  }}
}}
"""


@dataclass(frozen=True, slots=True)
class Setup:
    """Configuration of an instance beyond the common one: total *models*, more *settings*.

    Only targets that start models have either.
    """

    models: int = len(MODELS)
    settings: Mapping[str, Any] = field(default_factory=dict)


USUAL = Setup()


@dataclass(frozen=True, slots=True)
class Place:
    """The resources of one instance of a target, and the server to which it forwards."""

    folder: Path
    port: int
    upstream_port: int
    setup: Setup = USUAL

    @property
    def model_port(self) -> int:
        """First of the ports for servers of its own."""
        return self.port + 1


@dataclass(frozen=True, slots=True)
class Command:
    """Starts a target."""

    argv: list[str]
    env: dict[str, str]


@dataclass(frozen=True, slots=True)
class Target:
    """One target. *lacks* names the missing program or package, "" if none is missing."""

    name: str
    command: Callable[[Place], Command]
    lacks: Callable[[], str] = lambda: ""
    has_models: bool = False
    """Whether it starts, swaps and wakes models; else all requests go to one server."""

    def start(self, folder: Path, upstream_port: int, setup: Setup = USUAL) -> Running:
        """Start an instance in *folder*, which may not exist yet."""
        folder.mkdir(parents=True)
        port = free_ports(1 + len(MODELS) + SPARE_PORTS)
        place = Place(folder, port, upstream_port, setup)
        command = self.command(place)
        return Running(self.name, command.argv, command.env, place.port, folder / "output.log")


def _direct(place: Place) -> Command:
    return Command([*UPSTREAM, "--port", str(place.port)], {})


def _nginx(place: Place) -> Command:
    # As root the workers would run as user nobody, which may not enter the folder.
    user = f"user {pwd.getpwuid(0).pw_name};" if os.geteuid() == 0 else ""
    file = place.folder / "nginx.conf"
    file.write_text(
        NGINX.format(
            user=user,
            workers=NGINX_WORKERS,
            folder=place.folder,
            port=place.port,
            upstream_port=place.upstream_port,
        )
    )
    nginx = shutil.which("nginx", path=SEARCH_PATH) or "nginx"
    return Command([nginx, "-c", str(file), "-p", str(place.folder)], {})


def _bare(place: Place) -> Command:
    upstream = f"http://127.0.0.1:{place.upstream_port}"
    argv = [sys.executable, str(HERE / "bare.py"), "--port", str(place.port)]
    return Command([*argv, "--upstream", upstream], {"PYTHONPATH": str(ROOT)})


def _llmsnap(place: Place, root: Path = ROOT) -> Command:
    # -P: the sources in the working directory do not come before those below *root*.
    argv = [sys.executable, "-P", "-m", "llmsnap", "--config", str(_config(place))]
    argv += ["--listen", f"127.0.0.1:{place.port}", "--state-dir", str(place.folder / "state")]
    return Command(argv, {"PYTHONPATH": str(root)})


def _compiled(place: Place) -> Command:
    return _llmsnap(place, COMPILED)


def _gunicorn(place: Place) -> Command:
    env = {
        "PYTHONPATH": str(ROOT),
        "LLMSNAP_CONFIG": str(_config(place)),
        "LLMSNAP_STATE_DIR": str(place.folder / "state"),
    }
    argv = [sys.executable, "-m", "gunicorn", "-c", str(ROOT / "conf/gunicorn.conf.py")]
    argv += ["-k", "gevent", "-w", "1", "-b", f"127.0.0.1:{place.port}", "llmsnap.wsgi:app"]
    return Command(argv, env)


def _config(place: Place) -> Path:
    """Write the configuration: defaults, but for the number of requests that a model takes."""
    upstream = f"{shlex.join(UPSTREAM)} --port ${{PORT}}"
    slow = {"cmd": f"{upstream} --ready-after {LOAD_S}"}
    simulator = shlex.join([sys.executable, "-m", "llmsnap.simulator"])
    sleeper = {
        "cmd": f"{simulator} --port ${{PORT}} --wake-time {WAKE_S}",
        "sleepMode": "enable",
        "sleepEndpoints": [{"endpoint": "/sleep"}],
        "wakeEndpoints": [{"endpoint": "/wake_up"}],
    }
    fast = {"cmd": upstream, "concurrencyLimit": CONCURRENCY}
    models = dict(zip(MODELS, (fast, sleeper, slow, slow), strict=True))
    # Ports are given out by name: those that are never started come last.
    models |= {f"z{number:04}": fast for number in range(place.setup.models - len(MODELS))}
    settings = dict(place.setup.settings)
    models |= settings.pop("models", {})
    file = place.folder / "config.yaml"
    # JSON is YAML.
    file.write_text(json.dumps({"startPort": place.model_port, "models": models, **settings}))
    return file


def _lacks_nginx() -> str:
    return "" if shutil.which("nginx", path=SEARCH_PATH) else "nginx is not installed"


def _lacks_compiled() -> str:
    found = any(COMPILED.glob("llmsnap__mypyc*"))
    return "" if found else "build/compiled is missing: scripts/compiled.py true"


def _lacks_gunicorn() -> str:
    return "" if find_spec("gunicorn") else "gunicorn is not installed"


DIRECT = Target("direct", _direct)
TARGETS = {
    target.name: target
    for target in (
        DIRECT,
        Target("nginx", _nginx, _lacks_nginx),
        Target("bare", _bare),
        Target("llmsnap", _llmsnap, has_models=True),
        Target("compiled", _compiled, _lacks_compiled, has_models=True),
        Target("gunicorn", _gunicorn, _lacks_gunicorn, has_models=True),
    )
}
