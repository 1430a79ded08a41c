"""Audio and images of the simulator."""

from __future__ import annotations

import base64
import io
import struct
import wave
import zlib
from base64 import b64decode
from hashlib import sha256

import pytest

from llmsnap.simulator import media
from llmsnap.simulator.media import png, samples, wav


def test_the_wav_is_one():
    with wave.open(io.BytesIO(media.wav("hello"))) as sound:
        assert (sound.getnchannels(), sound.getsampwidth()) == (1, 2)
        assert sound.getframerate() == media.SAMPLE_RATE
        assert sound.readframes(sound.getnframes()) == media.samples("hello")


def test_a_longer_text_sounds_longer_up_to_a_limit():
    assert len(media.samples("hello")) > len(media.samples("hi"))
    assert len(media.samples("x" * 1000)) == media.SAMPLE_RATE * 2 * 2


def test_the_png_is_one():
    data = media.png("a")
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    kinds, rest = [], data[8:]
    while rest:
        (length,) = struct.unpack(">I", rest[:4])
        chunk, check, rest = (
            rest[4 : 8 + length],
            rest[8 + length : 12 + length],
            rest[12 + length :],
        )
        assert struct.unpack(">I", check) == (zlib.crc32(chunk),)
        kinds.append(chunk[:4])
    assert kinds == [b"IHDR", b"IDAT", b"IEND"]


def test_another_prompt_has_another_picture():
    assert media.png("a") == media.png("a") != media.png("b")


FORM = "multipart/form-data; boundary=xx"


def form(**fields):
    parts = [
        f'--xx\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in fields.items()
    ]
    head = '--xx\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n'
    kind = "Content-Type: audio/wav\r\n\r\n"
    return f"{''.join(parts)}{head}{kind}sound\r\n--xx--\r\n".encode()


def upload(sim, path="/v1/audio/transcriptions", **fields):
    return sim.post(path, form(**fields), **{"Content-Type": FORM})


@pytest.mark.parametrize(("form", "whole"), [("wav", wav), ("pcm", samples)])
def test_speech_is_sound_of_the_form_asked_for(sim, form, whole):
    answer = sim.post("/v1/audio/speech", {"input": "hello", "response_format": form})
    assert answer.headers["Content-Type"] == f"audio/{form}"
    assert answer.body == whole("hello")
    assert sim.post("/v1/audio/speech", {"input": "hello"}).body == wav("hello")


@pytest.mark.parametrize("stream", ["false", "true"])
def test_a_transcription_can_be_plain_text_which_is_not_streamed(sim, stream):
    answer = upload(sim, model="m", response_format="text", stream=stream)
    assert answer.headers["Content-Type"].startswith("text/plain")
    assert answer.text == "a.wav has 5 bytes of audio/wav, for m\n"


def test_a_transcription_needs_a_model(sim):
    assert upload(sim, "/v1/audio/transcriptions?model=q").json["model"] == "q"
    assert upload(sim).status == 400


def test_voices(sim):
    assert "voice1" in sim.get("/v1/audio/voices").json["voices"]
    assert sim.get("/v1/audio/voices?model=m").json["model"] == "m"
    assert sim.post("/v1/audio/voices", {"model": "m"}).json["model"] == "m"


def test_a_transcription_tells_what_arrived(sim):
    answer = upload(sim, model="m", language="en").json
    assert answer["text"] == "a.wav has 5 bytes of audio/wav, for m"
    assert (answer["model"], answer["file_bytes"]) == ("m", 5)
    assert answer["file_sha256"] == sha256(b"sound").hexdigest()
    assert answer["fields"] == [["model", "m"], ["language", "en"]]
    assert answer["h_content_type"] == FORM
    assert answer["h_content_length"] == str(len(form(model="m", language="en")))


@pytest.mark.parametrize("kind", ["application/json", "multipart/form-data; boundary=yy"])
def test_what_is_no_form_is_refused(sim, kind):
    answer = sim.post("/v1/audio/transcriptions", form(model="m"), **{"Content-Type": kind})
    assert answer.status == 400


def test_a_transcription_can_be_streamed(sim):
    answer = upload(sim, model="m", stream="true")
    assert answer.headers["Content-Type"] == "text/event-stream"
    *deltas, (_, done) = answer.events
    assert {name for name, _ in answer.events} == {""}
    assert {event["type"] for _, event in deltas} == {"transcript.text.delta"}
    text = "a.wav has 5 bytes of audio/wav, for m"
    assert "".join(event["delta"] for _, event in deltas) == text
    assert (done["type"], done["text"]) == ("transcript.text.done", text)
    assert done["usage"] == upload(sim, model="m", stream="false").json["usage"]


def test_a_transcription_has_a_usage(sim):
    usage = upload(sim, model="m").json["usage"]
    assert (usage["input_tokens"], usage["output_tokens"], usage["total_tokens"]) == (1, 8, 9)
    assert usage["input_token_details"] == {"text_tokens": 0, "audio_tokens": 1}
    verbose = upload(sim, model="m", response_format="verbose_json").json
    assert verbose["usage"] == {"type": "duration", "seconds": 1}
    assert verbose["segments"][0]["text"] == verbose["text"]


@pytest.mark.parametrize(("form", "whole"), [("wav", wav), ("pcm", samples)])
def test_speech_can_be_events(sim, form, whole):
    body = {"input": "hello", "response_format": form, "stream_format": "sse"}
    answer = sim.post("/v1/audio/speech", body)
    assert answer.headers["Content-Type"] == "text/event-stream"
    *deltas, (_, done) = answer.events
    assert {event["type"] for _, event in deltas} == {"speech.audio.delta"}
    assert b"".join(b64decode(event["audio"]) for _, event in deltas) == whole("hello")
    assert done["type"] == "speech.audio.done"
    assert done["usage"]["total_tokens"] == 1 + len(deltas)


PNG = base64.b64encode(png("a cat")).decode()


def test_generations(sim):
    body = {"prompt": "a cat", "n": 2}
    answer = sim.post("/v1/images/generations", body).json
    assert answer["data"] == [{"b64_json": PNG, "revised_prompt": "a cat"}] * 2
    answer = sim.post("/v1/images/generations", {**body, "response_format": "url"}).json
    assert answer["data"][0]["url"] == f"data:image/png;base64,{PNG}"


def edit(sim, **fields):
    parts = "".join(
        f'--xx\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in {"prompt": "a cat", **fields}.items()
    )
    parts += (
        '--xx\r\nContent-Disposition: form-data; name="image"; filename="a.png"\r\n'
        "Content-Type: image/png\r\n\r\n1234\r\n--xx--\r\n"
    )
    kind = {"Content-Type": "multipart/form-data; boundary=xx"}
    return sim.post("/v1/images/edits?model=m", parts.encode(), **kind)


def test_edits_tell_what_arrived(sim):
    answer = edit(sim).json
    assert answer["data"][0]["b64_json"] == PNG
    told = "a cat; a.png has 4 bytes of image/png, for m"
    assert answer["data"][0]["revised_prompt"] == told


@pytest.mark.parametrize("kind", ["image_generation", "image_edit"])
@pytest.mark.parametrize(("partial", "shown"), [(0, 0), (2, 2), (1000, 3)])
def test_images_can_be_streamed(sim, kind, partial, shown):
    if kind == "image_edit":
        answer = edit(sim, stream="true", partial_images=partial)
    else:
        body = {"prompt": "a cat", "stream": True, "partial_images": partial}
        answer = sim.post("/v1/images/generations", body)
    assert answer.headers["Content-Type"] == "text/event-stream"
    names = [*[f"{kind}.partial_image"] * shown, f"{kind}.completed"]
    assert [name for name, _ in answer.events] == names
    assert [event["type"] for _, event in answer.events] == names
    assert {event["b64_json"] for _, event in answer.events} == {PNG}
    *partials, (_, completed) = answer.events
    assert [event["partial_image_index"] for _, event in partials] == list(range(shown))
    assert completed["usage"]["total_tokens"] == 3


def test_a_number_in_a_form_is_one(sim):
    assert edit(sim, stream="true", partial_images="-1").status == 400


def test_images_have_a_usage(sim):
    asked = sim.post("/v1/images/generations", {"prompt": "a cat", "n": 2})
    assert [answer.json["usage"]["output_tokens"] for answer in (asked, edit(sim))] == [2, 1]


def test_the_web_ui_of_stable_diffusion(sim):
    for path in ("/sdapi/v1/txt2img", "/sdapi/v1/img2img"):
        answer = sim.post(path, {"prompt": "a cat", "batch_size": 2}).json
        assert answer["images"] == [PNG, PNG]
        assert answer["parameters"]["prompt"] == "a cat"
    assert sim.get("/sdapi/v1/loras").json[0]["name"] == "simulated-lora"
