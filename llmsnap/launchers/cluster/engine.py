"""The interface between a launcher of a cluster and its engine: jobs, as plain data.

An Engine is a thin REST client without state of its own that matters: it may be made anew at any
time. What is the same for all engines is in ``launcher`` and ``job``: waiting for a machine, the
runner, watching, output, stops, adoption. An engine that cannot cancel a job that waits (Ray) gets
the deadline of the runner.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from llmsnap.config import Resources
from llmsnap.launchers.base import NodeView


class JobPhase(StrEnum):
    """Where a job is. UNKNOWN: the engine has no such job."""

    PENDING = "pending"
    RUNNING = "running"
    ENDED = "ended"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class JobRequest:
    """A job to submit: *command* is for a POSIX shell, *env* holds secrets.

    *avoid* are nodes (``JobView.node_id``) that must not be used. *metadata* is kept with the job,
    and so is *owner*, which identifies this installation of llmsnap.
    """

    id: str
    owner: str
    command: str
    env: Mapping[str, str] = field(repr=False)
    resources: Resources
    metadata: Mapping[str, str]
    grace_s: float
    avoid: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class JobView:
    """A job as its engine describes it.

    *host* is the address of its machine, *node* the name for users, *node_id* the engine's. *code*
    is the exit code; without one, *reason* says how it ended. *was_stopped*: by a request to stop;
    *was_evicted*: by the engine, for *reason*, whatever the server did then; *is_lost*: with its
    machine, or without having had one.
    """

    id: str
    phase: JobPhase
    host: str = ""
    node: str = ""
    node_id: str = ""
    code: int | None = None
    reason: str = ""
    was_stopped: bool = False
    was_evicted: bool = False
    is_lost: bool = False
    metadata: Mapping[str, str] = field(default_factory=dict)


class Engine(Protocol):
    """What runs jobs. Every method blocks for a bounded time, and raises EngineDown.

    EngineDown means that nothing is known: the call may have had its effect.
    """

    notices_late: bool
    """Whether it looks only now and then whether a job has ended, and places one that waits for
    the machine of another as soon as it has: the runner says sooner that all has ended."""

    def use_token(self, token: str) -> None:
        """Send *token* from the next call on. Never switches greenlets."""

    def submit(self, request: JobRequest) -> None:
        """Submit a job. A second call with the same id changes nothing. Raises: Rejected."""

    def look(self, job_id: str) -> JobView:
        """Return the job as it is now."""

    def cancel(self, job_id: str) -> None:
        """Ask for the end of a job, wherever it is: SIGTERM, SIGKILL after its grace."""

    def forget(self, job_id: str) -> None:
        """Delete the record of a job that has ended, if there is one."""

    def jobs(self, owner: str) -> list[JobView]:
        """Return the jobs of *owner* that have not ended."""

    def output(self, job: JobView, skip: int) -> Iterator[bytes]:
        """Yield the output of a running job from byte *skip* on, as it arrives.

        Ends, or raises EngineDown, when the connection breaks; the caller then calls again. May
        block without a bound between two pieces: the greenlet that reads it is killed.
        """

    def is_unplaced(self, request: JobRequest) -> bool:
        """Whether a job that is pending has no machine yet, as far as the engine tells.

        One that has a machine may take seconds to begin; its GPUs count as used.
        """

    def nodes(self) -> list[NodeView]:
        """Return the machines; the figures may be some seconds old."""

    def version(self) -> str:
        """Return the engine's name and version. Raises: Rejected for a wrong token."""

    def close(self) -> None:
        """Close its connections."""
