"""Nested settings, groups and peers, with the declarations of their keys.

``settings`` combines them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar, TypeAlias

from .expressions import Expression
from .keys import (
    ConfigKey,
    Section,
    SectionOrFalse,
    Sections,
    derived,
    grouped,
    section_of,
    setting,
    stored_values,
)
from .kinds import (
    Choice,
    Choices,
    Duration,
    Flag,
    Json,
    Number,
    RawNode,
    Size,
    Text,
    Texts,
    Unsupported,
    duration_s,
    size_bytes,
)

JsonValue: TypeAlias = "bool | int | float | str | list[JsonValue] | dict[str, JsonValue] | None"

DEFAULT_GROUP = "(default)"
EXTERNAL_GROUP = "(external)"
"""The group of models that use nothing of this machine: they neither evict nor are evicted."""

_EMPTY: Mapping[str, Any] = MappingProxyType({})
MACROS_SCHEMA = {"$ref": "#/$defs/macros"}
_METHOD = "^([Gg][Ee][Tt]|[Pp][Oo][Ss][Tt]|[Pp][Uu][Tt]|[Pp][Aa][Tt][Cc][Hh])$"
_BY_NAME = {"type": "object", "additionalProperties": {"type": "object"}}
MODALITIES = ("text", "audio", "image")
_PINS = {
    "type": "object",
    "additionalProperties": {"anyOf": [{"$ref": "#/$defs/text"}, {"type": "null"}]},
}
RETRY_STATUS = frozenset({502, 503, 504})
STRATEGIES = ("pin", "warm", "spillover", "failover")
_STATUSES = {
    "type": "array",
    "items": {
        "anyOf": [{"type": "integer", "minimum": 400, "maximum": 599}, {"$ref": "#/$defs/macro"}]
    },
}
_HEADER_NAMES = {
    "anyOf": [{"type": "boolean"}, {"type": "array", "items": {"$ref": "#/$defs/text"}}]
}
_PRIORITIES = {"type": "object", "additionalProperties": {"type": "integer"}, "default": {}}
_TEXTS = {"type": "object", "additionalProperties": {"$ref": "#/$defs/text"}}
_COST = {"anyOf": [{"type": "integer", "minimum": 1}, {"$ref": "#/$defs/macro"}]}
_COSTS = {"anyOf": [{"const": "auto"}, {"type": "object", "additionalProperties": _COST}]}


def unsupported(why: str, *names: str) -> list[ConfigKey]:
    """Return the keys *names* of llama-swap, without effect; *why* says what to do instead."""
    text = f"From llama-swap; has no effect: {why.removesuffix('; remove it')}."
    return [ConfigKey(name, Unsupported(why=why), text) for name in names]


# --- parts of models and peers -------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One HTTP call of a sleep or wake list."""

    endpoint: str = setting(
        "endpoint",
        Text(strict=True),
        "Path of the server such as `/sleep?level=1`, or a whole URL.",
        required=True,
        example="/sleep?level=1",
        schema={"minLength": 1},
    )
    """Path or absolute URL, resolved against the upstream's address."""
    method: str = setting(
        "method",
        Text("POST", strict=True),
        "GET, POST, PUT or PATCH.",
        schema={"anyOf": [{"type": "string", "pattern": _METHOD}, {"$ref": "#/$defs/macro"}]},
    )
    body: str = setting("body", Text(strict=True), "Sent as it is, as JSON when not empty.")
    timeout_s: float = setting(
        "timeout",
        Number(0, least=0, whole=True),
        "Seconds for this call; 0 stands for `sleepRequestTimeout` or `wakeRequestTimeout`.",
        unit="seconds",
        initial=10.0,
    )


ENDPOINT = section_of(Endpoint)


@dataclass(frozen=True, slots=True)
class HookCall:
    """One HTTP call of a hook. *fails*: whether its failure fails the load."""

    call: Endpoint
    fails: bool = False


HOOK_CALL = section_of(
    Endpoint,
    also=[
        ConfigKey(
            "onError",
            Choice("ignore", words=("ignore", "fail")),
            "`fail`: a failed call fails the load, before a stop or a sleep it is only logged. "
            "`ignore`: it is logged in any case.",
        )
    ],
    kinds={"timeout": Number(10, least=0, whole=True)},
)


@dataclass(frozen=True, slots=True)
class Hooks:
    """Calls to a server at certain moments of its life."""

    after_ready: tuple[HookCall, ...] = setting(
        "afterReady",
        Sections(HOOK_CALL, "hookCall"),
        "Calls once it is healthy after a start, before its first request.",
        example=[{"endpoint": "/slots/0?action=restore", "onError": "ignore"}],
    )
    after_wake: tuple[HookCall, ...] = setting(
        "afterWake",
        Sections(HOOK_CALL, "hookCall"),
        "Calls once it is healthy after a wake, before its next request.",
    )
    before_sleep: tuple[HookCall, ...] = setting(
        "beforeSleep",
        Sections(HOOK_CALL, "hookCall"),
        "Calls before it is put to sleep, after its last request.",
    )
    before_stop: tuple[HookCall, ...] = setting(
        "beforeStop",
        Sections(HOOK_CALL, "hookCall"),
        "Calls before it is stopped, after its last request; not while it loads or sleeps.",
    )


HOOKS = section_of(Hooks)


@dataclass(frozen=True, slots=True)
class Filters:
    """Members to delete from and set in a JSON request body; already sanitized.

    Keys are paths (``a.b``, ``list.0``, a literal dot is ``a\\.b``). None of them begins with
    ``model``, none contains ``* ? # | @``, but for a ``?`` at the end of one to set, which makes it
    soft. Order of use: strip, set, set by id, set the soft ones that the request still lacks.
    """

    strip_params: tuple[str, ...] = setting(
        "stripParams",
        Text(strict=True),
        "Members to remove from the body of JSON requests, separated by commas. A name may be a "
        "path such as `a.b`. `model` is never removed.",
        initial=(),
        example="temperature, top_p",
    )
    """Sorted, without duplicates."""
    strip_params_old: ClassVar[ConfigKey] = ConfigKey(
        "strip_params",
        Text(strict=True),
        "Deprecated spelling of `stripParams`, used when that is absent.",
        deprecated=True,
    )
    set_params: Mapping[str, JsonValue] = setting(
        "setParams",
        Json(strict=False),
        "Members to set in the body of JSON requests, over those of the client. A name may be a "
        "path such as `a.b`. One that ends in `?` is a default, set only if the request lacks it. "
        "`model` is never set.",
        example={"temperature": 0.7, "top_p?": 0.95},
    )
    """Sorted by key."""
    set_params_by_id: Mapping[str, Mapping[str, JsonValue]] = setting(
        "setParamsByID",
        RawNode(_BY_NAME),
        "Members to set by requested name, over `setParams`. Each name is an alias of the model "
        "without being listed.",
        initial=_EMPTY,
        example={"${MODEL_ID}:high": {"reasoning_effort": "high"}},
    )
    """Requested name (id or alias) -> members to set in addition; each name is an alias too."""

    def __bool__(self) -> bool:
        return bool(self.strip_params or self.set_params or self.set_params_by_id)


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Limits on the connection to an upstream or peer; 0 is no limit."""

    connect_s: float = setting(
        "connect",
        Number(5.0, least=0),
        "Seconds until the connection must be established; 0 is no limit.",
        unit="seconds",
    )
    response_header_s: float = setting(
        "responseHeader",
        Number(0.0, least=0),
        "Seconds until the response must begin; 0 is no limit.",
        unit="seconds",
    )
    idle_s: float = setting(
        "idle",
        Number(0.0, least=0),
        "Longest silence within a response, in seconds; 0 is no limit.",
        unit="seconds",
    )


_CONNECTIONS = unsupported(
    "llmsnap manages its connections itself; remove it",
    *("keepalive", "tlsHandshake", "idleConn", "expectContinue"),
)
MODEL_TIMEOUTS = section_of(Timeouts, also=_CONNECTIONS)
PEER_TIMEOUTS = section_of(
    Timeouts,
    also=_CONNECTIONS,
    kinds={"connect": Number(10.0, least=0), "responseHeader": Number(600.0, least=0)},
)
MODEL_FILTERS = section_of(Filters)
PEER_FILTERS = section_of(
    Filters,
    without=("strip_params", "setParamsByID"),
    also=[
        ConfigKey(
            "setParamsByID",
            RawNode(_BY_NAME),
            "Members to set by the name of the requested model, with or without `<peer>/`. "
            "Macros are not expanded in the names.",
            example={"big-model": {"reasoning_effort": "high"}},
        )
    ],
    kinds={"setParams": Json()},
)


NO_FILTERS = Filters()


def timeouts_of(values: Mapping[str, Any]) -> Timeouts:
    """Return the timeouts of a section."""
    return Timeouts(**stored_values(Timeouts, values))


@dataclass(frozen=True, slots=True)
class Capabilities:
    """Input and output types of a model, for clients that filter by them; empty: unknown."""

    inputs: tuple[str, ...] = setting(
        "in", Choices(*MODALITIES), "What the model takes.", example=["text", "image"]
    )
    outputs: tuple[str, ...] = setting(
        "out", Choices(*MODALITIES), "What the model gives.", example=["text"]
    )
    tools: bool = setting("tools", Flag(), "The model calls tools.", example=True)
    reranker: bool = setting("reranker", Flag(), "The model reranks documents.")
    context: int = setting(
        "context",
        Number(0, least=0, whole=True),
        "Context length in tokens; 0: what the server says once it runs.",
        example="${context}",
        schema={"examples": [32768]},
    )

    def __bool__(self) -> bool:
        return self != _NO_CAPABILITIES


_NO_CAPABILITIES = Capabilities()
CAPABILITIES = section_of(Capabilities)

# --- parts of the whole ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ReadAheadConfig:
    """How files of models are read ahead of their load."""

    max_rate: int = setting(
        "maxRate",
        Number(0.0, least=0),
        "MiB a second that are read at most; 0 is no limit.",
        unit="MiB",
        example=500,
    )
    """Bytes per second; 0: no limit."""


READ_AHEAD = SectionOrFalse(*section_of(ReadAheadConfig).keys.values())


@dataclass(frozen=True, slots=True)
class ApiKey:
    """An API key and its rights."""

    key: str = setting(
        "key",
        Text(),
        "The key; without blanks. Take it from a file or the environment: `${file.PATH}`, "
        "`${env.NAME}`.",
        required=True,
        secret=True,
        example="${env.GUEST_KEY}",
        schema={"pattern": "^[^ ]+$"},
    )
    name: str = setting("name", Text(), "Its name in logs and metrics.", example="guest")
    models: tuple[str, ...] | None = setting(
        "models",
        Texts(None),
        "Names it may see and use; `*` and `?` stand for any text and any letter. Default: all.",
        example=["llama*"],
    )
    admin: bool = setting(
        "admin",
        Flag(),
        "May load, unload, sleep and reload, and read logs, captures and the configuration.",
        initial=True,  # default for a key given as a plain text
    )
    upstream: bool = setting(
        "upstream",
        Flag(),
        "May use everything that its models' servers answer below `/upstream/<model>/`, as an "
        "admin may; else inference routes only.",
    )


@dataclass(frozen=True, slots=True)
class SchedulerConfig:
    """The order in which waiting models are served."""

    use: str = setting(
        "use",
        Choice("fair", words=("fair", "fifo")),
        "`fair`: every waiting model is served in bounded time, and no two models evict each other "
        "without end. `fifo`: in order of arrival, without a bound.",
    )
    settings: ClassVar[ConfigKey] = grouped("settings", "Settings of the schedulers.")
    fair: ClassVar[ConfigKey] = grouped("settings.fair", "Settings of `fair`.")
    max_hold_s: float = setting(
        "settings.fair.maxHold",
        Number(120.0, least=0),
        "Seconds a model in demand may keep others waiting.",
        unit="seconds",
    )
    priorities: Mapping[str, int] = setting(
        "settings.fair.priority",
        RawNode(_PRIORITIES),
        "Numbers by model id or alias; higher is served first, the others have 0.",
        initial=_EMPTY,
        example={"llama": 10},
    )
    """Model id -> priority, without those of 0; higher is served first."""
    fifo: ClassVar[ConfigKey] = grouped("settings.fifo", "Settings of `fifo`.")
    fifo_priorities: ClassVar[ConfigKey] = ConfigKey(
        "settings.fifo.priority",
        RawNode(_PRIORITIES),
        "Numbers by model id or alias; higher is served first, the others have 0.",
        example={},
    )


@dataclass(frozen=True, slots=True)
class StoreConfig:
    """Persistent storage of activity and swaps."""

    path: str | None = setting(
        "path",
        Text(None, strict=True),
        "SQLite file. Without it they are kept in memory only. Where the file is llama-swap's own, "
        "they are in one beside it, `NAME-llmsnap.db`.",
        example="~/.local/state/llmsnap/activity.db",
        live=False,
    )
    max_age_days: float = setting(
        "maxAgeDays",
        Number(30.0, least=0),
        "Days after which they are deleted; 0 is never.",
        unit="days",
    )
    max_rows: int = setting(
        "maxRows", Number(1_000_000, least=0, whole=True), "How many are kept; 0 is no limit."
    )
    capture_dir: str | None = setting(
        "captureDir",
        Text(None, strict=True),
        "Folder for captures, which then outlast `captureBuffer` and a restart. Needs `path`, and "
        "belongs to that file alone. They have no secrets of headers, but what users wrote.",
        example="~/.local/state/llmsnap/captures",
        live=False,
    )
    capture_bytes: int = setting(
        "captureMaxMB",
        Number(1024.0, least=0),
        "Size of all captures in `captureDir`; the oldest are deleted.",
        unit="MiB",
        live=False,
    )


@dataclass(frozen=True, slots=True)
class PromptCacheConfig:
    """Where prompts that servers have read are kept over swaps, and how much of them."""

    dir: str = setting(
        "dir",
        Text(strict=True),
        "Folder of the files. Default: `prompt-cache` in the state directory.",
        example="/var/cache/llmsnap/prompts",
        live=False,
    )
    max_bytes: int = setting(
        "maxSize",
        Size("20GiB"),
        "Size of all files together; the oldest leave first. A tenth of the disk stays free in any "
        "case.",
        to=size_bytes,
    )
    max_age_s: float = setting(
        "maxAge", Duration("7d", least="1m"), "Age at which a file is deleted.", to=duration_s
    )
    min_tokens: int = setting(
        "minTokens",
        Number(512, least=1, whole=True),
        "Prompts with fewer tokens are not kept.",
    )


@dataclass(frozen=True, slots=True)
class GroupConfig:
    """A group of models that share swap rules."""

    id: str
    swap: bool = setting("swap", Flag(True), "Only one member runs at a time.", example=False)
    exclusive: bool = setting(
        "exclusive",
        Flag(True),
        "Loading a member evicts the models of other groups with the same `launcher`.",
        example=False,
    )
    persistent: bool = setting(
        "persistent", Flag(), "Other groups cannot evict the members.", example=True
    )
    members: tuple[str, ...] = setting(
        "members",
        Texts(),
        "Model ids. A model is in one group at most. Those in none are in the group `(default)`; "
        "without a command, or with a launcher on other machines, in one of their own, whose "
        "members stay and evict nothing.",
        required=True,
        initial=(),
        example=["embedding"],
    )
    """Ids of existing models that are in no other group."""
    places: tuple[str, ...] = derived(("local",))
    """The launchers of the members, sorted: ``exclusive`` concerns groups that share one."""


@dataclass(frozen=True, slots=True)
class DeviceConfig:
    """A device of the memory budget: bytes it has (0: all of it), and bytes that stay free."""

    name: str
    capacity_bytes: int
    reserve_bytes: int = 0


@dataclass(frozen=True, slots=True)
class MemoryRules:
    """What is done while memory is not free."""

    release_timeout_s: float = setting(
        "releaseTimeout",
        Number(10.0, least=0),
        "Seconds a load waits until the memory of the models that left for it is free.",
        unit="seconds",
    )
    on_stuck: str = setting(
        "onStuck",
        Choice("load", words=("load", "wait", "fail")),
        "What happens after `releaseTimeout`: `load` loads all the same, `wait` waits on, up to "
        "`queueTimeout`, `fail` answers 503 `memory_held`.",
    )
    yields: bool = setting(
        "yield",
        Flag(),
        "Where other programs leave less than the `reserve` of a device free: put idle models to "
        "sleep, or stop them, the cheapest first, one each 5 s.",
    )


@dataclass(frozen=True, slots=True)
class MemorySize:
    """Bytes on a device."""

    device: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class MemoryNeed:
    """What a model needs: sizes by device, a size on any one GPU, or a total to be split."""

    sizes: tuple[MemorySize, ...] = ()
    anywhere_bytes: int = 0
    total_bytes: int = 0


@dataclass(frozen=True, slots=True)
class EvictCost:
    """What it costs to evict a model: a number that is compared with those of others."""

    model_id: str
    cost: int


@dataclass(frozen=True, slots=True)
class MatrixSet:
    """Combinations of models that may be in memory together: *text* as written, and parsed."""

    name: str
    text: str
    expression: Expression
    """Names of models are ids: those of ``vars`` have been replaced."""


@dataclass(frozen=True, slots=True)
class MatrixConfig:
    """A swap matrix: the combinations of models that may be in memory together."""

    vars: ClassVar[ConfigKey] = ConfigKey(
        "vars",
        RawNode(_TEXTS),
        "Short names of models for the expressions: letters, digits, `-` and `.`. A model id with "
        "other characters needs one.",
        example={"q": "qwen", "e": "embedding"},
    )
    costs: tuple[EvictCost, ...] = setting(
        "evict_costs",
        RawNode(_COSTS),
        "What it costs to evict a model, by short name or id; 1 for all others. `auto`: its "
        "measured load time in seconds.",
        initial=(),
        example={"q": 10},
    )
    learns_costs: bool = derived(False)
    """The costs are the measured load times."""
    sets: tuple[MatrixSet, ...] = setting(
        "sets",
        RawNode(_TEXTS),
        "Which models may be in memory together: `a & b` together, `a | b` one of them, `+name` as "
        "another set says, `2 of (a, b, c)` any two. Each part of an allowed combination is "
        "allowed; a model of no set runs alone.",
        required=True,
        initial=(),
        example={"small": "e & (q | llama)", "any-two": "2 of (q, e, llama)"},
    )
    """In definition order: a set that another one refers to stands before it."""


@dataclass(frozen=True, slots=True)
class PeerConfig:
    """Another server, which serves some models."""

    id: str
    proxy: str = setting(
        "proxy",
        Text(strict=True),
        "Base URL; paths of requests are added to it.",
        required=True,
        example="http://192.168.1.23:8080",
        schema={"minLength": 1},
    )
    models: tuple[str, ...] = setting(
        "models",
        Texts(),
        "Names of the models it offers; each is also known as `<peer>/<model>`.",
        required=True,
        initial=(),
        to=lambda names: tuple(dict.fromkeys(names)),
        example=["big-model"],
        schema={"minItems": 1},
    )
    api_key: str = setting(
        "apiKey",
        Text(strict=True),
        "Sent to the peer as its key. Take it from a file or the environment: `${file.PATH}`, "
        "`${env.NAME}`.",
        guards=True,
        secret=True,
    )
    filters: Filters = setting(
        "filters",
        PEER_FILTERS,
        "What is changed in the body of JSON requests to this peer.",
        initial=NO_FILTERS,
    )
    timeouts: Timeouts = setting(
        "timeouts",
        PEER_TIMEOUTS,
        "Limits of the connection to the peer.",
        to=timeouts_of,
    )


@dataclass(frozen=True, slots=True)
class PerformanceConfig:
    """Settings of the sampling of host and GPUs."""

    disabled: bool = setting(
        "disabled", Flag(), "Take no samples of host, GPUs and processes.", example=False
    )
    every_s: float = setting(
        "every",
        Duration("5s", least="5s"),
        "Time between two samples, at least `5s`.",
        to=duration_s,
        example="15s",
    )


@dataclass(frozen=True, slots=True)
class SelectorConfig:
    """A name in requests whose target is chosen anew for each request."""

    id: str
    strategy: str = setting(
        "strategy",
        Choice("", words=STRATEGIES),
        "`pin`: the first target. `warm`: the first that is ready, else the first that is being "
        "loaded, asleep, or listed. `spillover`: the least busy of those in use; a further one "
        "where each of those has as many requests as `settings.spillover`. `failover`: the first "
        "that works.",
        required=True,
        example="spillover",
    )
    targets: tuple[str, ...] = setting(
        "targets",
        Texts(),
        "Models, aliases or models of peers, in order of preference. `warm`: local models only. "
        "`spillover`: each model once, and local ones must be able to run together.",
        required=True,
        initial=(),
        example=["llama", "workstation/big-model"],
        schema={"minItems": 1},
    )
    """At least one; each is a model, an alias or a model of a peer."""
    settings: ClassVar[ConfigKey] = grouped("settings", "Settings of the strategies.")
    spillover: int = setting(
        "settings.spillover",
        Number(1, least=1, whole=True),
        "`spillover`: requests of this selector on each target in use, before a further one is "
        "used.",
        example=2,
    )
    retry_status: frozenset[int] = setting(
        "settings.retryStatus",
        RawNode(_STATUSES),
        "`failover`: statuses of an answer that count as a failure. Default: 502, 503, 504.",
        initial=RETRY_STATUS,
        example=[502, 503, 504],
        live=False,
    )
    header_timeout_s: float = setting(
        "settings.headerTimeout",
        Number(0.0, least=0),
        "`failover`: seconds until a target's answer must begin, once it is loaded; 0 is no limit.",
        unit="seconds",
        live=False,
    )
    failures: int = setting(
        "settings.failures",
        Number(3, least=1, whole=True),
        "`failover`: failures in a row after which a target is skipped.",
        live=False,
    )
    retry_after_s: float = setting(
        "settings.retryAfter",
        Number(60.0, least=1),
        "`failover`: seconds after which one request tries a skipped target again.",
        unit="seconds",
        live=False,
    )
    max_attempts: int = setting(
        "settings.maxAttempts",
        Number(0, least=0, whole=True),
        "`failover`: targets that one request tries at most; 0: all.",
        live=False,
    )
    affinity: tuple[str, ...] = setting(
        "settings.affinity",
        RawNode(_HEADER_NAMES),
        "Request headers, the first of which that has a value names a session: its requests go to "
        "the same target while that is in use and at most one request busier than the least busy "
        "one. `true`: those of `ui.activity.session_id`.",
        initial=(),
        example=True,
    )
    """Names of headers."""
    name: str = setting("name", Text(), "Shown in `/v1/models`.", example="Everyday")
    description: str = setting(
        "description",
        Text(),
        "Shown in `/v1/models`.",
        example="Here, and on the workstation when this machine is busy",
    )
    unlisted: bool = setting(
        "unlisted", Flag(), "Leave the selector out of `/v1/models`; it still works."
    )
    metadata: Mapping[str, JsonValue] = setting(
        "metadata",
        Json(),
        "Anything clients should know; shown in `/v1/models`.",
        to=lambda data: MappingProxyType(dict(data)),
        example={"team": "research"},
    )


@dataclass(frozen=True, slots=True)
class ProfileConfig:
    """Another meaning of some names in requests, while it is active."""

    id: str
    description: str = setting(
        "description",
        Text(),
        "Shown by `GET /api/profiles`.",
        example="The large model answers everything",
    )
    pins: Mapping[str, str] = setting(
        "pins",
        RawNode(_PINS),
        "Name in requests -> model, alias, selector or peer model that serves it instead. Empty: "
        "the name is disabled (404). A pin hides a model, alias, selector or bare peer name it "
        "equals; it is followed once.",
        required=True,
        initial=_EMPTY,
        example={"gpt-4o-mini": "qwen", "big-model": None},
    )
    """Requested name -> name of what serves it; an empty text disables the name."""


LOGS = MappingProxyType(
    {
        **{name: (name,) for name in ("proxy", "http", "upstream")},
        "both": ("proxy", "upstream"),
        "none": (),
    }
)
"""The logs that each word of ``logToStdout`` stands for; ``proxy`` includes ``http``."""
ON_STARTUP = Section(
    ConfigKey(
        "preload",
        Texts(),
        "Models to load, one after another, by id or alias.",
        example=["embedding"],
    ),
    ConfigKey(
        "profile",
        Text(),
        "Profile that is active from the start. A reload keeps the active one, unless this key "
        "has changed.",
        example="everyday",
    ),
)
API_KEY = section_of(ApiKey, closed=True)
PERFORMANCE = section_of(PerformanceConfig)
SCHEDULER = section_of(SchedulerConfig)
STORE = section_of(StoreConfig)
PROMPT_CACHE = section_of(PromptCacheConfig)
GROUP = section_of(GroupConfig)
MEMORY_RULES = section_of(MemoryRules)
MATRIX = section_of(MatrixConfig)
PEER = section_of(PeerConfig)
PROFILE = section_of(ProfileConfig)
SELECTOR = section_of(SelectorConfig)
