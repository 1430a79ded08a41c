"""Real clients in front of models that load long, fail and die; see README.md.

    python -m tests.clients [--only CLIENT ...] [--installed]

Prints a table of cells and exits with 1 when one is red.
"""

# isort: off
import llmsnap._monkey  # noqa: F401 - before all else
# isort: on

import argparse
import json
import os
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from gevent import subprocess
from gevent.pool import Pool

from tests.e2e.harness import ROOT, SIM, Running
from tests.fakes.ports import free_ports

HERE = Path(__file__).parent
BUILD = ROOT / "build" / "clients"
PYTHON_PACKAGES = ("openai", "anthropic", "litellm")
NODE_PACKAGES = ("openai", "@anthropic-ai/sdk", "ai", "@ai-sdk/openai-compatible")
SIDE_BY_SIDE = 6
CELL_LIMIT_S = 180
CAUSE = "no room for the weights"
CASES = {
    "loads 12 s": "{sim} --load-time 12",
    "cannot start": f"sh -c 'echo {CAUSE}; exit 3' ${{PORT}}",
    "fails after 12 s": f"sh -c 'sleep 12; echo {CAUSE}; exit 3' ${{PORT}}",
    "dies in mid-answer": "{sim} --tokens 1000 --tokens-per-second 10 --exit-after 4",
}
MODES = ("streamed", "whole")


@dataclass(frozen=True)
class Client:
    """A client, the program that is it, and how often it asks for what fails."""

    name: str
    command: tuple[str, ...]
    modes: tuple[str, ...] = MODES
    tries: int = 1


SDKS = (str(BUILD / "venv/bin/python"), str(HERE / "python_sdks.py"))
PARSERS = (sys.executable, str(HERE / "parsers.py"))
NODE = ("node", "node_sdks.mjs")
CLIENTS = [
    *(Client(name, SDKS) for name in ("openai", "responses", "anthropic", "litellm")),
    *(
        Client(name, PARSERS, ("streamed",))
        for name in ("each-blank-line", "data-and-blank", "each-line")
    ),
    *(Client(name, NODE) for name in ("openai-node", "anthropic-node")),
    Client("ai-node", NODE, tries=3),  # twice again whatever x-should-retry says
]


def install(*, node: bool) -> None:
    """Put the newest of everything into ``build/clients``. Raises CalledProcessError."""
    python = BUILD / "venv/bin/python"
    if not python.exists():
        subprocess.check_call([sys.executable, "-m", "venv", str(BUILD / "venv")])
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.check_call([*pip, "--upgrade", *PYTHON_PACKAGES])
    if node:
        (BUILD / "node").mkdir(parents=True, exist_ok=True)
        (BUILD / "node/package.json").write_text('{"private": true}\n')
        newest = [f"{name}@latest" for name in NODE_PACKAGES]
        npm = ["npm", "install", "--no-audit", "--no-fund", "--loglevel=error"]
        subprocess.check_call([*npm, *newest], cwd=BUILD / "node")


@dataclass(frozen=True)
class Cell:
    """One question: a client, a case, streamed or whole."""

    client: Client
    case: str
    mode: str

    @property
    def model(self) -> str:
        """A model of its own, so that cells do not load for each other."""
        return f"{self.client.name}-{self.mode}-{self.case.replace(' ', '-')}"

    def run(self, server: Running) -> tuple[str, str]:
        """Ask, and return the client's version and what is wrong, empty if nothing is."""
        command = [*self.client.command, self.client.name, server.url, self.model, self.mode]
        cwd = BUILD / "node" if command[0] == "node" else ROOT
        environ = {name: text for name, text in os.environ.items() if "proxy" not in name.lower()}
        try:
            output = subprocess.check_output(command, cwd=cwd, env=environ, timeout=CELL_LIMIT_S)
        except subprocess.TimeoutExpired:
            return "?", f"no outcome after {CELL_LIMIT_S} s"
        except subprocess.CalledProcessError as error:
            return "?", str(error)
        told = json.loads(output.splitlines()[-1])
        asked = server.get(f"/api/activity?model={self.model}").json()["records"]
        return told["version"], self.judge(told.get("text"), told.get("error", ""), len(asked))

    def judge(self, text: str | None, error: str, asked: int) -> str:
        """Return what is wrong with an outcome after *asked* requests, empty if nothing is."""
        if self.case == "loads 12 s":
            whole = f"You said: hello\nI am {self.model}, a simulated model."
            return "" if text == whole else error or f"the text is {text!r}"
        if not error:
            return f"no error, but the text {text!r}"
        if self.case == "dies in mid-answer":
            return ""
        if CAUSE not in error:
            return f"without the cause: {error}"
        limit = self.client.tries
        return "" if 1 <= asked <= limit else f"asked {asked} times, {limit} expected: {error}"


def configuration(cells: list[Cell]) -> str:
    """A model for each cell; all may run together."""
    port = free_ports(len(cells) + 8)
    models = {cell.model: {"cmd": CASES[cell.case].replace("{sim}", SIM)} for cell in cells}
    group = {"swap": False, "members": list(models)}
    return json.dumps({"startPort": port, "models": models, "groups": {"all": group}})


def show(cells: list[Cell], outcomes: list[tuple[str, str]]) -> None:
    """Print the table, then what is wrong with the red cells."""
    found = dict(zip(cells, outcomes, strict=True))
    row = "{:<16} {:<10} {:<9}" + " {:<19}" * len(CASES)
    print(row.format("client", "version", "answer", *CASES))
    for first in (cell for cell in cells if cell.case == next(iter(CASES))):
        own = [found[Cell(first.client, case, first.mode)] for case in CASES]
        versions = [version for version, _ in own if version != "?"] or ["?"]
        marks = ["RED" if wrong else "ok" for _, wrong in own]
        print(row.format(first.client.name, versions[0], first.mode, *marks).rstrip())
    for cell, (_, wrong) in found.items():
        if wrong:
            print(f"\nRED {cell.client.name}, {cell.mode}, {cell.case}: {wrong[:2000]}")


def main() -> int:
    """Run it; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.clients")
    parser.add_argument("--only", nargs="+", default=[], metavar="CLIENT")
    parser.add_argument("--installed", action="store_true", help="install nothing")
    options = parser.parse_args()
    node = bool(shutil.which("node") and shutil.which("npm"))
    if not node:
        print("!!! node or npm is missing: the clients of Node are NOT tried !!!")
    if not options.installed:
        install(node=node)
    if node:
        shutil.copy(HERE / "node_sdks.mjs", BUILD / "node")
    clients = [one for one in CLIENTS if node or one.command is not NODE]
    chosen = [one for one in clients if not options.only or one.name in options.only]
    if not chosen:
        parser.error(f"--only takes {', '.join(client.name for client in clients)}")
    cells = [
        Cell(client, case, mode) for client in chosen for mode in client.modes for case in CASES
    ]
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "config.yaml"
        config.write_text(configuration(cells))
        server = Running("llmsnap", config)
        try:
            server.wait_ready()
            outcomes = Pool(SIDE_BY_SIDE).map(lambda cell: cell.run(server), cells)
        finally:
            server.stop()
    show(cells, outcomes)
    return int(any(wrong for _, wrong in outcomes))


if __name__ == "__main__":
    sys.exit(main())
