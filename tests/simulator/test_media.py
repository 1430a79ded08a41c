"""Audio and images of the simulator."""

import io
import struct
import wave
import zlib
from base64 import b64decode, b64encode
from hashlib import sha256

import pytest

from llmsnap.simulator import media
from llmsnap.simulator.media import png, samples, wav
from tests.simulator.conftest import cut

SPEECH, TEXTS, IMAGES = "/v1/audio/speech", "/v1/audio/transcriptions", "/v1/images/generations"
FORM = 'multipart/form-data; boundary="xx"'
PNG = b64encode(png("a cat")).decode()


def test_the_sound_is_a_wav_and_as_long_as_its_text_up_to_a_limit():
    with wave.open(io.BytesIO(wav("hello"))) as sound:
        assert (sound.getnchannels(), sound.getsampwidth()) == (1, 2)
        assert sound.getframerate() == media.SAMPLE_RATE
        assert sound.readframes(sound.getnframes()) == samples("hello")
    assert len(samples("hello")) > len(samples("hi"))
    assert len(samples("x" * 1000)) == media.SAMPLE_RATE * 2 * 2


def test_the_picture_is_a_png_of_its_prompt():
    data = png("a")
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    kinds, stream = [], io.BytesIO(data[8:])
    while head := stream.read(4):
        chunk = stream.read(4 + struct.unpack(">I", head)[0])
        assert struct.unpack(">I", stream.read(4)) == (zlib.crc32(chunk),)
        kinds.append(chunk[:4])
    assert kinds == [b"IHDR", b"IDAT", b"IEND"]
    assert png("a") == data != png("b")


def form(name, filename, kind, data, **fields):
    """A form with a file."""
    head = '--xx\r\nContent-Disposition: form-data; name="{}"'.format
    parts = [f"{head(field)}\r\n\r\n{value}\r\n" for field, value in fields.items()]
    file = (
        f'{head(name)}; filename="{filename}"\r\nContent-Type: {kind}\r\n\r\n{data}\r\n--xx--\r\n'
    )
    return f"{''.join(parts)}{file}".encode()


def transcribe(sim, path=TEXTS, **fields):
    return sim.post(
        path, form("file", "a.wav", "audio/wav", "sound", **fields), **{"Content-Type": FORM}
    )


def edit(sim, **fields):
    body = form("image", "a.png", "image/png", "1234", prompt="a cat", **fields)
    return sim.post("/v1/images/edits?model=m", body, **{"Content-Type": FORM})


@pytest.mark.parametrize("form", ["", "wav", "pcm"])
def test_speech_is_sound_of_the_form_asked_for_or_events(sim, form):
    whole = samples if form == "pcm" else wav
    body = {"input": "hello", **({"response_format": form} if form else {})}
    answer = sim.post(SPEECH, body)
    assert answer.headers["Content-Type"] == f"audio/{form or 'wav'}"
    assert answer.body == whole("hello")
    *deltas, (_, done) = sim.post(SPEECH, {**body, "stream_format": "sse"}).events
    assert {event["type"] for _, event in deltas} == {"speech.audio.delta"}
    assert b"".join(b64decode(event["audio"]) for _, event in deltas) == whole("hello")
    assert (done["type"], done["usage"]["total_tokens"]) == ("speech.audio.done", 1 + len(deltas))


@pytest.mark.parametrize("stream", ["false", "true"])
def test_a_transcription_can_be_plain_text_which_is_not_streamed(sim, stream):
    answer = transcribe(sim, model="m", response_format="text", stream=stream)
    assert answer.headers["Content-Type"].startswith("text/plain")
    assert answer.text == "a.wav has 5 bytes of audio/wav, for m\n"


def test_a_transcription_needs_a_model_and_a_form(sim):
    assert transcribe(sim, f"{TEXTS}?model=q").json["model"] == "q"
    assert transcribe(sim).status == 400
    for kind in ("application/json", "multipart/form-data; boundary=yy"):
        body = form("file", "a.wav", "audio/wav", "sound", model="m")
        assert sim.post(TEXTS, body, **{"Content-Type": kind}).status == 400


def test_lists(sim):
    assert "voice1" in sim.get("/v1/audio/voices").json["voices"]
    assert sim.get("/v1/audio/voices?model=m").json["model"] == "m"
    assert sim.post("/v1/audio/voices", {"model": "m"}).json["model"] == "m"
    assert sim.get("/sdapi/v1/loras").json[0]["name"] == "simulated-lora"


def test_a_transcription_tells_what_arrived(sim):
    fields = {"model": "m", "language": "en"}
    answer = transcribe(sim, **fields).json
    expected = {
        "text": "a.wav has 5 bytes of audio/wav, for m",
        "model": "m",
        "file_bytes": 5,
        "file_sha256": sha256(b"sound").hexdigest(),
        "fields": [list(each) for each in fields.items()],
        "h_content_type": FORM,
        "h_content_length": str(len(form("file", "a.wav", "audio/wav", "sound", **fields))),
        "usage": {
            "input_tokens": 1,
            "output_tokens": 8,
            "total_tokens": 9,
            "input_token_details": {"text_tokens": 0, "audio_tokens": 1},
        },
    }
    assert cut(answer, expected) == expected
    verbose = transcribe(sim, model="m", response_format="verbose_json").json
    assert verbose["usage"] == {"type": "duration", "seconds": 1}
    assert verbose["segments"][0]["text"] == verbose["text"] == answer["text"]


def test_a_transcription_can_be_streamed(sim):
    answer = transcribe(sim, model="m", stream="true")
    text = "a.wav has 5 bytes of audio/wav, for m"
    assert answer.collected("delta") == text
    *deltas, (_, done) = answer.events
    assert {name for name, _ in answer.events} == {""}
    assert {event["type"] for _, event in deltas} == {"transcript.text.delta"}
    assert (done["type"], done["text"]) == ("transcript.text.done", text)
    assert done["usage"] == transcribe(sim, model="m", stream="false").json["usage"]


def test_generations(sim):
    body = {"prompt": "a cat", "n": 2}
    answer = sim.post(IMAGES, body).json
    assert answer["data"] == [{"b64_json": PNG, "revised_prompt": "a cat"}] * 2
    assert answer["usage"]["output_tokens"] == 2
    answer = sim.post(IMAGES, {**body, "response_format": "url"}).json
    assert answer["data"][0]["url"] == f"data:image/png;base64,{PNG}"


def test_edits_tell_what_arrived(sim):
    answer = edit(sim).json
    told = "a cat; a.png has 4 bytes of image/png, for m"
    assert answer["data"] == [{"b64_json": PNG, "revised_prompt": told}]
    assert answer["usage"]["output_tokens"] == 1
    assert edit(sim, stream="true", partial_images="-1").status == 400


@pytest.mark.parametrize("kind", ["image_generation", "image_edit"])
@pytest.mark.parametrize(("partial", "shown"), [(0, 0), (2, 2), (1000, 3)])
def test_images_can_be_streamed(sim, kind, partial, shown):
    if kind == "image_edit":
        answer = edit(sim, stream="true", partial_images=partial)
    else:
        body = {"prompt": "a cat", "stream": True, "partial_images": partial}
        answer = sim.post(IMAGES, body)
    assert answer.collected("b64_json") == PNG * (shown + 1)
    names = [*[f"{kind}.partial_image"] * shown, f"{kind}.completed"]
    assert [name for name, _ in answer.events] == names
    *partials, (_, completed) = answer.events
    assert [event["partial_image_index"] for _, event in partials] == list(range(shown))
    assert completed["usage"]["total_tokens"] == 3


def test_the_web_ui_of_stable_diffusion(sim):
    for path in ("/sdapi/v1/txt2img", "/sdapi/v1/img2img"):
        answer = sim.post(path, {"prompt": "a cat", "batch_size": 2}).json
        assert answer["images"] == [PNG, PNG]
        assert answer["parameters"]["prompt"] == "a cat"
