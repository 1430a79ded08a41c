"""Views of sign-in: the web UI exchanges a key for a session, which its cookie stands for."""

from __future__ import annotations

from urllib.parse import urlsplit

from flask import Blueprint, Response, jsonify, request
from flask.typing import ResponseReturnValue

from llmsnap.http import NO_RIGHTS, ClientKey, session_ids, set_cookie
from llmsnap.web.current import current_context, current_runtime, current_service

bp = Blueprint("session", __name__)


@bp.get("/session")
def session() -> ResponseReturnValue:
    """Return whether keys are needed here, and the key of this request."""
    key = current_context().request.key
    return _answer(key)


@bp.post("/session")
def sign_in() -> ResponseReturnValue:
    """Open a session of the request's key."""
    key = current_context().request.key
    answer = _answer(key)
    if not current_runtime().keyring.open:
        _store(answer, current_service().sessions.open(key))
    return answer


@bp.delete("/session")
def sign_out() -> ResponseReturnValue:
    """End the session of this browser."""
    sessions = current_service().sessions
    for session_id in session_ids(
        request.headers.get("Cookie", ""), request.environ.get("HTTP_HOST", "")
    ):
        sessions.close(session_id)
    answer = _answer(NO_RIGHTS)
    _store(answer, "")
    return answer


def _store(answer: Response, session_id: str) -> None:
    # Browsers name their page with every POST; its scheme is right behind a proxy with TLS, too.
    origin = request.headers.get("Origin", "")
    secure = request.is_secure or urlsplit(origin).scheme == "https"
    answer.headers["Set-Cookie"] = set_cookie(
        session_id, request.environ.get("HTTP_HOST", ""), secure=secure
    )


def _answer(key: ClientKey) -> Response:
    required = not current_runtime().keyring.open
    answer = jsonify(
        required=required,
        key=key.name if required and key is not NO_RIGHTS else None,
        admin=key.admin,
    )
    answer.headers["Cache-Control"] = "no-store"
    return answer
