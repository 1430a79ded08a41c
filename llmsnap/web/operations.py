"""Every operation of the HTTP interface, as data: what the OpenAPI document is made of.

A test holds it equal to the routes that there are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

JSON, FORM, TEXT, EVENTS = (
    "application/json",
    "multipart/form-data",
    "text/plain",
    "text/event-stream",
)
HTML, ANY = "text/html", "*/*"


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
class Operation:
    """One method of one path.

    *sends* is the media type of its body ("" for none) and *takes* the schema of that; *answers*
    maps media types to the names of schemas, *status* goes with them. *errors* are the statuses
    beyond those every operation may answer. *passes*: other answers come from a model.
    """

    method: str
    path: str
    tag: str
    about: str
    parameters: tuple[Parameter, ...] = ()
    sends: str = ""
    takes: str = "Anything"
    answers: Mapping[str, str] = field(default_factory=dict)
    status: int = 200
    errors: tuple[int, ...] = ()
    passes: bool = False


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
    "log": Parameter("format", "`sse`: as server-sent events.", choices=("sse",)),
    "capture": Parameter("format", "As a command line, or for a browser.", choices=("curl", "har")),
}
NO_HISTORY = Parameter("no-history", "Leave out what is there already.")
NO_FOLLOW = Parameter("no-follow", "End after what is there already.")
LOG_NAME = Parameter("name", "`proxy`, `upstream`, or a model.", "path", required=True)
NUMBER = Parameter("id", "A number.", "path", "integer", required=True)


def _json(path: str, about: str, *, streams: bool = False, media: str = JSON) -> Operation:
    answers = {media: "Anything", **({EVENTS: "Anything"} if streams else {})}
    errors = (*BODY_FAILS, 415, *MODEL_FAILS)
    return Operation(
        "post", path, "inference", about, WAITING, JSON, "ModelRequest", answers,
        errors=errors, passes=True,
    )  # fmt: skip


def _form(path: str, about: str) -> Operation:
    errors = (*BODY_FAILS, *MODEL_FAILS)
    return Operation(
        "post", path, "inference", about, WAITING, FORM, "ModelForm", {JSON: "Anything"},
        errors=errors, passes=True,
    )  # fmt: skip


def _query(path: str, about: str) -> Operation:
    return Operation(
        "get", path, "inference", about, (ASKED, *WAITING), answers={JSON: "Anything"},
        errors=(400, *MODEL_FAILS), passes=True,
    )  # fmt: skip


INFERENCE = (
    _json("/v1/chat/completions", "Chat (OpenAI).", streams=True),
    _json("/v1/completions", "Completion (OpenAI).", streams=True),
    _json("/v1/responses", "Response (OpenAI).", streams=True),
    _json("/v1/messages", "Message (Anthropic).", streams=True),
    _json("/v1/messages/count_tokens", "Count the tokens of a message (Anthropic)."),
    _json("/v1/embeddings", "Embeddings (OpenAI)."),
    _json("/v1/rerank", "Rerank documents."),
    _json("/v1/reranking", "Rerank documents."),
    _json("/rerank", "Rerank documents."),
    _json("/reranking", "Rerank documents."),
    _json("/infill", "Fill in (llama-server).", streams=True),
    _json("/completion", "Completion (llama-server).", streams=True),
    _json("/v1/audio/speech", "Speech from text (OpenAI).", media="audio/*"),
    _json("/v1/audio/voices", "The voices of a model."),
    _query("/v1/audio/voices", "The voices of a model."),
    _form("/v1/audio/transcriptions", "Text from speech (OpenAI)."),
    _json("/v1/images/generations", "Images from text (OpenAI)."),
    _form("/v1/images/edits", "Images from images (OpenAI)."),
    _json("/sdapi/v1/txt2img", "Images from text (stable-diffusion.cpp)."),
    _json("/sdapi/v1/img2img", "Images from images (stable-diffusion.cpp)."),
    _query("/sdapi/v1/loras", "The LoRAs of a model (stable-diffusion.cpp)."),
    _query("/v1/realtime", "A WebSocket to the model (OpenAI Realtime)."),
)

MODELS = (
    *(
        Operation("get", path, "models", "The models, by id.", answers={JSON: "ModelList"})
        for path in ("/v1/models", "/models", "/v/models")
    ),
    Operation(
        "get", "/v1/models/{model}", "models", "One model, by any of its names.",
        (MODEL,), answers={JSON: "Model"}, errors=(404,),
    ),
    Operation(
        "get", "/running", "models", "Every model that is not stopped.",
        answers={JSON: "RunningList"},
    ),
    Operation(
        "get", "/props", "models",
        "Properties of a model, which is not loaded for this; without one a neutral document.",
        (
            Parameter("model", "Id, alias, or a peer's model."),
            Parameter("autoload", "`1`: load the model.", choices=("0", "1", "false", "true")),
        ),
        answers={JSON: "Anything"}, errors=MODEL_FAILS, passes=True,
    ),
    Operation(
        "get", "/unload", "models", "Stop all models at once.", (
            Parameter("drain", "`1`: let requests in flight end.", choices=("0", "1")),
        ), answers={TEXT: "Ok"}, errors=(502, 503),
    ),
    Operation(
        "post", "/api/models/unload", "models", "Stop all models at once.", (
            Parameter("drain", "`1`: let requests in flight end.", choices=("0", "1")),
        ), answers={JSON: "Done"}, errors=(502, 503),
    ),
    Operation(
        "post", "/api/models/unload/{model}", "models", "Stop one model at once.", (
            MODEL, Parameter("drain", "`1`: let requests in flight end.", choices=("0", "1")),
        ), answers={TEXT: "Ok"}, errors=(404, 502, 503),
    ),
    Operation(
        "post", "/api/models/sleep/{model}", "models", "Put one model to sleep.", (
            MODEL, Parameter("drain", "`0`: cut requests in flight.", choices=("0", "1")),
        ), answers={TEXT: "Ok"}, errors=(404, 409, 502, 503),
    ),
    Operation(
        "post", "/api/models/load/{model}", "models", "Make one model ready.", (
            MODEL, Parameter("wait", "`0`: answer at once.", choices=("0", "1")),
        ), answers={TEXT: "Ok"}, errors=(202, 404, 502, 503),
    ),
)  # fmt: skip

UPSTREAM = (
    Operation("get", "/upstream", "upstream", "To the page of models.", status=302),
    *(
        Operation(
            method, "/upstream/{model}/{path}", "upstream",
            "Anything else a model's server answers; the longest name that fits is the model's.",
            (MODEL, REST, *WAITING), "" if method == "get" else ANY, answers={ANY: "Anything"},
            errors=(*BODY_FAILS, *MODEL_FAILS, *((307,) if method == "get" else ())), passes=True,
        )
        for method in ("get", "post", "put", "patch", "delete")
    ),
    *(
        Operation(
            method, "/v/{route}", "inference",
            "Any route below /v1, sent on without its version: for servers whose address has one.",
            (Parameter("route", "As below /v1.", "path", required=True), *WAITING),
            sends, "ModelRequest", {ANY: "Anything"},
            errors=(*BODY_FAILS, 415, *MODEL_FAILS), passes=True,
        )
        for method, sends in (("get", ""), ("post", JSON))
    ),
)  # fmt: skip

HEALTH = (
    Operation("get", "/health", "health", "Whether the process runs.", answers={TEXT: "Ok"}),
    Operation("get", "/wol-health", "health", "The same.", answers={TEXT: "Ok"}),
    Operation(
        "get", "/ready", "health", "Whether requests are taken.",
        answers={TEXT: "Ok"}, errors=(503,),
    ),
)  # fmt: skip

LOGS = (
    Operation("get", "/logs", "logs", "The combined log.", answers={TEXT: "Text"}, errors=(302,)),
    Operation(
        "get", "/logs/stream", "logs", "The combined log as it grows.",
        (NO_HISTORY, NO_FOLLOW, FORMATS["log"]), answers={TEXT: "Text", EVENTS: "Text"},
    ),
    Operation(
        "get", "/logs/stream/{name}", "logs", "One log as it grows.",
        (LOG_NAME, NO_HISTORY, NO_FOLLOW, FORMATS["log"]), answers={TEXT: "Text", EVENTS: "Text"},
        errors=(400,),
    ),
)  # fmt: skip

FILTER = (
    Parameter("model", "Of this model only."),
    Parameter("status", "Of this status, or of a class such as `5xx`."),
    Parameter("key", "Of the key with this name."),
    SINCE,
    Parameter("until", "Unix milliseconds.", kind="integer"),
)


def _api(path: str, about: str, *parameters: Parameter, **more: Any) -> Operation:
    answers = more.pop("answers", {JSON: "Anything"})
    return Operation("get", f"/api/{path}", "api", about, parameters, answers=answers, **more)


API = (
    _api("version", "Which program this is.", answers={JSON: "Version"}),
    _api("openapi.json", "This document."),
    _api(
        "events", "All that happens, as it happens.", FORMATS["events"],
        answers={EVENTS: "Text"}, errors=(400,),
    ),
    _api(
        "ws", "The same over a WebSocket: envelopes as they are, named frames as objects.",
        FORMATS["events"],
        Parameter("lastEventId", "Id of the last frame, to go on from there."),
        answers={ANY: "Text"}, status=101, errors=(400, 403),
    ),
    _api("metrics", "What is known of each successful request.", answers={JSON: "List"}),
    _api(
        "activity", "Records of all requests, failed ones too.", *FILTER,
        Parameter("sort", "Name of a field; `-` before it reverses."),
        Parameter("cursor", "Where the page before ended."),
        Parameter("limit", "Records per page.", kind="integer"), errors=(400,),
    ),
    _api("activity/stats", "Sums, percentiles and histograms.", *FILTER, errors=(400,)),
    _api("swaps", "The last swaps."),
    _api("inflight", "The requests in flight."),
    Operation(
        "post", "/api/inflight/{id}/cancel", "api", "End a request in flight.",
        (NUMBER,), answers={JSON: "Done"}, errors=(404,),
    ),
    _api(
        "captures/{id}", "One request and its answer.", NUMBER, FORMATS["capture"],
        answers={JSON: "Anything", TEXT: "Text"}, errors=(400, 404),
    ),
    _api("performance", "Samples of host, GPUs and processes.", SINCE, errors=(400,)),
    _api("overview", "How every model fares, and how they are grouped."),
    _api("timeline", "The states of the last hours."),
    Operation(
        "get", "/metrics", "api", "Counters and gauges for Prometheus.", answers={TEXT: "Text"}
    ),
)  # fmt: skip

CONFIG = (
    _api("config/status", "Which configuration is in force, and what is wrong with the file now."),
    _api("config/file", "The file as it is on disk, secrets masked."),
    _api("config/plan", "What a reload would change."),
    Operation(
        "post", "/api/config/reload", "api", "Read the file again; 422 when it cannot be used.",
        answers={JSON: "Anything"}, errors=(422,),
    ),
)  # fmt: skip


def _file(path: str, about: str, *names: str) -> Operation:
    parameters = tuple(Parameter(name, "", "path", required=True) for name in names)
    errors = (301, 302, 304, 308, 404)
    return Operation("get", path, "ui", about, parameters, answers={ANY: "Anything"}, errors=errors)


UI = (
    Operation("get", "/", "ui", "To the interface.", status=302),
    Operation("get", "/ui", "ui", "The interface.", answers={HTML: "Text"}, errors=(301, 308)),
    _file("/ui/{page}", "To a page of the interface, or one of its files.", "page"),
    _file("/ui/static/{version}/{name}", "A file, which never changes.", "version", "name"),
    _file("/favicon.ico", "The icon."),
)

OPERATIONS = (*INFERENCE, *MODELS, *UPSTREAM, *HEALTH, *LOGS, *API, *CONFIG, *UI)
