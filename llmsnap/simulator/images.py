"""Image endpoints: OpenAI's, and those of the Stable Diffusion web UI."""

from __future__ import annotations

import base64
import json
from time import time

from llmsnap.simulator.admission import require_model, think
from llmsnap.simulator.exchange import Refusal, Request, Response, json_response
from llmsnap.simulator.files import png
from llmsnap.simulator.multipart import field, file, parse_form
from llmsnap.simulator.reply import extras
from llmsnap.simulator.route import GET, Route
from llmsnap.simulator.state import State


def generations(state: State, request: Request) -> Response:
    """Answer ``/v1/images/generations``."""
    require_model(state, request.text("model") or state.options.model)
    prompt = request.text("prompt")
    if not prompt:
        raise Refusal(400, "prompt is missing or empty")
    think(state, request)
    as_url = request.text("response_format") == "url"
    image = _image(prompt, prompt, as_url=as_url)
    body = {"created": int(time()), "data": [image] * int(request.number("n", 1))}
    return json_response(body | extras(state, request))


def edits(state: State, request: Request) -> Response:
    """Answer ``/v1/images/edits`` with an image, and tell what was uploaded."""
    parts = parse_form(request)
    source = file(parts, "image", "image[]")
    model = request.query.get("model") or field(parts, "model") or state.options.model
    require_model(state, model)
    think(state, request)
    prompt = field(parts, "prompt")
    told = f"{source.filename} has {len(source.data)} bytes of {source.content_type}, for {model}"
    as_url = field(parts, "response_format") == "url"
    image = _image(prompt, f"{prompt}; {told}", as_url=as_url)
    return json_response({"created": int(time()), "model": model, "data": [image]})


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
