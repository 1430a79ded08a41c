import hashlib
from collections.abc import Iterator
from pathlib import Path

import gevent
import pytest
from gevent.event import Event

from llmsnap import configfile
from llmsnap.config import Sources
from llmsnap.configfile import Look
from llmsnap.reload import ConfigWatcher
from tests.parity import parity


class Changes:
    def __init__(self) -> None:
        self.count = 0
        self.came = Event()
        self.hold: Event | None = None

    def __call__(self, found: Look) -> None:
        self.count += 1
        self.content = found.content
        self.came.set()
        if self.hold is not None:
            self.hold.wait()

    def wait(self) -> None:
        assert self.came.wait(3)
        self.came.clear()


@pytest.fixture
def changes() -> Changes:
    return Changes()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "config.yaml"
    path.write_text("a")
    return path


@pytest.fixture
def watch(file: Path, changes: Changes) -> Iterator[ConfigWatcher]:
    watcher = ConfigWatcher(str(file), changes, quiet_s=0.03, poll_s=60)
    watcher.open()
    yield watcher
    watcher.close()


@parity("Reload", "`-watch-config`")
def test_many_writes_are_one_change_and_other_files_of_the_folder_do_not_matter(
    watch: ConfigWatcher, file: Path, changes: Changes
) -> None:
    file.with_name("other.log").write_text("line")
    for size in range(5):
        file.write_text("x" * (size + 2))
        gevent.idle()
    changes.wait()
    assert changes.count == 1


def test_a_rename_over_the_file_is_seen_and_a_removal_when_it_is_back(
    watch: ConfigWatcher, file: Path, changes: Changes
) -> None:
    new = file.with_suffix(".tmp")
    new.write_text("b")
    new.rename(file)
    changes.wait()
    file.unlink()
    gevent.idle()
    assert changes.count == 1
    file.write_text("back")
    changes.wait()


def test_changes_during_a_reload_cause_exactly_one_more(watch, file, changes) -> None:
    changes.hold = Event()
    file.write_text("bb")
    changes.wait()
    file.write_text("ccc")
    file.write_text("dddd")
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
    watcher = ConfigWatcher(str(tmp_path / "config.yaml"), changes, quiet_s=0.03, poll_s=60)
    watcher.open()
    (tmp_path / "..data_tmp").symlink_to("2")
    (tmp_path / "..data_tmp").replace(tmp_path / "..data")
    changes.wait()
    watcher.close()


def test_a_change_before_the_watch_began_is_not_missed(file: Path, changes: Changes) -> None:
    loaded = hashlib.sha256(b"what was loaded").hexdigest()
    watcher = ConfigWatcher(str(file), changes, quiet_s=0.01, poll_s=60)
    watcher.open(loaded)
    changes.wait()
    watcher.close()
    watcher = ConfigWatcher(str(file), changes, quiet_s=0.01, poll_s=60)
    watcher.open(hashlib.sha256(b"a").hexdigest())
    gevent.idle()
    watcher.close()
    assert changes.count == 1


def test_without_inotify_a_poll_sees_it(file: Path, changes: Changes, monkeypatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "inotify_simple", None)
    watcher = ConfigWatcher(str(file), changes, quiet_s=0.02, poll_s=0.02)
    watcher.open()
    file.write_text("bb")
    changes.wait()
    watcher.close()


@pytest.mark.parametrize("leases", ["ours", "not ours"])
def test_a_file_in_the_hands_of_its_writer_is_left_alone(
    watch: ConfigWatcher,
    file: Path,
    changes: Changes,
    monkeypatch: pytest.MonkeyPatch,
    leases: str,
) -> None:
    looks = Counted(monkeypatch)
    if leases == "not ours":  # a lease takes a file of our own
        monkeypatch.setattr(configfile, "is_open_for_writing", lambda path: False)
    with file.open("w") as writer:
        looks.wait_for(4)
        writer.write("whole")
    changes.wait()
    assert (changes.count, changes.content) == (1, b"whole")


class Counted:
    """Looks at the file, to be waited for."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.left = 0
        self.enough = Event()
        look = configfile.look

        def counted(path: str) -> Look:
            self.left -= 1
            if self.left <= 0:
                self.enough.set()
            return look(path)

        monkeypatch.setattr(configfile, "look", counted)

    def wait_for(self, number: int) -> None:
        self.left = number
        self.enough.clear()
        assert self.enough.wait(3)


# --- a directory ---------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "conf.d"
    made.mkdir()
    (made / "a.yaml").write_text("a")
    return made


@pytest.fixture
def watch_folder(folder: Path, changes: Changes) -> Iterator[ConfigWatcher]:
    watcher = ConfigWatcher(Sources("", str(folder)), changes, quiet_s=0.03, poll_s=0.02)
    watcher.open()
    yield watcher
    watcher.close()


@parity("`-config-dir`", "with `-watch-config`: one reload for each change", "the same")
def test_files_that_come_change_and_go_are_seen(watch_folder, folder: Path, changes) -> None:
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
def test_a_directory_that_is_lost_counts_only_when_it_is_back(
    watch_folder, folder: Path, changes
) -> None:
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
