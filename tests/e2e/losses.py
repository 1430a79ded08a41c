"""What was lost when a part of a cluster was killed: a table, printed at the end of the run."""

from collections.abc import Iterator
from dataclasses import astuple, dataclass

COLUMNS = (
    "engine",
    "part",
    "lost in flight on it",
    "others lost",
    "refused until served",
    "processes left",
    "jobs left",
    "served again after",
)


@dataclass(frozen=True)
class Loss:
    """One row. *in_flight* and *others* are requests; *refused* came before it served again."""

    engine: str
    killed: str
    in_flight: int
    others: int
    refused: int
    processes: int
    jobs: int
    served_s: float


losses: list[Loss] = []


def table() -> Iterator[str]:
    """Yield the lines of the table, as Markdown."""
    yield f"| {' | '.join(COLUMNS)} |"
    yield f"|{'---|' * len(COLUMNS)}"
    for loss in losses:
        *cells, served_s = astuple(loss)
        yield f"| {' | '.join(map(str, cells))} | {served_s:.1f} s |"
