"""OpenAI's audio endpoints: speech, voices, transcriptions."""

from __future__ import annotations

from hashlib import sha256

from llmsnap.simulator import tokens
from llmsnap.simulator.admission import require_model, think
from llmsnap.simulator.exchange import (
    Refusal,
    Request,
    Response,
    data_response,
    json_response,
    text_response,
)
from llmsnap.simulator.files import samples, wav
from llmsnap.simulator.multipart import field, file, parse_form
from llmsnap.simulator.reply import extras
from llmsnap.simulator.route import Route
from llmsnap.simulator.state import State

VOICES = ("voice1", "voice2")


def speech(state: State, request: Request) -> Response:
    """Answer ``/v1/audio/speech`` with a tone: bare samples if asked for pcm, else a WAV."""
    require_model(state, request.text("model") or state.options.model)
    if not request.json.get("input"):
        raise Refusal(400, "input is missing or empty")
    think(state, request)
    text = request.text("input")
    if request.text("response_format") == "pcm":
        return data_response(samples(text), "audio/pcm")
    return data_response(wav(text), "audio/wav")


def voices(state: State, request: Request) -> Response:
    """Answer ``/v1/audio/voices``; the model may stand in the query or in a JSON body."""
    model = request.text("model") or state.options.model
    require_model(state, model)
    return json_response({"voices": list(VOICES), "model": model} | extras(state, request))


def transcriptions(state: State, request: Request) -> Response:
    """Answer ``/v1/audio/transcriptions`` by telling what was uploaded."""
    parts = parse_form(request)
    sound = file(parts, "file")
    model = request.query.get("model") or field(parts, "model")
    if not model:
        raise Refusal(400, "model is missing")
    require_model(state, model)
    think(state, request)
    text = f"{sound.filename} has {len(sound.data)} bytes of {sound.content_type}, for {model}"
    if field(parts, "response_format") == "text":
        return text_response(text + "\n")
    used = {"type": "tokens", "input_tokens": 1, "output_tokens": tokens.count(text)}
    body = {
        "text": text,
        "model": model,
        "filename": sound.filename,
        "file_bytes": len(sound.data),
        "file_content_type": sound.content_type,
        "file_sha256": sha256(sound.data).hexdigest(),
        "fields": [[part.name, part.text] for part in parts if not part.filename],
        "h_content_type": request.header("Content-Type"),
        "h_content_length": request.header("Content-Length"),
        "usage": {**used, "total_tokens": 1 + tokens.count(text)},
    }
    return json_response(body)


ROUTES = (
    Route("/v1/audio/speech", speech, inference=True),
    Route("/v1/audio/voices", voices, ("GET", "POST"), inference=True),
    Route("/v1/audio/transcriptions", transcriptions, inference=True),
)
