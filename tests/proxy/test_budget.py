"""Facts about llmsnap.proxy.request."""

from __future__ import annotations

import sys

import pytest

from llmsnap.config import loads
from llmsnap.errors import NoRoom, TooLarge
from llmsnap.proxy import request
from llmsnap.proxy.request import MIB, BodyBudget, BodyShare

GIB = 1 << 30


def bodies(memory: float = 1, disk: float = 2) -> BodyBudget:
    return BodyBudget(loads(f"models: {{}}\nmaxBodyMemory: {memory}\nmaxSpool: {disk}", environ={}))


def used(made: BodyBudget) -> tuple[int, int]:
    return made.memory.used_bytes, made.disk.used_bytes


def test_what_requests_hold_adds_up_and_is_given_back() -> None:
    made = bodies()
    first, second = BodyShare(made), BodyShare(made)
    first.in_memory(100)
    first.in_memory(300)
    second.in_memory(50)
    second.on_disk(1000)
    assert used(made) == (350, 1000)
    second.in_memory(0)
    assert used(made) == (300, 1000)
    for held in (first, second, second):
        held.close()
    assert used(made) == (0, 0)


def test_beyond_the_budget_a_body_is_refused_and_what_it_had_stays_counted() -> None:
    made = bodies()
    first, second = BodyShare(made), BodyShare(made)
    first.in_memory(MIB - 10)
    second.in_memory(10)
    with pytest.raises(NoRoom, match=r"1 MiB that .* in memory \(maxBodyMemory\)") as error:
        second.in_memory(11)
    assert (error.value.status, error.value.retry_after_s) == (503, 5.0)
    assert used(made) == (MIB, 0)
    first.close()
    second.in_memory(11)
    assert used(made) == (11, 0)


@pytest.mark.parametrize(
    ("on_disk", "limit", "key"), [(False, MIB, "maxBodyMemory"), (True, 2 * MIB, "maxSpool")]
)
def test_what_never_fits_is_too_large_whatever_others_hold(on_disk, limit, key) -> None:
    made = bodies()
    held, other = BodyShare(made), BodyShare(made)
    held.expect(limit, on_disk=on_disk)
    with pytest.raises(TooLarge, match=key):
        held.expect(limit + 1, on_disk=on_disk)
    with pytest.raises(TooLarge, match=key):
        (held.on_disk if on_disk else held.in_memory)(limit + 1)
    (other.on_disk if on_disk else other.in_memory)(1)
    with pytest.raises(NoRoom, match=key):
        held.expect(limit, on_disk=on_disk)
    assert sum(used(made)) == 1, "what is announced is not counted"


@pytest.mark.parametrize(
    ("memory", "limit"), [(64 * GIB, GIB), (4 * GIB, GIB), (512 * MIB, 128 * MIB)]
)
def test_by_itself_it_is_a_quarter_of_the_memory_and_half_of_the_free_disk(
    monkeypatch, tmp_path, memory: int, limit: int
) -> None:
    monkeypatch.setattr(request, "memory_bytes", lambda: memory)
    monkeypatch.setattr(request.tempfile, "gettempdir", lambda: str(tmp_path))
    made = bodies(0, 0)
    assert made.memory.limit_bytes == limit
    free = request.shutil.disk_usage(tmp_path).free
    assert abs(made.disk.limit_bytes - free // 2) < free // 4
    monkeypatch.setattr(request.tempfile, "gettempdir", lambda: str(tmp_path / "none"))
    assert bodies(0, 0).disk.limit_bytes == sys.maxsize // 2


def test_new_settings_leave_what_is_held() -> None:
    made = bodies()
    held = BodyShare(made)
    held.in_memory(MIB)
    made.configure(loads("models: {}\nmaxBodyMemory: 0.5", environ={}))
    with pytest.raises(NoRoom):
        BodyShare(made).in_memory(1)
    held.close()
    BodyShare(made).in_memory(1)
    assert repr(made.memory) == f"<ByteLimit 1 of {MIB // 2} bytes in memory>"
