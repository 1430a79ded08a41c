from llmsnap.routing.swaps import (
    Action,
    Eviction,
    LoadKind,
    SwapOutcome,
    SwapRecord,
    SwapRing,
)


def record(number: int, error: str = "") -> SwapRecord:
    return SwapRecord(
        swap_id=number,
        target="b",
        kind=LoadKind.WAKE,
        outcome=SwapOutcome.FAILED if error else SwapOutcome.DONE,
        evicted=(Eviction("a", Action.SLEEP),),
        reason="request",
        waits_s=(3.0, 2.5),
        phases=(("wait", 1.0), ("load", 2.0)),
        reopened=False,
        began_s=1.0,
        ended_s=4.0,
        error=error,
    )


def test_a_record_reads_as_one_line() -> None:
    assert str(record(7)) == (
        "swap 7: wake b for request, done; evicted a (sleep); 2 waited; wait 1.00 s, load 2.00 s"
    )
    assert str(record(8, "exited with code 1")).endswith("; exited with code 1")


def test_the_ring_keeps_the_last_few_in_order() -> None:
    ring = SwapRing(size=2)
    for number in (1, 2, 3):
        ring.append(record(number))
    assert [r.swap_id for r in ring.snapshot()] == [2, 3]
    assert len(ring) == 2
