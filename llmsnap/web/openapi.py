"""The OpenAPI 3.1 document of the HTTP API."""

from __future__ import annotations

from functools import cache
from http import HTTPStatus
from typing import Any

from flask import Blueprint, jsonify
from flask.typing import ResponseReturnValue

from llmsnap import __version__
from llmsnap.http import JSON, ROUTES, HttpRoute, Parameter, is_keyless, is_open, needs_admin
from llmsnap.routing import Standing

bp = Blueprint("openapi", __name__)

Document = dict[str, Any]

STRING: Document = {"type": "string"}
NAME_OR_NULL: Document = {"type": ["string", "null"]}
NUMBER: Document = {"type": "number"}
DURATIONS: Document = {
    "type": "object",
    "properties": {
        "count": {"type": "integer"},
        **{name: {"type": ["number", "null"]} for name in ("last_s", "p50_s", "p90_s")},
    },
}


def _object(*required: str, **properties: Document) -> Document:
    return {"type": "object", "required": list(required), "properties": properties}


SCHEMAS: Document = {
    "Anything": {},
    "Text": STRING,
    "Ok": {"type": "string", "enum": ["OK"]},
    "Done": _object("msg", msg=STRING),
    "List": {"type": "array"},
    "ModelRequest": _object(
        "model",
        model={**STRING, "description": "Id, alias, a peer's model, or <peer>/<model>."},
        stream={"type": "boolean"},
    ),
    "ModelForm": _object("model", model=STRING, file={"type": "string", "format": "binary"}),
    "Model": _object(
        *("id", "object", "created", "owned_by"),
        id=STRING,
        object={"const": "model"},
        created={"type": "integer"},
        owned_by=STRING,
        name=STRING,
        description=STRING,
        meta=_object(llamaswap={"type": "object"}),
        status=_object("value", value={"enum": ["loaded", "unloaded"]}),
        context_length={"type": "integer"},
    ),
    "ModelList": _object(
        *("object", "data"),
        object={"const": "list"},
        data={"type": "array", "items": {"$ref": "#/components/schemas/Model"}},
    ),
    "Running": _object(
        *("model", "state", "cmd", "proxy", "ttl", "name", "description"),
        model=STRING,
        state=STRING,
        cmd=STRING,
        proxy=STRING,
        ttl={"type": "integer"},
        name=STRING,
        description=STRING,
        since={**NUMBER, "description": "Unix seconds."},
        in_flight={"type": "integer"},
        waiting={"type": "integer"},
        why=STRING,
        idle_in_s={"type": ["number", "null"]},
        durations=_object(**dict.fromkeys(("load", "wake", "sleep", "stop"), DURATIONS)),
    ),
    "RunningList": _object(
        "running", running={"type": "array", "items": {"$ref": "#/components/schemas/Running"}}
    ),
    "SelectorList": _object(
        "selectors",
        selectors={
            "type": "array",
            "items": _object(
                *("id", "strategy", "targets"),
                id=STRING,
                strategy=STRING,
                targets={
                    "type": "array",
                    "items": _object(
                        *("target", "state", "requests", "failures", "retry_in_s"),
                        target=STRING,
                        state={"enum": [standing.value for standing in Standing]},
                        requests={"type": "integer"},
                        failures={"type": "integer"},
                        retry_in_s=NUMBER,
                    ),
                },
            ),
        },
    ),
    "ProfileList": _object(
        *("active", "profiles"),
        active=NAME_OR_NULL,
        profiles={
            "type": "array",
            "items": _object(
                *("id", "description", "pins"),
                id=STRING,
                description=STRING,
                pins={"type": "object", "additionalProperties": STRING},
            ),
        },
    ),
    "ProfileChoice": _object("name", name=NAME_OR_NULL),
    "ActiveProfile": _object("active", active=NAME_OR_NULL),
    "Version": _object(
        *("build_date", "commit", "version"), build_date=STRING, commit=STRING, version=STRING
    ),
    "Session": _object(
        *("required", "key", "admin"),
        required={"type": "boolean", "description": "Whether API keys are configured."},
        key={**NAME_OR_NULL, "description": "Name of the key; null without a key."},
        admin={"type": "boolean"},
    ),
    "Error": _object(
        "error",
        error=_object(
            *("message", "type"),
            message=STRING,
            type=STRING,
            param={"type": ["string", "null"]},
            code={"type": ["string", "null"]},
        ),
        type={**STRING, "description": "`error`, on the routes of Anthropic's API."},
    ),
}
ABOUT = """\
One address in front of many inference servers: the model a request names is started, woken or
swapped in on demand. HEAD is answered where GET is, OPTIONS everywhere. A key may stand in
`Authorization: Bearer`, in `x-api-key`, or be the password of Basic credentials; keys are needed
only where the configuration has some. Errors are JSON in OpenAI's shape, on the Messages API in
Anthropic's, and plain text for clients that prefer it.
"""
WHY = {
    400: "The request is malformed, or names no model.",
    401: "No key, or a wrong one.",
    403: "The key or the origin does not permit this.",
    404: "No such model or path.",
    405: "Method not allowed; `Allow` lists those that are.",
    409: "The model is not ready and may not be loaded for this, or cannot sleep.",
    408: "No data of the body arrived for a minute.",
    413: "The body is larger than the configuration allows; the message names the setting.",
    415: "The body has an unsupported content encoding.",
    421: "The Host header names a host that is not in allowedHosts (only without keys).",
    422: "The configuration cannot be used.",
    429: "A limit of requests (see `concurrencyLimit`) is reached; retry after `Retry-After`.",
    500: "A bug; see the log.",
    502: "The model could not be loaded, or did not answer; the message says why.",
    503: "Shutting down, unloaded meanwhile, waited too long, or too many bodies are held; see "
    "`Retry-After`.",
    504: "The model did not answer in the configured time.",
}


@bp.get("/api/openapi.json")
def openapi() -> ResponseReturnValue:
    """Return the OpenAPI document as JSON."""
    return jsonify(document())


@cache
def document() -> Document:
    """Return the OpenAPI document."""
    paths: Document = {}
    for route in ROUTES:
        for method in route.methods:
            paths.setdefault(route.path, {})[method.lower()] = _operation(method, route)
    return {
        "openapi": "3.1.0",
        "info": {"title": "llmsnap", "version": __version__, "description": ABOUT},
        "paths": paths,
        "security": [{"bearer": []}, {"basic": []}, {"header": []}],
        "components": {
            "schemas": SCHEMAS,
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "basic": {"type": "http", "scheme": "basic"},
                "header": {"type": "apiKey", "in": "header", "name": "x-api-key"},
            },
        },
    }


def _operation(method: str, route: HttpRoute) -> Document:
    described: Document = {
        "tags": [route.tag],
        "summary": route.summary,
        "parameters": [_parameter(one) for one in route.parameters],
        "responses": _responses(route),
    }
    if route.sends:
        described["requestBody"] = {
            "required": route.sends != "*/*",
            "content": {route.sends: {"schema": _ref(route.takes)}},
        }
    if is_open(route.path) or is_keyless(method, route.path):
        described["security"] = []
    if needs_admin(method, route.path):
        described["x-needs-admin"] = True
    return described


def _responses(route: HttpRoute) -> Document:
    content = {media: {"schema": _ref(name)} for media, name in route.answers.items()}
    first: Document = {"description": _phrase(route.status)}
    responses: Document = {str(route.status): first | ({"content": content} if content else {})}
    usual = () if is_open(route.path) else (401, 403, 421)  # 401: also for a key that is wrong
    for status in sorted({*usual, *route.errors, 405, 500}):
        responses[str(status)] = _error(status)
    if route.passes:
        responses["default"] = {"description": "The response of the model.", "content": {"*/*": {}}}
    return responses


def _error(status: int) -> Document:
    if status < 400:
        return {"description": _phrase(status)}
    content = {JSON: {"schema": _ref("Error")}, "text/plain": {"schema": STRING}}
    return {"description": WHY[status], "content": content}


def _phrase(status: int) -> str:
    return HTTPStatus(status).phrase


def _parameter(parameter: Parameter) -> Document:
    schema: Document = {"type": parameter.kind}
    if parameter.choices:
        schema["enum"] = list(parameter.choices)
    return {
        "name": parameter.name,
        "in": parameter.place,
        "required": parameter.required,
        "description": parameter.about,
        "schema": schema,
    }


def _ref(name: str) -> Document:
    return {"$ref": f"#/components/schemas/{name}"}
