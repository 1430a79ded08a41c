"""Our errors and assembled streams as the official client libraries read them."""

from functools import partial
from typing import Any

import pytest

from llmsnap import errors
from llmsnap.errors import LlmsnapError
from llmsnap.http.errors import Dialect, error_answer, sse_error
from tests.http.test_unstreamed import CHAT, MESSAGE, RESPONSE, stream

httpx = pytest.importorskip("httpx2", reason="what the client libraries are built on")
openai = pytest.importorskip("openai")
anthropic = pytest.importorskip("anthropic")
pytestmark = pytest.mark.e2e  # the libraries take seconds to import

ALL = [
    errors.BadRequest("x", "model"),
    errors.Unauthorized("x"),
    errors.Forbidden("x"),
    errors.UnknownModel("x"),
    errors.NotFound("x"),
    errors.MethodNotAllowed("x", ["GET", "HEAD"]),
    errors.NotReady("x"),
    errors.TooLarge("x"),
    errors.Misdirected("x"),
    errors.TooManyInFlight("x", 2.5),
    errors.ClientGone("x"),
    errors.StartFailed("x"),
    errors.Draining("x", 3),
    errors.Unreachable("x"),
    errors.UpstreamTimeout("x"),
    LlmsnapError("x"),
]


BROKE = errors.UpstreamBroke("the upstream broke off")

CLASSES = {
    400: "BadRequestError",
    401: "AuthenticationError",
    403: "PermissionDeniedError",
    404: "NotFoundError",
    409: "ConflictError",
    429: "RateLimitError",
}


def served(status: int, headers: list[tuple[str, str]], body: bytes) -> Any:
    handler = httpx.MockTransport(lambda _: httpx.Response(status, headers=headers, content=body))
    return httpx.Client(transport=handler)


def stream_of(body: bytes) -> Any:
    return served(200, [("Content-Type", "text/event-stream")], body)


def openai_client(http: Any) -> Any:
    return openai.OpenAI(api_key="k", base_url="http://x/v1", http_client=http, max_retries=0)


def anthropic_client(http: Any) -> Any:
    return anthropic.Anthropic(api_key="k", base_url="http://x", http_client=http, max_retries=0)


@pytest.mark.parametrize("error", ALL, ids=lambda e: type(e).__name__)
def test_the_openai_client_raises_its_class_for_each_error(error: LlmsnapError) -> None:
    client = openai_client(served(*error_answer(error, "application/json", "/v1/chat/completions")))
    with client, pytest.raises(openai.APIStatusError) as raised:
        client.chat.completions.create(model="m", messages=[])
    default = "InternalServerError" if error.status >= 500 else "APIStatusError"
    assert type(raised.value).__name__ == CLASSES.get(error.status, default)
    assert (raised.value.code, raised.value.param) == (error.code, error.param)


@pytest.mark.parametrize("error", ALL, ids=lambda e: type(e).__name__)
def test_the_anthropic_client_raises_its_class_for_each_error(error: LlmsnapError) -> None:
    client = anthropic_client(served(*error_answer(error, "application/json", "/v1/messages")))
    with client, pytest.raises(anthropic.APIStatusError) as raised:
        client.messages.create(model="m", messages=[], max_tokens=1)
    assert raised.value.status_code == error.status
    assert raised.value.body["error"]["message"] == "x"


@pytest.mark.parametrize("library", [openai, anthropic])
def test_clients_show_the_cause_of_a_failed_load_at_once(library: Any) -> None:
    """With the retries they make unless told otherwise, and a wait they would obey."""
    asked = []

    def serve(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        status, headers, body = error_answer(
            errors.ChildExited("exit code 3", 60.0), "application/json", request.url.path
        )
        return httpx.Response(status, headers=headers, content=body)

    http = httpx.Client(transport=httpx.MockTransport(serve))
    if library is openai:
        client = openai.OpenAI(api_key="k", base_url="http://x/v1", http_client=http)
        ask = client.chat.completions.create
    else:
        client = anthropic.Anthropic(api_key="k", base_url="http://x", http_client=http)
        ask = partial(client.messages.create, max_tokens=1)
    with client, pytest.raises(library.APIStatusError, match="exit code 3"):
        ask(model="m", messages=[])
    assert len(asked) == 1


def test_the_openai_client_sees_a_responses_stream_fail() -> None:
    client = openai_client(stream_of(sse_error(BROKE, Dialect.RESPONSES)))
    with client, pytest.raises(openai.APIError, match="broke off"):
        list(client.responses.create(model="m", input="hi", stream=True))


def test_a_message_is_put_together_again_by_anthropics_library() -> None:
    client = anthropic_client(stream_of(stream("/v1/messages", MESSAGE)))
    asked = {"model": "m", "messages": [], "max_tokens": 9}
    with client, client.messages.stream(**asked) as events:
        final = events.get_final_message()
    made = final.model_dump(mode="json", exclude_unset=True, warnings=False)
    for block in made["content"]:
        block.pop("parsed_output", None)
    assert {name: made[name] for name in MESSAGE} == MESSAGE


def test_a_response_is_put_together_again_by_openais_library() -> None:
    client = openai_client(stream_of(stream("/v1/responses", RESPONSE)))
    with client, client.responses.stream(model="m", input="hi") as events:
        types = [event.type for event in events]
        final = events.get_final_response()
    assert final.output_text == "hello"
    assert [item.type for item in final.output] == [item["type"] for item in RESPONSE["output"]]
    assert types[0] == "response.created"
    assert types[-1] == "response.completed"


def test_a_chat_is_put_together_again_by_openais_library() -> None:
    client = openai_client(stream_of(stream("/v1/chat/completions", CHAT)))
    with client, client.chat.completions.stream(model="m", messages=[]) as events:
        final = events.get_final_completion()
    assert [choice.message.content for choice in final.choices] == ["héllo 🌍\n\n", None]
    calls = final.choices[1].message.tool_calls
    assert [call.function.arguments for call in calls] == ['{"a": 1}'] * 2
    assert final.usage.total_tokens == 7
