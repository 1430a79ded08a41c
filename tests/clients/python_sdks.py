"""The official Python SDKs, and LiteLLM, with the options they come with."""

import importlib.metadata
import json
import os
import sys

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # else it is fetched from the network
HELLO = [{"role": "user", "content": "hello"}]


def ask_openai(url: str, model: str, *, stream: bool) -> str:
    import openai

    with openai.OpenAI(base_url=url + "/v1", api_key="none") as client:
        answer = client.chat.completions.create(model=model, messages=HELLO, stream=stream)
        return _deltas(answer) if stream else answer.choices[0].message.content


def ask_responses(url: str, model: str, *, stream: bool) -> str:
    import openai

    with openai.OpenAI(base_url=url + "/v1", api_key="none") as client:
        answer = client.responses.create(model=model, input="hello", stream=stream)
        if not stream:
            return answer.output_text
        return "".join(e.delta for e in answer if e.type == "response.output_text.delta")


def ask_anthropic(url: str, model: str, *, stream: bool) -> str:
    import anthropic

    asked = {"model": model, "messages": HELLO, "max_tokens": 4096}
    with anthropic.Anthropic(base_url=url, api_key="none") as client:
        if not stream:
            return client.messages.create(**asked).content[0].text
        with client.messages.stream(**asked) as answer:
            return answer.get_final_text()


def ask_litellm(url: str, model: str, *, stream: bool) -> str:
    import litellm

    litellm.suppress_debug_info = True
    where = {"api_base": url + "/v1", "api_key": "none"}
    answer = litellm.completion(f"openai/{model}", HELLO, stream=stream, **where)
    return _deltas(answer) if stream else answer.choices[0].message.content


def _deltas(answer: object) -> str:
    return "".join(chunk.choices[0].delta.content or "" for chunk in answer if chunk.choices)


CLIENTS = {
    "openai": (ask_openai, "openai"),
    "responses": (ask_responses, "openai"),
    "anthropic": (ask_anthropic, "anthropic"),
    "litellm": (ask_litellm, "litellm"),
}

if __name__ == "__main__":
    name, url, model, mode = sys.argv[1:]
    ask, package = CLIENTS[name]
    result = {"version": importlib.metadata.version(package)}
    try:
        result["text"] = ask(url, model, stream=mode == "streamed")
    except Exception as error:  # noqa: BLE001 - whatever it raises is what its user sees
        result["error"] = f"{type(error).__name__}: {error}"
    sys.stdout.write("\n" + json.dumps(result) + "\n")
