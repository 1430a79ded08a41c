"""The memory meter: readings become budgets, and budgets become known to the scheduler."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from gevent import subprocess

from llmsnap.config import Config, loads
from llmsnap.limits import memory_bytes
from llmsnap.memory import DeviceMemory
from llmsnap.metering import LOADING_S, RESTING_S, MemoryMeter, RunningServer
from llmsnap.models import State
from llmsnap.routing import Memory
from llmsnap.statedir import StateDir
from tests.memory.ggufs import gguf

MIB = 1024**2
TEXT = """
memory: {gpu0: {reserve: 10MiB}}
models:
  auto: {cmd: "llama-server --port ${PORT} -m FILE -c 4096"}
  fixed: {cmd: "serve ${PORT}", memory: 300MiB}
"""


class Machine:
    """One card of 1000 MiB, and the servers that run; *used* is MiB of the card by model."""

    def __init__(self, folder: Path, pid: int) -> None:
        self.pid = pid
        self.file = folder / "model.gguf"
        self.file.touch()
        os.truncate(self.file, 100 * MIB)
        self.servers: dict[str, RunningServer] = {}
        self.used = 0
        self.others = 0
        self.budgets: list[Memory] = []
        self.waits = self.fails = False
        self.today = "2026-11-30"
        self.state = StateDir(folder)
        self.meter = self.new_meter()

    def new_meter(self) -> MemoryMeter:
        return MemoryMeter(
            self.state,
            lambda: self.servers,
            self.budgets.append,
            lambda: self.waits,
            find=lambda: self,
            today=lambda: self.today,
        )

    def read(self) -> tuple[DeviceMemory, ...]:
        if self.fails:
            raise RuntimeError("the driver was updated")
        total = (self.used + self.others) * MIB
        pids = {self.pid: self.used * MIB} if self.servers else {}
        if self.others:
            pids[1] = self.others * MIB
        ram = DeviceMemory("ram", 2000 * MIB, 0, is_ram=True)
        return DeviceMemory("gpu0", 1000 * MIB, total, pids, "GPU-a", "nvidia"), ram

    def config(self, more: str = "", instead: tuple[str, str] = ("", "")) -> Config:
        text = TEXT.replace(*instead).replace("FILE", str(self.file))
        return loads(text + more, environ={})

    def use(self, config: Config) -> None:
        self.meter.prepare(config)
        self.meter.use(config)
        self.meter.refigure()

    def run(self, model_id: str, state: State, used: int, number: int = 1) -> None:
        self.servers = {model_id: RunningServer(number, state, self.pid)}
        self.used = used
        self.meter.measure()

    def load(self, model_id: str, used: int, number: int = 1) -> None:
        """Start a model, which then holds *used*."""
        self.run(model_id, State.STARTING, 0, number)
        self.run(model_id, State.READY, used, number)

    def shares(self, model_id: str) -> dict[str, int]:
        """The MiB that it needs, by device."""
        return {each.device: round(each.size / MIB) for each in self.budget.need(model_id).shares}

    def need(self, model_id: str = "auto") -> tuple[str, int]:
        return self.budget.need(model_id).source, self.shares(model_id)["gpu0"]

    @property
    def budget(self) -> Memory:
        return self.meter.budget


@pytest.fixture(scope="module")
def server() -> Iterator[int]:
    """The PID of what runs as a model's server: a small process, whose memory is quickly read."""
    with subprocess.Popen(["sleep", "600"]) as popen:
        yield popen.pid
        popen.kill()


@pytest.fixture
def machine(tmp_path: Path, server: int) -> Iterator[Machine]:
    made = Machine(tmp_path, server)
    yield made
    made.meter.close()


def test_what_a_model_held_is_what_it_needs_from_then_on(machine: Machine) -> None:
    machine.use(machine.config())
    assert machine.need() == ("estimated", 115)  # no GGUF: 1.15 x its size
    machine.run("auto", State.STARTING, 0)
    machine.run("auto", State.STARTING, 250)
    assert machine.need() == ("estimated", 115)
    assert machine.budget.holds("auto", "")[0] == 250 * MIB
    machine.run("auto", State.READY, 220)
    assert machine.need() == ("measured 2026-11-30", 220)
    machine.today = "2026-12-01"
    machine.run("auto", State.READY, 225)
    assert machine.need() == ("measured 2026-11-30", 220), "too small a change"
    machine.run("auto", State.ASLEEP, 40)
    assert machine.budget.held("auto", "", asleep=True)[0] == 40 * MIB
    again = machine.new_meter()
    again.open(machine.config())
    machine.meter.close()
    machine.meter = again
    machine.meter.use(machine.config())
    assert machine.need() == ("measured 2026-12-01", 225)


def test_an_estimate_is_on_the_device_of_its_model_and_what_was_measured_is_of_that_device(
    machine: Machine,
) -> None:
    def use(device: str) -> dict[str, int]:
        machine.use(machine.config(instead=("auto: {", f"auto: {{{device}")))
        return machine.shares("auto")

    assert use("device: ram, ") == {"ram": 115}
    assert use("device: gpu0, ") == {"gpu0": 115}
    machine.load("auto", 220)
    assert use("device: gpu0, ")["gpu0"] == 220
    assert use("device: ram, ") == {"ram": 115}


GROWN = " + 10%, having run out of memory"


def test_what_ran_out_of_memory_needs_more_after_a_restart_too_until_its_memory_changes(
    machine: Machine,
) -> None:
    machine.use(machine.config())
    assert machine.meter.note_lack(machine.config().models["fixed"])
    machine.meter.refigure()
    assert machine.need("fixed") == (f"declared{GROWN}", 330)
    machine.meter.close()
    machine.meter = machine.new_meter()
    machine.meter.open(machine.config())
    machine.use(machine.config())
    assert machine.need("fixed") == (f"declared{GROWN}", 330)
    assert machine.need("auto") == ("estimated", 115)
    machine.use(machine.config(instead=("300MiB", "320MiB")))
    assert machine.need("fixed") == ("declared", 320)
    machine.use(machine.config())
    assert machine.meter.forget_lacks(machine.config().models["fixed"])
    assert not machine.meter.forget_lacks(machine.config().models["fixed"])
    machine.meter.refigure()
    assert machine.need("fixed") == ("declared", 300)


def test_the_growth_of_a_need_ends_where_more_is_measured(machine: Machine) -> None:
    machine.use(machine.config())
    model = machine.config().models["auto"]
    measured = "measured 2026-11-30"
    for number, (used, need) in enumerate(
        ((220, (measured, 220)), (215, (f"{measured}{GROWN}", 242)), (250, (measured, 250)))
    ):
        machine.load("auto", used, number)
        assert machine.need() == need
        assert machine.meter.note_lack(model)


def test_an_unknown_need_cannot_grow(machine: Machine) -> None:
    config = machine.config("  new: {cmd: 'serve ${PORT}'}")
    machine.use(config)
    assert not machine.meter.note_lack(config.models["new"])


def test_a_run_teaches_about_the_definition_and_the_files_it_began_with(machine: Machine) -> None:
    machine.use(machine.config())
    machine.run("auto", State.STARTING, 0)
    machine.use(machine.config(instead=("4096", "8192")))
    machine.run("auto", State.READY, 220)
    assert machine.need()[0] == "estimated"
    machine.use(machine.config())
    assert machine.need() == ("measured 2026-11-30", 220)
    machine.file.write_bytes(gguf({"general.architecture": "llama"}))
    machine.run("auto", State.STARTING, 0, number=2)
    assert machine.need()[0] == "estimated"


def test_the_scheduler_hears_of_changes_that_matter(machine: Machine) -> None:
    machine.use(machine.config())
    machine.run("fixed", State.STARTING, 0)
    before = len(machine.budgets)
    machine.run("fixed", State.READY, 300)
    assert len(machine.budgets) == before + 1
    for used in (301, 310, 295, 300):
        machine.run("fixed", State.READY, used)
    assert len(machine.budgets) == before + 1
    machine.others = 200
    for budgets in (1, 2, 2):  # two readings agree that others use it
        machine.meter.measure()
        assert len(machine.budgets) == before + budgets
    assert machine.budgets[-1].devices[0].others == 200 * MIB
    assert machine.budgets[-1].devices[0].holders


def test_a_figure_of_the_file_that_is_too_small_is_told_once(machine: Machine, caplog) -> None:
    machine.use(machine.config())
    for used in (0, 800, 900, 950):
        machine.run("fixed", State.READY if used else State.STARTING, used)
    assert [record.getMessage() for record in caplog.records] == [
        "<fixed> holds 800 MiB of gpu0, and its `memory` says 300 MiB: it counts as what it holds"
    ]


def test_it_hurries_while_something_moves_and_rests_else(machine: Machine) -> None:
    machine.use(machine.config())
    assert machine.meter.pause_s == RESTING_S
    machine.waits = True
    assert machine.meter.pause_s == LOADING_S
    machine.waits = False
    machine.run("fixed", State.STARTING, 0)
    assert machine.meter.pause_s == LOADING_S
    machine.run("fixed", State.READY, 300)
    assert machine.meter.pause_s == RESTING_S
    machine.others = 100
    machine.meter.measure()
    assert machine.meter.pause_s == LOADING_S, "what others use has just changed"


def test_without_a_driver_there_is_ram(machine: Machine) -> None:
    machine.fails = True
    machine.use(machine.config("routing: {router: {use: memory}}"))
    found = {each.name: each.capacity for each in machine.budget.devices}
    assert found == {"ram": memory_bytes()}
    assert machine.meter.variables_of("gpu0")


def test_without_a_budget_nothing_is_read(machine: Machine) -> None:
    machine.fails = True
    machine.use(loads("models: {}", environ={}))
    machine.meter.measure()
    assert machine.budgets == []
    assert machine.budget.devices == ()
