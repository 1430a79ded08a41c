"""What the model that is not there would say, and how fast."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from llmsnap.simulator import tokens
from llmsnap.simulator.exchange import Json, Request
from llmsnap.simulator.state import State

NOMINAL_TOKENS_PER_SECOND = 1000.0


@dataclass(frozen=True, slots=True)
class Tool:
    """A function the model may call, and the JSON schema of its arguments."""

    name: str
    schema: Json


@dataclass(frozen=True, slots=True)
class Prompt:
    """What a request asks, whichever API it came by."""

    question: str
    text: str
    limit: int = 0
    tools: tuple[Tool, ...] = ()
    must_call: bool = False
    reasoning: bool = False


class Part(StrEnum):
    """What a piece of an answer belongs to."""

    REASONING = "reasoning"
    TEXT = "text"
    TOOL = "tool"


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer in tokens, with the time each takes."""

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
        """How many tokens were generated, reasoning included."""
        return len(self.reasoning) + len(self.pieces)

    @property
    def duration_s(self) -> float:
        """How long all of it takes."""
        return self.prompt_s + self.output_tokens * self.token_s

    def timings(self) -> Json:
        """Return llama-server's figures, from the configured speed and not from the clock."""
        prompt_ms = self.prompt_s * 1000 or self.prompt_tokens * 1000 / NOMINAL_TOKENS_PER_SECOND
        token_ms = (self.token_s or 1 / NOMINAL_TOKENS_PER_SECOND) * 1000
        new = self.prompt_tokens - self.cached_tokens
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

    def play(self, request: Request) -> Iterator[tuple[Part, str]]:
        """Yield each piece when it is due. Blocks in between; raises ClientGone."""
        main = Part.TOOL if self.tool else Part.TEXT
        for part, pieces in ((Part.REASONING, self.reasoning), (main, self.pieces)):
            for piece in pieces:
                request.client.wait(self.token_s)
                yield part, piece


def compose(state: State, request: Request, prompt: Prompt) -> Reply:
    """Return the answer to *prompt*: the same each time it is asked."""
    options = state.options
    speed = request.number("sim_tps", options.tokens_per_second)
    tool = _called_tool(prompt)
    reasoning = tokens.split(f"The user said: {prompt.question}") if prompt.reasoning else []
    pieces = _call(tool, prompt) if tool else _say(state, request, prompt)
    room = max(prompt.limit - len(reasoning), 0) if prompt.limit else len(pieces)
    prompt_tokens = tokens.count(prompt.text)
    return Reply(
        model=request.text("model") or options.model,
        prompt_tokens=prompt_tokens,
        cached_tokens=min(int(request.number("sim_cached")), prompt_tokens),
        reasoning=reasoning[: prompt.limit] if prompt.limit else reasoning,
        pieces=pieces[:room],
        tool=tool,
        cut=room < len(pieces),
        prompt_s=request.number("sim_prompt_time", options.prompt_time),
        token_s=1 / speed if speed else 0.0,
    )


def _say(state: State, request: Request, prompt: Prompt) -> list[str]:
    options = state.options
    model = request.text("model") or options.model
    said = f"You said: {prompt.question.strip()}\n" if prompt.question.strip() else ""
    text = options.respond or f"{said}I am {model}, a simulated model."
    length = int(request.number("sim_tokens", options.tokens))
    pieces = tokens.of_length(text, length) if length else tokens.split(text)
    return tokens.garbage(len(pieces)) if state.corrupted else pieces


def _called_tool(prompt: Prompt) -> Tool | None:
    """The tool named in the question; or the first, if one is asked for or demanded."""
    question = prompt.question.lower()
    named = next((tool for tool in prompt.tools if tool.name.lower() in question), None)
    if named or not prompt.tools:
        return named
    return prompt.tools[0] if prompt.must_call or "tool" in question.split() else None


def _call(tool: Tool, prompt: Prompt) -> list[str]:
    sample = {"string": prompt.question, "integer": 1, "number": 1.5, "boolean": True}
    sample |= {"array": [], "object": {}}
    properties: Json = tool.schema.get("properties") or {}
    arguments = {
        name: next(iter(schema.get("enum") or ()), sample.get(schema.get("type", "string")))
        for name, schema in properties.items()
    }
    return tokens.split(json.dumps(arguments, ensure_ascii=False))
