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
    Sections,
    derived,
    grouped,
    inherited,
    section_of,
    setting,
    stored_values,
)
from .kinds import (
    Choice,
    CommandLine,
    Flag,
    HeaderNames,
    Json,
    Number,
    Patterns,
    RawNode,
    Text,
    Texts,
    Words,
)
from .memory import DEVICES_SCHEMA, Sizes
from .parts import (
    API_KEY,
    CAPABILITIES,
    DEFAULT_GROUP,
    ENDPOINT,
    GROUP,
    HOOK_CALL,
    HOOKS,
    LOGS,
    MATRIX,
    MODEL_FILTERS,
    MODEL_TIMEOUTS,
    NO_FILTERS,
    ON_STARTUP,
    PEER,
    PERFORMANCE,
    PROFILE,
    SCHEDULER,
    SELECTOR,
    STORE,
    ApiKey,
    Capabilities,
    DeviceConfig,
    Endpoint,
    Filters,
    GroupConfig,
    Hooks,
    JsonValue,
    MatrixConfig,
    MemoryNeed,
    PeerConfig,
    PerformanceConfig,
    ProfileConfig,
    SchedulerConfig,
    SelectorConfig,
    StoreConfig,
    Timeouts,
    timeouts_of,
    unsupported,
)
from .sources import Sources

_CONCURRENCY = 100
_METRICS_IN_MEMORY = 1000
_UNLOAD_TIMEOUT_S = 10.0

LOG_TIME_FORMATS = (
    "",
    *("ansic", "unixdate", "rubydate", "rfc822", "rfc822z", "rfc850", "rfc1123", "rfc1123z"),
    *("rfc3339", "rfc3339nano", "kitchen", "stamp", "stampmilli", "stampmicro", "stampnano"),
)
CAPTURE_MASKS = ("none", "headers", "full")
LAUNCHER_NAMES = ("local",)
"""The names in ``launchers.LAUNCHERS`` that a model may have; this package cannot import them."""
EXTERNAL = "external"
"""The name of the launcher of models without a command."""

# Requested by browser tabs left open on a model's own page; none should cause a swap.
_IGNORE_PATHS = (r"\.(?:js|mjs|css|map|json|png|gif|jpe?g|svg|webp|avif|ico|txt|woff2?|ttf)$",)
# Requested by monitors, dashboards and the pages of models to observe a server.
_OBSERVE_PATHS = (r"^/(?:metrics|props|slots|tools|v1/models)/?$", r"\.webmanifest$")

_EMPTY: Mapping[str, Any] = MappingProxyType({})

_MACROS = {"$ref": "#/$defs/macros"}
_FAIR = SchedulerConfig()


def _only_default_group() -> Mapping[str, GroupConfig]:
    return MappingProxyType({DEFAULT_GROUP: GroupConfig(DEFAULT_GROUP)})


@dataclass(frozen=True, slots=True)
class Config:
    """The whole configuration."""

    macros: ClassVar[ConfigKey] = ConfigKey(
        "macros",
        RawNode(_MACROS),
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
        RawNode(DEVICES_SCHEMA),
        "What devices have: `gpu0`, `gpu1`, ... and `ram`, each a size, or its `capacity` and the "
        "`reserve` that stays free. Models then leave only when another one needs their memory.",
        initial=(),
        part="memory",
        example={"gpu0": {"capacity": "24GiB", "reserve": "512MiB"}, "ram": "64GiB"},
        live=False,
    )
    """GPUs in order, then RAM."""
    residency: str = derived("group", part="residency")
    """What decides which models run together: ``group``, ``matrix`` or ``memory``."""
    hooks: ClassVar[ConfigKey] = grouped("hooks", "What happens at certain moments.")
    on_startup: ClassVar[ConfigKey] = ConfigKey(
        "hooks.on_startup", ON_STARTUP, "What happens at start."
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
        Number(120, whole=True, raised_to=15),
        "Seconds without progress (bytes read, memory grown, new log lines) after which a server "
        "that is not ready is stopped; less than 15 counts as 15.",
        unit="seconds",
    )
    load_timeout_s: float = setting(
        "loadTimeout",
        Number(3600, least=0),
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
        Number(_UNLOAD_TIMEOUT_S, least=0),
        "Seconds a server has to stop before it is killed; 0 stands for 10.",
        unit="seconds",
        to=lambda given: given or _UNLOAD_TIMEOUT_S,  # 0 does not mean an immediate kill
    )
    queue_limit: int = setting(
        "queueLimit",
        Number(1000, least=1, whole=True),
        "Requests per model that may wait for it; more get 429.",
    )
    queue_timeout_s: float = setting(
        "queueTimeout",
        Number(3600.0, least=0),
        "Seconds a request may wait for its model; 0 is no limit.",
        unit="seconds",
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


# --- models --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """One model: how its server is started, checked, put to sleep and stopped, and its limits."""

    id: str
    cmd: str = setting(
        "cmd",
        CommandLine(),
        "Command that starts the server. No shell runs it: quotes work as in a shell, but not "
        "`$VARIABLES`, `~`, pipes or `*`. Lines that begin with `#` are comments. `${PORT}` is a "
        "free number counted up from `startPort`. A model with `proxy` and without `cmd` is a "
        "server that something else runs.",
        restarts=True,
        secret=True,
        example="${server}\n--model ${model-dir}/llama-8b-q4_k_m.gguf\n--ctx-size ${context}\n",
        schema={
            "minLength": 1,
            "examples": ["llama-server --port ${PORT} -m /models/llama-8b.gguf"],
        },
    )
    """The command without comments, macros expanded; ``split_command`` returns its words. Empty:
    the server is run by something else."""
    cmd_stop: str = setting(
        "cmdStop",
        CommandLine(known_later="PID"),
        "Command that stops the server. `${PID}` is the number of its process. Without it the "
        "server is sent SIGTERM.",
        secret=True,
        example="kill -INT ${PID}",
    )
    """Like *cmd*, but ``${PID}`` is expanded when stopping; empty: SIGTERM."""
    proxy: str = setting(
        "proxy",
        Text("http://localhost:${PORT}", strict=True),
        "URL the server listens on. Needed when `cmd` does not use `${PORT}`.",
        restarts=True,
        initial="http://localhost:5800",
        example="http://127.0.0.1:${PORT}",
        schema={"type": "string", "pattern": r"^[Hh][Tt][Tt][Pp][Ss]?://\S+$|\$\{"},
    )
    """The server's base URL, http or https."""
    port: int | None = derived(None, restarts=True)
    """The value of ``${PORT}``; None if the model does not use it."""
    env: tuple[str, ...] = setting(
        "env",
        Texts(),
        "Further environment variables for `cmd`, as `NAME=value`.",
        restarts=True,
        secret=True,
        example=["CUDA_VISIBLE_DEVICES=0"],
        schema={"items": {"type": "string", "pattern": r"^([^=]+=|\$\{)"}},
    )
    """``NAME=value``, added to the inherited environment; the last of duplicates applies."""
    launcher: str = setting(
        "launcher",
        Choice("local", words=LAUNCHER_NAMES),
        "What starts the server. `local`: a process on this machine. Reserved: there is no other "
        "launcher yet.",
        restarts=True,
    )

    name: str = setting(
        "name", Text(), "Shown in `/v1/models` and in the web interface.", example="Llama 8B"
    )
    description: str = setting(
        "description",
        Text(),
        "Shown in `/v1/models` and in the web interface.",
        example="A small model for everyday questions",
    )
    aliases: tuple[str, ...] = setting(
        "aliases",
        Texts(),
        "Further names of the model. Each belongs to one model only.",
        example=["gpt-4o-mini", "${MODEL_ID}-latest"],
    )
    unlisted: bool = setting(
        "unlisted",
        Flag(),
        "Leave the model and its aliases out of `/v1/models`; it still works.",
    )
    use_model_name: str = setting(
        "useModelName",
        Text(),
        "Name sent to the server instead of the one requested.",
        example="llama-8b",
    )
    api_key: str = setting(
        "apiKey",
        Text(strict=True),
        "Key that the server asks for (`llama-server --api-key`). Sent as `Authorization: Bearer` "
        "and `X-Api-Key` in place of the client's. Preferably from a file or the environment: "
        "`${file.PATH}`, `${env.NAME}`.",
        guards=True,
        secret=True,
        example="${env.LLAMA_API_KEY}",
        live=False,
    )
    headers: tuple[tuple[str, str], ...] = setting(
        "headers",
        Json(),
        "Headers sent with every request to the server, health checks too, in place of the "
        "client's of the same name.",
        initial=(),
        secret=True,
        example={"X-Team": "research"},
        schema={"additionalProperties": {"type": "string"}},
    )
    metadata: Mapping[str, JsonValue] = setting(
        "metadata",
        Json(),
        "Anything clients should know; shown in `/v1/models`.",
        to=lambda data: MappingProxyType(dict(data)),
        example={"context": "${context}", "port": "${PORT}", "note": "served by ${MODEL_ID}"},
    )

    capabilities: Capabilities = setting(
        "capabilities",
        CAPABILITIES,
        "What the model can do, shown in `/v1/models` in the forms that clients read.",
        initial=Capabilities(),
        to=lambda values: Capabilities(**stored_values(Capabilities, values)),
    )

    check_endpoint: str | None = setting(
        "checkEndpoint",
        Text("/health", strict=True),
        "Path or URL that answers 2xx once the server is ready. `none`: ready as soon as it runs.",
        schema={"minLength": 1},
    )
    """Path or absolute URL; None: ready as soon as the process runs."""
    health_check_timeout_s: float = setting(
        "healthCheckTimeout",
        Number(None, least=0.1),
        "Seconds without progress after which the server is stopped unless it is ready. Default: "
        "the global value.",
        unit="seconds",
        example=300,
        **inherited(Config, "health_check_timeout_s"),
    )
    load_timeout_s: float = setting(
        "loadTimeout",
        Number(None, least=0),
        "Seconds until the server must be ready, however much progress it makes; 0 is no limit. "
        "Default: the global value.",
        unit="seconds",
        **inherited(Config, "load_timeout_s"),
    )
    ttl_s: float = setting(
        "ttl",
        Number(-1, whole=True, least=-1),
        "Seconds without a request until the model is unloaded; 0 is never, -1 stands for "
        "`globalTTL`.",
        unit="seconds",
        to=lambda given: None if given == -1 else float(given),
        example="${idle}",
        schema={"examples": [1800]},
        **inherited(Config, "global_ttl_s"),
    )
    """Idle seconds until unload, with the global default applied; 0 is never."""
    sleep_after_s: float = setting(
        "sleepAfter",
        Number(0.0, least=0),
        "Seconds without a request until the model sleeps; 0 is never. Needs `sleepMode: enable`.",
        unit="seconds",
        example=300,
        live=False,
    )
    unload_timeout_s: float = setting(
        "unloadTimeout",
        Number(None, least=0),
        "Seconds the server has to stop before it is killed; 0 stands for the global value, which "
        "is the default.",
        unit="seconds",
        to=lambda given: given or None,
        example=15,
        **inherited(Config, "unload_timeout_s"),
    )
    memory: MemoryNeed | None = setting(
        "memory",
        Sizes(),
        "What the model needs while it runs: a size such as `18GiB`, on the only GPU, evenly on "
        "several, or in RAM without a GPU; or sizes by device, where `any` is any one GPU. `auto`: "
        "unknown, so it gets the first device alone.",
        initial=None,
        example="18GiB",
        live=False,
    )
    """None: unknown."""
    asleep_memory: MemoryNeed | None = setting(
        "asleepMemory",
        Sizes(),
        "What its server keeps while it sleeps, in the same forms. Default: nothing.",
        initial=None,
        example="1GiB",
        live=False,
    )
    evict_cost: float = setting(
        "evictCost",
        Number(1.0, least=0),
        "Factor of what it costs to evict the model for the memory of another one.",
    )
    pin: bool = setting("pin", Flag(), "Never evict the model for the memory of another one.")
    concurrency_limit: int = setting(
        "concurrencyLimit",
        Number(0, whole=True, advised=0),
        "Requests served at the same time; a ready model answers more with 429. 0 stands for 100.",
        to=lambda given: given if given > 0 else _CONCURRENCY,
        example=8,
    )
    queue_limit: int = setting(
        "queueLimit",
        Number(None, least=1, whole=True),
        "Requests that may wait for the model. Default: the global value.",
        example=200,
        **inherited(Config, "queue_limit"),
    )
    timeouts: Timeouts = setting(
        "timeouts",
        MODEL_TIMEOUTS,
        "Limits of the connection to the server.",
        to=timeouts_of,
    )

    can_sleep: bool = setting(
        "sleepMode",
        Choice("disable", words=("enable", "disable")),
        "`enable` lets the model sleep where it would have to be stopped. Needs both lists of "
        "endpoints.",
        to=lambda mode: mode == "enable",
        example="enable",
        live=False,
    )
    """``sleepMode: enable``; both endpoint lists are then non-empty."""
    sleep_endpoints: tuple[Endpoint, ...] = setting(
        "sleepEndpoints",
        Sections(ENDPOINT, "endpoint"),
        "Calls that put the model to sleep, in this order.",
        live=False,
    )
    wake_endpoints: tuple[Endpoint, ...] = setting(
        "wakeEndpoints",
        Sections(ENDPOINT, "endpoint"),
        "Calls that wake the model, in this order.",
        example=[{"endpoint": "/wake_up"}],
        live=False,
    )

    hooks: Hooks = setting(
        "hooks",
        HOOKS,
        "Calls to the server at certain moments of its life; all of one moment together take "
        "`unloadTimeout` at most.",
        initial=Hooks(),
    )

    send_loading_state: bool = setting(
        "sendLoadingState",
        Flag(None),
        "While the model loads, tell streaming chat clients so in the reasoning text. Default: the "
        "global value.",
        example=True,
        **inherited(Config, "send_loading_state"),
    )
    keepalive_while_loading: bool = derived(**inherited(Config, "keepalive_while_loading"))
    compat: ClassVar[ConfigKey] = grouped("compat", "Ways around habits of certain servers.")
    ignore_websockets: bool = setting(
        "compat.ignoreWebsockets",
        Flag(),
        "Websocket connections neither load the model nor keep it loaded.",
    )
    ignore_streams: bool = setting(
        "compat.ignoreStreams",
        Flag(True),
        "Responses to GET below `/upstream` that stay open, such as event streams, do not keep the "
        "model loaded; they end when it is unloaded.",
    )
    sandbox: bool | None = setting(
        "sandbox",
        Flag(None),
        "Keep the pages of its server apart from the interface: scripts run, but without storage, "
        "cookies and keys. Default: where keys are configured and the address is not this "
        "machine's, or with `uiOrigin: separate` outside the origin for pages.",
        guards=True,
        example=True,
    )
    """Whether its pages are isolated from the web UI; None: wherever that is necessary."""
    filters: Filters = setting(
        "filters",
        MODEL_FILTERS,
        "What is changed in the body of JSON requests: `stripParams`, then `setParams`, then "
        "`setParamsByID`.",
        initial=NO_FILTERS,
    )
    macros: ClassVar[ConfigKey] = ConfigKey(
        "macros",
        RawNode(_MACROS),
        "Macros of this model; they win over global ones.",
        example={"context": 16384},
    )

    blueprint: tuple[str, ...] = derived((), restarts=True, secret=True)
    """Words of the command, proxy and env with ``${PORT}`` unexpanded: if these differ, the
    process must be restarted. Set by the loader."""


TOP = section_of(
    Config,
    also=[
        *unsupported("set concurrencyLimit of each model; remove it", "globalConcurrencyLimit"),
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
    "selector": SELECTOR,
    "profile": PROFILE,
    "matrix": MATRIX,
    "apiKey": API_KEY,
    "endpoint": ENDPOINT,
    "hookCall": HOOK_CALL,
}
"""Sections used in several places, by their name in the JSON schema."""
