"""The settings of one model, whose fields declare every key of a model; see ``settings``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar

from .keys import ConfigKey, Sections, derived, grouped, inherited, setting, stored_values
from .kinds import Choice, CommandLine, Flag, Json, Number, RawNode, Text, Texts
from .launchers import HERE, LOCAL, NO_RESOURCES, RESOURCES, LauncherConfig, Resources
from .memory import DeviceName, Sizes
from .parts import (
    CAPABILITIES,
    ENDPOINT,
    HOOKS,
    MACROS_SCHEMA,
    MODEL_FILTERS,
    MODEL_TIMEOUTS,
    NO_FILTERS,
    Capabilities,
    Endpoint,
    Filters,
    Hooks,
    JsonValue,
    MemoryNeed,
    Timeouts,
    timeouts_of,
)

# Defaults of the settings that models inherit from the top level.
HEALTH_CHECK_TIMEOUT_S = 120
LOAD_TIMEOUT_S = 3600
UNLOAD_TIMEOUT_S = 10.0
QUEUE_LIMIT = 1000

_CONCURRENCY = 100

EXTERNAL = "external"
"""The name of the launcher of models without a command."""


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """One model: how its server is started, checked, put to sleep and stopped, and its limits."""

    id: str
    cmd: str = setting(
        "cmd",
        CommandLine(known_later=("UPSTREAM_KEY", "DEVICE")),
        "Command that starts the server. No shell runs it: quotes work as in a shell, but not "
        "`$VARIABLES`, `~`, pipes or `*`. Lines that begin with `#` are comments. `${PORT}` is a "
        "free number counted up from `startPort`, `${DEVICE}` the number of the GPU that a model "
        "with `memory: {any: SIZE}` was given, or that its `device` names. A model with `proxy` "
        "and without `cmd` is a server that something else runs.",
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
        CommandLine(known_later=("PID",)),
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
        Text(LOCAL, strict=True),
        "What starts the server: a name of `launchers`, or `local`: a process on this machine.",
        restarts=True,
    )
    runs_on: LauncherConfig = derived(HERE, restarts=True, secret=True)  # noqa: RUF009 - frozen
    """The settings of its launcher."""
    resources: Resources = setting(
        "resources",
        RESOURCES,
        "What the server needs on a machine of the cluster that its launcher uses.",
        restarts=True,
        initial=NO_RESOURCES,
        live=False,
    )
    keeps_engine_env: bool = setting(
        "engineEnv",
        Choice("drop", words=("drop", "keep")),
        "`keep`: the server gets the engine's own variables (`RAY_*`) and with them its rights, "
        "for one that spreads over several machines itself. `drop`: it does not.",
        restarts=True,
        to=lambda word: word == "keep",
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
        **inherited("health_check_timeout_s", HEALTH_CHECK_TIMEOUT_S),
    )
    load_timeout_s: float = setting(
        "loadTimeout",
        Number(None, least=0),
        "Seconds until the server must be ready, however much progress it makes; 0 is no limit. "
        "Default: the global value.",
        unit="seconds",
        **inherited("load_timeout_s", LOAD_TIMEOUT_S),
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
        **inherited("global_ttl_s", 0.0),
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
        **inherited("unload_timeout_s", UNLOAD_TIMEOUT_S),
    )
    memory: MemoryNeed | None = setting(
        "memory",
        Sizes(),
        "What the model needs while it runs: a size such as `18GiB`, on the only GPU, split on "
        "several, or in RAM without a GPU; or sizes by device, where `any` is any one GPU. `auto`: "
        "as measured before, else as estimated from the command and its model files, else "
        "unknown: it gets its `device`, or the first one, alone.",
        initial=None,
        example="18GiB",
        live=False,
    )
    """None: to be measured or estimated."""
    asleep_memory: MemoryNeed | None = setting(
        "asleepMemory",
        Sizes(),
        "What its server keeps while it sleeps, in the same forms. Default: as measured, nothing "
        "before.",
        initial=None,
        example="1GiB",
        live=False,
    )
    device: str = setting(
        "device",
        DeviceName(""),
        "The only GPU that the server sees, such as `gpu1`, by the variables that CUDA, ROCm, "
        "oneAPI and Vulkan obey; `env` overrides them. A size in `memory` and `asleepMemory` is on "
        "this device, also one that is measured or estimated. `ram` concerns the sizes alone.",
        restarts=True,
        example="gpu1",
        live=False,
    )
    evict_cost: float = setting(
        "evictCost",
        Number(1.0, least=0),
        "Factor of what it costs to evict the model for another one's memory, or its machine.",
    )
    pin: bool = setting(
        "pin",
        Flag(),
        "Never evict the model for the memory of another one, or for a machine of its `launcher`.",
    )
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
        **inherited("queue_limit", QUEUE_LIMIT),
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
    wake_check: bool | None = setting(
        "wakeCheck",
        Flag(None),
        "After each wake, ask a short question before requests are let in; if the answer is twice "
        "another one than after the start, start the server anew. Default: true where `sleepMode` "
        "is `enable`, for models that serve chat, completions, embeddings or rerank.",
        example=False,
    )
    """None: as *can_sleep* says."""
    failures_before_restart: int = setting(
        "failuresBeforeRestart",
        Number(5, whole=True, least=0),
        "Requests in a row that may fail with 5xx or a broken connection, over at least 10 seconds "
        "with no good answer in between. Then the model's requests in flight end, it is asked a "
        "short question, and it is restarted if it does not answer. 0: never.",
        example=10,
    )

    prompt_cache: bool = setting(
        "promptCache",
        Flag(),
        "Save the prompts that llama-server has read before it stops, and restore them after its "
        "next start. `--slot-save-path` is added to a command that begins with `llama-server`; "
        "any other command must have it. The files contain conversations.",
        restarts=True,
        example=True,
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
        **inherited("send_loading_state", False),
    )
    keepalive_while_loading: bool = derived(**inherited("keepalive_while_loading", True))
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
        RawNode(MACROS_SCHEMA),
        "Macros of this model; they win over global ones.",
        example={"context": 16384},
    )

    @property
    def checks_wakes(self) -> bool:
        """Whether the server is asked after each wake."""
        return self.can_sleep and self.wake_check is not False

    @property
    def is_elsewhere(self) -> bool:
        """Whether its server uses nothing of this machine, as far as llmsnap is concerned."""
        return self.launcher == EXTERNAL or self.runs_on.is_remote

    blueprint: tuple[str, ...] = derived((), restarts=True, secret=True)
    """Words of the command, proxy and env with ``${PORT}`` unexpanded: if these differ, the
    process must be restarted. Set by the loader."""
