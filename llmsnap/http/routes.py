"""The route table: one row for each endpoint of the server.

A row declares methods and path, where a request names its model, which API it belongs to, the
access rights, how much of it a capture keeps, and its description. The gateway, the dispatcher, the
checks of keys and origins and captures find rows by ``lookup``; the OpenAPI document and the tables
of docs/api.md are written from all of them. A new inference route needs only a row; a route that
llmsnap answers itself also needs a view in ``web/``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import Enum, StrEnum, auto
from itertools import groupby
from typing import Any

JSON, FORM, TEXT, EVENTS = (
    "application/json",
    "multipart/form-data",
    "text/plain",
    "text/event-stream",
)
HTML, ANY = "text/html", "*/*"
METHODS = ("POST", "GET", "HEAD", "PUT", "PATCH", "DELETE")
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
UPSTREAM = "/upstream/"
COMFYUI = "/comfyui"
"""The pages and calls of the local model ``COMFYUI_MODEL``, whose clients know no other address."""
COMFYUI_MODEL = "comfyui_auto"
COMFYUI_ROOT = f"{COMFYUI}/"
PROPS_PATH = "/props"
VERSION = "/v1/"
VERSIONLESS = "/v/"
"""Replaces ``/v1/`` for servers whose base URL contains the version."""


class ModelPlace(Enum):
    """Where a request names its model."""

    NOWHERE = auto()
    JSON = auto()
    """In the body (JSON or form), else in the query."""
    FORM = auto()
    """The same, for a route whose bodies are uploads."""
    QUERY = auto()
    MESSAGE = auto()
    """In the first message of a WebSocket, a JSON text."""
    PATH = auto()


class Access(Enum):
    """The rights that a route requires if API keys are configured."""

    OPEN = auto()
    """No key, and any Host header."""
    KEYLESS = auto()
    """No key, for reading; the response says nothing about models."""
    SHARED = auto()
    """Any key; pages of any site may read the response."""
    KEY = auto()
    """Any key."""
    ALL_MODELS = auto()
    """A key that is not limited to some models, since the response covers all models."""
    ADMIN = auto()
    """A key with the admin right."""


class Dialect(StrEnum):
    """The API whose error shape a client expects."""

    OPENAI = "openai"
    RESPONSES = "responses"
    ANTHROPIC = "anthropic"


class Stream(Enum):
    """The event format of a route that answers ``stream: true`` with events only, errors too."""

    CHAT = auto()
    COMPLETION = auto()
    RESPONSE = auto()
    MESSAGE = auto()
    LLAMA = auto()


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter of a path, a query or a header; *kind* is a JSON Schema type."""

    name: str
    about: str
    place: str = "query"
    kind: str = "string"
    choices: tuple[str, ...] = ()
    required: bool = False


@dataclass(frozen=True, slots=True)
class HttpRoute:
    """One row: a path, whose segments in braces are parameters, and its methods.

    *sends* is the media type of its body ("" for none) and *takes* the schema of that; *answers*
    maps media types to the names of schemas, *status* goes with them. *errors* are the statuses
    beyond those every route may answer. *passes*: other answers come from a model. *sent_as* is the
    path that goes on to a model's server, where it is another one.
    """

    methods: tuple[str, ...]
    path: str
    tag: str
    summary: str
    note: str = ""
    """Text that docs/api.md adds to the summary."""
    model: ModelPlace = ModelPlace.NOWHERE
    access: Access = Access.KEY
    dialect: Dialect = Dialect.OPENAI
    stream: Stream | None = None
    """None: the response may be audio, images or JSON whatever the request says."""
    capture: str = "full"
    """The default capture level, as in ``captureMask``."""
    acts: bool = False
    """A GET that changes something, or opens a WebSocket."""
    observes: bool = False
    """It names a model but does not load it, unless ``autoload`` requests that."""
    optional: bool = False
    """A request without a model is answered by a view."""
    routine: bool = False
    """Polled by monitors and open pages, so the access log leaves it out at INFO."""
    sent_as: str = ""
    parameters: tuple[Parameter, ...] = ()
    sends: str = ""
    takes: str = "Anything"
    answers: Mapping[str, str] = field(default_factory=dict)
    status: int = 200
    errors: tuple[int, ...] = ()
    passes: bool = False

    @property
    def is_inference(self) -> bool:
        """Whether a model serves it, and is loaded for it."""
        return self.tag == "inference"


MODEL_FAILS = (404, 409, 429, 502, 503, 504)
BODY_FAILS = (400, 408, 413)

MODEL = Parameter("model", "Id or alias; slashes may be encoded.", "path", required=True)
REST = Parameter(
    "path", "What the model's server is asked for, as it stands.", "path", required=True
)
ASKED = Parameter("model", "Id, alias, a peer's model, or <peer>/<model>.", required=True)
WAITING = (
    Parameter("X-Max-Wait", "Seconds to wait for the model at most.", "header", "number"),
    Parameter("X-Swap", "`never`: 409 when the model is not ready.", "header", choices=("never",)),
    Parameter("X-Request-Id", "Taken over, passed on and returned.", "header"),
)
SINCE = Parameter("since", "Unix milliseconds.", kind="integer")
FORMATS = {
    "events": Parameter("format", "Form of frames.", choices=("message", "named", "both")),
    "logs": Parameter("logs", "`0`: named frames without log data.", choices=("0", "1")),
    "records": Parameter("records", "`0`: ids of records in named frames.", choices=("0", "1")),
    "log": Parameter(
        "format",
        "`sse`: as server-sent events; `json`: these with text and marks in JSON.",
        choices=("sse", "json"),
    ),
    "capture": Parameter("format", "As a command line, or for a browser.", choices=("curl", "har")),
}
NO_HISTORY = Parameter("no-history", "Leave out what is there already.")
NO_FOLLOW = Parameter("no-follow", "End after what is there already.")
LOG_NAME = Parameter("name", "`proxy`, `upstream`, or a model.", "path", required=True)
NUMBER = Parameter("id", "A number.", "path", "integer", required=True)
REQUEST_ID = Parameter("id", "An X-Request-Id, or the number of a record.", "path", required=True)
DRAIN = Parameter("drain", "`1`: let requests in flight end.", choices=("0", "1"))
CUT = Parameter("drain", "`0`: cut requests in flight.", choices=("0", "1"))

# --- inference ----------------------------------------------------------------------------------


def _json(path: str, summary: str, *, media: str = JSON, **more: Any) -> HttpRoute:
    answers = {media: "Anything", **({EVENTS: "Anything"} if "stream" in more else {})}
    return HttpRoute(
        ("POST",), path, "inference", summary,
        model=ModelPlace.JSON, access=Access.SHARED, parameters=WAITING, sends=JSON,
        takes="ModelRequest", answers=answers, errors=(*BODY_FAILS, 415, *MODEL_FAILS),
        passes=True, **more,
    )  # fmt: skip


def _form(path: str, summary: str, **more: Any) -> HttpRoute:
    return HttpRoute(
        ("POST",), path, "inference", summary,
        model=ModelPlace.FORM, access=Access.SHARED, capture="headers", parameters=WAITING,
        sends=FORM, takes="ModelForm", answers={JSON: "Anything"},
        errors=(*BODY_FAILS, *MODEL_FAILS), passes=True, **more,
    )  # fmt: skip


BY_QUERY = "The model is named by `?model=`."


def _query(path: str, summary: str, note: str = BY_QUERY, **more: Any) -> HttpRoute:
    asked = more.pop("asked", ASKED)
    return HttpRoute(
        ("GET",), path, "inference", summary, note,
        model=ModelPlace.QUERY, access=Access.SHARED, parameters=(asked, *WAITING),
        answers={JSON: "Anything"}, errors=(400, *MODEL_FAILS), passes=True, **more,
    )  # fmt: skip


def _message(path: str, summary: str, **more: Any) -> HttpRoute:
    note = "The first message, JSON, names the model and is sent on; what follows passes unread."
    return HttpRoute(
        ("GET",), path, "inference", summary, note, model=ModelPlace.MESSAGE, access=Access.SHARED,
        parameters=WAITING, status=101, answers={ANY: "Anything"}, errors=(400, *MODEL_FAILS),
        passes=True, **more,
    )  # fmt: skip


def _versionless(method: str, sends: str) -> HttpRoute:
    return HttpRoute(
        (method,), "/v/{route}", "inference",
        "Any route below /v1, sent on without its version: for servers whose address has one.",
        parameters=(Parameter("route", "As below /v1.", "path", required=True), *WAITING),
        access=Access.SHARED, sends=sends, takes="ModelRequest", answers={ANY: "Anything"},
        errors=(*BODY_FAILS, 415, *MODEL_FAILS), passes=True,
    )  # fmt: skip


MESSAGES = Dialect.ANTHROPIC
RESPONSES = Dialect.RESPONSES


def _without_version(row: HttpRoute) -> HttpRoute:
    note = f"{row.note} Sent on as `{row.path}`: for clients whose base URL lacks `/v1`."
    return replace(
        row, path=row.path.removeprefix(VERSION[:-1]), sent_as=row.path, note=note.lstrip()
    )


_VERSIONED = (
    _json("/v1/chat/completions", "Chat (OpenAI).", stream=Stream.CHAT),
    _json("/v1/completions", "Completion (OpenAI).", stream=Stream.COMPLETION),
    _json("/v1/responses", "Response (OpenAI).", stream=Stream.RESPONSE, dialect=RESPONSES),
    _message(
        "/v1/responses", "A WebSocket of responses (OpenAI).",
        stream=Stream.RESPONSE, dialect=RESPONSES,
    ),
    _json("/v1/messages", "Message (Anthropic).", stream=Stream.MESSAGE, dialect=MESSAGES),
    _json("/v1/embeddings", "Embeddings (OpenAI)."),
)  # fmt: skip
INFERENCE = (
    *_VERSIONED,
    *map(_without_version, _VERSIONED),
    _json("/v1/chat/completions/input_tokens", "Count the tokens of a chat."),
    _json("/v1/responses/input_tokens", "Count the tokens of a response.", dialect=RESPONSES),
    _json(
        "/v1/messages/count_tokens", "Count the tokens of a message (Anthropic).", dialect=MESSAGES
    ),
    _json("/v1/rerank", "Rerank documents."),
    _json("/v1/reranking", "Rerank documents."),
    _json("/rerank", "Rerank documents."),
    _json("/reranking", "Rerank documents."),
    _json("/v2/rerank", "Rerank documents."),
    _json("/score", "Score pairs of texts (vLLM)."),
    _json("/pooling", "Pooled hidden states (vLLM)."),
    _json("/classify", "Classify texts (vLLM)."),
    _json("/tokenize", "Tokens of a text (llama-server, vLLM)."),
    _json("/detokenize", "Text of tokens (llama-server, vLLM)."),
    _json("/apply-template", "The prompt a chat becomes (llama-server)."),
    _json("/infill", "Fill in (llama-server).", stream=Stream.LLAMA),
    _json("/completion", "Completion (llama-server).", stream=Stream.LLAMA),
    _json("/v1/audio/speech", "Speech from text (OpenAI).", media="audio/*", capture="headers"),
    _json("/v1/audio/voices", "The voices of a model.", capture="headers"),
    _query(
        "/v1/audio/voices",
        "The voices of a model.",
        "The model is named by `?model=`; without one those of all ready models that speak.",
        capture="headers",
        asked=Parameter("model", ASKED.about),
        optional=True,
    ),
    _form("/v1/audio/transcriptions", "Text from speech (OpenAI).", note="A form."),
    _form("/v1/audio/translations", "English text from speech (OpenAI).", note="A form."),
    _json(
        "/audioapi/v1/tasks/run",
        "An audio task.",
        capture="headers",
        sent_as="/v1/tasks/run",
        note="Sent on as `/v1/tasks/run`.",
    ),
    _json("/v1/images/generations", "Images from text (OpenAI).", capture="headers"),
    _form("/v1/images/edits", "Images from images (OpenAI).", note="A form."),
    _json("/sdapi/v1/txt2img", "Images from text (stable-diffusion.cpp).", capture="headers"),
    _json("/sdapi/v1/img2img", "Images from images (stable-diffusion.cpp).", capture="headers"),
    _query("/sdapi/v1/loras", "The LoRAs of a model (stable-diffusion.cpp).", capture="headers"),
    _query("/v1/realtime", "A WebSocket to the model (OpenAI Realtime)."),
    _versionless("GET", ""),
    _versionless("POST", JSON),
)

# --- models -------------------------------------------------------------------------------------


def _model_act(what: str, summary: str, note: str, parameter: Parameter, *errors: int) -> HttpRoute:
    return HttpRoute(
        ("POST",), f"/api/models/{what}/{{model}}", "models", summary, note, access=Access.ADMIN,
        parameters=(MODEL, parameter), answers={TEXT: "Ok"}, errors=errors,
    )  # fmt: skip


MODELS = (
    *(
        HttpRoute(
            ("GET",), path, "models", "The models, by id.", access=Access.SHARED,
            answers={JSON: "ModelList"},
        )
        for path in ("/v1/models", "/models", "/v/models")
    ),
    HttpRoute(
        ("GET",), "/v1/models/{model}", "models", "One model, by any of its names.",
        "Listed or not.", access=Access.SHARED, parameters=(MODEL,), answers={JSON: "Model"},
        errors=(404,),
    ),
    HttpRoute(
        ("GET",), "/v1/audio/models", "models", "The models that can speak.",
        "Those whose `capabilities` say so, or whose server has listed voices or has spoken.",
        access=Access.SHARED,
        answers={JSON: "ModelList"},
    ),
    HttpRoute(
        ("GET",), "/running", "models", "Every model that is not stopped.",
        answers={JSON: "RunningList"},
    ),
    HttpRoute(
        ("GET",), PROPS_PATH, "models",
        "Properties of a model, which is not loaded for this; without one a neutral document.",
        BY_QUERY, model=ModelPlace.QUERY, observes=True, optional=True,
        parameters=(
            Parameter("model", "Id, alias, or a peer's model."),
            Parameter("autoload", "`1`: load the model.", choices=("0", "1", "false", "true")),
        ),
        answers={JSON: "Anything"}, errors=MODEL_FAILS, passes=True,
    ),
    _model_act(
        "load", "Make one model ready.", "`OK` when it is; 202 at once with `?wait=0`.",
        Parameter("wait", "`0`: answer at once.", choices=("0", "1")), 202, 404, 502, 503,
    ),
    _model_act(
        "sleep", "Put one model to sleep.",
        "Its requests end first, or are cut with `?drain=0`; `OK` when it sleeps, or is stopped.",
        CUT, 404, 409, 502, 503,
    ),
    _model_act(
        "unload", "Stop one model at once.",
        "`OK` when it is gone. Requests in flight are cut; with `?drain=1` they end first.",
        DRAIN, 404, 502, 503,
    ),
    HttpRoute(
        ("POST",), "/api/models/unload", "models", "Stop all models at once.",
        '`{"msg":"ok"}` when they are gone; `?drain=1` as above.', access=Access.ADMIN,
        parameters=(DRAIN,), answers={JSON: "Done"}, errors=(502, 503),
    ),
    HttpRoute(
        ("GET",), "/unload", "models", "Stop all models at once.",
        "`OK` when they are gone; `?drain=1` as above.", access=Access.ADMIN,
        acts=True, parameters=(DRAIN,), answers={TEXT: "Ok"}, errors=(502, 503),
    ),
)  # fmt: skip

# --- selectors and profiles ---------------------------------------------------------------------

PROFILES = (
    HttpRoute(
        ("GET",), "/api/selectors", "models", "The selectors, and how their targets stand.",
        "With a key that has `models`, those it may use.", routine=True,
        answers={JSON: "SelectorList"},
    ),
    HttpRoute(
        ("GET",), "/api/profiles", "models", "The profiles, and which is active.",
        "With a key that has `models`, the pins it may use.", routine=True,
        answers={JSON: "ProfileList"},
    ),
    HttpRoute(
        ("PUT",), "/api/profiles/active", "models", "Make a profile the active one.",
        '`{"name": text}`; null for none. Requests in flight keep the one they began with.',
        access=Access.ADMIN, sends=JSON, takes="ProfileChoice",
        answers={JSON: "ActiveProfile"}, errors=(400, 404, 413),
    ),
)  # fmt: skip

# --- other paths of a model's server ------------------------------------------------------------


def _below_upstream(methods: tuple[str, ...], sends: str, *errors: int) -> HttpRoute:
    return HttpRoute(
        methods, "/upstream/{model}/{path}", "upstream",
        "Anything else a model's server answers; the longest name that fits is the model's.",
        model=ModelPlace.PATH, parameters=(MODEL, REST, *WAITING), sends=sends,
        answers={ANY: "Anything"}, errors=(*BODY_FAILS, *MODEL_FAILS, *errors), passes=True,
    )  # fmt: skip


BELOW_UPSTREAM = (
    HttpRoute(("GET",), "/upstream", "upstream", "To the page of models.", status=302),
    _below_upstream(("GET",), "", 307),
    _below_upstream(("POST", "PUT", "PATCH", "DELETE"), ANY),
    HttpRoute(
        ("GET", "POST", "PUT", "PATCH", "DELETE"), "/comfyui/{path}", "upstream",
        "The server of the model `comfyui_auto`.",
        "Only `/comfyui/` itself loads it: anything else is 409 while it is not ready.",
        model=ModelPlace.PATH, parameters=(REST, *WAITING), sends=ANY,
        answers={ANY: "Anything"}, errors=(*BODY_FAILS, *MODEL_FAILS), passes=True,
    ),
)  # fmt: skip

# --- health and logs ----------------------------------------------------------------------------


def _health(path: str, summary: str, *errors: int) -> HttpRoute:
    return HttpRoute(
        ("GET",), path, "health", summary, access=Access.OPEN, routine=True,
        answers={TEXT: "Ok"}, errors=errors,
    )  # fmt: skip


HEALTH = (
    _health("/health", "Whether the process runs."),
    _health("/wol-health", "The same."),
    _health("/ready", "Whether requests are taken.", 503),
)


def _log(path: str, summary: str, note: str, *parameters: Parameter, **more: Any) -> HttpRoute:
    return HttpRoute(
        ("GET",), path, "logs", summary, note, access=Access.ADMIN,
        parameters=parameters, **more,
    )  # fmt: skip


GROWING = {TEXT: "Text", EVENTS: "Text"}
LOGS = (
    _log(
        "/logs", "The combined log.", "Text; browsers are redirected to the interface (302).",
        answers={TEXT: "Text"}, errors=(302,),
    ),
    _log(
        "/logs/stream", "The combined log as it grows.", "", NO_HISTORY, NO_FOLLOW, FORMATS["log"],
        answers=GROWING,
    ),
    _log(
        "/logs/stream/{name}", "One log as it grows.",
        "`proxy`, `upstream`, or a model; 400 for anything else.",
        LOG_NAME, NO_HISTORY, NO_FOLLOW, FORMATS["log"], answers=GROWING, errors=(400,),
    ),
)  # fmt: skip

# --- events, records and the configuration ------------------------------------------------------

FILTER = (
    Parameter("model", "Of this model only."),
    Parameter("status", "Of this status, or of a class such as `5xx`."),
    Parameter("key", "Of the key with this name."),
    Parameter("session", "Of the session with this id."),
    Parameter("selector", "Those for which this selector chose the model."),
    Parameter("peer", "Those that this peer served."),
    Parameter("id", "The one with this number.", kind="integer"),
    Parameter("request_id", "Of this id, as in the log."),
    SINCE,
    Parameter("until", "Unix milliseconds.", kind="integer"),
)


def _api(path: str, summary: str, note: str = "", **more: Any) -> HttpRoute:
    settings: dict[str, Any] = {"access": Access.ADMIN, "answers": {JSON: "Anything"}, **more}
    method = settings.pop("method", "GET")
    return HttpRoute((method,), f"/api/{path}", "api", summary, note, **settings)


RECORDS = (
    _api(
        "events", "All that happens, as it happens.",
        "Server-sent events: envelopes, as llama-swap sends them; `?format=named` for frames of "
        "one change each, `both` for both.",
        parameters=(FORMATS["events"], FORMATS["logs"], FORMATS["records"]),
        answers={EVENTS: "Text"}, errors=(400,),
    ),
    _api(
        "ws", "The same over a WebSocket: envelopes as they are, named frames as objects.",
        "For clients behind buffering proxies.", acts=True, status=101, errors=(400, 403),
        parameters=(
            FORMATS["events"],
            FORMATS["logs"],
            FORMATS["records"],
            Parameter("lastEventId", "Id of the last frame, to go on from there."),
        ),
        answers={ANY: "Text"},
    ),
    _api(
        "metrics", "What is known of each successful request.", "As llama-swap lists it.",
        answers={JSON: "List"},
    ),
    _api(
        "metrics/activity", "Pages of records, as llama-swap has them.",
        "`-1` stands for unknown; pages are numbered from 1.", errors=(400,), parameters=(
            Parameter("model", "The model that served; may be repeated."),
            Parameter("start", "RFC 3339; no record that ended before."),
            Parameter("end", "RFC 3339; no record that ended later."),
            Parameter("min_id", "The first id.", kind="integer"),
            Parameter("max_id", "The last id.", kind="integer"),
            Parameter("limit", "Records per page, 1 to 999 (25).", kind="integer"),
            Parameter("page", "Which page, from 1.", kind="integer"),
            Parameter("sort", "A column (`id`)."),
            Parameter("order", "Direction (`desc`).", choices=("asc", "desc")),
        ),
    ),
    _api(
        "metrics/stats", "Token sums and histograms of speeds, as llama-swap has them.",
        parameters=(Parameter("model", "The model that served."),),
    ),
    _api(
        "activity", "Records of all requests, failed ones too.",
        "`model`, `status`, `key`, `session`, `selector`, `peer`, `id`, `request_id`, `since` and "
        "`until` filter; `sort`, `cursor` and `limit` page. "
        "`count=1` adds the number of records that the filters leave, as `total`.",
        routine=True, errors=(400,), parameters=(
            *FILTER,
            Parameter("sort", "Name of a field; `-` before it reverses."),
            Parameter("cursor", "Where the page before ended."),
            Parameter("limit", "Records per page.", kind="integer"),
            Parameter("count", "Add `total`.", choices=("1",)),
        ),
    ),
    _api(
        "activity/stats", "Sums, percentiles and histograms.",
        "Of the records in memory that the same filters leave, the oldest of `since_ms`; "
        "`recorded` counts those of the store too.",
        routine=True, parameters=FILTER, errors=(400,),
    ),
    _api(
        "captures/{id}", "One request and its answer.",
        "Without secrets; `?format=curl` or `har`.", parameters=(NUMBER, FORMATS["capture"]),
        answers={JSON: "Anything", TEXT: "Text"}, errors=(400, 404),
    ),
    _api("inflight", "The requests in flight.", routine=True),
    _api(
        "inflight/{id}/cancel", "End a request in flight.", method="POST", parameters=(NUMBER,),
        answers={JSON: "Done"}, errors=(404,),
    ),
    _api("swaps", "The last swaps.", routine=True),
    _api(
        "swaps/{id}", "One of the last swaps.",
        "Who asked, its plan and the next best ones, the rule of its time, memory before and "
        "after; `sentences` explain it.",
        parameters=(NUMBER,), errors=(404,),
    ),
    _api(
        "requests/{id}", "A request in flight, or its record.",
        "With the swap it waits or waited for; `sentences` explain the wait. A number may also be "
        "that of its record.",
        parameters=(REQUEST_ID,), errors=(404,),
    ),
    _api(
        "plan", "What loading `?model=` would do now; changes nothing.",
        "`&running=a,b` supposes that these models run, and no others, `&memory=gpu0:20GiB` that "
        "devices of the memory budget have this capacity. `leaving` are those that "
        "would leave, `eta_s` is when it would be ready; `summary` and `sentences` explain it.",
        parameters=(
            Parameter("model", "Id or alias of the model to load."),
            Parameter("running", "Ids or aliases of the models that run, separated by commas."),
            Parameter("memory", "Capacities of devices, separated by commas: gpu0:24GiB,ram:8GiB."),
        ),
        errors=(400, 404),
    ),
    _api(
        "memory", "What each device holds, and what each model needs, in bytes.",
        "By the memory budget; `mode` names what decides, and without a budget the lists are "
        "empty.",
        routine=True,
    ),
    _api("models", "All models with name, description and state, of peers too.", routine=True),
    _api("overview", "How every model fares, and how they are grouped.", routine=True),
    _api(
        "timeline", "The states of the last days.", "`?since=` leaves out those that ended before.",
        routine=True, errors=(400,), parameters=(SINCE,),
    ),
    _api(
        "performance", "Samples of host, GPUs and processes.", "`?since=` leaves out older ones.",
        routine=True, errors=(400,), parameters=(
            SINCE,
            Parameter("limit", "With `since`: the newest only.", kind="integer"),
            Parameter("after", "RFC 3339: in llama-swap's shape, later samples only."),
        ),
    ),
    _api(
        "hardware", "Processor, memory, accelerators, system.",
        "Detected once at the start; what is unknown is null.", errors=(503,),
    ),
    _api(
        "version", "Which program this is.", access=Access.KEY, routine=True,
        answers={JSON: "Version"},
    ),
    _api("openapi.json", "This document.", "This page for programs.", access=Access.KEY),
    HttpRoute(
        ("GET",), "/metrics", "api", "Counters and gauges for Prometheus.",
        "A key with `models` gets 403.",
        parameters=(
            Parameter("compat", "Adds host and GPUs under its names.", choices=("llama-swap",)),
            Parameter("upstream", "`1`: adds the metrics of the ready models.", choices=("1",)),
        ),
        access=Access.ALL_MODELS, routine=True,
        answers={TEXT: "Text"},
    ),
)  # fmt: skip

CONFIG = (
    _api(
        "config/status", "Which configuration is in force, and what is wrong with the file now.",
        "`advice` lists what is questionable in the configuration in force.",
    ),
    _api("config/plan", "What a reload would change."),
    _api("config/file", "The file as it is on disk, secrets masked."),
    _api(
        "config/reload", "Read the file again; 422 when it cannot be used.",
        "It is read once it has not changed for half a second; 422 lists every problem, and the "
        "configuration in force stays.",
        method="POST", errors=(422,),
    ),
)  # fmt: skip

# --- the interface ------------------------------------------------------------------------------


def _file(path: str, summary: str, *names: str) -> HttpRoute:
    parameters = tuple(Parameter(name, "", "path", required=True) for name in names)
    return HttpRoute(
        ("GET",), path, "ui", summary, access=Access.KEYLESS, routine=True, parameters=parameters,
        answers={ANY: "Anything"}, errors=(301, 302, 304, 308, 404),
    )  # fmt: skip


UI = (
    HttpRoute(
        ("GET",), "/", "ui", "To the interface.", access=Access.KEYLESS, status=302, routine=True
    ),
    HttpRoute(
        ("GET",), "/ui", "ui", "The interface.", access=Access.KEYLESS, routine=True,
        answers={HTML: "Text"}, errors=(301, 308),
    ),
    _file("/ui/{page}", "To a page of the interface, or one of its files.", "page"),
    _file("/ui/static/{version}/{name}", "A file, which never changes.", "version", "name"),
    _file("/favicon.ico", "The icon."),
    HttpRoute(
        ("GET",), "/session", "ui", "Whether keys are needed, and the key of this request.",
        access=Access.KEYLESS, routine=True, answers={JSON: "Session"},
    ),
    HttpRoute(
        ("POST",), "/session", "ui", "Exchange the request's key for a session cookie.",
        note="For pages of this origin, for 12 hours.", access=Access.KEYLESS,
        answers={JSON: "Session"},
    ),
    HttpRoute(
        ("DELETE",), "/session", "ui", "End the session.", access=Access.KEYLESS,
        answers={JSON: "Session"},
    ),
)  # fmt: skip

GROUPS: Mapping[str, tuple[HttpRoute, ...]] = {
    "inference": INFERENCE,
    "upstream": BELOW_UPSTREAM,
    "models": (*MODELS, *PROFILES),
    "health": HEALTH,
    "logs": LOGS,
    "records": RECORDS,
    "configuration": CONFIG,
    "interface": UI,
}
"""The table; each group is a section of docs/api.md."""
ROUTES = tuple(route for group in GROUPS.values() for route in group)

# --- docs/api.md --------------------------------------------------------------------------------


def table(group: str) -> str:
    """Return the rows of a *group* as a table of docs/api.md."""
    lines = ["| | |", "|---|---|"]
    for text, rows in groupby(GROUPS[group], _described):
        names = ", ".join(f"`{method} {row.path}`" for row in rows for method in row.methods)
        lines.append(f"| {names} | {text} |")
    return "\n".join(lines)


def _described(row: HttpRoute) -> str:
    admin = "**admin**" if row.access is Access.ADMIN else ""
    return " ".join(filter(None, [row.summary, row.note, admin]))
