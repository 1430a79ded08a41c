"""A path of the simulated server, and who answers it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from llmsnap.simulator.exchange import Request, Response
from llmsnap.simulator.state import State

Handler = Callable[[State, Request], Response]

GET = ("GET", "HEAD")
POST = ("POST",)
ANY = ()


@dataclass(frozen=True, slots=True)
class Route:
    """A path, its handler and methods, and whether it needs a model loaded and awake."""

    path: str
    handler: Handler
    methods: tuple[str, ...] = POST
    inference: bool = False
