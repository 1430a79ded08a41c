"""Reads what the text APIs have in common: contents, limits, tools."""

from __future__ import annotations

from llmsnap.simulator.exchange import Json, Request, mapping
from llmsnap.simulator.reply import Tool


def question(messages: list[Json]) -> str:
    """Return the last text that is the user's."""
    asked = [message for message in messages if message.get("role") == "user"]
    return content_text(asked[-1].get("content")) if asked else ""


def content_text(content: object) -> str:
    """Return the text of *content*: itself, the text of its parts, or its token numbers."""
    match content:
        case str():
            return content
        case dict():
            return str(content.get("text") or "")
        case list():
            return " ".join(content_text(part) for part in content)
        case None:
            return ""
    return str(content)


def limit(request: Request, *names: str) -> int:
    """Return the first limit given among *names*, 0 when there is none."""
    return next((int(value) for name in names if (value := request.number(name))), 0)


def tools(functions: list[Json], schema: str) -> tuple[Tool, ...]:
    """Return *functions* as tools, each with the arguments its member *schema* describes."""
    return tuple(
        Tool(str(function["name"]), mapping(function.get(schema)))
        for function in functions
        if function.get("name")
    )


def answer_schema(form: Json) -> Json | None:
    """Return the schema an answer of response format *form* obeys, None when it is plain text."""
    match form.get("type"):
        case "json_schema":
            # Chat completions wrap it once more than responses do.
            return mapping((mapping(form.get("json_schema")) or form).get("schema"))
        case "json_object":  # llama-server takes a schema here as well
            own = mapping(form.get("schema"))
            return own or {"type": "object", "properties": {"answer": {"type": "string"}}}
    return None
