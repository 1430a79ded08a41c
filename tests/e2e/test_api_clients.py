"""The official clients of OpenAI and Anthropic, pointed at llmsnap."""

import json

import pytest

from tests.e2e.harness import Running

openai = pytest.importorskip("openai")
anthropic = pytest.importorskip("anthropic")
pytestmark = [pytest.mark.e2e, pytest.mark.filterwarnings("ignore::DeprecationWarning")]

CONFIG = """\
startPort: {port}
apiKeys: [the-key]
macros:
  sim: {sim}
models:
  alpha: {{cmd: "${{sim}}"}}
  full: {{cmd: "${{sim}}", concurrencyLimit: 2}}
  loading: {{cmd: "${{sim}}", sendLoadingState: true}}
  broken: {{cmd: "${{sim}} --exit-at-start 3"}}
  cut: {{cmd: "${{sim}} --break-stream-after 4"}}
groups:
  all: {{swap: false, members: [alpha, full, loading, broken, cut]}}
"""
MODELS = ["alpha", "full", "loading", "broken", "cut"]
HI = [{"role": "user", "content": "hi"}]
WEATHER = {
    "name": "get_weather",
    "description": "The weather in a city.",
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
    },
}


@pytest.fixture
def client(server: Running):
    with openai.OpenAI(base_url=server.url + "/v1", api_key="the-key", max_retries=0) as made:
        yield made


@pytest.fixture
def claude(server: Running, request: pytest.FixtureRequest):
    url = server.url + getattr(request, "param", "")
    with anthropic.Anthropic(base_url=url, api_key="the-key", max_retries=0) as made:
        yield made


# --- OpenAI -------------------------------------------------------------------------------------


def test_models(client) -> None:
    assert [model.id for model in client.models.list()] == sorted(MODELS)
    assert client.models.retrieve("alpha").owned_by == "llmsnap"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("nope")


def test_chat_streamed_with_its_usage_and_whole(client) -> None:
    answer = client.chat.completions.create(model="alpha", messages=HI)
    assert "You said: hi" in answer.choices[0].message.content
    assert answer.usage.total_tokens > 0
    chunks = list(
        client.chat.completions.create(
            model="alpha", messages=HI, stream=True, stream_options={"include_usage": True}
        )
    )
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert "You said: hi" in text
    assert chunks[-1].usage.completion_tokens > 0


@pytest.mark.parametrize("stream", [False, True])
def test_tool_calls_pass_through(client, stream: bool) -> None:
    tools = [{"type": "function", "function": WEATHER}]
    wanted = {"model": "alpha", "messages": HI, "tools": tools, "tool_choice": "required"}
    if stream:
        with client.chat.completions.stream(**wanted) as events:
            call = events.get_final_completion().choices[0].message.tool_calls[0]
    else:
        call = client.chat.completions.create(**wanted).choices[0].message.tool_calls[0]
    assert call.function.name == "get_weather"
    assert "city" in json.loads(call.function.arguments)


def test_completions(client) -> None:
    assert client.completions.create(model="alpha", prompt="hi").choices[0].text
    chunks = client.completions.create(model="alpha", prompt="hi", stream=True)
    assert "".join(chunk.choices[0].text for chunk in chunks)


def test_responses(client) -> None:
    assert "You said: hi" in client.responses.create(model="alpha", input="hi").output_text
    with client.responses.stream(model="alpha", input="hi") as events:
        kinds = [event.type for event in events]
    assert kinds[-1] == "response.completed"


def test_embeddings(client) -> None:
    # As floats, and as base64, which this client asks for by itself.
    plain = client.embeddings.create(model="alpha", input="hi", encoding_format="float")
    packed = client.embeddings.create(model="alpha", input="hi")
    assert plain.data[0].embedding == pytest.approx(packed.data[0].embedding)


def test_speech_and_its_transcription(client, tmp_path) -> None:
    wanted = {"model": "alpha", "voice": "x", "input": "hi"}
    sound = client.audio.speech.create(**wanted).content
    assert sound[:4] == b"RIFF"
    with client.audio.speech.with_streaming_response.create(**wanted) as streamed:
        assert b"".join(streamed.iter_bytes()) == sound
    file = tmp_path / "speech.wav"
    file.write_bytes(sound)
    with file.open("rb") as opened:
        text = client.audio.transcriptions.create(model="alpha", file=opened).text
    assert f"speech.wav has {len(sound)} bytes" in text


def test_sound_and_pictures_streamed(client) -> None:
    file = ("a.wav", b"RIFF" + b"x" * 99, "audio/wav")
    *deltas, done = client.audio.transcriptions.create(model="alpha", file=file, stream=True)
    assert "".join(event.delta for event in deltas) == done.text
    assert done.usage.total_tokens == 1 + len(deltas)
    asked = {"model": "alpha", "prompt": "a cat", "stream": True, "partial_images": 1}
    picture = ("cat.png", b"\x89PNG" + b"x" * 99, "image/png")
    for streamed in (client.images.generate(**asked), client.images.edit(image=picture, **asked)):
        partial, completed = streamed
        assert (partial.partial_image_index, partial.b64_json) == (0, completed.b64_json)
        assert completed.usage.total_tokens == 3


def test_a_model_that_loads_tells_so_in_its_reasoning(client) -> None:
    chunks = list(client.chat.completions.create(model="loading", messages=HI, stream=True))
    deltas = [chunk.choices[0].delta for chunk in chunks if chunk.choices]
    thoughts = "".join(getattr(delta, "reasoning_content", None) or "" for delta in deltas)
    assert "llmsnap loading model: loading" in thoughts
    assert "Done!" in thoughts
    assert "You said: hi" in "".join(delta.content or "" for delta in deltas)


def test_errors_are_those_of_the_client(client) -> None:
    create = client.chat.completions.create
    with pytest.raises(openai.NotFoundError) as caught:
        create(model="alpa", messages=HI)
    assert (caught.value.code, caught.value.param) == ("model_not_found", "model")
    assert caught.value.request_id == caught.value.response.headers["X-Request-Id"]
    with pytest.raises(openai.BadRequestError, match="messages is missing"):
        create(model="alpha", messages=[])
    with pytest.raises(openai.InternalServerError, match="exit code 3") as caught:
        create(model="broken", messages=HI)
    assert caught.value.status_code == 502


def test_a_full_model_is_a_rate_limit(client) -> None:
    endless = {"sim_tps": 5, "sim_tokens": 100_000}
    slowly = {"model": "full", "messages": HI, "extra_body": endless, "stream": True}
    create = client.chat.completions.create
    with create(**slowly), create(**slowly), pytest.raises(openai.RateLimitError) as caught:
        create(model="full", messages=HI)
    assert int(caught.value.response.headers["Retry-After"]) >= 1


def test_a_stream_that_breaks_is_an_error(client) -> None:
    stream = client.chat.completions.create(model="cut", messages=HI, stream=True)
    with pytest.raises(openai.APIError, match="ended its answer too early"):
        list(stream)


# --- Anthropic ----------------------------------------------------------------------------------


# The address as it is for this client, and as it is for OpenAI's.
@pytest.mark.parametrize("claude", ["", "/v1", "/v1/"], indirect=True)
def test_models_tokens_and_a_message_streamed_and_whole(claude) -> None:
    assert [model.id for model in claude.models.list()] == sorted(MODELS)
    assert claude.messages.count_tokens(model="alpha", messages=HI).input_tokens > 0
    answer = claude.messages.create(model="alpha", max_tokens=50, messages=HI)
    assert "You said: hi" in answer.content[0].text
    assert answer.usage.output_tokens > 0
    with claude.messages.stream(model="alpha", max_tokens=50, messages=HI) as stream:
        assert "You said: hi" in "".join(stream.text_stream)
        assert stream.get_final_message().usage.output_tokens > 0


@pytest.mark.parametrize("stream", [False, True])
def test_tool_use_passes_through(claude, stream: bool) -> None:
    tool = {"name": "get_weather", "input_schema": WEATHER["parameters"]}
    choice = {"type": "tool", "name": "get_weather"}
    wanted = {"model": "alpha", "max_tokens": 50, "messages": HI, "tools": [tool]}
    if stream:
        with claude.messages.stream(**wanted, tool_choice=choice) as events:
            answer = events.get_final_message()
    else:
        answer = claude.messages.create(**wanted, tool_choice=choice)
    (block,) = [block for block in answer.content if block.type == "tool_use"]
    assert block.name == "get_weather"
    assert "city" in block.input


def test_anthropics_errors_are_those_of_the_client(claude) -> None:
    create = claude.messages.create
    with pytest.raises(anthropic.NotFoundError) as caught:
        create(model="alpa", max_tokens=5, messages=HI)
    assert caught.value.body["error"]["type"] == "not_found_error"
    with pytest.raises(anthropic.InternalServerError, match="exit code 3"):
        create(model="broken", max_tokens=5, messages=HI)


def test_a_broken_stream_of_messages_is_an_error(claude) -> None:
    with (
        claude.messages.stream(model="cut", max_tokens=50, messages=HI) as stream,
        pytest.raises(anthropic.APIStatusError, match="ended its answer too early"),
    ):
        list(stream.text_stream)
