"""Prompts kept over swaps: llama-server saves its slots before a stop, and restores them later.

``PromptCaches`` belongs to the service and knows all models, ``PromptCache`` is one run of a
server. Neither fails a stop or a load: whatever goes wrong is logged, and the prompt is read again.

A 200 is no proof that a restore has worked (llama.cpp #26676): the next long answer's number of
cached tokens is. All that determines the content of a slot is in the fingerprint of its file: the
command with the weights it names, the server's build, its context, the scales of LoRA adapters.
"""

from __future__ import annotations

import hashlib
import logging
import shlex
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import gevent
from gevent.lock import BoundedSemaphore
from gevent.threadpool import ThreadPool

from llmsnap.config import SLOT_OPTION, ModelConfig, PromptCacheConfig
from llmsnap.errors import NoSlots, PromptRefused, UpstreamError, UpstreamTimeout
from llmsnap.memory import WEIGHT_SUFFIXES, swa_full_bytes
from llmsnap.models import slots
from llmsnap.models.control import Address
from llmsnap.models.promptfiles import PromptFile, PromptFiles, delete
from llmsnap.models.promptplaces import (
    FileState,
    files_of,
    folder_of,
    libraries,
    model_key,
    stores,
)
from llmsnap.statedir import StateDir
from llmsnap.tasks import TaskGroup

log = logging.getLogger(__name__)

RESTORE_LIMIT_S = 10.0
SAVE_SHARE = 0.5
"""Of unloadTimeout; the rest is left for the server to end."""
DISK_LIMIT_S = 5.0
SYNC_LIMIT_S = 300.0
CLEAN_EVERY_S = 3600.0
THREADS = 4
PROOF_TOKENS = 256
"""So many cached tokens in the first long answer can come from a restore only."""
MISSES, FAILURES = 2, 2
RATE_LIFE_S = 3600.0
"""Measured speeds of saving and restoring count for this time: the disk may have been busy."""
GIB = 1024**3

T = TypeVar("T")
OnTokens = Callable[[str, str, int], None]
"""Called with (model id, outcome, tokens); never switches. Outcomes: ``saved restored reused
missed``."""


@dataclass(slots=True)
class Pace:
    """Measured speeds of a model; 0: not measured. *save_s* and *restore_s* are for a token."""

    prompt_per_s: float = 0.0
    save_s: float = 0.0
    restore_s: float = 0.0
    bytes_per_token: float = 0.0
    measured_at: float = 0.0

    def pays(self, now: float) -> bool:
        """Whether reading a prompt again takes longer than saving and restoring it."""
        if not self.prompt_per_s or now - self.measured_at > RATE_LIFE_S:
            return True
        return self.prompt_per_s * (self.save_s + self.restore_s) < 1


@dataclass(slots=True)
class Trust:
    """What is known about restoring with one fingerprint. *off*: why it is not done any more.

    *expected*: tokens of the shortest restored prompt that no answer has confirmed; 0: none.
    """

    fingerprint: str = ""
    misses: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    """In a row, of ``saved`` and ``restored``."""
    expected: int = 0
    off: str = ""


@dataclass(slots=True)
class _Model:
    """What is known of one model; *lock* guards the names of its files."""

    pace: Pace = field(default_factory=Pace)
    trust: Trust = field(default_factory=Trust)
    kept: tuple[PromptFile, ...] = ()
    cmd: str = ""
    model_path: str = ""
    """The model's file, as its server reports it."""
    lock: BoundedSemaphore = field(default_factory=lambda: BoundedSemaphore(1))


@dataclass(frozen=True, slots=True)
class PromptSummary:
    """What is kept of a model's prompts. *off*: why nothing is; empty: it is."""

    prompts: int = 0
    tokens: int = 0
    size: int = 0
    off: str = ""


class PromptCaches:
    """The saved prompts of all models."""

    def __init__(self, settings: PromptCacheConfig, state: StateDir, on_tokens: OnTokens) -> None:
        self.settings = settings
        self.state = state
        self.on_tokens = on_tokens
        self._models: dict[str, _Model] = {}
        self._tasks = TaskGroup("prompt cache")
        self._threads: ThreadPool | None = None
        self._timer: Any = None
        self._stores: Mapping[Path, PromptFiles] = {}
        self._owners: frozenset[str] = frozenset()

    def __repr__(self) -> str:
        return f"<PromptCaches of {len(self._models)} models>"

    def configure(self, settings: PromptCacheConfig, models: Iterable[ModelConfig]) -> None:
        """Use *settings*, and delete the prompts of models that are gone. Never switches."""
        before = self._stores
        self._adopt(settings, models)
        if self._owners or before:
            self._tasks.spawn("clean", self._clean, {**before, **self._stores})

    def open(self, models: Iterable[ModelConfig]) -> None:
        """Delete what earlier runs have left too much, later. Never switches."""
        self._adopt(self.settings, models)
        self._tasks.spawn("clean", self._clean, self._stores, True)
        self._timer = gevent.get_hub().loop.timer(CLEAN_EVERY_S, CLEAN_EVERY_S)
        self._timer.start(lambda: self._tasks.spawn("clean", self._clean, self._stores))

    def _adopt(self, settings: PromptCacheConfig, models: Iterable[ModelConfig]) -> None:
        models = [model for model in models if model.prompt_cache]
        self.settings = settings
        self._stores = stores(settings, self.state, models)
        self._owners = frozenset(model_key(model.id) for model in models)
        for model in models:
            self.known(model.id)

    def close(self) -> None:
        """Wait briefly until saved prompts are on the disk. Blocks."""
        if self._timer is not None:
            self._timer.stop()
            self._timer.close()
            self._timer = None
        self._tasks.close(1.0)
        if self._threads is not None:
            gevent.with_timeout(1.0, self._threads.kill, timeout_value=None)

    def summary(self, model_id: str) -> PromptSummary:
        """Return what is kept of *model_id*. Never switches."""
        known = self._models.get(model_id)
        if known is None:
            return PromptSummary()
        tokens, size = (
            sum(file.tokens for file in known.kept),
            sum(file.size for file in known.kept),
        )
        return PromptSummary(len(known.kept), tokens, size, known.trust.off)

    def run(self, model: ModelConfig) -> PromptCache | None:
        """Return the cache of a server that is about to start; None where it keeps none. Blocks."""
        if not model.prompt_cache or model.runs_on.is_remote:
            return None
        folder, is_own = folder_of(model, self.settings, self.state)
        known = self.known(model.id)
        known.cmd = model.cmd
        if folder is None:
            known.trust = Trust(off=f"its command does not start llama-server: add {SLOT_OPTION}")
            return None
        files = self._stores.get(folder) or PromptFiles(folder, self.state.instance)
        try:
            self.in_thread(files.check if is_own else files.prepare)
            before = self.in_thread(files_of, model.cmd)
        except (OSError, UpstreamError) as error:
            why = _reason(error)
            log.warning("<%s> its prompts are not kept: promptCache: %s: %s", model.id, folder, why)
            known.trust = Trust(off=f"{folder} cannot be used: {_reason(error)}")
            return None
        command = model.cmd if is_own else f"{model.cmd} {SLOT_OPTION} {shlex.quote(str(folder))}"
        return PromptCache(self, model, files, command, before)

    def known(self, model_id: str) -> _Model:
        """Return what is known of *model_id*. Never switches."""
        return self._models.setdefault(model_id, _Model())

    def in_thread(self, run: Callable[..., T], *args: Any, limit_s: float = DISK_LIMIT_S) -> T:
        """Return ``run(*args)``, which uses the disk. Blocks. Raises: its error, UpstreamTimeout.

        The threads are our own: a disk that hangs takes a few of them and nothing else.
        """
        if self._threads is None:
            self._threads = ThreadPool(THREADS)
        late = UpstreamTimeout(f"the disk did not answer within {limit_s:g} s")
        with gevent.Timeout(limit_s, late):
            outcome: Any = self._threads.spawn(_outcome, run, args).get()
        found, error = outcome
        if error is not None:
            raise error
        result: T = found
        return result

    # --- what answers tell ---------------------------------------------------------------------

    def note_answer(
        self, model_id: str, cached: int | None, new: int | None, prompt_per_s: float | None
    ) -> None:
        """Learn from an answer of *model_id*; None: not reported. Never switches."""
        known = self._models.get(model_id)
        if known is None or cached is None or new is None:
            return
        if prompt_per_s and new >= PROOF_TOKENS / 4:
            known.pace.prompt_per_s = prompt_per_s
        trust = known.trust
        if not trust.expected:
            return
        if cached >= min(PROOF_TOKENS, trust.expected / 2):
            trust.expected = trust.misses = 0
            self.on_tokens(model_id, "reused", cached)
        elif new + cached >= trust.expected:
            self.on_tokens(model_id, "missed", trust.expected)
            trust.expected = 0
            trust.misses += 1
            self._tasks.spawn(f"miss {model_id}", self._missed, model_id, known)
        elif new >= PROOF_TOKENS:
            trust.expected = 0  # what is cached from now on may be of this one

    def _missed(self, model_id: str, known: _Model) -> None:
        """Switch off what does not work: after the first miss where it is known why."""
        trust = known.trust
        more = self._try(swa_full_bytes, known.cmd, known.model_path)
        if trust.off or (trust.misses < MISSES and not more):
            return
        hint = ""
        if more:
            hint = (
                "; its model has a sliding window: with --swa-full it would work, and need up to "
                f"{more / GIB:.1f} GiB more memory"
            )
        self.switch_off(model_id, f"its server does not use restored prompts{hint}")

    def switch_off(self, model_id: str, why: str) -> None:
        """Keep no prompts of *model_id* any more, and delete those kept. Never switches.

        Lasts until its command, its files or its server's build change, or llmsnap restarts.
        """
        known = self.known(model_id)
        known.trust.off, known.trust.expected = why, 0
        log.warning("<%s> promptCache is off: %s", model_id, why)
        self._tasks.spawn(f"clear {model_id}", self._clear, model_id, tuple(self._stores.values()))

    def _clear(self, model_id: str, stores: Iterable[PromptFiles]) -> None:
        for files in stores:
            self._try(files.clear, model_key(model_id))
            self.look(files)

    # --- files ---------------------------------------------------------------------------------

    def settle(self, model_id: str, files: PromptFiles, saved: list[PromptFile]) -> None:
        """Have *saved* survive a boot, and delete what is too much; later. Never switches."""
        self._tasks.spawn(f"settle {model_id}", self._settle, model_id, files, saved)

    def _settle(self, model_id: str, files: PromptFiles, saved: list[PromptFile]) -> None:
        known = self.known(model_id)
        for file in saved:
            if self._try(files.sync, file, limit_s=SYNC_LIMIT_S):
                with known.lock:
                    self._try(files.settle, file)
        if known.trust.off:
            self._clear(model_id, [files])
        self._clean({files.folder: files})

    def _clean(self, stores: Mapping[Path, PromptFiles], parts: bool = False) -> None:
        settings = self.settings
        for folder, files in stores.items():
            owners = self._owners if folder in self._stores else frozenset()
            self._try(files.clean, owners, settings.max_age_s, settings.max_bytes)
            if parts:
                self._try(files.clear_parts)
            self.look(files)

    def discard(self, part: Path) -> None:
        """Delete a file that was not finished, later. Never switches."""
        self._tasks.spawn("discard", self._try, part.unlink, True)

    def look(self, files: PromptFiles) -> None:
        """Note what is kept in the folder of *files*. Blocks briefly."""
        found = self._try(files.all) or []
        for model_id, known in self._models.items():
            key = model_key(model_id)
            ours = tuple(file for file in found if file.model == key)
            if ours or any(file.path.parent == files.folder for file in known.kept):
                known.kept = ours

    def _try(self, run: Callable[..., T], *args: Any, limit_s: float = DISK_LIMIT_S) -> T | None:
        """Return ``run(*args)``, or None where the disk refuses. Blocks, up to *limit_s*."""
        try:
            return self.in_thread(run, *args, limit_s=limit_s)
        except (OSError, UpstreamError) as error:
            log.debug("prompt cache: %s", _reason(error))
            return None


class PromptCache:
    """The prompts of one run of a model's server, from before its start until its end."""

    def __init__(
        self,
        caches: PromptCaches,
        model: ModelConfig,
        files: PromptFiles,
        command: str,
        before: Mapping[str, FileState],
    ) -> None:
        self.command = command
        """The model's command, with the option for slots where it needs that."""
        self._caches = caches
        self._model = model
        self._files = files
        self._known = caches.known(model.id)
        self._began_at = time.time()
        self._before = before
        self._slots = 1
        self._scales: slots.Scales = ()
        self._fingerprint = ""
        """Empty until the server is known, and where its prompts are not kept."""
        self.has_restored = False
        """Whether the server got prompts of before."""

    def __repr__(self) -> str:
        return f"<PromptCache of {self._model.id}, {self._fingerprint or 'not in use'}>"

    def restore(self, address: Address, pid: int | None) -> None:
        """Identify the server, which is healthy, and restore the newest prompts. Blocks, bounded.

        *pid* is its process on this machine.
        """
        try:
            with gevent.Timeout(RESTORE_LIMIT_S, _late(RESTORE_LIMIT_S)):
                self._identify(address, pid)
                if self._fingerprint and self._known.pace.pays(time.monotonic()):
                    self._restore(address, time.monotonic() + RESTORE_LIMIT_S)
        except NoSlots as error:
            self._give_up(str(error))
        except (OSError, UpstreamError) as error:
            self._fail("restored", error)
        except Exception:
            log.exception("<%s> prompts were not restored", self._model.id)

    def _identify(self, address: Address, pid: int | None) -> None:
        props = slots.props(address)
        if props.reads_media:
            raise NoSlots("its model reads images or audio, and such prompts are not saved")
        self._slots, self._scales = props.slots, slots.adapters(address)
        self._known.model_path = props.model_path
        found = self._caches.in_thread(files_of, self._model.cmd, props.model_path)
        if not any(Path(path).suffix in WEIGHT_SUFFIXES for path in found):
            raise NoSlots("no file of its model can be read here: a change would not be noticed")
        if any(not self._is_unchanged(path, state) for path, state in found.items()):
            log.info("<%s> promptCache: its files changed while it was loading", self._model.id)
            return
        build = props.build
        if "unknown" in build:
            build += self._caches.in_thread(libraries, pid)
        model = self._model
        definition = model.blueprint or (model.proxy, *model.env, model.cmd)
        parts = (definition, sorted(found.items()), build, props.context, self._scales)
        text = repr(parts).encode("utf-8", "surrogateescape")
        fingerprint = hashlib.sha256(text).hexdigest()[:32]
        if self._known.trust.fingerprint != fingerprint:
            self._known.trust = Trust(fingerprint)
        self._known.trust.expected = 0
        if not self._known.trust.off:
            self._fingerprint = fingerprint

    def _is_unchanged(self, path: str, state: FileState) -> bool:
        """Whether the server has loaded this file as it is: it was so before the start."""
        _, _, changed_ns = state
        before = self._before.get(path)
        return before == state if before is not None else changed_ns < self._began_at * 1e9

    def _restore(self, address: Address, end: float) -> None:
        known, key = self._known, model_key(self._model.id)
        with known.lock:
            all_files = self._caches.in_thread(self._files.all)
            mine = [f for f in all_files if (f.model, f.fingerprint) == (key, self._fingerprint)]
            oldest = time.time() - self._caches.settings.max_age_s
            whole = [file for file in mine if file.is_sound and file.saved_at >= oldest]
            self._caches.in_thread(delete, [file for file in mine if file not in whole])
            free = list(range(self._slots))
            restored: list[int] = []
            began = time.monotonic()
            for file in whole[: self._slots]:
                left_s = end - time.monotonic()
                if left_s <= 0:
                    break
                slot = file.slot if file.slot in free else free[0]
                free.remove(slot)
                try:
                    tokens = slots.restore(address, slot, file.path.name, left_s)
                except PromptRefused as error:
                    log.warning("<%s> a saved prompt is of no use: %s", self._model.id, error)
                    self._caches.in_thread(delete, [file])
                    continue
                if tokens == file.tokens:
                    restored.append(tokens)
        if restored:
            self._note_restored(restored, time.monotonic() - began)

    def _note_restored(self, tokens: list[int], took_s: float) -> None:
        """Note how many tokens each restored prompt has."""
        known, total = self._known, sum(tokens)
        self.has_restored = True
        known.pace.restore_s = took_s / total
        known.trust.expected = min(tokens)
        known.trust.failures["restored"] = 0
        self._caches.on_tokens(self._model.id, "restored", total)
        log.info("<%s> restored %d tokens in %.3f s", self._model.id, total, took_s)

    def save(self, address: Address, limit_s: float) -> None:
        """Save the slots of a server that is about to stop. Blocks, up to *limit_s*."""
        if not self._fingerprint or self._known.trust.off:
            return
        saved: list[PromptFile] = []
        try:
            with gevent.Timeout(limit_s, _late(limit_s)):
                self._save(address, time.monotonic() + limit_s, saved)
        except NoSlots as error:
            self._give_up(str(error))
        except (OSError, UpstreamError) as error:
            self._fail("saved", error)
        except Exception:
            log.exception("<%s> prompts were not saved", self._model.id)
        if saved:
            self._known.trust.failures["saved"] = 0
            self._caches.settle(self._model.id, self._files, saved)

    def _save(self, address: Address, end: float, saved: list[PromptFile]) -> None:
        least, pace = self._caches.settings.min_tokens, self._known.pace
        if slots.props(address).is_asleep:
            return  # it would wake for /slots, and has lost its prompts
        worth = [
            slot
            for slot in slots.slots(address)
            if slot.is_idle and slot.tokens >= least and slot.scales == self._scales
        ]
        if worth and not pace.pays(time.monotonic()):
            log.debug("<%s> prompts are not saved: reading them is faster", self._model.id)
            return
        for slot in worth:
            left_s = end - time.monotonic()
            if left_s <= 0:
                break
            if (file := self._save_slot(address, slot, left_s)) is None:
                break
            saved.append(file)

    def _save_slot(self, address: Address, slot: slots.Slot, left_s: float) -> PromptFile | None:
        """Save one slot; None where the disk has no room for it. Raises: OSError, UpstreamError."""
        pace, files = self._known.pace, self._files
        most = self._caches.settings.max_bytes
        wanted = int(slot.tokens * pace.bytes_per_token)
        if not self._caches.in_thread(files.make_room, wanted, most):
            log.info(
                "<%s> a prompt of %d tokens is not saved: no room", self._model.id, slot.tokens
            )
            return None
        part = files.new_part()
        began = time.monotonic()
        try:
            tokens, size = slots.save(address, slot.number, part.name, left_s)
            took_s = time.monotonic() - began
            with self._known.lock:
                file = self._caches.in_thread(
                    files.accept, part, model_key(self._model.id), self._fingerprint,
                    slot.number, tokens, size,
                )  # fmt: skip
        except BaseException:
            self._caches.discard(part)
            raise
        pace.save_s, pace.bytes_per_token = took_s / tokens, size / tokens
        pace.measured_at = time.monotonic()
        self._caches.on_tokens(self._model.id, "saved", tokens)
        log.info(
            "<%s> saved %d tokens in %.3f s, %.1f MB", self._model.id, tokens, took_s, size / 1e6
        )
        return file

    def _fail(self, what: str, error: Exception) -> None:
        """Log that prompts were not *what*, and give up when that happens again."""
        failures = self._known.trust.failures
        failures[what] += 1
        log.warning("<%s> prompts were not %s: %s", self._model.id, what, _reason(error))
        if failures[what] >= FAILURES:
            self._give_up(f"prompts could not be {what} {FAILURES} times in a row")

    def _give_up(self, why: str) -> None:
        self._fingerprint = ""
        if not self._known.trust.off:
            self._caches.switch_off(self._model.id, why)


def _outcome(run: Callable[..., T], args: tuple[Any, ...]) -> tuple[T | None, OSError | None]:
    """Return what *run* returns, or its OSError: a thread's pool prints errors."""
    try:
        return run(*args), None
    except OSError as error:
        return None, error


def _late(limit_s: float) -> UpstreamTimeout:
    return UpstreamTimeout(f"that took longer than {limit_s:g} s")


def _reason(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else "") or str(error)
