"""The checkout's virtual environments: created if missing, updated when their inputs change.

Standard library only: this runs on a bare machine's Python, before anything is installed.

    environment.py [--folder FOLDER] [--versions FILE|newest] [EXTRA ...]

installs the package, editable, with these extras into ``.venv`` or FOLDER. Versions come from
``scripts/constraints.txt``; FILE overrides some of them, and ``newest`` takes what the index has.
An extra marked with ``?`` may fail: the failure is printed and remembered, and the package is
installed without it.
"""

# ruff: noqa: T201 - a command that talks to a person

from __future__ import annotations

import argparse
import contextlib
import fcntl
import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import venv
from collections import deque
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
CONSTRAINTS = ROOT / "scripts" / "constraints.txt"
NEWEST = "newest"
TAIL_LINES = 15
REPORT_EVERY_S = 2.0
COMPILED = ("llmsnap__mypyc*.so", "llmsnap/**/*.so")
NAME = re.compile(r"[A-Za-z0-9._-]+")


class SetupError(Exception):
    """The environment cannot be created; the message describes the remedy."""


class Environment:
    """A virtual environment of the checkout, with one stamp file per installed extra."""

    def __init__(
        self, folder: Path = VENV, source: Path = ROOT, constraints: str | None = None
    ) -> None:
        """*constraints*: the text of a pip constraints file; empty for the newest versions."""
        self.folder = folder
        self.source = source
        self.constraints = chosen_versions("") if constraints is None else constraints
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
        """Install the package with *extra*, or without it if that fails.

        Returns the failure, which is also printed and kept in the stamp; empty where it worked.
        Raises: SetupError where the package cannot be installed at all.
        """
        failed = f"failed {self.digest()}\n"
        stamp = self.stamp(extra)
        if stamp.startswith(failed):
            return stamp.removeprefix(failed)
        self._ensure_made()
        try:
            self.ensure(extra)
        except SetupError as error:
            self.ensure("")
            print(f"Continuing without the {extra} extra: {error}", flush=True)
            self._write_stamp(extra, failed + str(error))
            return str(error)
        return ""

    def stamp(self, extra: str) -> str:
        """Return the stamp of the last run for *extra*; empty if it never ran."""
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
        """Return a hash of the inputs: setup.py, the constraints, and the Python version."""
        recipe = (self.source / "setup.py").read_bytes()
        recipe += (sys.version + self.constraints).encode()
        return hashlib.sha256(recipe).hexdigest()

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Lock the environment: a second ``make`` in the same checkout waits for this one."""
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
        """Whether its Python starts and has pip; an incomplete or outdated one is recreated."""
        probe = "import pip, sys; sys.exit(sys.prefix == sys.base_prefix)"
        command = [str(self.python), "-c", probe]
        with contextlib.suppress(OSError):
            return subprocess.run(command, capture_output=True, check=False).returncode == 0  # noqa: S603 - our own interpreter
        return False

    def _install(self, extra: str) -> None:
        wanted = f"{self.source}[{extra}]" if extra else str(self.source)
        print(f"Installing llmsnap{f' with its {extra} extra' if extra else ''}", flush=True)
        pip = [str(self.python), "-m", "pip", "install", "--disable-pip-version-check"]
        pip += ["--no-input", "--progress-bar", "off"]
        with tempfile.NamedTemporaryFile("w", suffix=".txt") as versions:
            versions.write(self.constraints)
            versions.flush()
            pip += ["--constraint", versions.name]
            # The build backend has a pinned version as well, so it is not left to build isolation.
            run_pip([*pip, "setuptools>=77.0.3"])
            run_pip([*pip, "--no-build-isolation", "-e", wanted])


def chosen_versions(versions: str) -> str:
    """Return the text of the constraints for ``--versions``; "" stands for the usual ones.

    A file's own pins replace those of the same packages in ``scripts/constraints.txt``.
    """
    if versions == NEWEST:
        return ""
    usual = CONSTRAINTS.read_text(encoding="utf-8").splitlines()
    own = Path(versions).read_text(encoding="utf-8").splitlines() if versions else []
    replaced = {package(line) for line in own}
    return "\n".join([*own, *(line for line in usual if package(line) not in replaced), ""])


def package(line: str) -> str:
    """Return the normalized name of the package that a line of constraints is about, or ""."""
    found = NAME.match(line)
    return re.sub(r"[-_.]+", "-", found[0]).lower() if found else ""


def run_pip(command: list[str]) -> None:
    """Run pip and report how much it has fetched while it runs.

    Raises: SetupError with pip's last lines.
    """
    tail: deque[str] = deque(maxlen=TAIL_LINES)
    with tempfile.TemporaryDirectory(prefix="llmsnap-pip-") as scratch:
        # pip downloads and unpacks below TMPDIR, so the folder's size shows the progress.
        environ = {**os.environ, "TMPDIR": scratch, "PYTHONUNBUFFERED": "1"}
        with (
            tempfile.TemporaryFile("w+", errors="replace") as output,
            subprocess.Popen(  # noqa: S603 - our own interpreter
                command,
                env=environ,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            ) as child,
        ):
            report_fetched(child, Path(scratch))
            output.seek(0)
            tail.extend(line.rstrip() for line in output)
    if child.returncode != 0:
        raise SetupError("pip failed; its last lines:\n  " + "\n  ".join(tail))


def report_fetched(child: subprocess.Popen[bytes], scratch: Path) -> None:
    """Print megabytes and seconds until *child* has ended: one line, rewritten on a terminal."""
    started = time.monotonic()
    reported = 0
    rewrite = sys.stdout.isatty()
    while True:
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(REPORT_EVERY_S / (4 if rewrite else 1))
            break
        fetched = size(scratch) // 1_000_000
        if fetched > reported:
            reported = fetched
            text = f"  {fetched} MB fetched, {time.monotonic() - started:.0f} s"
            print(f"\r{text}" if rewrite else text, end="" if rewrite else "\n", flush=True)
    if rewrite and reported:
        print()


def size(folder: Path) -> int:
    """Return the bytes in all files below *folder*; files may vanish meanwhile."""
    total = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):
            if path.is_file():
                total += path.stat().st_size
    return total


def missing_venv_advice() -> str:
    """Names the package that brings the venv module on this system."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    if shutil.which("apt-get"):
        how = f"sudo apt install python{version}-venv"
    else:
        how = f"install the package with Python {version}'s venv and ensurepip modules"
    return f"Python {version} has no venv module here. Install it, then run this again:\n  {how}"


def main(arguments: list[str]) -> int:
    """Install the package with every extra named; return 1 where one that has to work did not."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--folder", type=Path, default=VENV)
    parser.add_argument("--versions", default="")
    parser.add_argument("extras", nargs="*")
    chosen = parser.parse_args(arguments)
    environment = Environment(chosen.folder, ROOT, chosen_versions(chosen.versions))
    with environment.locked():
        environment.sweep()
        for extra in chosen.extras or [""]:
            try:
                if extra.endswith("?"):
                    environment.attempt(extra.removesuffix("?"))
                else:
                    environment.ensure(extra)
            except SetupError as error:
                print(error, file=sys.stderr)
                return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
