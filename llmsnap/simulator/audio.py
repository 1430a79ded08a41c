"""OpenAI's audio endpoints: speech, voices, transcriptions."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from hashlib import sha256

from llmsnap.simulator import tokens
from llmsnap.simulator.admission import require_model, think
from llmsnap.simulator.exchange import (
    Json,
    Refusal,
    Request,
    Response,
    data_response,
    event_stream,
    is_true,
    json_response,
    sse,
    text_response,
)
from llmsnap.simulator.files import SAMPLE_RATE, samples, wav
from llmsnap.simulator.multipart import FormPart, field, file, parse_form
from llmsnap.simulator.reply import extras, token_s
from llmsnap.simulator.route import Route
from llmsnap.simulator.state import State

VOICES = ("voice1", "voice2")
PIECE_BYTES = 4096


def speech(state: State, request: Request) -> Response:
    """Answer ``/v1/audio/speech`` with a tone: bare samples if asked for pcm, else a WAV.

    ``stream_format: sse`` makes it events that carry base64.
    """
    require_model(state, request.text("model") or state.options.model)
    if not request.json.get("input"):
        raise Refusal(400, "input is missing or empty")
    think(state, request)
    text = request.text("input")
    is_bare = request.text("response_format") == "pcm"
    sound = samples(text) if is_bare else wav(text)
    if request.text("stream_format") == "sse":
        return event_stream(_speech_frames(state, request, text, sound))
    return data_response(sound, "audio/pcm" if is_bare else "audio/wav")


def voices(state: State, request: Request) -> Response:
    """Answer ``/v1/audio/voices``; the model may stand in the query or in a JSON body."""
    model = request.text("model") or state.options.model
    require_model(state, model)
    return json_response({"voices": list(VOICES), "model": model} | extras(state, request))


def transcriptions(state: State, request: Request) -> Response:
    """Answer ``/v1/audio/transcriptions`` by telling what was uploaded.

    The form's ``stream`` makes it events, unless the format is not JSON: as with OpenAI's older
    models, it is ignored then.
    """
    parts = parse_form(request)
    sound = file(parts, "file")
    model = request.query.get("model") or field(parts, "model")
    if not model:
        raise Refusal(400, "model is missing")
    require_model(state, model)
    think(state, request)
    text = f"{sound.filename} has {len(sound.data)} bytes of {sound.content_type}, for {model}"
    form = field(parts, "response_format") or "json"
    if form == "text":
        return text_response(text + "\n")
    if form == "json" and (request.flag("stream") or is_true(field(parts, "stream"))):
        return event_stream(_transcript_frames(state, request, text))
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
        "usage": _usage(text),
    }
    if form == "verbose_json":
        body |= _verbose(parts, sound, text)
    return json_response(body)


def _usage(text: str) -> Json:
    """The tokens of a transcription, the sound being one of them."""
    used = tokens.count(text)
    return {
        "type": "tokens",
        "input_tokens": 1,
        "input_token_details": {"text_tokens": 0, "audio_tokens": 1},
        "output_tokens": used,
        "total_tokens": 1 + used,
    }


def _verbose(parts: list[FormPart], sound: FormPart, text: str) -> Json:
    """What ``verbose_json`` adds; its usage is a duration, in whole seconds."""
    duration_s = len(sound.data) / (2 * SAMPLE_RATE)
    return {
        "task": "transcribe",
        "language": field(parts, "language") or "english",
        "duration": duration_s,
        "segments": [{"id": 0, "start": 0.0, "end": duration_s, "text": text}],
        "usage": {"type": "duration", "seconds": max(1, round(duration_s))},
    }


def _transcript_frames(state: State, request: Request, text: str) -> Iterator[bytes]:
    for piece in tokens.split(text):
        request.client.wait(token_s(state, request))
        yield sse({"type": "transcript.text.delta", "delta": piece})
    yield sse({"type": "transcript.text.done", "text": text, "usage": _usage(text)})


def _speech_frames(state: State, request: Request, text: str, sound: bytes) -> Iterator[bytes]:
    pieces = [sound[n : n + PIECE_BYTES] for n in range(0, len(sound), PIECE_BYTES)]
    for piece in pieces:
        request.client.wait(token_s(state, request))
        yield sse({"type": "speech.audio.delta", "audio": base64.b64encode(piece).decode()})
    asked = tokens.count(text)
    used = {"input_tokens": asked, "output_tokens": len(pieces)}
    yield sse({"type": "speech.audio.done", "usage": {**used, "total_tokens": asked + len(pieces)}})


ROUTES = (
    Route("/v1/audio/speech", speech, inference=True),
    Route("/v1/audio/voices", voices, ("GET", "POST"), inference=True),
    Route("/v1/audio/transcriptions", transcriptions, inference=True),
)
