"""Every key a configuration may have: the one declaration.

The loader reads by it; tests hold the schema, the example and the documentation against it.
"""

from __future__ import annotations

from collections.abc import Iterator

from .kinds import (
    Choice,
    CommandLine,
    Flag,
    Json,
    Key,
    Kind,
    Number,
    RawNode,
    Section,
    Sections,
    Text,
    Texts,
    Unsupported,
)

LOG_TIME_FORMATS = (
    "",
    *("ansic", "unixdate", "rubydate", "rfc822", "rfc822z", "rfc850", "rfc1123", "rfc1123z"),
    *("rfc3339", "rfc3339nano", "kitchen", "stamp", "stampmilli", "stampmicro", "stampnano"),
)
CAPTURE_MASKS = ("none", "headers", "full")
LAUNCHER_NAMES = ("local",)
"""As in ``launchers.LAUNCHERS``, which this package cannot import."""

_SETS_GO_ITS_OWN_WAY = "llmsnap manages its connections itself; remove it"
_OTHER_TIMEOUTS = tuple(
    Key(name, Unsupported(why=_SETS_GO_ITS_OWN_WAY))
    for name in ("keepalive", "tlsHandshake", "idleConn")
)


def _timeouts(connect: float, response_header: float) -> Section:
    return Section(
        Key("connect", Number(connect, least=0)),
        Key("responseHeader", Number(response_header, least=0)),
        Key("idle", Number(0.0, least=0)),
        *_OTHER_TIMEOUTS,
    )


ENDPOINT = Section(
    Key("endpoint", Text(strict=True)),
    Key("method", Text("POST", strict=True)),
    Key("body", Text(strict=True)),
    Key("timeout", Number(0, least=0, whole=True)),
)

MODEL = Section(
    Key("cmd", CommandLine(), restarts=True),
    Key("cmdStop", CommandLine(known_later="PID")),
    Key("proxy", Text("http://localhost:${PORT}", strict=True), restarts=True),
    Key("env", Texts(), restarts=True),
    Key("launcher", Choice("local", words=LAUNCHER_NAMES), restarts=True),
    Key("name", Text()),
    Key("description", Text()),
    Key("aliases", Texts()),
    Key("unlisted", Flag()),
    Key("useModelName", Text()),
    Key("apiKey", Text(strict=True), guards=True),
    Key("headers", Json()),
    Key("metadata", Json()),
    Key("checkEndpoint", Text("/health", strict=True)),
    Key("healthCheckTimeout", Number(None, least=0.1)),
    Key("ttl", Number(-1, whole=True)),
    Key("sleepAfter", Number(0.0, least=0)),
    Key("unloadTimeout", Number(None, least=0)),
    Key("concurrencyLimit", Number(0, whole=True)),
    Key("queueLimit", Number(None, least=1, whole=True)),
    Key("timeouts", _timeouts(5.0, 0.0)),
    Key("sleepMode", Choice("disable", words=("enable", "disable"))),
    Key("sleepEndpoints", Sections(ENDPOINT)),
    Key("wakeEndpoints", Sections(ENDPOINT)),
    Key("sendLoadingState", Flag(None)),
    Key(
        "compat",
        Section(Key("ignoreWebsockets", Flag()), Key("ignoreStreams", Flag(True))),
    ),
    Key("sandbox", Flag(None), guards=True),
    Key(
        "filters",
        Section(
            Key("stripParams", Text(strict=True)),
            Key("strip_params", Text(strict=True)),
            Key("setParams", Json(strict=False)),
            Key("setParamsByID", RawNode()),
        ),
    ),
    Key("macros", RawNode()),
    Key("capabilities", Unsupported(why="put what clients should know under metadata")),
)

GROUP = Section(
    Key("swap", Flag(True)),
    Key("exclusive", Flag(True)),
    Key("persistent", Flag(False)),
    Key("members", Texts()),
)

PEER = Section(
    Key("proxy", Text(strict=True)),
    Key("models", Texts()),
    Key("apiKey", Text(strict=True), guards=True),
    Key(
        "filters",
        Section(
            Key("stripParams", Text(strict=True)),
            Key("setParams", Json()),
        ),
    ),
    Key("timeouts", _timeouts(10.0, 600.0)),
)

API_KEY = Section(
    Key("key", Text()),
    Key("name", Text()),
    Key("models", Texts(None)),
    Key("admin", Flag()),
    Key("upstream", Flag()),
    closed=True,
)

_ON_STARTUP = Section(
    Key("preload", Texts()),
    Key("profile", Unsupported(why="profiles are not supported; remove it")),
)

_CORS_IS_GIVEN = "llmsnap answers preflights itself, and pages send keys themselves; remove it"
_CORS = Section(
    Key("allowedOrigins", Texts()),
    *(
        Key(name, Unsupported(why=_CORS_IS_GIVEN))
        for name in (
            "allowCredentials",
            "allowedMethods",
            "allowedHeaders",
            "exposedHeaders",
            "maxAge",
        )
    ),
)

_NO_MATRIX = "say which models run together with groups"

ROUTING = Section(
    Key(
        "router",
        Section(
            Key("use", Choice("", words=("group", "matrix"))),
            Key("settings", Section(Key("groups", RawNode()), Key("matrix", RawNode()))),
        ),
    ),
    Key(
        "scheduler",
        Section(
            Key("use", Choice("fair", words=("fair", "fifo"))),
            Key(
                "settings",
                Section(
                    Key(
                        "fair",
                        Section(Key("maxHold", Number(120.0, least=0)), Key("priority", RawNode())),
                    ),
                    Key("fifo", Section(Key("priority", RawNode()))),
                ),
            ),
        ),
    ),
)

TOP = Section(
    Key("models", RawNode()),
    Key("groups", RawNode()),
    Key("peers", RawNode()),
    Key("apiKeys", RawNode(keep_null=True), guards=True),
    Key("macros", RawNode()),
    Key("hooks", Section(Key("on_startup", _ON_STARTUP), Key("onStartup", _ON_STARTUP))),
    Key("routing", ROUTING),
    Key("startPort", Number(5800, least=1, most=65535, whole=True)),
    Key("healthCheckTimeout", Number(120, whole=True)),
    Key("sleepRequestTimeout", Number(10, whole=True)),
    Key("wakeRequestTimeout", Number(10, whole=True)),
    Key("globalTTL", Number(0.0, least=0)),
    Key("unloadTimeout", Number(10.0, least=0)),
    Key("queueLimit", Number(1000, least=1, whole=True)),
    Key("queueTimeout", Number(3600.0, least=0)),
    Key("sendLoadingState", Flag()),
    Key("keepaliveWhileLoading", Flag(True)),
    Key("includeAliasesInList", Flag()),
    Key("maxRequestBody", Number(256.0, least=0.01)),
    Key("maxDecompressedBody", Number(64.0, least=0.01)),
    Key("maxUpload", Number(4096.0, least=0.01)),
    Key("maxBodyMemory", Number(0.0, least=0)),
    Key("maxSpool", Number(0.0, least=0)),
    Key("allowedHosts", Texts()),
    Key("allowedOrigins", Texts()),
    Key("inferenceOrigins", Texts()),
    Key("uiOrigin", Choice("same", words=("same", "separate")), guards=True),
    Key("security", Section(Key("cors", _CORS))),
    Key("trustedProxies", Texts()),
    Key(
        "upstream",
        Section(
            Key("ignorePaths", Texts(None)),
            Key("observePaths", Texts(None)),
            Key("origin", Text(), guards=True),
        ),
    ),
    Key("logLevel", Choice("info", words=("debug", "info", "warn", "error"), loose=True)),
    Key("logTimeFormat", Choice("", words=LOG_TIME_FORMATS, loose=True)),
    Key("logToStdout", Choice("proxy", words=("proxy", "upstream", "both", "none"))),
    Key("logBufferSize", Number(100.0, least=1)),
    Key("logRequests", Flag()),
    Key("metricsMaxInMemory", Number(1000, whole=True)),
    Key("captureBuffer", Number(5, whole=True), guards=True),
    Key("captureMaxBody", Number(1.0, least=0)),
    Key("captureRedact", Texts(), guards=True),
    Key("captureMask", RawNode(), guards=True),
    Key(
        "store",
        Section(
            Key("path", Text(None)),
            Key("maxAgeDays", Number(30.0, least=0)),
            Key("maxRows", Number(1_000_000, least=0, whole=True)),
        ),
    ),
    Key("profiles", RawNode()),
    Key("matrix", Unsupported(refused=True, why=_NO_MATRIX)),
    Key("selectors", Unsupported(refused=True, why="use aliases, or name the model itself")),
    Key("performance", Unsupported(why="system figures are always collected; remove it")),
    Key("ui", Unsupported(why="the interface needs no settings; remove it")),
)

# Which section stands below a key that is read by hand.
BY_HAND: dict[str, Kind] = {
    "models": MODEL,
    "groups": GROUP,
    "peers": PEER,
    "routing.router.settings.groups": GROUP,
}


def all_paths(section: Section = TOP, prefix: str = "") -> Iterator[tuple[str, Key]]:
    """Yield every key with its path: ``*`` stands for an id, ``[]`` for a place in a list."""
    for name, key in section.keys.items():
        path = f"{prefix}{name}"
        yield path, key
        kind = BY_HAND.get(path, key.kind)
        if path == "apiKeys":
            yield from all_paths(API_KEY, f"{path}[].")
        elif isinstance(kind, Sections):
            yield from all_paths(kind.section, f"{path}[].")
        elif isinstance(kind, Section):
            yield from all_paths(kind, f"{path}.*." if path in BY_HAND else f"{path}.")
