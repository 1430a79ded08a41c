"""What distinguishes a slow load from a hanging one, and when either is given up."""

from collections.abc import Sequence

import pytest

from llmsnap.errors import HealthTimeout
from llmsnap.memory import TreeActivity
from llmsnap.models.control import parse_address
from llmsnap.models.health import HealthCheck, wait_healthy
from llmsnap.models.progress import LoadProgress
from tests.fakes.errors import says

MIB = 1024**2


class World:
    """A process and its log, on a clock of its own."""

    def __init__(self, total: int = 0) -> None:
        self.now = 100.0
        self.activity = TreeActivity(MIB, 0, MIB)
        self.lines: list[str] = ["starting"]
        self.progress = LoadProgress(
            1, self.tail, lambda: total, read=lambda _: self.activity, clock=lambda: self.now
        )

    def tail(self, lines: int) -> Sequence[str]:
        return self.lines[-lines:]

    def after(self, seconds: float) -> float:
        """Return how long ago the last sign was, at a look *seconds* later."""
        self.now += seconds
        return self.now - self.progress.check()


@pytest.mark.parametrize(
    "activity",
    [TreeActivity(2 * MIB, 0, MIB), TreeActivity(MIB, MIB, MIB), TreeActivity(MIB, 0, 2 * MIB)],
    ids=["moved", "disk", "memory"],
)
def test_bytes_are_a_sign(activity: TreeActivity) -> None:
    world = World()
    assert world.after(5) == 5
    world.activity = activity
    assert world.after(5) == 0
    assert world.after(5) == 5, "nothing since"


def test_little_by_little_is_a_sign_too() -> None:
    world = World()
    for step in range(1, 5):
        world.activity = TreeActivity(MIB + step * MIB // 4, 0, MIB)
        since = world.after(2)
    assert since == 0
    assert world.after(1) == 1


def test_answers_to_health_checks_are_no_sign() -> None:
    world = World()
    for _ in range(10):
        world.activity = TreeActivity(world.activity.moved + 300, 0, MIB)
        world.lines.append("GET /health 503")
        since = world.after(2)
    assert since == 18, "the first such line is new"


@pytest.mark.parametrize(
    ("line", "is_sign"),
    [("loading layer", True), ("starting", False), ("still waiting (2 s)", False)],
)
def test_new_lines_are_a_sign_unless_only_numbers_differ(line: str, is_sign: bool) -> None:
    world = World()
    world.lines.append("still waiting (1 s)")
    assert world.after(2) == 0
    world.lines.append(line)
    assert (world.after(2) == 0) is is_sign


def test_the_loaded_share_is_that_of_the_files() -> None:
    world = World(total=10 * MIB)
    world.activity = TreeActivity(MIB, 0, 5 * MIB)
    world.after(2)
    assert world.progress.state.percent == 40
    assert world.progress.state.bytes_per_s == 2 * MIB
    world.activity = TreeActivity(90 * MIB, 0, 5 * MIB)
    world.after(2)
    assert world.progress.state.percent == 99, "it is not ready yet"
    assert World().progress.state.percent is None


class Signs:
    """Progress whose every look finds a sign, *count* times."""

    def __init__(self, count: int, clock: list[float]) -> None:
        self.left, self.clock, self.sign = count, clock, clock[0]

    def check(self) -> float:
        if self.left:
            self.left -= 1
            self.sign = self.clock[0]
        return self.sign


@pytest.mark.parametrize(
    ("signs", "limit_s", "load_limit_s", "message"),
    [
        (0, 10, 0, "not healthy within 10 s"),
        (30, 10, 0, r"not healthy after \d+ s, and no progress for 10 s"),
        (9999, 10, 40, "not healthy within 40 s: .* raise loadTimeout"),
        (0, 10, 5, "not healthy within 5 s: .* raise loadTimeout"),
    ],
)
def test_a_load_is_given_up_without_progress_or_at_its_limit(
    interrupt, monkeypatch, signs: int, limit_s: float, load_limit_s: float, message: str
) -> None:
    clock = [0.0]
    monkeypatch.setattr("llmsnap.models.health.time.monotonic", lambda: clock[0])
    monkeypatch.setattr(interrupt, "pause", lambda seconds: clock.__setitem__(0, clock[0] + 0.5))
    check = HealthCheck("m", "/health", limit_s, load_limit_s, Signs(signs, clock))  # type: ignore[arg-type]
    with pytest.raises(HealthTimeout, check=says(message)):
        wait_healthy(check, parse_address("http://127.0.0.1:1"), interrupt)
