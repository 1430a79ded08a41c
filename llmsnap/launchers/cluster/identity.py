"""What makes jobs ours: an installation's secret, and the ids, keys and digests made from it.

Nothing of a job has to be stored: its key follows from its id, and both are there again after a
restart.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import re
import secrets

from llmsnap.config import LauncherConfig
from llmsnap.launchers.base import LaunchSpec
from llmsnap.statedir import StateDir

log = logging.getLogger(__name__)

FILE = "cluster-secret"
SECRET_CHARS = 64
_NOT_IN_IDS = re.compile(r"[^a-z0-9]+")


class Owner:
    """An installation of llmsnap; *id* is part of the metadata of all its jobs."""

    def __init__(self, secret: str) -> None:
        self._secret = secret.encode()
        self.id = self._made("owner")[:16]

    def __repr__(self) -> str:
        return f"<Owner {self.id}>"

    @classmethod
    def from_state(cls, state: StateDir) -> Owner:
        """Return the owner that has this state directory, made at its first use. Blocks briefly.

        Without a directory that keeps it, jobs are not found again after a restart.
        """
        try:
            secret = state.read(FILE, SECRET_CHARS).decode("ascii")
            if len(secret) != SECRET_CHARS:
                secret = secrets.token_hex(SECRET_CHARS // 2)
                state.write(FILE, secret.encode())
        except (OSError, UnicodeDecodeError) as error:
            log.warning("jobs on a cluster will not be found again after a restart: %s", error)
            secret = secrets.token_hex(SECRET_CHARS // 2)
        return cls(secret)

    def new_job_id(self, model_id: str) -> str:
        """Return the id of a new job: unique, and readable in the engine's own tools."""
        slug = _NOT_IN_IDS.sub("-", model_id.lower()).strip("-")[:40]
        return f"llmsnap-{self.id[:8]}-{slug or 'model'}-{secrets.token_hex(6)}"

    def key_of(self, job_id: str) -> str:
        """Return the key that the server of this job asks for."""
        return self._made(f"key {job_id}")

    def log_token_of(self, job_id: str) -> str:
        """Return what proves that a connection with output comes from this job."""
        return self._made(f"log {job_id}")[:32]

    def digest(self, spec: LaunchSpec, settings: LauncherConfig) -> str:
        """Return what is equal for two starts of the same server, and tells nothing else of it."""
        wants = spec.resources
        parts = [
            *(spec.model_id, spec.cmd, spec.url, *spec.env, "\0", *settings.env, settings.bind),
            *(wants.gpus, wants.cpus, wants.ram_bytes, dict(wants.labels), dict(wants.custom)),
            *(spec.keeps_engine_env, spec.makes_key),
        ]
        return self._made(json.dumps(parts))[:32]

    def _made(self, text: str) -> str:
        return hmac.new(self._secret, text.encode(), hashlib.sha256).hexdigest()
