"""Content and speed of simulated replies. A token is a word with its preceding blanks."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from itertools import cycle, islice

from llmsnap.simulator.exchange import Json, SimRequest, mapping
from llmsnap.simulator.routes import require_model
from llmsnap.simulator.slots import reuse
from llmsnap.simulator.state import SimState

_TOKEN = re.compile(r"\s*\S+|\s+")
_FILLER = " The quick brown fox jumps over the lazy dog."
_GARBAGE = " \ufffd#!\ufffd"


def split_tokens(text: str) -> list[str]:
    """Return the tokens of *text*; joined, they are *text* again."""
    return _TOKEN.findall(text)


def count_tokens(text: str) -> int:
    """Return the number of tokens in *text*."""
    return len(split_tokens(text))


def tokens_of_length(text: str, length: int) -> list[str]:
    """Return exactly *length* tokens: those of *text*, then filler tokens."""
    own = split_tokens(text)[:length]
    return own + list(islice(cycle(split_tokens(_FILLER)), length - len(own)))


def garbage_tokens(length: int) -> list[str]:
    """Return *length* tokens like those of a model with corrupted weights."""
    return [_GARBAGE] * length


NOMINAL_TOKENS_PER_SECOND = 1000.0
_WORD = re.compile(r"[\w-]+")
_SAMPLES = {"integer": 1, "number": 1, "boolean": True, "null": None}


@dataclass(frozen=True, slots=True)
class Tool:
    """A function the model may call, and the JSON schema of its arguments."""

    name: str
    schema: Json


@dataclass(frozen=True, slots=True)
class Prompt:
    """The prompt of a request, independent of its API.

    *text* is the whole input, *question* the user's last message; *limit* is the maximum number of
    output tokens, 0 for no limit; *schema* requests JSON of that schema.
    """

    question: str
    text: str
    limit: int = 0
    tools: tuple[Tool, ...] = ()
    must_call: bool = False
    reasoning: bool = False
    schema: Json | None = None


class ReplyPart(StrEnum):
    """The kind of a run of tokens."""

    REASONING = "reasoning"
    TEXT = "text"
    TOOL = "tool"


@dataclass(frozen=True, slots=True)
class Reply:
    """A reply as tokens, with the duration of each."""

    model: str
    prompt_tokens: int
    cached_tokens: int
    reasoning: list[str]
    pieces: list[str]
    tool: Tool | None
    cut: bool
    prompt_s: float
    token_s: float

    @property
    def text(self) -> str:
        """The pieces joined: the text, or the arguments of the call."""
        return "".join(self.pieces)

    @property
    def reasoning_text(self) -> str:
        """The reasoning joined."""
        return "".join(self.reasoning)

    @property
    def output_tokens(self) -> int:
        """The number of generated tokens, reasoning included."""
        return len(self.reasoning) + len(self.pieces)

    @property
    def duration_s(self) -> float:
        """The duration of the whole reply in seconds."""
        return self.prompt_s + self.output_tokens * self.token_s

    @property
    def parts(self) -> list[tuple[ReplyPart, list[str]]]:
        """The runs of tokens, in order."""
        main = (ReplyPart.TOOL if self.tool else ReplyPart.TEXT, self.pieces)
        return [(ReplyPart.REASONING, self.reasoning), main] if self.reasoning else [main]

    def timings(self) -> Json:
        """Return llama-server's ``timings``, computed from the configured speed, not the clock."""
        new = self.prompt_tokens - self.cached_tokens
        token_ms = (self.token_s or 1 / NOMINAL_TOKENS_PER_SECOND) * 1000
        prompt_ms = self.prompt_s * 1000 or new * 1000 / NOMINAL_TOKENS_PER_SECOND
        return {
            "cache_n": self.cached_tokens,
            "prompt_n": new,
            "prompt_ms": prompt_ms,
            "prompt_per_token_ms": prompt_ms / max(new, 1),
            "prompt_per_second": new / prompt_ms * 1000 if prompt_ms else 0.0,
            "predicted_n": self.output_tokens,
            "predicted_ms": token_ms * self.output_tokens,
            "predicted_per_token_ms": token_ms,
            "predicted_per_second": 1000 / token_ms,
        }

    def pace(self, request: SimRequest, pieces: list[str]) -> Iterator[str]:
        """Yield each piece when it is due. Blocks in between; raises ClientLeft."""
        for piece in pieces:
            request.client.wait(self.token_s)
            yield piece


def compose(state: SimState, request: SimRequest, prompt: Prompt) -> Reply:
    """Return the reply to *prompt*; deterministic. Raises Refusal."""
    options = state.options
    model = request.text("model") or options.model
    require_model(state, model)
    tool = None if state.corrupted else _called_tool(prompt)
    reasoning = split_tokens(f"The user said: {prompt.question}") if prompt.reasoning else []
    pieces = _write_call(tool, prompt) if tool else _say(state, request, prompt, model)
    room = prompt.limit or len(reasoning) + len(pieces)
    tokens = split_tokens(prompt.text)
    prompt_tokens = len(tokens)
    cached = reuse(state, tokens) if options.slot_save_path else int(request.number("sim_cached"))
    cached = min(cached, prompt_tokens)
    speed = options.prompt_tokens_per_second
    prompt_s = (prompt_tokens - cached) / speed if speed else options.prompt_time
    return Reply(
        model=model,
        prompt_tokens=prompt_tokens,
        cached_tokens=cached,
        reasoning=reasoning[:room],
        pieces=pieces[: max(room - len(reasoning), 0)],
        tool=tool,
        cut=room < len(reasoning) + len(pieces),
        prompt_s=request.number("sim_prompt_time", prompt_s),
        token_s=token_s(state, request),
    )


def token_s(state: SimState, request: SimRequest) -> float:
    """Return the duration of a token in seconds."""
    speed = request.number("sim_tps", state.options.tokens_per_second)
    return 1 / speed if speed else 0.0


def extras(state: SimState, request: SimRequest, reply: Reply | None = None) -> Json:
    """Return the requested members beyond the API: timings, and the request as received."""
    more: Json = {}
    wanted = state.options.timings or request.flag("timings") or request.flag("timings_per_token")
    if wanted and reply:
        more["timings"] = reply.timings()
    if state.options.echo_requests or request.flag("sim_echo"):
        more["sim_request"] = request.describe()
    return more


def _say(state: SimState, request: SimRequest, prompt: Prompt, model: str) -> list[str]:
    question = prompt.question.strip()
    said = f"You said: {question}\n" if question else ""
    text = state.options.respond or f"{said}I am {model}, a simulated model."
    if state.options.vary:
        text = f"This is answer {state.requests}. {text}"
    if state.recased:
        text = text.upper().replace(" ", "  ")
    if prompt.schema is not None:
        text = json.dumps(sample(prompt.schema, text), ensure_ascii=False)
    length = int(request.number("sim_tokens", state.options.tokens))
    pieces = tokens_of_length(text, length) if length else split_tokens(text)
    return garbage_tokens(len(pieces)) if state.corrupted else pieces


def _called_tool(prompt: Prompt) -> Tool | None:
    """Return the tool named in the question, else the first if a call is requested or required."""
    words = set(_WORD.findall(prompt.question.lower()))
    named = next((tool for tool in prompt.tools if tool.name.lower() in words), None)
    if named or not prompt.tools:
        return named
    return prompt.tools[0] if prompt.must_call or "tool" in words else None


def _write_call(tool: Tool, prompt: Prompt) -> list[str]:
    schema = {"type": "object", **tool.schema}
    return split_tokens(json.dumps(sample(schema, prompt.question), ensure_ascii=False))


def sample(schema: Mapping[str, object], text: str) -> object:
    """Return a value that matches *schema*, with *text* for its strings."""
    choices = schema.get("enum")
    if isinstance(choices, list) and choices:
        return choices[0]
    kind = str(schema.get("type") or ("object" if "properties" in schema else ""))
    if kind == "object":
        properties = mapping(schema.get("properties"))
        return {name: sample(mapping(each), text) for name, each in properties.items()}
    if kind == "array":
        return [sample(mapping(schema.get("items")), text)]
    return _SAMPLES.get(kind, text)


def question(messages: list[Json]) -> str:
    """Return the last text of the user."""
    asked = [message for message in messages if message.get("role") == "user"]
    return content_text(asked[-1].get("content")) if asked else ""


def content_text(content: object) -> str:
    """Return *content* as text: a string, the text of its parts, or its token numbers."""
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


def limit(request: SimRequest, *names: str) -> int:
    """Return the first limit among *names*, 0 if there is none."""
    return next((int(value) for name in names if (value := request.number(name))), 0)


def tools(functions: list[Json], schema: str) -> tuple[Tool, ...]:
    """Return *functions* as tools, whose member *schema* describes the arguments."""
    return tuple(
        Tool(str(function["name"]), mapping(function.get(schema)))
        for function in functions
        if function.get("name")
    )


def answer_schema(form: Json) -> Json | None:
    """Return the JSON schema of response format *form*; None for plain text."""
    match form.get("type"):
        case "json_schema":
            # Chat completions nest it one level deeper than responses.
            return mapping((mapping(form.get("json_schema")) or form).get("schema"))
        case "json_object":  # llama-server accepts a schema here too
            own = mapping(form.get("schema"))
            return own or {"type": "object", "properties": {"answer": {"type": "string"}}}
    return None
