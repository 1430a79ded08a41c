"""Audio and image endpoints: OpenAI's, and those of the Stable Diffusion web UI."""

from __future__ import annotations

import base64
import json
import math
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from time import time

from llmsnap.simulator.exchange import (
    Json,
    Refusal,
    SimFormPart,
    SimRequest,
    SimResponse,
    data_response,
    event_stream,
    form_field,
    form_file,
    is_true,
    json_response,
    parse_form,
    sse,
    text_response,
)
from llmsnap.simulator.reply import count_tokens, extras, split_tokens, token_s
from llmsnap.simulator.routes import GET, Route, require_model, think
from llmsnap.simulator.state import SimState

SAMPLE_RATE = 8000
SIDE = 8


def samples(text: str) -> bytes:
    """Return a tone as 16-bit samples: 50 ms per character of *text*, at most 2 s."""
    pitch = 200 + zlib.crc32(text.encode("utf-8", "replace")) % 400
    length = SAMPLE_RATE * min(len(text) + 1, 40) // 20
    step = 2 * math.pi * pitch / SAMPLE_RATE
    return struct.pack(f"<{length}h", *(int(8000 * math.sin(step * n)) for n in range(length)))


def wav(text: str) -> bytes:
    """Return the tone of *text* as a WAV file, mono."""
    data = samples(text)
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, SAMPLE_RATE, SAMPLE_RATE * 2, 2, 16)
    body = b"WAVE" + form + b"data" + struct.pack("<I", len(data)) + data
    return b"RIFF" + struct.pack("<I", len(body)) + body


def png(text: str) -> bytes:
    """Return a square PNG whose colour depends on *text*."""
    colour = zlib.crc32(text.encode("utf-8", "replace")).to_bytes(4, "big")[:3]
    rows = (b"\0" + colour * SIDE) * SIDE
    header = struct.pack(">IIBBBBB", SIDE, SIDE, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, data) for kind, data in chunks)


def _chunk(kind: bytes, data: bytes) -> bytes:
    check = struct.pack(">I", zlib.crc32(kind + data))
    return struct.pack(">I", len(data)) + kind + data + check


VOICES = ("voice1", "voice2")
PIECE_BYTES = 4096


def speech(state: SimState, request: SimRequest) -> SimResponse:
    """Answer ``/v1/audio/speech`` with a tone: raw samples for format pcm, else a WAV file.

    ``stream_format: sse`` sends events with base64 data.
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


def voices(state: SimState, request: SimRequest) -> SimResponse:
    """Answer ``/v1/audio/voices``; the model may be in the query or in a JSON body."""
    model = request.text("model") or state.options.model
    require_model(state, model)
    return json_response({"voices": list(VOICES), "model": model} | extras(state, request))


def transcriptions(state: SimState, request: SimRequest) -> SimResponse:
    """Answer ``/v1/audio/transcriptions`` with a description of the upload.

    The form's ``stream`` sends events. For formats other than JSON it is ignored, as by OpenAI's
    older models.
    """
    parts = parse_form(request)
    sound = form_file(parts, "file")
    model = request.query.get("model") or form_field(parts, "model")
    if not model:
        raise Refusal(400, "model is missing")
    require_model(state, model)
    think(state, request)
    text = f"{sound.filename} has {len(sound.data)} bytes of {sound.content_type}, for {model}"
    form = form_field(parts, "response_format") or "json"
    if form == "text":
        return text_response(text + "\n")
    if form == "json" and (request.flag("stream") or is_true(form_field(parts, "stream"))):
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
        "usage": _transcript_usage(text),
    }
    if form == "verbose_json":
        body |= _verbose(parts, sound, text)
    return json_response(body)


def _transcript_usage(text: str) -> Json:
    """Return the token counts of a transcription; the sound counts as one token."""
    used = count_tokens(text)
    return {
        "type": "tokens",
        "input_tokens": 1,
        "input_token_details": {"text_tokens": 0, "audio_tokens": 1},
        "output_tokens": used,
        "total_tokens": 1 + used,
    }


def _verbose(parts: list[SimFormPart], sound: SimFormPart, text: str) -> Json:
    """Return the members that ``verbose_json`` adds; usage is a duration in whole seconds."""
    duration_s = len(sound.data) / (2 * SAMPLE_RATE)
    return {
        "task": "transcribe",
        "language": form_field(parts, "language") or "english",
        "duration": duration_s,
        "segments": [{"id": 0, "start": 0.0, "end": duration_s, "text": text}],
        "usage": {"type": "duration", "seconds": max(1, round(duration_s))},
    }


def _transcript_frames(state: SimState, request: SimRequest, text: str) -> Iterator[bytes]:
    for piece in split_tokens(text):
        request.client.wait(token_s(state, request))
        yield sse({"type": "transcript.text.delta", "delta": piece})
    yield sse({"type": "transcript.text.done", "text": text, "usage": _transcript_usage(text)})


def _speech_frames(
    state: SimState, request: SimRequest, text: str, sound: bytes
) -> Iterator[bytes]:
    pieces = [sound[n : n + PIECE_BYTES] for n in range(0, len(sound), PIECE_BYTES)]
    for piece in pieces:
        request.client.wait(token_s(state, request))
        yield sse({"type": "speech.audio.delta", "audio": base64.b64encode(piece).decode()})
    asked = count_tokens(text)
    used = {"input_tokens": asked, "output_tokens": len(pieces)}
    yield sse({"type": "speech.audio.done", "usage": {**used, "total_tokens": asked + len(pieces)}})


_AUDIO_ROUTES = (
    Route("/v1/audio/speech", speech, inference=True),
    Route("/v1/audio/voices", voices, ("GET", "POST"), inference=True),
    Route("/v1/audio/transcriptions", transcriptions, inference=True),
    Route("/v1/audio/translations", transcriptions, inference=True),
)


PARTIAL_LIMIT = 3


@dataclass(frozen=True, slots=True)
class _Stream:
    """The events of *count* images of *kind*: for each, *partial* previews, then the image."""

    kind: str
    prompt: str
    count: int
    partial: int

    def frames(self, state: SimState, request: SimRequest) -> Iterator[bytes]:
        """Yield the events at the speed of tokens. Blocks; raises ClientLeft."""
        about = {"created_at": int(time()), "size": "1024x1024", "quality": "high"}
        about |= {"background": "opaque", "output_format": "png"}
        for _ in range(self.count):
            for index in range(min(self.partial, PARTIAL_LIMIT)):
                yield self._frame(
                    state, request, "partial_image", partial_image_index=index, **about
                )
            usage = _image_usage(self.prompt, 1)
            yield self._frame(state, request, "completed", usage=usage, **about)

    def _frame(self, state: SimState, request: SimRequest, name: str, **members: object) -> bytes:
        request.client.wait(token_s(state, request))
        kind = f"{self.kind}.{name}"
        return sse({"type": kind, "b64_json": _encoded(self.prompt), **members}, event=kind)


def generations(state: SimState, request: SimRequest) -> SimResponse:
    """Answer ``/v1/images/generations``."""
    require_model(state, request.text("model") or state.options.model)
    prompt = request.text("prompt")
    if not prompt:
        raise Refusal(400, "prompt is missing or empty")
    count = int(request.number("n", 1))
    think(state, request)
    if request.flag("stream"):
        partial = int(request.number("partial_images"))
        stream = _Stream("image_generation", prompt, count, partial)
        return event_stream(stream.frames(state, request))
    as_url = request.text("response_format") == "url"
    image = _image(prompt, prompt, as_url=as_url)
    body = {"created": int(time()), "data": [image] * count, "usage": _image_usage(prompt, count)}
    return json_response(body | extras(state, request))


def edits(state: SimState, request: SimRequest) -> SimResponse:
    """Answer ``/v1/images/edits`` with an image and a description of the upload."""
    parts = parse_form(request)
    source = form_file(parts, "image", "image[]")
    model = request.query.get("model") or form_field(parts, "model") or state.options.model
    require_model(state, model)
    think(state, request)
    prompt = form_field(parts, "prompt")
    if request.flag("stream") or is_true(form_field(parts, "stream")):
        stream = _Stream("image_edit", prompt, 1, _count(parts, "partial_images"))
        return event_stream(stream.frames(state, request))
    told = f"{source.filename} has {len(source.data)} bytes of {source.content_type}, for {model}"
    as_url = form_field(parts, "response_format") == "url"
    image = _image(prompt, f"{prompt}; {told}", as_url=as_url)
    body = {
        "created": int(time()),
        "model": model,
        "data": [image],
        "usage": _image_usage(prompt, 1),
    }
    return json_response(body)


def sd_images(state: SimState, request: SimRequest) -> SimResponse:
    """Answer ``/sdapi/v1/txt2img`` and ``img2img``."""
    body = request.json
    think(state, request)
    prompt = request.text("prompt")
    images = [_encoded(prompt)] * int(request.number("batch_size", 1))
    info = json.dumps({"prompt": prompt, "seed": 1})
    answer = {"images": images, "parameters": body, "info": info}
    return json_response(answer | extras(state, request))


def sd_loras(state: SimState, request: SimRequest) -> SimResponse:
    """Answer ``/sdapi/v1/loras``."""
    del request
    name = f"{state.options.model}-lora"
    path = f"/simulated/{name}.safetensors"
    return json_response([{"name": name, "alias": name, "path": path, "metadata": {}}])


def _count(parts: list[SimFormPart], name: str) -> int:
    """Return the number in field *name*, 0 if absent. Raises Refusal 400 if invalid."""
    text = form_field(parts, name) or "0"
    if not (text.isascii() and text.isdigit() and len(text) < 9):
        raise Refusal(400, f"{name} is not a number of at least 0: {text!r}")
    return int(text)


def _image_usage(prompt: str, images: int) -> Json:
    asked = count_tokens(prompt)
    return {
        "input_tokens": asked,
        "input_tokens_details": {"text_tokens": asked, "image_tokens": 0},
        "output_tokens": images,
        "total_tokens": asked + images,
    }


def _image(seed: str, revised_prompt: str, *, as_url: bool) -> dict[str, str]:
    data = _encoded(seed)
    picture = {"url": f"data:image/png;base64,{data}"} if as_url else {"b64_json": data}
    return {**picture, "revised_prompt": revised_prompt}


def _encoded(seed: str) -> str:
    return base64.b64encode(png(seed)).decode()


_IMAGE_ROUTES = (
    Route("/v1/images/generations", generations, inference=True),
    Route("/v1/images/edits", edits, inference=True),
    Route("/sdapi/v1/txt2img", sd_images, inference=True),
    Route("/sdapi/v1/img2img", sd_images, inference=True),
    Route("/sdapi/v1/loras", sd_loras, GET, inference=True),
)

ROUTES = (*_AUDIO_ROUTES, *_IMAGE_ROUTES)
