"""The command-line options. Each has an environment variable; the option takes precedence."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from llmsnap.errors import BadRequest

PREFIX = "LLMSNAP_"
API_KEY = "LLMSNAP_API_KEY"
"""The variable with the key that the commands send to a running server."""
TLS = re.compile(r"LLMSNAP_TLS(?:_?\w*(?:CERT|CRT|KEY|PEM)\w*)?")
"""Variables that can only be meant for a certificate; Kubernetes sets others for its services."""
SPELLINGS = {
    "LLMSNAP_TLS_CERT": "LLMSNAP_TLS_CERT_FILE",
    "LLMSNAP_TLS_KEY": "LLMSNAP_TLS_KEY_FILE",
}
"""Alternative names, as on the command line."""
TRUE_WORDS = frozenset({"1", "t", "true", "yes", "on"})
FALSE_WORDS = frozenset({"", "0", "f", "false", "no", "off"})
LOG_FORMATS = ("text", "json")


@dataclass(frozen=True, slots=True)
class Options:
    """How the program runs; the models are defined in the configuration file."""

    config: str = ""
    """Path of the configuration file; empty: config.yaml, unless there is a directory."""
    config_dir: str = ""
    """Directory whose *.yml and *.yaml files are read as one configuration, after *config*."""
    listen: str = ""
    """host:port, :port or unix:/path; empty: :8080, or :8443 with TLS."""
    tls_cert_file: str = ""
    tls_key_file: str = ""
    watch_config: bool = False
    drain_timeout: float = 10.0
    """Seconds to let in-flight requests finish at shutdown."""
    state_dir: str = ""
    record_decisions: str = ""
    """File to which every event and decision of the scheduler is written as JSON lines."""
    log_format: str = "text"
    """Format of the server's own log: ``text`` or ``json``."""
    debug: bool = False

    def __post_init__(self) -> None:
        """Check the values. Raises: BadRequest."""
        if self.log_format not in LOG_FORMATS:
            raise BadRequest(f"log format must be text or json, not {self.log_format!r}")
        if not 0 <= self.drain_timeout < math.inf:
            raise BadRequest(f"drain timeout must be 0 s or more, not {self.drain_timeout:g}")

    @property
    def config_paths(self) -> tuple[str, str]:
        """The configuration's file and its directory; one of them may be empty."""
        return self.config or ("" if self.config_dir else "config.yaml"), self.config_dir

    @property
    def tls(self) -> bool:
        """Whether both files of a certificate are given."""
        return bool(self.tls_cert_file and self.tls_key_file)


def from_environ(environ: Mapping[str, str]) -> dict[str, Any]:
    """Return the options the environment sets (``LLMSNAP_WATCH_CONFIG`` for ``--watch-config``).

    Raises: BadRequest naming the variable whose value does not fit.
    """
    found: dict[str, Any] = {}
    known = {PREFIX + field.name.upper(): field for field in fields(Options)}
    for name, value in environ.items():
        field = known.get(SPELLINGS.get(name, name))
        if field is not None:
            found[field.name] = parse(name, type(field.default), value)
        elif TLS.fullmatch(name):
            names = ", ".join(filter(TLS.fullmatch, known))
            raise BadRequest(f"{name} is not known, and nothing would be encrypted: use {names}")
    return found


def parse(name: str, kind: type, text: str) -> object:
    """Return *text* as a value of *kind*. Raises: BadRequest."""
    if kind is bool:
        word = text.strip().lower()
        if word in TRUE_WORDS | FALSE_WORDS:
            return word in TRUE_WORDS
        raise BadRequest(f"{name} must be true or false, not {text!r}")
    try:
        return kind(text)
    except ValueError as error:
        raise BadRequest(f"{name} must be a number, not {text!r}") from error
