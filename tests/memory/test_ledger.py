"""Who holds what of a device, from readings."""

from pathlib import Path
from typing import Any

import pytest

from llmsnap.memory import (
    DeviceMemory,
    LearnedNeeds,
    Occupant,
    Reading,
    Stage,
    TreeMemory,
    UseLedger,
)
from llmsnap.statedir import StateDir

MIB = 1024**2
LOADING, READY, ASLEEP = Stage.LOADING, Stage.READY, Stage.ASLEEP


def card(used: int, total: int = 1000, **pids: int) -> DeviceMemory:
    held = {int(pid[1:]): size * MIB for pid, size in pids.items()}
    return DeviceMemory("gpu0", total * MIB, used * MIB, held, uuid="GPU-a")


def ram(used: int, total: int = 1000) -> DeviceMemory:
    return DeviceMemory("ram", total * MIB, used * MIB, is_ram=True)


def tree(*pids: int, gpu: int = 0, anonymous: int = 0, weights: int = 0) -> TreeMemory:
    devices = {"gpu0": gpu * MIB} if gpu else {}
    return TreeMemory(anonymous * MIB, weights * MIB, devices, frozenset(pids))


def server(name: str = "m", stage: Stage = READY, **more: Any) -> Occupant:
    return Occupant(name, more.pop("run", 1), stage, more.pop("pid", 7), **more)


def shown(sizes: dict[str, int]) -> dict[str, int]:
    return {name: size // MIB for name, size in sizes.items()}


@pytest.mark.parametrize(
    ("device", "trees", "expected", "held", "others"),
    [
        # The driver lists the process.
        (card(700, p7=500, p9=150), {"m": tree(7, gpu=500)}, 400, 500, 200),
        # It lists others only: the model uses no GPU.
        (card(200, p9=150), {"m": tree(7)}, 400, 0, 200),
        # It lists none: the model counts as what it needs.
        (card(700), {"m": tree(7)}, 400, 400, 300),
        (card(300), {"m": tree(7)}, 400, 400, 0),
        (card(700, p9=500), {}, 400, 400, 300),  # in a container, whose processes are not ours
        (card(0), {"m": tree(7)}, 400, 0, 0),
        # RAM: mapped weights are held, and yet not in use.
        (ram(500), {"m": tree(7, anonymous=100, weights=300)}, 0, 400, 400),
        (ram(500), {"m": tree(7, anonymous=100, weights=300, gpu=300)}, 0, 100, 400),
    ],
)
def test_what_is_used_beyond_a_model_is_of_others(
    device: DeviceMemory, trees: dict[str, TreeMemory], expected: int, held: int, others: int
) -> None:
    ledger = UseLedger()
    pid = 7 if trees else None
    expects = {device.name: expected * MIB}
    ledger.note(Reading((device,), trees), [server(pid=pid, expected=expects)])
    assert shown(ledger.held["m"]) == ({device.name: held} if held else {})
    assert shown(ledger.others) == {device.name: others}


def test_a_server_that_has_just_ended_holds_nothing() -> None:
    ledger = UseLedger()
    for _ in range(2):
        ledger.note(Reading((card(200, p9=200),)), [server(expected={"gpu0": 400 * MIB})])
    assert shown(ledger.held["m"]) == {}
    assert shown(ledger.others) == {"gpu0": 200}


def test_others_are_named_and_count_once_two_readings_agree() -> None:
    ledger = UseLedger()
    for used, others in ((100, 100), (600, 100), (500, 500), (200, 200), (900, 200)):
        ledger.note(Reading((card(used, p9=used),), programs={9: "game"}), [])
        assert shown(ledger.others) == {"gpu0": others}
        assert ledger.is_settled == (used == others)
    assert ledger.holders["gpu0"] == "game (9) 900 MiB"


def readings(ledger: UseLedger, *steps: tuple[Stage, int], **more: Any) -> None:
    for stage, gpu in steps:
        reading = Reading((card(gpu, p7=gpu),), {"m": tree(7, gpu=gpu)})
        ledger.note(reading, [server(stage=stage, **more)])


def test_the_peak_of_a_run_is_what_it_needs_if_there_was_room_for_it() -> None:
    ledger = UseLedger()
    readings(ledger, (LOADING, 0), (LOADING, 900), (READY, 400))
    peak = ledger.peak("m")
    assert peak is not None
    assert (shown(dict(peak.ready)), peak.asleep) == ({"gpu0": 400}, {})
    readings(ledger, (READY, 500), (READY, 450), (ASLEEP, 50), (LOADING, 700))
    peak = ledger.peak("m")
    assert peak is not None
    assert (shown(dict(peak.ready)), shown(dict(peak.asleep))) == ({"gpu0": 500}, {"gpu0": 50})
    assert not peak.by_difference
    readings(ledger, (LOADING, 0), (READY, 500), run=2, least=(1001 * MIB, 0))
    assert ledger.peak("m") is None, "less was free than it needs by the estimate"
    readings(ledger, (READY, 500), run=3)
    assert ledger.peak("m") is None, "its load was not seen"
    ledger.note(Reading((card(0),)), [])
    assert (ledger.peak("m"), ledger.held) == (None, {})


@pytest.mark.parametrize(
    ("beside", "held"), [([], 450), ([server("x", pid=None)], 300)], ids=["alone", "not alone"]
)
def test_a_server_in_a_container_is_measured_by_difference(
    beside: list[Occupant], held: int
) -> None:
    ledger = UseLedger()
    expected = {"gpu0": 300 * MIB}
    ledger.note(Reading((card(100),)), [server(stage=LOADING, pid=None, expected=expected)])
    box = server(pid=None, expected=expected)
    ledger.note(Reading((card(550),)), [box, *beside])
    ledger.note(Reading((card(600),)), [box, *beside])
    assert shown(ledger.held["m"]) == {"gpu0": held}
    assert shown(ledger.others) == {"gpu0": 550 - held}
    peak = ledger.peak("m")
    assert (peak is not None and peak.by_difference) == (not beside)
    assert peak is None or not beside, "what is only assumed teaches nothing"


# --- what is remembered ---------------------------------------------------------------------------


def learned(folder: Path, *peaks: int) -> LearnedNeeds:
    needs = LearnedNeeds(StateDir(folder))
    for gpu in peaks:
        ledger = UseLedger()
        readings(ledger, (LOADING, 0), (READY, gpu))
        peak = ledger.peak("m")
        assert peak is not None
        needs.note("digest", peak, [card(0)], "2026-11-30")
    return needs


def test_the_highest_peak_of_all_loads_is_remembered_by_the_uuid_of_the_device(
    tmp_path: Path,
) -> None:
    learned(tmp_path, 500, 300).write()
    needs = LearnedNeeds(StateDir(tmp_path))
    needs.open()
    found = needs.get("digest")
    assert found is not None
    assert found.source == "measured 2026-11-30"
    moved = DeviceMemory("gpu3", 1, 0, uuid="GPU-a")
    assert shown(found.on([moved, ram(0)])) == {"gpu3": 500}
    assert found.on([DeviceMemory("gpu0", 1, 0, uuid="GPU-b")]) == {}
    assert found.asleep_on([moved]) is None


def test_a_change_of_a_few_mib_is_not_written(tmp_path: Path) -> None:
    ledger, needs = UseLedger(), learned(tmp_path)
    for gpu, is_new in ((400, True), (410, False), (420, True), (300, False)):
        readings(ledger, (LOADING, 0), (READY, gpu), run=gpu)
        peak = ledger.peak("m")
        assert peak is not None
        assert needs.note("digest", peak, [card(0)], "2026-11-30") is is_new
