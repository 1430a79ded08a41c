"""Replaces llama-server in the demo: accepts its command line, serves simulated responses."""

from __future__ import annotations

import argparse
import os
import sys
from typing import NoReturn

# The pace of the demo's model on a laptop, so that loading and streaming can be watched.
PACE = ["--load-time", "1", "--tokens-per-second", "40", "--timings"]


def simulator_command(arguments: list[str]) -> list[str]:
    """Return the simulator's command line for one of llama-server's, without model options."""
    parser = argparse.ArgumentParser(allow_abbrev=False, add_help=False)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", default="8080")
    parser.add_argument("-c", "--ctx-size", default="4096")
    parser.add_argument("-a", "--alias", default="simulated")
    parser.add_argument("--slot-save-path", default="")
    known, _ = parser.parse_known_args(arguments)
    command = [sys.executable, "-m", "llmsnap.simulator", "--host", known.host]
    command += ["--port", known.port, "--n-ctx", known.ctx_size, "--model", known.alias]
    saves = ["--slot-save-path", known.slot_save_path] if known.slot_save_path else []
    return command + PACE + saves


def main(arguments: list[str]) -> NoReturn:
    """Replace this process by the simulator, so that its process id stays the same."""
    command = simulator_command(arguments)
    os.execv(command[0], command)  # noqa: S606 - no shell wanted


if __name__ == "__main__":
    main(sys.argv[1:])
