"""Prompts kept over swaps, with simulated servers in this process."""

import json
import os
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from llmsnap.config import ModelConfig, PromptCacheConfig
from llmsnap.models import Address, parse_address
from llmsnap.models.control import ControlCall, send
from llmsnap.models.promptcache import PromptCache, PromptCaches
from llmsnap.models.promptfiles import PART_SUFFIX, boot_id
from llmsnap.simulator.options import SimOptions
from llmsnap.simulator.server import SimServer
from llmsnap.statedir import StateDir
from tests.memory.ggufs import gguf

PROMPT = " ".join(["one two three four five"] * 200)
TOKENS = 1000


class Machine:
    """A state directory, a model's file, and runs of its simulated server, one after another."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "state"
        self.folder.mkdir(mode=0o700)
        self.weights = folder / "m.gguf"
        self.weights.write_bytes(gguf({"general.architecture": "llama"}))
        self.model = ModelConfig("m", cmd=f"llama-server -m {self.weights}", prompt_cache=True)
        self.settings = PromptCacheConfig()
        self.options: dict = {}
        self.told: list[tuple[str, int]] = []
        self.caches: PromptCaches = None  # type: ignore[assignment]  # until the next line
        self.reopen()

    def reopen(self) -> None:
        """Begin as another process of the same llmsnap would."""
        if self.caches is not None:
            self.caches.close()
        self.caches = PromptCaches(self.settings, StateDir(self.folder), self._tell)
        self.caches.open([self.model])

    def _tell(self, model_id: str, outcome: str, tokens: int) -> None:
        self.told.append((outcome, tokens))

    def start(self, **options: object) -> None:
        run = self.caches.run(self.model)
        assert run is not None
        self.run: PromptCache = run
        words = run.command.split()
        path = words[words.index("--slot-save-path") + 1].strip("'")
        own = {"slot_save_path": path, "model": str(self.weights), **self.options, **options}
        self.server = SimServer(
            SimOptions(port=0, silent=True, **own), lambda _: None, lambda _: None
        )
        self.server.open()
        self.run.restore(self.address, os.getpid())

    @property
    def address(self) -> Address:
        return parse_address(f"http://127.0.0.1:{self.server.port}")

    def ask(self, text: str, **more: object) -> int:
        """Return how many tokens of *text* the server had already."""
        body = {"prompt": text, "timings": True, **more}
        status, answer = send(self.address, ControlCall("POST", "/completion", json.dumps(body)))
        assert status == 200
        found = json.loads(answer)["timings"]
        cached: int = found["cache_n"]
        self.caches.note_answer("m", cached, found["prompt_n"], found["prompt_per_second"])
        return cached

    def stop(self, limit_s: float = 3.0) -> None:
        self.run.save(self.address, limit_s)
        self.server.close()

    def serve(self, *texts: str, **options: object) -> None:
        """Start, answer *texts*, and stop."""
        self.start(**options)
        for text in texts:
            self.ask(text)
        self.stop()

    def fail(self, fault: str) -> None:
        """From now on, calls about slots have *fault*."""
        self.server.state.options = replace(self.server.state.options, slot_fault=fault)

    def settle(self) -> None:
        """Wait until all that was to be done later is done."""
        while len(self.caches._tasks):
            self.caches._tasks._group.join(3)

    def files(self) -> list[Path]:
        self.settle()
        return sorted((self.folder / "prompt-cache").glob("*"))


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    made = Machine(tmp_path)
    yield made
    made.caches.close()


def swap(machine: Machine, text: str = PROMPT, **options: object) -> int:
    """Ask, swap out and in, and ask again: return how many tokens that found again."""
    machine.serve(text)
    machine.start(**options)
    return machine.ask(text + " and then")


def test_a_prompt_is_found_again_after_a_swap(machine: Machine) -> None:
    assert swap(machine) == TOKENS
    assert machine.run.has_restored
    assert machine.told == [("saved", TOKENS), ("restored", TOKENS), ("reused", TOKENS)]
    (file,) = machine.files()
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.parent.stat().st_mode & 0o777 == 0o700
    assert machine.caches.summary("m").tokens == TOKENS
    machine.stop()
    machine.reopen()
    machine.start()
    assert machine.ask(PROMPT) == TOKENS - 1


# --- faults ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["error", "hang", "torn", "lost", "none"])
def test_a_save_that_fails_leaves_nothing_and_the_prompt_is_read_again(
    machine: Machine, fault: str
) -> None:
    machine.start()
    machine.ask(PROMPT)
    machine.fail(fault)
    machine.stop(limit_s=0.2)
    assert machine.files() == []
    machine.start()
    assert machine.ask(PROMPT) == 0
    assert machine.told == []


@pytest.mark.parametrize("fault", ["error", "hang", "none"])
def test_a_restore_that_fails_is_no_failed_load(
    machine: Machine, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("llmsnap.models.promptcache.RESTORE_LIMIT_S", 0.2)
    assert swap(machine, slot_fault=fault) == 0
    assert ("restored", TOKENS) not in machine.told


@pytest.mark.parametrize("failing", ["saved", "restored"])
def test_what_fails_twice_in_a_row_is_not_tried_again(
    machine: Machine, failing: str, caplog: pytest.LogCaptureFixture
) -> None:
    machine.serve(PROMPT)
    for _ in range(3):
        machine.start(slot_fault="error" if failing == "restored" else "")
        machine.ask(PROMPT)
        machine.fail("error" if failing == "saved" else "")
        machine.stop()
    off = f"prompts could not be {failing} 2 times in a row"
    assert machine.caches.summary("m").off == off
    assert [r.message for r in caplog.records].count(f"<m> promptCache is off: {off}") == 1
    assert machine.files() == []


def test_a_restore_that_does_nothing_is_noticed_by_the_answers(
    machine: Machine, caplog: pytest.LogCaptureFixture
) -> None:
    machine.options = {"slot_fault": "noop"}
    for _ in range(2):
        assert swap(machine) == 0
        machine.stop()
        machine.settle()
    assert machine.caches.summary("m").off == "its server does not use restored prompts"
    assert machine.told.count(("missed", TOKENS)) == 2
    told = len(machine.told)
    swap(machine)
    assert (len(machine.told), machine.files()) == (told, [])
    assert len([r for r in caplog.records if "is off" in r.message]) == 1
    machine.model = replace(machine.model, cmd=f"{machine.model.cmd} --swa-full")
    machine.options = {}
    assert swap(machine) == TOKENS, "another command is another case"


def test_a_model_with_a_sliding_window_is_given_up_after_one_miss_with_advice(
    machine: Machine,
) -> None:
    known = {"block_count": 18, "context_length": 32768, "embedding_length": 640}
    heads = {"head_count": 4, "head_count_kv": 1, "key_length": 256, "value_length": 256}
    known |= {f"attention.{name}": size for name, size in {**heads, "sliding_window": 512}.items()}
    metadata = {f"gemma3.{name}": size for name, size in known.items()}
    machine.weights.write_bytes(gguf({"general.architecture": "gemma3", **metadata}))
    assert swap(machine, slot_fault="noop") == 0
    machine.settle()
    advice = "with --swa-full it would work, and need up to 0.6 GiB more memory"
    assert machine.caches.summary("m").off.endswith(advice)


def test_other_prompts_are_no_proof_against_a_restore(machine: Machine) -> None:
    swap(machine)
    for text in ["short", " ".join(["other words"] * 200)]:
        machine.stop()
        machine.start()
        assert machine.ask(text) == 0
    machine.stop()
    machine.start()
    assert machine.ask(PROMPT) > 0 or machine.told.count(("missed", TOKENS)) == 0
    assert machine.caches.summary("m").off == ""


# --- never a wrong restore ------------------------------------------------------------------------

OTHERS = {
    "weights": lambda m: m.weights.write_bytes(m.weights.read_bytes() + b"x"),
    "command": lambda m: setattr(m, "model", replace(m.model, cmd=f"{m.model.cmd} -c 64")),
    "context": lambda m: m.options.update(n_ctx=8192),
    "adapter": lambda m: (m.folder.parent / "a.gguf").write_bytes(b"other"),
    "model": lambda m: setattr(m, "model", replace(m.model, id="m2")),
    "torn": lambda m: os.truncate(m.files()[0], 100),
    "boot": lambda m: m.files()[0].rename(f"{str(m.files()[0])[:-3]}-{'0' * 32}.kv"),
    "age": lambda m: os.utime(m.files()[0], (1e9, 1e9)),
    "owner": lambda m: setattr(m.caches.state, "instance", "0" * 16),
}


@pytest.mark.parametrize("what", OTHERS)
def test_what_does_not_fit_is_not_restored(machine: Machine, what: str) -> None:
    adapter = machine.folder.parent / "a.gguf"
    adapter.write_bytes(b"adapter")
    machine.model = replace(machine.model, cmd=f"{machine.model.cmd} --lora {adapter}")
    machine.serve(PROMPT)
    machine.settle()
    OTHERS[what](machine)
    os.utime(machine.weights, (1e9, 1e9) if what == "weights" else None)
    machine.caches._stores = {}  # as after a reload
    machine.start()
    assert machine.ask(PROMPT) == 0


def test_weights_that_change_while_they_load_are_not_cached(machine: Machine) -> None:
    run = machine.caches.run(machine.model)
    assert run is not None
    machine.weights.write_bytes(b"GGUF new")
    machine.start()
    machine.ask(PROMPT)
    run.restore(machine.address, os.getpid())
    run.save(machine.address, 3)
    assert machine.files() == []


# --- room -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_synced", [True, False])
def test_files_are_on_the_disk_before_they_may_outlive_a_boot(
    machine: Machine, is_synced: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: int) -> None:
        raise OSError("no")

    if not is_synced:
        monkeypatch.setattr(os, "fsync", refuse)
    machine.serve(PROMPT)
    assert [boot_id() in file.name for file in machine.files()] == [not is_synced]


def test_two_models_and_two_slots_share_a_folder(machine: Machine) -> None:
    first, second = machine.model, replace(machine.model, id="m2")
    machine.caches.configure(machine.settings, [first, second])
    texts = [f"{word} {PROMPT}" for word in ("a", "b", "c", "d")]
    for cached in (0, TOKENS):
        for machine.model, pair in ((first, texts[:2]), (second, texts[2:])):
            machine.start(slots=2)
            assert [machine.ask(text) for text in pair] == [cached, cached]
            machine.stop()
        assert len(machine.files()) == 4


def test_the_oldest_leave_and_a_tenth_of_the_disk_stays_free(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.serve(*(f"{word} {PROMPT}" for word in "abc"), slots=3)
    files = machine.files()
    sizes = [file.stat().st_size for file in files]
    for age, file in enumerate(files):
        os.utime(file, (time.time() - 60 * age, time.time() - 60 * age))
    machine.caches.configure(replace(machine.settings, max_bytes=sum(sizes[:2])), [machine.model])
    assert machine.files() == files[:2]
    disk = os.statvfs_result((4096, 4096, 1000, 1000, 0, 1000, 1000, 1000, 0, 255))
    monkeypatch.setattr(os, "statvfs", lambda _: disk)
    machine.serve(PROMPT)
    assert [outcome for outcome, _ in machine.told].count("saved") == 3


def test_what_is_old_or_half_written_or_of_a_removed_model_is_deleted(machine: Machine) -> None:
    machine.serve(PROMPT)
    (file,) = machine.files()
    part = file.parent / f"llmsnap-{machine.caches.state.instance}-12ab{PART_SUFFIX}"
    foreign = file.parent / "mine.bin"
    for each in (part, foreign):
        each.write_bytes(b"half")
    machine.reopen()
    assert machine.files() == [file, foreign], "a save that kill -9 has ended"
    machine.caches.configure(replace(machine.settings, max_age_s=3600), [machine.model])
    assert machine.files() == [file, foreign]
    machine.caches.configure(machine.settings, [replace(machine.model, prompt_cache=False)])
    assert machine.files() == [foreign]


def test_it_saves_only_what_is_worth_it(machine: Machine) -> None:
    machine.serve("short " * 100, PROMPT, slots=2)
    assert [file.name.split("-")[5] for file in machine.files()] == [str(TOKENS)]
    pace = machine.caches.known("m").pace
    pace.prompt_per_s, pace.save_s = 1e9, 1e-3
    told = list(machine.told)
    swap(machine)
    assert machine.told == told, "reading it again is faster"


def test_a_folder_that_others_may_enter_is_refused(machine: Machine) -> None:
    folder = machine.folder / "open"
    folder.mkdir(mode=0o755)
    machine.settings = replace(machine.settings, dir=str(folder))
    machine.reopen()
    assert machine.caches.run(machine.model) is None
    assert f"chmod 700 {folder}" in machine.caches.summary("m").off
