"""Views of models: lists in OpenAI's and Anthropic's formats, running models, load and stop.

The documents that the views return follow below them.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any

from flask import Blueprint, Response, jsonify, request
from flask.typing import ResponseReturnValue
from msgspec import DecodeError, json

from llmsnap import __version__
from llmsnap.config import ModelConfig, PeerConfig
from llmsnap.errors import BadRequest, SleepNotConfigured
from llmsnap.http import ClientKey, masked
from llmsnap.models import LoadState, State
from llmsnap.proxy import read_body
from llmsnap.routing import (
    DurationStats,
    LocalRoute,
    ModelView,
    Route,
    SelectorRoute,
    TargetView,
)
from llmsnap.runtime import Runtime
from llmsnap.service import Service
from llmsnap.web.capabilities import CAPABILITY_MEMBERS, capability_members, speaks
from llmsnap.web.current import current_context, current_runtime, current_service, redirect_to

OWNER = "llmsnap"
OK = HTTPStatus.OK
MOST_CHOICE_BYTES = 64 * 1024
SPEECH_PATH = "/v1/audio/speech"
LOADED = frozenset({State.READY, State.SLEEP_PENDING})
SOON = frozenset({State.READY, State.STARTING, State.WAKING})

Record = dict[str, Any]

bp = Blueprint("models", __name__)


@bp.get("/v1/models")
@bp.get("/models")
@bp.get("/v/models")
def models() -> ResponseReturnValue:
    """List the models that the key may use, in OpenAI's format or, on request, Anthropic's too."""
    records = _catalog().records()
    page = _anthropic_page(records) if _is_anthropic() else {}
    return jsonify(object="list", data=records, **page)


@bp.get("/v1/models/<path:name>")
def model(name: str) -> ResponseReturnValue:
    """Return the record of one model, by any of its names."""
    route = current_runtime().names.resolve(name, current_context().request.key.may_use)
    record = _catalog().record(route)
    if _is_anthropic():
        _anthropic_page([record])
    return jsonify(record)


@bp.get("/v1/audio/models")
def audio_models() -> ResponseReturnValue:
    """List the models that can generate speech, under both keys that clients read."""
    voices = _voices()
    records = [record for record in _catalog().records() if record["id"] in voices]
    return jsonify(object="list", data=records, models=records)


@bp.get("/v1/audio/voices")
def audio_voices() -> ResponseReturnValue:
    """List the voices of all ready models; if a model is named, the dispatcher answers instead."""
    ready = current_service().ready_addresses()
    listed = [
        voice for model_id, found in _voices().items() if model_id in ready for voice in found
    ]
    return jsonify(voices=[voice for n, voice in enumerate(listed) if voice not in listed[:n]])


@bp.get("/running")
def running() -> ResponseReturnValue:
    """List every model that is not stopped."""
    response = jsonify(running=running_entries(current_service(), current_context().request.key))
    response.mimetype = "application/json"
    return response


@bp.get("/unload")
def unload_all() -> ResponseReturnValue:
    """Stop all models; answers when they are gone."""
    current_service().driver.unload(None, drain=_drain())
    return _ok()


@bp.post("/api/models/unload")
def api_unload_all() -> ResponseReturnValue:
    """Stop all models; answers when they are gone."""
    current_service().driver.unload(None, drain=_drain())
    return jsonify(msg="ok")


@bp.post("/api/models/unload/<path:name>")
def unload(name: str) -> ResponseReturnValue:
    """Stop one model; answers when it is gone."""
    current_service().driver.unload(_local_id(name), drain=_drain())
    return _ok()


@bp.post("/api/models/sleep/<path:name>")
def sleep(name: str) -> ResponseReturnValue:
    """Put one model to sleep; answers when it sleeps."""
    model_id = _local_id(name)
    try:
        current_service().driver.sleep(model_id, drain=request.args.get("drain") != "0")
    except SleepNotConfigured as error:
        if not current_runtime().config.models[model_id].can_sleep:
            raise
        why = "does not sleep any more: its answers after wakes were wrong, as the log says"
        raise SleepNotConfigured(f"{model_id} {why}") from error
    return _ok()


@bp.post("/api/models/load/<path:name>")
def load(name: str) -> ResponseReturnValue:
    """Make one model ready; answers when it is, or at once with ``?wait=0``."""
    wait = request.args.get("wait") != "0"
    current_service().load(_local_id(name), wait=wait)
    return _ok() if wait else (jsonify(msg="loading"), 202)


@bp.get("/props")
def props() -> ResponseReturnValue:
    """Return properties of a router without a model; clients then request ``/props?model=``."""
    return jsonify(
        role="router",
        models_autoload=True,
        model_alias="llmsnap",
        model_path="none",
        default_generation_settings={"params": {}, "n_ctx": 0},
        modalities={"vision": False, "audio": False},
        chat_template="",
        total_slots=0,
        build_info=f"llmsnap {__version__}",
    )


@bp.get("/api/selectors")
def selectors() -> ResponseReturnValue:
    """List the selectors that the key may use, with the state and the requests of each target."""
    runtime, may_use = current_runtime(), current_context().request.key.may_use
    known = current_service().dispatcher.selectors
    sessions = known.sessions.counts(known.clock())
    listed = [
        {
            "id": route.selector.id,
            "strategy": route.selector.strategy,
            "targets": [
                {**_target(view), "sessions": sessions[route.selector.id, view.target]}
                for view in known.views(route)
            ],
        }
        for route in runtime.names.selectors()
        if may_use(route.selector.id)
    ]
    return jsonify(selectors=listed)


@bp.get("/api/profiles")
def profiles() -> ResponseReturnValue:
    """List the profiles with those of their pins that the key may use."""
    runtime, may_use = current_runtime(), current_context().request.key.may_use
    listed = [
        {
            "id": profile.id,
            "description": profile.description,
            "pins": {pin: target for pin, target in profile.pins.items() if may_use(pin)},
        }
        for profile in runtime.config.profiles.values()
    ]
    return jsonify(active=runtime.profile or None, profiles=listed)


@bp.put("/api/profiles/active")
def activate_profile() -> ResponseReturnValue:
    """Activate the profile that the body names, whatever its Content-Type; none for null."""
    service = current_service()
    service.activate_profile(_profile_wanted())
    return jsonify(active=service.runtime.profile or None)


@bp.get("/upstream")
def upstream() -> ResponseReturnValue:
    """Redirect to the models page; paths below ``/upstream`` go to the dispatcher."""
    return redirect_to("/ui/#/models")


def _catalog() -> Catalog:
    return Catalog(current_service(), current_runtime(), current_context().request.key)


def _is_anthropic() -> bool:
    return "anthropic-version" in request.headers


def _voices() -> dict[str, list[Any]]:
    """Return the voices of the models with speech, by every name that the key may use.

    A model has speech if its ``capabilities`` declare it, or its server has listed voices or
    generated speech. Blocks: queries the servers that became ready since the last call.
    """
    service, runtime = current_service(), current_runtime()
    may_use = current_context().request.key.may_use
    ready = service.ready_addresses()
    service.voices.learn({model_id: at for model_id, at in ready.items() if may_use(model_id)})
    records = service.records()
    spoken = {one.model_id for one in records if one.path == SPEECH_PATH and one.status == OK}
    found: dict[str, list[Any]] = {}
    for model in runtime.config.models.values():
        voices = service.voices.of(model.id)
        if voices is None and model.id not in spoken and not speaks(model.capabilities):
            continue
        names = filter(may_use, (model.id, *model.aliases))
        found |= dict.fromkeys(names, voices or [])
    return found


def _local_id(name: str) -> str:
    names, may_use = current_runtime().names, current_context().request.key.may_use
    model_id = names.local_id(name)
    if model_id is None or not may_use(model_id):
        raise names.unknown(name, names.local_names(), may_use)
    return model_id


def _target(view: TargetView) -> Record:
    return {
        "target": view.target,
        "state": view.standing.value,
        "requests": view.count,
        "failures": view.failures,
        "retry_in_s": round(view.retry_in_s, 3),
    }


def _profile_wanted() -> str:
    """Return the name in the body, "" for none. Raises: BadRequest, TooLarge."""
    body = read_body(current_context().request, MOST_CHOICE_BYTES, "this route")
    try:
        given = json.decode(body)
    except (DecodeError, ValueError, RecursionError) as error:  # msgspec 0.18: no ValueError
        raise BadRequest('the body must be JSON such as {"name": "everyday"}') from error
    if not isinstance(given, dict) or "name" not in given:
        raise BadRequest('the body must be an object with `name`: {"name": "everyday"}', "name")
    name = given["name"]
    if not isinstance(name, str | None):
        raise BadRequest("`name` must be a text, or null for no profile", "name")
    return name or ""


def _drain() -> bool:
    return request.args.get("drain") == "1"


def _ok() -> Response:
    return Response("OK", mimetype="text/plain")


# --- documents ----------------------------------------------------------------------------------


class Catalog:
    """Builds the records of ``/v1/models`` that *key* may see."""

    def __init__(self, service: Service, runtime: Runtime, key: ClientKey) -> None:
        self._service = service
        self._config = runtime.config
        self._names = runtime.names
        self._key = key

    def records(self) -> list[Record]:
        """Return all listed models, by id; models of peers have their qualified names.

        With ``includeAliasesInList``, bare names that resolve to models of peers are included.
        """
        config, may_use = self._config, self._key.may_use
        records = self._of_peers()
        for model in config.models.values():
            for name in self._listed(model):
                if may_use(name) or may_use(model.id):
                    records[name] = self._of_model(name, model)
        records |= {
            route.requested: self._of_selector(route)
            for route in self._names.selectors()
            if may_use(route.requested) and not route.selector.unlisted
        }
        self._apply_pins(records)
        return [records[name] for name in sorted(records)]

    def _of_peers(self) -> dict[str, Record]:
        config, may_use = self._config, self._key.may_use
        records: dict[str, Record] = {}
        for peer in config.peers.values():
            for name in peer.models:
                qualified = f"{peer.id}/{name}"
                if not (may_use(name) or may_use(qualified)):
                    continue
                records[qualified] = self._of_peer(qualified, name, peer)
                is_hidden = name in config.models or name in config.aliases
                if config.include_aliases_in_list and not is_hidden:
                    records.setdefault(name, self._of_peer(name, name, peer))
        return records

    def _apply_pins(self, records: dict[str, Record]) -> None:
        """Add what the active profile pins and hides nothing; leave out what it disables."""
        profile, may_use = self._names.profile, self._key.may_use
        for pin, target in profile.pins.items() if profile is not None else ():
            if not target:
                records.pop(pin, None)
            elif may_use(pin) and not self._names.knows(pin):
                records[pin] = self._of_pin(pin, target)

    def _of_pin(self, pin: str, target: str) -> Record:
        served = self.record(self._names.resolve(pin))
        meta = {"type": "profile", "targets": [target]}
        own = {"id": pin, "meta": {**served["meta"], "llamaswap": meta}}
        left_out = ("name", "description")
        return {**{name: served[name] for name in served if name not in left_out}, **own}

    def record(self, route: Route) -> Record:
        """Return the record of the model that *route* resolves to, even if it is unlisted."""
        if isinstance(route, LocalRoute):
            return self._of_model(route.requested, route.model)
        if isinstance(route, SelectorRoute):
            return self._of_selector(route)
        return self._of_peer(route.requested, route.upstream_name, route.peer)

    def _listed(self, model: ModelConfig) -> list[str]:
        if model.unlisted:
            return []
        aliases = model.aliases if self._config.include_aliases_in_list else ()
        return [model.id, *(alias.strip() for alias in aliases)]

    def _of_model(self, name: str, model: ModelConfig) -> Record:
        title = model.name.strip()
        if title and name != model.id:
            title = f"{title} ({name})"  # model pickers show only the names
        meta: Record = {
            key: value
            for key, value in model.metadata.items()
            if not (model.capabilities and key in CAPABILITY_MEMBERS)
        }
        if name == model.id:
            aliases = {"aliases": list(model.aliases)} if model.aliases else {}
            meta |= {"type": "model", **aliases}
        else:
            meta |= {"type": "alias", "modelID": model.id}
        context = self._service.context_of(model)
        length = context.tokens if context is not None else None
        if context is not None:
            meta["context_source"] = context.source
        is_loaded = self._service.state(model.id) in LOADED
        return {
            **_record(name, self._service.began_at, title, model.description, meta, length),
            "status": {"value": "loaded" if is_loaded else "unloaded"},
            **capability_members(self._service.facts.capabilities(model), length),
        }

    def _of_selector(self, route: SelectorRoute) -> Record:
        selector = route.selector
        meta = {
            **selector.metadata,
            "type": "selector",
            "strategy": selector.strategy,
            "targets": list(selector.targets),
        }
        if selector.strategy == "spillover":
            meta["spillover"] = selector.spillover
        considered = list(route.targets.values())
        if selector.strategy == "pin":
            considered = considered[:1]
        local = (each.model.id for each in considered if isinstance(each, LocalRoute))
        is_loaded = any(self._service.state(model_id) in SOON for model_id in local)
        record = _record(
            selector.id, self._service.began_at, selector.name, selector.description, meta
        )
        return {**record, "status": {"value": "loaded" if is_loaded else "unloaded"}}

    def _of_peer(self, listed: str, name: str, peer: PeerConfig) -> Record:
        qualified = f"{peer.id}/{name}"
        if listed == qualified:
            title, meta = f"{peer.id}: {name}", {"type": "peer", "peerID": peer.id}
        else:
            title = f"{name} ({peer.id})"
            meta = {"type": "alias", "modelID": qualified, "peerID": peer.id}
        record = _record(listed, self._service.began_at, title, "", meta)
        return {**record, "status": {"value": "unloaded"}}


def _record(
    model_id: str,
    created: int,
    name: str,
    description: str,
    meta: Record,
    length: int | None = None,
) -> Record:
    record: Record = {
        "id": model_id,
        "object": "model",
        "created": created,
        "owned_by": OWNER,
    }
    if name.strip():
        record["name"] = name.strip()
    if description.strip():
        record["description"] = description.strip()
    return {**record, "meta": {"llamaswap": meta, **({"n_ctx": length} if length else {})}}


def _anthropic_page(records: list[Record]) -> Record:
    """Add the members of Anthropic's model list to *records*; return those of the page itself."""
    for record in records:
        created = datetime.fromtimestamp(record["created"], UTC)
        record |= {
            "type": "model",
            "display_name": record.get("name", record["id"]),
            "created_at": created.isoformat().replace("+00:00", "Z"),
        }
    ids = [record["id"] for record in records] or [None]
    return {"has_more": False, "first_id": ids[0], "last_id": ids[-1]}


def running_entries(service: Service, key: ClientKey) -> list[Record]:
    """Return the entries of ``/running`` that *key* may see: all models not stopped, by id.

    The command of a model is part of the configuration, which only an admin key may read; what its
    requests wait for names other models.
    """
    entries = []
    for view in service.models_now():
        state = service.state(view.model_id)
        if state is State.STOPPED and view.state is State.STARTING:
            state = view.state  # its load waits for memory
        if state in {State.STOPPED, State.SHUTDOWN} or not key.may_use(view.model_id):
            continue
        settings = service.process(view.model_id).settings
        entry: Record = {
            "model": view.model_id,
            "state": str(state),
            "cmd": masked(settings.cmd) if key.admin else "",
            "proxy": masked(settings.proxy) if key.admin else "",
            "ttl": int(settings.ttl_s),
            "name": settings.name,
            "description": settings.description,
        }
        process = service.process(view.model_id)
        why = view.why if key.admin else ""
        entry |= {"load": _load(process.load_state), "why": why}
        entry["sleep_off"] = service.checks.sleep_off(settings)
        place = place_document(service, settings)
        entries.append(entry | _now(view) | (place or {}))
    return entries


def place_document(service: Service, model: ModelConfig) -> Record | None:
    """Return where the server of a model on a cluster runs; None for one on this machine."""
    if not model.runs_on.is_remote:
        return None
    process = service.process(model.id)
    return {
        "launcher": model.launcher,
        "node": process.node,
        "phase": "placing" if process.is_placing else "",
        "engine": process.launcher_trouble,
    }


def _load(progress: LoadState | None) -> Record | None:
    """Return how far a load is; None while nothing is known of it, or the model does not load."""
    if progress is None or progress.percent is None:
        return None
    return {
        "percent": progress.percent,
        "loaded_bytes": progress.loaded_bytes,
        "total_bytes": progress.total_bytes,
        "bytes_per_s": round(progress.bytes_per_s),
    }


def _now(view: ModelView) -> Record:
    """Return the load of a model, and the durations of its recent transitions."""
    return {
        "since": round(time.time() - view.state_for_s, 3),
        "in_flight": view.in_flight,
        "waiting": view.waiting,
        "idle_in_s": None if view.rest_in_s is None else round(view.rest_in_s, 3),
        "durations": {
            "load": _durations(view.start),
            "wake": _durations(view.wake),
            "sleep": _durations(view.sleep),
            "stop": _durations(view.stop),
        },
    }


def _durations(stats: DurationStats) -> Record:
    def rounded(seconds: float | None) -> float | None:
        return None if seconds is None else round(seconds, 3)

    return {
        "count": stats.count,
        "last_s": rounded(stats.last_s),
        "p50_s": rounded(stats.p50_s),
        "p90_s": rounded(stats.p90_s),
    }
