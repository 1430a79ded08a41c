from base64 import b64decode
from hashlib import sha256

import pytest

from llmsnap.simulator.files import samples, wav

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


def test_speech_is_a_wav(sim):
    answer = sim.post("/v1/audio/speech", {"input": "hello"})
    assert answer.headers["Content-Type"] == "audio/wav"
    assert answer.body == wav("hello")


def test_speech_is_bare_samples_if_asked_for(sim):
    answer = sim.post("/v1/audio/speech", {"input": "hello", "response_format": "pcm"})
    assert answer.headers["Content-Type"] == "audio/pcm"
    assert answer.body == samples("hello")


def test_speech_of_nothing_is_refused(sim):
    assert sim.post("/v1/audio/speech", {}).status == 400


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


def test_the_model_may_stand_in_the_query(sim):
    assert upload(sim, "/v1/audio/transcriptions?model=q").json["model"] == "q"


def test_a_transcription_can_be_plain_text(sim):
    answer = upload(sim, model="m", response_format="text")
    assert answer.headers["Content-Type"].startswith("text/plain")
    assert answer.text == "a.wav has 5 bytes of audio/wav, for m\n"


def test_a_transcription_without_a_model_is_refused(sim):
    assert upload(sim).status == 400


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


def test_what_is_not_json_is_not_streamed(sim):
    answer = upload(sim, model="m", stream="true", response_format="text")
    assert answer.headers["Content-Type"].startswith("text/plain")


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
