"""Models of the parsers of event streams that gave trouble: each does what its original did.

The standard asks for none of these ways, and real clients have them all.
"""

import http.client
import json
import sys
from collections.abc import Iterable, Iterator
from urllib.parse import urlsplit

DONE = "[DONE]"


def each_blank_line(lines: Iterable[str]) -> Iterator[str]:
    """An event ends at each blank line, with data or without: openai-go before 3.43."""
    data = ""
    for line in lines:
        if not line:
            yield data
            data = ""
        elif line.startswith("data:"):
            data += line.removeprefix("data:").removeprefix(" ")


def data_and_blank(lines: Iterable[str]) -> Iterator[str]:
    """Only ``data: `` counts, blank included: ``data:`` is no data."""
    return (line.removeprefix("data: ") for line in lines if line.startswith("data: "))


def each_line(lines: Iterable[str]) -> Iterator[str]:
    """Each line is an event, whole in itself; what has a colon first or is empty is none."""
    for line in lines:
        if line and not line.startswith((":", "event:")):
            yield line.removeprefix("data:").strip()


PARSERS = {"each-blank-line": each_blank_line, "data-and-blank": data_and_blank}
PARSERS["each-line"] = each_line


def ask(name: str, url: str, model: str) -> str:
    """Ask for a streamed chat and return its text. Raises on an error or a missing end."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc)
    messages = [{"role": "user", "content": "hello"}]
    body = json.dumps({"model": model, "messages": messages, "stream": True})
    connection.request("POST", "/v1/chat/completions", body, {"Content-Type": "application/json"})
    answer = connection.getresponse()
    if answer.status != http.client.OK:
        raise ValueError(f"{answer.status}: {answer.read().decode()}")
    text = ""
    for data in PARSERS[name](line.decode().rstrip("\r\n") for line in answer):
        if data == DONE:
            return text
        event = json.loads(data)
        if "error" in event:
            raise ValueError(event["error"]["message"])
        text += event["choices"][0]["delta"].get("content") or ""
    raise ValueError("the stream ended without [DONE]")


if __name__ == "__main__":
    name, url, model, _ = sys.argv[1:]
    result = {"version": "model"}
    try:
        result["text"] = ask(name, url, model)
    except (ValueError, http.client.HTTPException, OSError) as error:
        result["error"] = f"{type(error).__name__}: {error}"
    sys.stdout.write(json.dumps(result) + "\n")
