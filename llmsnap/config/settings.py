"""The settings, whose fields declare every key of the configuration file.

Each ``setting()`` is the complete declaration of a key; ``keys`` explains what derives from it. The
objects are frozen and validated, with all defaults, macros and inherited values resolved. Durations
are in seconds (``_s``), sizes in bytes (``_bytes``). Mappings are read-only views; lists and dicts
nested in JSON values are plain, so that they can be encoded, and must not be changed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar

from .hints import model_hints, top_hints
from .keys import (
    MIB,
    ConfigKey,
    derived,
    grouped,
    section_of,
    setting,
    stored_values,
)
from .kinds import (
    Choice,
    Flag,
    HeaderNames,
    Number,
    Patterns,
    RawNode,
    Text,
    Texts,
    Words,
)
from .launchers import LAUNCHER, LauncherConfig
from .model_settings import (
    HEALTH_CHECK_TIMEOUT_S,
    LOAD_TIMEOUT_S,
    QUEUE_LIMIT,
    UNLOAD_TIMEOUT_S,
    ModelConfig,
)
from .parts import (
    API_KEY,
    DEFAULT_GROUP,
    ENDPOINT,
    GROUP,
    HOOK_CALL,
    LOGS,
    MACROS_SCHEMA,
    MATRIX,
    MEMORY_RULES,
    ON_STARTUP,
    PEER,
    PERFORMANCE,
    PROFILE,
    PROMPT_CACHE,
    READ_AHEAD,
    SCHEDULER,
    SELECTOR,
    STORE,
    ApiKey,
    DeviceConfig,
    GroupConfig,
    MatrixConfig,
    MemoryRules,
    PeerConfig,
    PerformanceConfig,
    ProfileConfig,
    PromptCacheConfig,
    ReadAheadConfig,
    SchedulerConfig,
    SelectorConfig,
    StoreConfig,
    unsupported,
)
from .schedule import ON_IDLE, SCHEDULE, SCHEDULE_ENTRY, IdleHook, ScheduleEntry
from .sources import Sources

_METRICS_IN_MEMORY = 1000

LOG_TIME_FORMATS = (
    "",
    *("ansic", "unixdate", "rubydate", "rfc822", "rfc822z", "rfc850", "rfc1123", "rfc1123z"),
    *("rfc3339", "rfc3339nano", "kitchen", "stamp", "stampmilli", "stampmicro", "stampnano"),
)
CAPTURE_MASKS = ("none", "headers", "full")

# Requested by browser tabs left open on a model's own page; none should cause a swap.
_IGNORE_PATHS = (r"\.(?:js|mjs|css|map|json|png|gif|jpe?g|svg|webp|avif|ico|txt|woff2?|ttf)$",)
# Requested by monitors, dashboards and the pages of models to observe a server.
_OBSERVE_PATHS = (r"^/(?:metrics|props|slots|tools|v1/models)/?$", r"\.webmanifest$")

_EMPTY: Mapping[str, Any] = MappingProxyType({})

_FAIR = SchedulerConfig()
_LOAD_ALL_THE_SAME = MemoryRules()


def _only_default_group() -> Mapping[str, GroupConfig]:
    return MappingProxyType({DEFAULT_GROUP: GroupConfig(DEFAULT_GROUP)})


@dataclass(frozen=True, slots=True)
class Config:
    """The whole configuration."""

    macros: ClassVar[ConfigKey] = ConfigKey(
        "macros",
        RawNode(MACROS_SCHEMA),
        "Values written once and used as `${NAME}` in every value of a model or peer: texts, "
        "numbers or booleans. A value that is exactly one macro takes over its type. `${env.NAME}` "
        "is a variable of the environment, `${file.PATH}` the one line of a file, anywhere.",
        heading="models",
        example={
            "server": "llama-server --host 127.0.0.1 --port ${PORT} --no-webui",
            "model-dir": "/models",
            "idle": 1800,
            "context": 8192,
        },
    )
    models: Mapping[str, ModelConfig] = setting(
        "models",
        RawNode(each="model"),
        "The models by id: the name that requests use.",
        initial=_EMPTY,
        part="",
    )
    """The models, sorted by id."""
    aliases: Mapping[str, str] = derived(_EMPTY, part="")
    """Alias -> model id. No alias is also a model id."""
    groups: Mapping[str, GroupConfig] = setting(
        "groups",
        RawNode(each="group"),
        "Models that share rules. Without groups, one model runs at a time. A model is in one "
        "group at most; all others are in the group `(default)`.",
        initial=_only_default_group,
        part="groups",
        heading="which models run together",
    )
    """Every model is in exactly one group; ``(default)`` always exists and has the rest, except
    models without a command, for which there is ``(external)``."""
    matrix: MatrixConfig | None = setting(
        "matrix",
        RawNode(one="matrix"),
        "Another way to say which models run together, in place of groups: sets of combinations.",
        initial=None,
        part="matrix",
        live=False,
    )
    """None: not in use."""
    memory: tuple[DeviceConfig, ...] = setting(
        "memory",
        RawNode(one="memory"),
        "What llmsnap may use of devices: `gpu0`, `gpu1`, ... and `ram`, each a size, or its "
        "`capacity` and the `reserve` that stays free. Models then leave only when another one "
        "needs their memory. Devices, and a capacity, that are not given are detected.",
        initial=(),
        part="memory",
        example={
            "gpu0": {"capacity": "24GiB", "reserve": "512MiB"},
            "ram": "64GiB",
            "releaseTimeout": 10,
            "onStuck": "load",
            "yield": False,
        },
        live=False,
    )
    """GPUs in order, then RAM."""
    memory_rules: MemoryRules = derived(_LOAD_ALL_THE_SAME, part="memory")  # noqa: RUF009 - frozen
    residency: str = derived("group", part="residency")
    """What decides which models run together: ``group``, ``matrix`` or ``memory``."""
    hooks: ClassVar[ConfigKey] = grouped("hooks", "What happens at certain moments.")
    on_startup: ClassVar[ConfigKey] = ConfigKey(
        "hooks.on_startup", ON_STARTUP, "What happens at start."
    )
    on_idle_key: ClassVar[ConfigKey] = ConfigKey(
        "hooks.on_idle", ON_IDLE, "What happens when there are no requests."
    )
    on_idle: IdleHook | None = derived(None)  # noqa: RUF009 - frozen
    """What is loaded then; None: nothing."""
    schedule: tuple[ScheduleEntry, ...] = setting(
        "schedule",
        SCHEDULE,
        "Models to load and unload at times of day. A load gives way to requests; an unload waits "
        "until the model has none.",
        live=False,
    )
    on_startup_too: ClassVar[ConfigKey] = ConfigKey(
        "hooks.onStartup",
        ON_STARTUP,
        "Another spelling of `on_startup`.",
        live=None,
    )
    preload: tuple[str, ...] = derived((), part="preload")
    """Model ids, without duplicates."""
    routing: ClassVar[ConfigKey] = grouped(
        "routing", "Which models run together, and how waiting ones take turns."
    )
    router: ClassVar[ConfigKey] = grouped(
        "routing.router", "What decides which models run together.", live=False
    )
    router_use: ClassVar[ConfigKey] = ConfigKey(
        "routing.router.use",
        Choice("", words=("group", "matrix", "memory")),
        "`group`, `matrix` or `memory`. Default: what the file has; `group` before `matrix` before "
        "`memory`.",
        example="group",
        schema={"anyOf": [{"enum": ["group", "matrix", "memory"]}, {"$ref": "#/$defs/macro"}]},
    )
    router_settings: ClassVar[ConfigKey] = grouped(
        "routing.router.settings", "Settings of the router."
    )
    router_groups: ClassVar[ConfigKey] = ConfigKey(
        "routing.router.settings.groups",
        RawNode(each="group"),
        "The same as `groups` at the top; one of the two places only.",
        example={},
    )
    router_matrix: ClassVar[ConfigKey] = ConfigKey(
        "routing.router.settings.matrix",
        RawNode(one="matrix"),
        "The same as `matrix` at the top; one of the two places only.",
        example={"sets": {"small": "llama"}},
    )
    scheduler: SchedulerConfig = setting(
        "routing.scheduler",
        SCHEDULER,
        "How waiting models take turns.",
        initial=_FAIR,
        part="scheduler",
    )

    start_port: int = setting(
        "startPort",
        Number(5800, least=1, most=65535, whole=True),
        "First number for `${PORT}`.",
        heading="waiting and loading",
    )
    health_check_timeout_s: float = setting(
        "healthCheckTimeout",
        Number(HEALTH_CHECK_TIMEOUT_S, whole=True, raised_to=15),
        "Seconds without progress (bytes read, memory grown, new log lines) after which a server "
        "that is not ready is stopped; less than 15 counts as 15.",
        unit="seconds",
    )
    load_timeout_s: float = setting(
        "loadTimeout",
        Number(LOAD_TIMEOUT_S, least=0),
        "Seconds until a server must be ready, however much progress it makes; 0 is no limit.",
        unit="seconds",
    )
    sleep_request_timeout_s: float = setting(
        "sleepRequestTimeout",
        Number(10, whole=True, raised_to=1),
        "Seconds for one sleep call; less than 1 counts as 1.",
        unit="seconds",
    )
    wake_request_timeout_s: float = setting(
        "wakeRequestTimeout",
        Number(10, whole=True, raised_to=1),
        "Seconds for one wake call; less than 1 counts as 1.",
        unit="seconds",
    )
    global_ttl_s: float = setting(
        "globalTTL",
        Number(0.0, least=0),
        "Seconds without a request until a model is unloaded; 0 is never.",
        unit="seconds",
    )
    unload_timeout_s: float = setting(
        "unloadTimeout",
        Number(UNLOAD_TIMEOUT_S, least=0),
        "Seconds a server has to stop before it is killed; 0 stands for 10.",
        unit="seconds",
        to=lambda given: given or UNLOAD_TIMEOUT_S,  # 0 does not mean an immediate kill
    )
    queue_limit: int = setting(
        "queueLimit",
        Number(QUEUE_LIMIT, least=1, whole=True),
        "Requests per model that may wait for it; more get 429.",
    )
    queue_timeout_s: float = setting(
        "queueTimeout",
        Number(3600.0, least=0),
        "Seconds a request may wait for its model; 0 is no limit.",
        unit="seconds",
    )
    global_concurrency_limit: int = setting(
        "globalConcurrencyLimit",
        Number(0, whole=True, least=0),
        "Requests that all models together serve at the same time; more get 429, or wait if they "
        "wait for a load anyway. 0 is no limit.",
        example=200,
    )
    send_loading_state: bool = setting(
        "sendLoadingState",
        Flag(),
        "While a model loads, tell streaming chat clients so in the reasoning text.",
    )
    keepalive_while_loading: bool = setting(
        "keepaliveWhileLoading",
        Flag(True),
        "While a model loads or reads a long prompt, keep other streaming requests alive with "
        "comments.",
    )
    include_aliases_in_list: bool = setting(
        "includeAliasesInList", Flag(), "Show aliases in `/v1/models` as well."
    )

    api_keys: tuple[ApiKey, ...] = setting(
        "apiKeys",
        RawNode(each="apiKey", keep_null=True),
        "With keys, every request needs one of them. Without, no request needs one. A key that is "
        "a text may do everything.",
        initial=(),
        part="apiKeys",
        guards=True,
        heading="access",
        live=False,
    )
    """Without keys there is no authentication."""
    key_variables: frozenset[str] = derived(frozenset())
    """Environment variables referenced in API keys, which models do not inherit."""
    allowed_hosts: tuple[str, ...] = setting(
        "allowedHosts",
        Texts(),
        "Further host names this server answers to while it has no keys. `*` stands for any text; "
        "alone it allows all.",
        to=lambda hosts: tuple(host.strip().lower() for host in hosts),
        example=["ai.example.com"],
    )
    allowed_origins: tuple[str, ...] = setting(
        "allowedOrigins",
        Texts(),
        "Web pages that may use models and the control interface from a browser. `*` stands for "
        "any text.",
        example=["https://admin.example.com"],
    )
    inference_origins: tuple[str, ...] = setting(
        "inferenceOrigins",
        Texts(),
        "Further web pages that may use models, and nothing else. Without keys, those of this "
        "machine and of private networks may already; `*` allows all.",
        example=["https://chat.example.com"],
    )
    security: ClassVar[ConfigKey] = grouped("security", "From llama-swap.", live=False)
    cors: ClassVar[ConfigKey] = grouped("security.cors", "From llama-swap.")
    cors_origins: ClassVar[ConfigKey] = ConfigKey(
        "security.cors.allowedOrigins",
        Texts(),
        "Read as `allowedOrigins` and `inferenceOrigins`; `*` as the latter only.",
        example=["https://chat.example.com"],
    )
    ui_origin: str = setting(
        "uiOrigin",
        Choice("same", words=("same", "separate")),
        "`separate`: pages of models' own servers are shown in another origin than the interface, "
        "so that they cannot act in its name. Recommended with keys.",
        guards=True,
        example="separate",
    )
    trusted_proxies: tuple[str, ...] = setting(
        "trustedProxies",
        Texts(),
        "Addresses and networks whose `X-Forwarded-For` is believed.",
        to=lambda networks: tuple(network.strip() for network in networks),
        example=["127.0.0.1", "10.0.0.0/8"],
    )
    max_request_body_bytes: int = setting(
        "maxRequestBody", Number(256.0, least=0.01), "Largest JSON request, in MiB.", unit="MiB"
    )
    max_decompressed_body_bytes: int = setting(
        "maxDecompressedBody",
        Number(64.0, least=0.01),
        "Largest JSON request that comes compressed, in MiB once it is decompressed; "
        "`maxRequestBody` holds too.",
        unit="MiB",
    )
    max_upload_bytes: int = setting(
        "maxUpload", Number(4096.0, least=0.01), "Largest upload of a file, in MiB.", unit="MiB"
    )
    max_body_memory_bytes: int = setting(
        "maxBodyMemory",
        Number(0.0, least=0),
        "MiB of memory for the bodies of all requests together; beyond that 503 with "
        "`Retry-After`. 0: the smaller of 1024 and a quarter of the memory, or of what the cgroup "
        "allows.",
        unit="MiB",
    )
    max_spool_bytes: int = setting(
        "maxSpool",
        Number(0.0, least=0),
        "MiB of disk for all uploads together, in `TMPDIR`; beyond that 503 with `Retry-After`. 0: "
        "half of what is free there.",
        unit="MiB",
    )

    upstream: ClassVar[ConfigKey] = grouped(
        "upstream",
        "The pages of the servers themselves, below `/upstream/<model>`.",
        heading="pages of models, and other servers",
    )
    ignore_paths: tuple[str, ...] = setting(
        "upstream.ignorePaths",
        Patterns(_IGNORE_PATHS),
        "Regular expressions: a request whose path matches one does not load a model. Default: "
        "icons, scripts, styles and the like. `[]`: nothing is ignored.",
        example=[r"\.(js|css|png|svg|ico|txt)$", "^/ws$"],
    )
    observe_paths: tuple[str, ...] = setting(
        "upstream.observePaths",
        Patterns(_OBSERVE_PATHS),
        "Regular expressions: a `GET` or `HEAD` whose path matches one only looks at the server. "
        "It loads no model, takes no slot of `concurrencyLimit` and does not renew `ttl`. Default: "
        "`/metrics`, `/props`, `/slots`, `/tools`, `/v1/models`, `*.webmanifest`. `[]`: every "
        "request loads the model.",
        example=["^/(metrics|props|slots|tools|v1/models|health)$"],
    )
    pages_origin: str = setting(
        "upstream.origin",
        Text(),
        "With `uiOrigin: separate`: where the pages are shown. A port (`:8081`), on which llmsnap "
        "then listens too, or a URL that leads here (`https://pages.example.com`). Default: "
        "`<model>.localhost`, which works in browsers on this machine only.",
        guards=True,
        example=":8081",
        schema={
            "type": ["string", "integer"],
            "pattern": r"^$|^:?[0-9]{1,5}$|^https?://[^/\s]+/?$|\$\{",
            "minimum": 1,
            "maximum": 65535,
        },
    )
    """The address: ``:8081`` for a port, or ``https://pages.example``; empty:
    ``<model>.localhost``."""
    peers: Mapping[str, PeerConfig] = setting(
        "peers",
        RawNode(each="peer"),
        "Other servers, and the models they offer. A local model of the same name wins.",
        initial=_EMPTY,
        part="peers",
    )
    """The peers, sorted by id; the first of those that offer a model serves it."""
    launchers: Mapping[str, LauncherConfig] = setting(
        "launchers",
        RawNode(each="launcher"),
        "Engines that run servers on other machines, by name. A model says `launcher: NAME`.",
        initial=_EMPTY,
        part="launchers",
        live=False,
    )
    """Sorted by name; ``local`` is not among them."""
    selectors: Mapping[str, SelectorConfig] = setting(
        "selectors",
        RawNode(each="selector"),
        "Further names for requests, each of which chooses one of several targets: by what is "
        "loaded, how busy it is, and whether it works.",
        initial=_EMPTY,
        part="selectors",
        heading="what names in requests mean",
    )
    """By id, in ascending order."""
    profiles: Mapping[str, ProfileConfig] = setting(
        "profiles",
        RawNode(each="profile"),
        "Sets of pins, of which at most one is active: `PUT /api/profiles/active` switches while "
        "requests go on.",
        initial=_EMPTY,
        part="profiles",
    )
    """By name, in ascending order."""
    startup_profile: str = derived("", part="profiles")
    """Name of the profile that is active from the start; empty: none."""

    log_level: str = setting(
        "logLevel",
        Choice("info", words=("debug", "info", "warn", "error"), loose=True),
        "How much is logged.",
        heading="logs, metrics, captures",
    )
    log_time_format: str = setting(
        "logTimeFormat",
        Choice("", words=LOG_TIME_FORMATS, loose=True),
        "Timestamp format; empty disables timestamps.",
        example="rfc3339",
    )
    """A known format name in lower case; empty: no timestamps."""
    log_to_stdout: tuple[str, ...] = setting(
        "logToStdout",
        Words("proxy", LOGS),
        "What is written to the console: the log of llmsnap (`proxy`), of it the lines about "
        "requests alone (`http`), the log of the servers (`upstream`), `both` or `none`. Several "
        "are separated by commas, or a list.",
    )
    """Names of logs: ``http``, ``proxy``, ``upstream``."""
    log_buffer_bytes: int = setting(
        "logBufferSize",
        Number(100.0, least=1),
        "KiB of log kept in memory, for each model and each stream.",
        unit="KiB",
    )
    log_requests: bool = setting(
        "logRequests",
        Flag(),
        "Deprecated; it has no effect.",
        deprecated=True,
        schema={"type": "boolean"},
    )
    metrics_max_in_memory: int = setting(
        "metricsMaxInMemory",
        Number(_METRICS_IN_MEMORY, whole=True, advised=0),
        "Requests kept in the list of activity; 0 stands for 1000.",
        to=lambda given: given if given > 0 else _METRICS_IN_MEMORY,
    )
    capture_buffer_bytes: int = setting(
        "captureBuffer",
        Number(5, whole=True, advised=0),
        "MiB of requests and responses kept for inspection; 0: none.",
        unit="MiB",
        to=lambda given: max(given, 0) * MIB,
        guards=True,
    )
    capture_max_body_bytes: int = setting(
        "captureMaxBody", Number(1.0, least=0), "Largest body kept, in MiB.", unit="MiB"
    )
    capture_redact: tuple[str, ...] = setting(
        "captureRedact",
        Texts(),
        "JSON fields and query parameters whose values are blanked.",
        guards=True,
        example=["password"],
    )
    capture_mask: Mapping[str, str] = setting(
        "captureMask",
        RawNode(
            {"type": "object", "additionalProperties": {"enum": list(CAPTURE_MASKS)}, "default": {}}
        ),
        "How much is kept of the requests of a route: `none`, `headers` or `full`, which is the "
        "default.",
        initial=_EMPTY,
        guards=True,
        example={"/v1/audio/transcriptions": "headers", "/v1/images/generations": "none"},
    )
    store: StoreConfig = setting(
        "store",
        STORE,
        "Keeps activity and swaps over a restart.",
        to=lambda values: StoreConfig(**stored_values(StoreConfig, values)),
    )
    prompt_cache: PromptCacheConfig = setting(
        "promptCache",
        PROMPT_CACHE,
        "Limits of the prompts that models with `promptCache: true` keep on disk over swaps.",
        initial=PromptCacheConfig(),
        to=lambda values: PromptCacheConfig(**stored_values(PromptCacheConfig, values)),
    )
    read_ahead: ReadAheadConfig | None = setting(
        "readAhead",
        READ_AHEAD,
        "The files that the command of a model names are read into the page cache while its load "
        "waits for another model to leave. `false` switches it off.",
        initial=ReadAheadConfig(),
        to=lambda given: (
            None if given is False else ReadAheadConfig(**stored_values(ReadAheadConfig, given))
        ),
    )
    """None: nothing is read ahead."""
    performance: PerformanceConfig = setting(
        "performance",
        PERFORMANCE,
        "Samples of host, GPUs and processes, for the Performance page and for Prometheus.",
        initial=PerformanceConfig(),
        to=lambda values: PerformanceConfig(**stored_values(PerformanceConfig, values)),
    )

    ui: ClassVar[ConfigKey] = grouped("ui", "What the web interface shows.")
    ui_activity: ClassVar[ConfigKey] = grouped("ui.activity", "The page of requests.")
    session_headers: tuple[str, ...] = setting(
        "ui.activity.session_id",
        HeaderNames(("X-Session-ID", "X-Litellm-Session-Id")),
        "Headers with which clients name their sessions. The first that a request has is kept with "
        "its record and shown on the Activity page. `[]`: none.",
        schema={"default": ["X-Session-ID", "X-Litellm-Session-Id"]},
    )

    source: str = derived("", part="")
    """Path of the configuration file, or of file and directory; empty for one from a string."""
    sources: Sources = derived(Sources(""), part="")  # noqa: RUF009 - a named tuple
    """The same, as what can be read again."""
    texts: tuple[tuple[str, str], ...] = derived((), part="", secret=True)
    """Path and content of each file, including secrets."""
    content_hash: str = derived("", part="")
    """SHA-256 of the file's bytes, in hexadecimal; of several files together with their paths."""


TOP = section_of(
    Config,
    also=[
        *unsupported(
            "llmsnap answers preflights itself, and pages send keys themselves; remove it",
            *("security.cors.allowCredentials", "security.cors.allowedMethods"),
            *("security.cors.allowedHeaders", "security.cors.exposedHeaders"),
            "security.cors.maxAge",
        ),
    ],
    hints=top_hints(section_of(ModelConfig).keys),
)
MODEL = section_of(ModelConfig, hints=model_hints(section_of(Config).keys))
EACH = {
    "model": MODEL,
    "group": GROUP,
    "peer": PEER,
    "launcher": LAUNCHER,
    "selector": SELECTOR,
    "profile": PROFILE,
    "matrix": MATRIX,
    "memory": MEMORY_RULES,
    "apiKey": API_KEY,
    "endpoint": ENDPOINT,
    "hookCall": HOOK_CALL,
    "scheduleEntry": SCHEDULE_ENTRY,
}
"""Sections used in several places, by their name in the JSON schema."""
