"""The command of a job: a shell line that runs the runner, and the variables it reads."""

from __future__ import annotations

import base64
import json
import re
import zlib
from functools import cache
from importlib import resources
from urllib.parse import urlsplit

from llmsnap.config import LauncherConfig, split_command
from llmsnap.launchers.base import LaunchSpec
from llmsnap.launchers.cluster.identity import Owner
from llmsnap.launchers.cluster.runner import PREFIX

COMMAND = (
    "exec python3 -I -S -c 'import binascii,os,zlib;"
    'exec(zlib.decompress(binascii.a2b_base64(os.environ.pop("LLMSNAP_RUNNER"))))\''
)
"""What the engine runs. Commands and secrets are in variables: process lists show neither."""
MOST_OUTPUT_BYTES = 256 * 1024 * 1024
_BEGIN = re.compile(rb"gen=(\S+) .*pid=(\d+) t=([\d.]+)")
_END = re.compile(rb"gen=(\S+) exit=(\d+)")
_PREFIX = PREFIX.encode() + b" "


@cache
def packed_runner() -> str:
    """Return the source of the runner, compressed, as text of one line."""
    source = resources.files(__package__).joinpath("runner.py").read_bytes()
    return base64.b64encode(zlib.compress(source, 9)).decode()


def environment(
    spec: LaunchSpec,
    settings: LauncherConfig,
    job_id: str,
    owner: Owner,
    not_after: float,
) -> dict[str, str]:
    """Return the variables of a job: those of launcher and model, and what the runner reads.

    *not_after* is the time (Unix) after which the start must not happen. llama-server reads
    ``LLAMA_ARG_*``: a command that only names its port listens where it can be reached.
    """
    port = urlsplit(spec.url).port or 0
    run = {
        "argv": split_command(spec.cmd),
        "bind": settings.bind,
        "port": port,
        "not_after": not_after,
        "grace": spec.grace_s,
        "cap": MOST_OUTPUT_BYTES,
        "gen": job_id,
        "keep_env": spec.keeps_engine_env,
        "log_to": settings.log_address,
        "log_token": owner.log_token_of(job_id),
    }
    key = owner.key_of(job_id) if spec.makes_key else ""
    given = (entry.partition("=") for entry in (*settings.env, *spec.env))
    return {
        "LLAMA_ARG_HOST": settings.bind,
        "LLAMA_ARG_PORT": str(port),
        **{name: value for name, _, value in given if name},
        "LLMSNAP_RUNNER": packed_runner(),
        "LLMSNAP_RUN": json.dumps(run),
        **({"LLMSNAP_KEY": key} if key else {}),
    }


class RunnerOutput:
    """Takes the lines of the runner out of the output of a job, and what comes before them."""

    def __init__(self, job_id: str) -> None:
        self._job_id = job_id.encode()
        self._kept = b""
        """The begin of a line that may be one of the runner."""
        self._pid = b""
        self.has_begun = False
        self.was_repeated = False
        """Whether the engine has run the job a second time."""
        self.began_at = 0.0
        """When the server was started, by the clock of its machine; 0 before that."""
        self.code: int | None = None
        """The exit code of the server, once nothing of it is left."""

    def __repr__(self) -> str:
        return f"<RunnerOutput, {'begun' if self.has_begun else 'not begun'}, exit {self.code}>"

    def feed(self, data: bytes) -> bytes:
        """Return what the server has printed of *data*."""
        lines = (self._kept + data).split(b"\n")
        rest = lines.pop()
        self._kept = b""
        found = [line + b"\n" for line in lines if not self._is_runners(line) and self.has_begun]
        if rest.startswith(_PREFIX) or _PREFIX.startswith(rest) or not self.has_begun:
            self._kept = rest[-4096:]
        else:
            found.append(rest)
        return b"".join(found)

    def _is_runners(self, line: bytes) -> bool:
        if not line.startswith(_PREFIX):
            return False
        begin, end = _BEGIN.search(line), _END.search(line)
        if begin is not None and begin[1] == self._job_id:
            self.was_repeated = self.has_begun and begin[2] != self._pid
            self.has_begun, self._pid, self.began_at = True, begin[2], float(begin[3])
            self.code = None  # an end before that was of another run
            return True
        if end is not None and end[1] == self._job_id and self.has_begun:
            self.code = int(end[2])
            return True
        return False
