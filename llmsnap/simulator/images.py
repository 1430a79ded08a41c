"""Image endpoints: OpenAI's, and those of the Stable Diffusion web UI."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from dataclasses import dataclass
from time import time

from llmsnap.simulator import tokens
from llmsnap.simulator.admission import require_model, think
from llmsnap.simulator.exchange import (
    Json,
    Refusal,
    Request,
    Response,
    event_stream,
    is_true,
    json_response,
    sse,
)
from llmsnap.simulator.files import png
from llmsnap.simulator.multipart import FormPart, field, file, parse_form
from llmsnap.simulator.reply import extras, token_s
from llmsnap.simulator.route import GET, Route
from llmsnap.simulator.state import State

PARTIAL_LIMIT = 3


@dataclass(frozen=True, slots=True)
class _Stream:
    """The events of *count* images of *kind*: *partial* previews, then the whole, of each."""

    kind: str
    prompt: str
    count: int
    partial: int

    def frames(self, state: State, request: Request) -> Iterator[bytes]:
        """Yield them at the pace of tokens. Blocks; raises ClientGone."""
        about = {"created_at": int(time()), "size": "1024x1024", "quality": "high"}
        about |= {"background": "opaque", "output_format": "png"}
        for _ in range(self.count):
            for index in range(min(self.partial, PARTIAL_LIMIT)):
                yield self._frame(
                    state, request, "partial_image", partial_image_index=index, **about
                )
            usage = _usage(self.prompt, 1)
            yield self._frame(state, request, "completed", usage=usage, **about)

    def _frame(self, state: State, request: Request, name: str, **members: object) -> bytes:
        request.client.wait(token_s(state, request))
        kind = f"{self.kind}.{name}"
        return sse({"type": kind, "b64_json": _encoded(self.prompt), **members}, event=kind)


def generations(state: State, request: Request) -> Response:
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
    body = {"created": int(time()), "data": [image] * count, "usage": _usage(prompt, count)}
    return json_response(body | extras(state, request))


def edits(state: State, request: Request) -> Response:
    """Answer ``/v1/images/edits`` with an image, and tell what was uploaded."""
    parts = parse_form(request)
    source = file(parts, "image", "image[]")
    model = request.query.get("model") or field(parts, "model") or state.options.model
    require_model(state, model)
    think(state, request)
    prompt = field(parts, "prompt")
    if request.flag("stream") or is_true(field(parts, "stream")):
        stream = _Stream("image_edit", prompt, 1, _count(parts, "partial_images"))
        return event_stream(stream.frames(state, request))
    told = f"{source.filename} has {len(source.data)} bytes of {source.content_type}, for {model}"
    as_url = field(parts, "response_format") == "url"
    image = _image(prompt, f"{prompt}; {told}", as_url=as_url)
    body = {"created": int(time()), "model": model, "data": [image], "usage": _usage(prompt, 1)}
    return json_response(body)


def sd_images(state: State, request: Request) -> Response:
    """Answer ``/sdapi/v1/txt2img`` and ``img2img``."""
    body = request.json
    think(state, request)
    prompt = request.text("prompt")
    images = [_encoded(prompt)] * int(request.number("batch_size", 1))
    info = json.dumps({"prompt": prompt, "seed": 1})
    answer = {"images": images, "parameters": body, "info": info}
    return json_response(answer | extras(state, request))


def sd_loras(state: State, request: Request) -> Response:
    """Answer ``/sdapi/v1/loras``."""
    del request
    name = f"{state.options.model}-lora"
    path = f"/simulated/{name}.safetensors"
    return json_response([{"name": name, "alias": name, "path": path, "metadata": {}}])


def _count(parts: list[FormPart], name: str) -> int:
    """The number in field *name*, 0 without it. Raises Refusal 400 when it is none."""
    text = field(parts, name) or "0"
    if not (text.isascii() and text.isdigit() and len(text) < 9):
        raise Refusal(400, f"{name} is not a number of at least 0: {text!r}")
    return int(text)


def _usage(prompt: str, images: int) -> Json:
    asked = tokens.count(prompt)
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


ROUTES = (
    Route("/v1/images/generations", generations, inference=True),
    Route("/v1/images/edits", edits, inference=True),
    Route("/sdapi/v1/txt2img", sd_images, inference=True),
    Route("/sdapi/v1/img2img", sd_images, inference=True),
    Route("/sdapi/v1/loras", sd_loras, GET, inference=True),
)
