import hashlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import gevent
import pytest
from gevent.event import Event

from llmsnap import configfile
from llmsnap.config import Sources
from llmsnap.configfile import Look
from llmsnap.reload import ConfigWatcher
from tests.parity import parity

LIMIT_S = 10


class Changes:
    """Watches files, and notes changes of them."""

    def __init__(self) -> None:
        self.count = 0
        self.came = Event()
        self.hold: Event | None = None
        self.watchers: list[ConfigWatcher] = []

    def watch(self, what: Path | Sources, loaded: str = "", poll_s: float = 60) -> None:
        sources = str(what) if isinstance(what, Path) else what
        self.watchers.append(ConfigWatcher(sources, self, quiet_s=0.03, poll_s=poll_s))
        self.watchers[-1].open(loaded)

    def __call__(self, found: Look) -> None:
        self.count += 1
        self.content = found.content
        self.came.set()
        if self.hold is not None:
            self.hold.wait()

    def wait(self) -> None:
        assert self.came.wait(LIMIT_S)
        self.came.clear()


@pytest.fixture
def changes() -> Iterator[Changes]:
    made = Changes()
    yield made
    for each in made.watchers:
        each.close()


class Looks:
    """Looks at the files, before each of which something is done."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        self.steps: Iterator[Callable[[], object]] = iter(())
        look = configfile.look

        def counted(path: str) -> Look:
            self.count += 1
            next(self.steps, lambda: None)()
            return look(path)

        monkeypatch.setattr(configfile, "look", counted)


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> Looks:
    return Looks(monkeypatch)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "config.yaml"
    path.write_text("a")
    return path


@pytest.fixture
def watched(file: Path, changes: Changes) -> Path:
    changes.watch(file)
    return file


@parity("Reload", "`-watch-config`")
def test_many_writes_are_one_change_and_other_files_of_the_folder_do_not_matter(
    watched: Path, changes: Changes, looks: Looks
) -> None:
    looks.steps = iter([lambda n=n: watched.write_text("x" * n) for n in range(3, 7)])
    watched.with_name("other.log").write_text("line")
    gevent.idle()
    assert looks.count == 0
    watched.write_text("xx")
    changes.wait()
    assert (changes.count, changes.content) == (1, b"xxxxxx")


def test_a_rename_over_the_file_is_seen_and_a_removal_when_it_is_back(
    watched: Path, changes: Changes, looks: Looks
) -> None:
    new = watched.with_suffix(".tmp")
    new.write_text("b")
    new.rename(watched)
    changes.wait()
    seen = Event()
    looks.steps = iter([int, watched.unlink, seen.set])
    watched.write_text("c")
    assert seen.wait(LIMIT_S)
    gevent.idle()
    assert changes.count == 1
    watched.write_text("back")
    changes.wait()


def test_changes_during_a_reload_cause_exactly_one_more(watched: Path, changes: Changes) -> None:
    changes.hold = Event()
    watched.write_text("bb")
    changes.wait()
    watched.write_text("ccc")
    watched.write_text("dddd")
    changes.hold.set()
    changes.wait()
    assert changes.count == 2


def test_a_swap_of_the_data_link_is_seen(tmp_path: Path, changes: Changes) -> None:
    """As Kubernetes updates a config map: config.yaml -> ..data/config.yaml, ..data -> a folder."""
    for version in ("1", "2"):
        (tmp_path / version).mkdir()
        (tmp_path / version / "config.yaml").write_text(version)
    (tmp_path / "..data").symlink_to("1")
    (tmp_path / "config.yaml").symlink_to("..data/config.yaml")
    changes.watch(tmp_path / "config.yaml")
    (tmp_path / "..data_tmp").symlink_to("2")
    (tmp_path / "..data_tmp").replace(tmp_path / "..data")
    changes.wait()


@pytest.mark.parametrize(("loaded", "count"), [(b"what was loaded", 1), (b"a", 0)])
def test_a_change_before_the_watch_began_is_not_missed(
    file: Path, changes: Changes, looks: Looks, loaded: bytes, count: int
) -> None:
    changes.watch(file, hashlib.sha256(loaded).hexdigest())
    gevent.idle()
    assert looks.count == count
    if count:
        changes.wait()


def test_without_inotify_a_poll_sees_it(file: Path, changes: Changes, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "inotify_simple", None)
    changes.watch(file, poll_s=0.02)
    file.write_text("bb")
    changes.wait()


@pytest.mark.parametrize("leases", ["ours", "not ours"])
def test_a_file_in_the_hands_of_its_writer_is_left_alone(
    watched: Path, changes: Changes, looks: Looks, monkeypatch, leases: str
) -> None:
    if leases == "not ours":  # a lease takes a file of our own
        monkeypatch.setattr(configfile, "is_open_for_writing", lambda path: False)
    fourth = Event()
    looks.steps = iter([int, int, int, fourth.set])
    with watched.open("w") as writer:
        assert fourth.wait(LIMIT_S)
        writer.write("whole")
    changes.wait()
    assert (changes.count, changes.content) == (1, b"whole")


# --- a directory ---------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path, changes: Changes) -> Path:
    made = tmp_path / "conf.d"
    made.mkdir()
    (made / "a.yaml").write_text("a")
    changes.watch(Sources("", str(made)), poll_s=0.02)
    return made


@parity("`-config-dir`", "with `-watch-config`: one reload for each change", "the same")
def test_files_that_come_change_and_go_are_seen(folder: Path, changes: Changes) -> None:
    (folder / "b.yaml").write_text("b")
    (folder / "c.yml").write_text("c")
    changes.wait()
    assert changes.content == b"abc"
    (folder / "b.yaml").write_text("B")
    changes.wait()
    assert changes.content == b"aBc"
    (folder / "c.yml").unlink()
    changes.wait()
    assert (changes.count, changes.content) == (3, b"aB")


@parity("`-config-dir`", "a directory that is gone or empty for a moment is no change", "the same")
def test_a_directory_that_is_lost_counts_only_when_it_is_back(folder: Path, changes) -> None:
    folder.rename(folder.parent / "away")
    (folder.parent / "away" / "a.yaml").rename(folder.parent / "a.yaml")
    folder.mkdir()  # empty
    (folder / "notes.txt").write_text("x")
    (folder / ".b.yaml.swp").write_text("x")
    gevent.idle()
    assert changes.count == 0
    (folder.parent / "a.yaml").rename(folder / "a.yaml")
    (folder / "b.yaml").write_text("b")
    changes.wait()
    assert (changes.count, changes.content) == (1, b"ab")
