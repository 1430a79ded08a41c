"""nginx and Caddy with the configurations of conf/, as a test puts them in front of llmsnap."""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import gevent
import pytest
from gevent import socket, subprocess

from tests.e2e.harness import ROOT

NAME = "llm.example.com"
SEARCH_PATH = f"{os.environ.get('PATH', '')}:/usr/local/sbin:/usr/sbin:/sbin"  # of Debian's nginx
NGINX = """\
daemon off;
worker_processes 1;
{user}
pid {folder}/pid;
error_log stderr;
events {{ }}
http {{
  access_log off;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
{ours}
}}
"""
CADDY = "{{\n\tadmin off\n\tauto_https off\n}}\n{ours}"


def nginx(folder: Path, listen: int, upstream: int, prefix: str = "/") -> list[str]:
    """The shipped configuration; below a *prefix* changed as its comment says."""
    ours = (ROOT / "conf/nginx.conf").read_text()
    if prefix != "/":
        ours = put(ours, "    location / {", f"    location {prefix} {{")
        ours = put(
            ours, "        proxy_pass http://llmsnap;", "        proxy_pass http://llmsnap/;"
        )
    ours = put(ours, "listen 80;", f"listen 127.0.0.1:{listen};")
    ours = put(ours, "127.0.0.1:8080", f"127.0.0.1:{upstream}")
    file = folder / "nginx.conf"
    user = "user root;" if os.geteuid() == 0 else ""
    file.write_text(NGINX.format(user=user, folder=folder, ours=ours))
    return ["nginx", "-c", str(file), "-p", str(folder)]


def caddy(folder: Path, listen: int, upstream: int) -> list[str]:
    ours = (ROOT / "conf/Caddyfile").read_text()
    ours = put(ours, f"{NAME} {{", f"http://{NAME}:{listen} {{")
    ours = put(ours, "reverse_proxy 127.0.0.1:8080", f"reverse_proxy 127.0.0.1:{upstream}")
    file = folder / "Caddyfile"
    file.write_text(CADDY.format(ours=ours))
    return ["caddy", "run", "--adapter", "caddyfile", "--config", str(file)]


def put(text: str, old: str, new: str) -> str:
    assert text.count(old) == 1, old
    return text.replace(old, new)


def needs(command: Callable[..., list[str]]) -> pytest.MarkDecorator:
    missing = shutil.which(command.__name__, path=SEARCH_PATH) is None
    return pytest.mark.skipif(missing, reason=f"{command.__name__} is not installed")


@contextmanager
def standing(command: list[str], folder: Path, port: int) -> Iterator[None]:
    """Run a proxy until the end of the block, which begins when it accepts connections."""
    env = {"PATH": SEARCH_PATH, "HOME": str(folder)}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, env=env, stdout=log, stderr=log)
    try:
        with gevent.Timeout(20):
            while not answers(port):
                assert process.poll() is None, (folder / "log").read_text()
                gevent.sleep(0.02)
        yield
    finally:
        process.terminate()
        process.wait()


def answers(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0
