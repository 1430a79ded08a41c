"""The finished configuration: frozen, checked, every default filled in.

Whoever holds one of these objects need not look at YAML, macros or inheritance again. Durations
are seconds (``_s``), sizes bytes (``_bytes``). Mappings are read-only views; the lists and dicts
nested inside JSON values are plain, so that they can be encoded, and must not be changed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, TypeAlias

JsonValue: TypeAlias = "bool | int | float | str | list[JsonValue] | dict[str, JsonValue] | None"

DEFAULT_GROUP = "(default)"
DEFAULT_CONCURRENCY = 100
MIB = 1024 * 1024
KIB = 1024

# A browser tab left open on a model's own page asks for these; none is worth a swap.
DEFAULT_IGNORE_PATHS = (
    r"\.(?:js|mjs|css|map|json|png|gif|jpe?g|svg|webp|avif|ico|txt|woff2?|ttf)$",
)

# What monitors, dashboards and the pages of models ask for to see how a server is.
DEFAULT_OBSERVE_PATHS = (r"^/(?:metrics|props|slots|tools|v1/models)/?$", r"\.webmanifest$")

_EMPTY: Mapping[str, Any] = MappingProxyType({})


def _empty() -> Mapping[str, Any]:
    return _EMPTY


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One HTTP call of a sleep or wake list."""

    endpoint: str
    """Path or absolute URL, resolved against the upstream's address."""
    method: str = "POST"
    body: str = ""
    """Sent verbatim; when not empty it goes as ``application/json``."""
    timeout_s: float = 10.0


@dataclass(frozen=True, slots=True)
class Filters:
    """What is deleted from and set in a JSON request body; already sanitised.

    Keys are paths (``a.b``, ``list.0``, a literal dot is ``a\\.b``). None of them begins with
    ``model``, none contains ``* ? # | @``. Order of use: strip, set, set by id.
    """

    strip_params: tuple[str, ...] = ()
    """Sorted, without duplicates."""
    set_params: Mapping[str, JsonValue] = field(default_factory=_empty)
    """Sorted by key."""
    set_params_by_id: Mapping[str, Mapping[str, JsonValue]] = field(default_factory=_empty)
    """Requested name (id or alias) -> what to set in addition; each name is an alias too."""

    def __bool__(self) -> bool:
        return bool(self.strip_params or self.set_params or self.set_params_by_id)


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Limits on the connection to an upstream or peer; 0 is no limit."""

    connect_s: float = 5.0
    response_header_s: float = 0.0
    idle_s: float = 0.0
    """Longest silence within a response body."""


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """One model: how its server is started, checked, put to sleep and stopped, and its limits."""

    id: str
    cmd: str = field(repr=False)
    """Comments stripped, macros expanded; ``config.command.split`` makes the words."""
    cmd_stop: str = field(default="", repr=False)
    """As *cmd*, but ``${PID}`` is left for the moment of stopping; empty: SIGTERM."""
    proxy: str = "http://localhost:5800"
    """The server's base URL, http or https."""
    port: int | None = None
    """The number ``${PORT}`` got; None when the model does not use it."""
    env: tuple[str, ...] = field(default=(), repr=False)
    """``NAME=value``, added to the inherited environment; of duplicates the later wins."""
    launcher: str = "local"
    """What starts the server: a key of ``launchers.LAUNCHERS``."""

    name: str = ""
    description: str = ""
    aliases: tuple[str, ...] = ()
    unlisted: bool = False
    use_model_name: str = ""
    metadata: Mapping[str, JsonValue] = field(default_factory=_empty)
    filters: Filters = Filters()

    check_endpoint: str | None = "/health"
    """Path or absolute URL; None: ready as soon as it runs."""
    health_check_timeout_s: float = 120.0
    ttl_s: float = 0.0
    """Idle seconds until unload, the global default already applied; 0 is never."""
    sleep_after_s: float = 0.0
    """Idle seconds until sleep; 0 is never."""
    unload_timeout_s: float = 10.0
    concurrency_limit: int = DEFAULT_CONCURRENCY
    queue_limit: int = 1000
    timeouts: Timeouts = Timeouts()

    can_sleep: bool = False
    """``sleepMode: enable``; both endpoint lists are then non-empty."""
    sleep_endpoints: tuple[Endpoint, ...] = ()
    wake_endpoints: tuple[Endpoint, ...] = ()

    send_loading_state: bool = False
    keepalive_while_loading: bool = True
    ignore_websockets: bool = False
    ignore_streams: bool = True
    """Answers below ``/upstream`` that stay open do not keep the model."""
    api_key: str = field(default="", repr=False)
    """What its server asks for (``llama-server --api-key``)."""
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    """Sent with every request to its server, in place of the client's of the same name."""
    sandbox: bool | None = None
    """Whether its pages are kept apart from the interface; None: where that needs it."""

    blueprint: tuple[str, ...] = field(default=(), repr=False)
    """Words of the command, proxy and env with ``${PORT}`` instead of the number: when this
    differs, the process must be replaced. Filled in by the loader."""


@dataclass(frozen=True, slots=True)
class GroupConfig:
    """Models that share swap rules."""

    id: str
    swap: bool = True
    """Only one member runs at a time."""
    exclusive: bool = True
    """Loading a member makes the models of other groups leave."""
    persistent: bool = False
    """Other groups cannot make the members leave."""
    members: tuple[str, ...] = ()
    """Model ids, each existing and in this group only."""


_ONLY_DEFAULT_GROUP = MappingProxyType({DEFAULT_GROUP: GroupConfig(DEFAULT_GROUP)})


@dataclass(frozen=True, slots=True)
class PeerConfig:
    """Another server some models are served by."""

    id: str
    proxy: str
    models: tuple[str, ...] = ()
    api_key: str = field(default="", repr=False)
    filters: Filters = Filters()
    timeouts: Timeouts = Timeouts(connect_s=10.0, response_header_s=600.0)


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key that opens the door, and how far."""

    key: str = field(repr=False)
    name: str = ""
    """What logs and metrics call it; the key itself is never shown."""
    models: tuple[str, ...] | None = None
    """Globs of the model names it may see and use; None is all."""
    admin: bool = True
    """May unload, load, sleep, reload and read logs, captures and configuration."""
    upstream: bool = False
    """May use everything that servers answer below ``/upstream``, as admins may."""


@dataclass(frozen=True, slots=True)
class SchedulerConfig:
    """How waiting models are ordered."""

    use: str = "fair"
    """``fair`` or ``fifo``."""
    max_hold_s: float = 120.0
    priorities: Mapping[str, int] = field(default_factory=_empty)
    """Model id -> priority, those that are not 0; higher first."""


@dataclass(frozen=True, slots=True)
class StoreConfig:
    """Where activity and swaps are kept beyond a restart."""

    path: str | None = None
    """SQLite file; None: memory only."""
    max_age_days: float = 30.0
    max_rows: int = 1_000_000


@dataclass(frozen=True, slots=True)
class Config:
    """The whole configuration."""

    models: Mapping[str, ModelConfig] = field(default_factory=_empty)
    """By id, in ascending order."""
    aliases: Mapping[str, str] = field(default_factory=_empty)
    """Alias -> model id; never holds a model id, so look in *models* first or last alike."""
    groups: Mapping[str, GroupConfig] = field(default_factory=lambda: _ONLY_DEFAULT_GROUP)
    """Every model is in exactly one; ``(default)`` always exists and takes the rest."""
    peers: Mapping[str, PeerConfig] = field(default_factory=_empty)
    """By id, in ascending order: of two peers with one model the first serves it."""
    api_keys: tuple[ApiKey, ...] = ()
    """Empty: no authentication."""
    key_variables: frozenset[str] = frozenset()
    """Environment variables that keys, ours or of peers, are made of: models do not get them."""
    preload: tuple[str, ...] = ()
    """Model ids, without duplicates."""
    scheduler: SchedulerConfig = SchedulerConfig()

    start_port: int = 5800
    health_check_timeout_s: float = 120.0
    sleep_request_timeout_s: float = 10.0
    wake_request_timeout_s: float = 10.0
    global_ttl_s: float = 0.0
    unload_timeout_s: float = 10.0
    queue_limit: int = 1000
    queue_timeout_s: float = 3600.0
    """0 is never."""
    send_loading_state: bool = False
    keepalive_while_loading: bool = True
    include_aliases_in_list: bool = False

    max_request_body_bytes: int = 256 * MIB
    max_decompressed_body_bytes: int = 64 * MIB
    max_upload_bytes: int = 4096 * MIB
    max_body_memory_bytes: int = 0
    """Of the bodies of all requests together; 0: by the memory there is."""
    max_spool_bytes: int = 0
    """Of all uploads together; 0: by the free disk there is."""
    allowed_hosts: tuple[str, ...] = ()
    allowed_origins: tuple[str, ...] = ()
    inference_origins: tuple[str, ...] = ()
    ui_origin: str = "same"
    """``same``, or ``separate``: pages of models are shown in an origin of their own."""
    pages_origin: str = ""
    """Where that is: ``:8081`` for a port, or ``https://pages.example``; empty:
    ``<model>.localhost``."""
    trusted_proxies: tuple[str, ...] = ()
    """IP addresses and networks."""
    ignore_paths: tuple[str, ...] = DEFAULT_IGNORE_PATHS
    observe_paths: tuple[str, ...] = DEFAULT_OBSERVE_PATHS
    """Regular expressions, searched in the path below ``/upstream/<model>``; those requests
    never load a model."""

    log_level: str = "info"
    """``debug``, ``info``, ``warn`` or ``error``."""
    log_time_format: str = ""
    """A known name in lower case; empty: no timestamps."""
    log_to_stdout: str = "proxy"
    """``proxy``, ``upstream``, ``both`` or ``none``."""
    log_buffer_bytes: int = 100 * KIB
    log_requests: bool = False
    metrics_max_in_memory: int = 1000
    capture_buffer_bytes: int = 5 * MIB
    """0: no captures."""
    capture_max_body_bytes: int = MIB
    capture_redact: tuple[str, ...] = ()
    """ModelNames of JSON fields and query parameters."""
    capture_mask: Mapping[str, str] = field(default_factory=_empty)
    """Route -> ``none``, ``headers`` or ``full``: what is kept of its requests."""
    store: StoreConfig = StoreConfig()

    source: str = ""
    """Path of the file it was read from; empty when it came from a string."""
    text: str = field(default="", repr=False)
    """What that file held; secrets stand in it."""
    content_hash: str = ""
    """SHA-256 of the file's bytes, in hexadecimal."""
