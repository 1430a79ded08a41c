"""The official clients against a real llama-server, where one is installed."""

import json
import re

import pytest

from tests.e2e.harness import Running, real_model

openai = pytest.importorskip("openai")
anthropic = pytest.importorskip("anthropic")
pytestmark = pytest.mark.e2e

CONFIG = """\
startPort: {port}
macros:
  server: >-
    {LLMSNAP_DEMO_SERVER} --model '{LLMSNAP_DEMO_MODEL}' --host 127.0.0.1 --port ${{PORT}}
    --threads 2 --no-repack --no-ui --metrics
models:
  gemma:
    cmd: ${{server}} --ctx-size 2048 --parallel 1 --predict 40 --jinja --temp 0
    aliases: [gpt-4o-mini]
  vectors:
    cmd: ${{server}} --ctx-size 1024 --embeddings --pooling mean
groups:
  all: {{swap: false, members: [gemma, vectors]}}
"""
HI = [{"role": "user", "content": "Say hi."}]
CITY = {"type": "object", "properties": {"city": {"type": "string", "maxLength": 8}}}
CITY |= {"required": ["city"]}


@pytest.fixture(scope="module")
def places():
    return real_model()


@pytest.fixture
def client(server: Running):
    with openai.OpenAI(base_url=server.url + "/v1", api_key="none", max_retries=0) as made:
        yield made


@pytest.fixture
def claude(server: Running):
    with anthropic.Anthropic(base_url=server.url, api_key="none", max_retries=0) as made:
        yield made


def test_chat_and_completion_streamed_and_not(client) -> None:
    wanted = {"model": "gpt-4o-mini", "max_tokens": 5}
    answer = client.chat.completions.create(messages=HI, **wanted)
    assert answer.usage.completion_tokens > 0
    usage = {"include_usage": True}
    chunks = list(
        client.chat.completions.create(messages=HI, stream=True, stream_options=usage, **wanted)
    )
    assert chunks[-1].usage.completion_tokens > 0
    assert client.completions.create(prompt="Once", **wanted).choices[0].text
    assert list(client.completions.create(prompt="Once", stream=True, **wanted))


def test_a_schema_and_tools_reach_the_server(client) -> None:
    # The model is too small to call a tool; that its answer must fit a schema it cannot help.
    wanted = {"model": "gemma", "messages": HI}
    schema = {"type": "json_schema", "json_schema": {"name": "city", "schema": CITY}}
    answer = client.chat.completions.create(response_format=schema, max_tokens=40, **wanted)
    assert "city" in json.loads(answer.choices[0].message.content)
    tools = [{"type": "function", "function": {"name": "weather", "parameters": CITY}}]
    assert client.chat.completions.create(tools=tools, max_tokens=3, **wanted).choices
    with pytest.raises(openai.APIStatusError, match="Unsupported tool type"):
        client.chat.completions.create(tools=[{"type": "nonsense"}], **wanted)


def test_embeddings(client) -> None:
    found = client.embeddings.create(model="vectors", input=["a", "b"]).data
    assert [len(one.embedding) for one in found] == [640, 640]


def test_messages_streamed_counted_and_not(claude) -> None:
    wanted = {"model": "gemma", "messages": HI}
    assert claude.messages.create(max_tokens=5, **wanted).usage.output_tokens > 0
    with claude.messages.stream(max_tokens=5, **wanted) as stream:
        assert stream.get_final_message().usage.output_tokens > 0
    assert claude.messages.count_tokens(**wanted).input_tokens > 0


def test_the_servers_own_errors_pass(client) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.completions.create(model="gemma", prompt="word " * 5000, max_tokens=1)
    assert "context" in str(caught.value)
    with pytest.raises(openai.NotFoundError):
        client.completions.create(model="gema", prompt="x")


def test_what_the_server_tells_of_itself(client, server: Running) -> None:
    client.completions.create(model="gemma", prompt="x", max_tokens=1)
    props = server.get("/props?model=gemma").json()
    assert props["default_generation_settings"]["n_ctx"] == 2048
    server.wait_for(lambda: "context_length" in server.get("/v1/models/gemma").json())
    record = server.get("/v1/models/gemma").json()
    assert record["context_length"] == 2048
    assert record["meta"]["llamaswap"]["context_source"] == "server"
    assert server.get("/props?model=gemma").json().keys() == props.keys(), "it answers itself"
    metrics = server.get("/metrics?upstream=1").text
    assert re.search(r'^llamacpp:\w+\{model="gemma"\} [0-9]', metrics, re.MULTILINE)
    tokens = server.post("/upstream/gemma/tokenize", {"content": "hi"}).json()["tokens"]
    assert tokens


def test_what_it_used_is_recorded(client, server: Running) -> None:
    client.completions.create(model="gemma", prompt="Once upon", max_tokens=4)
    record = server.records("model=gemma")[0]
    assert record["output_tokens"] == 4
    assert record["tokens_per_second"] > 0
