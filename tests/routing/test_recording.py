import errno
import os
import stat
from pathlib import Path

import pytest

from llmsnap.routing.recording import Recording


def test_lines_from_before_and_after_the_opening_are_kept_in_order(tmp_path: Path) -> None:
    recording = Recording(str(tmp_path / "decisions"))
    recording("first")
    recording.open()
    recording("second")
    assert (tmp_path / "decisions").read_text() == "first\nsecond\n", "each line is there at once"
    recording.close()
    recording.close()
    assert repr(recording).endswith("decisions>")


@pytest.mark.parametrize("exists", [False, True])
def test_only_our_user_may_read_the_decisions(tmp_path: Path, exists: bool) -> None:
    path = tmp_path / "decisions"
    if exists:
        path.write_text("of an earlier run\n")
        path.chmod(0o644)
    before = os.umask(0)
    try:
        recording = Recording(str(path))
        recording.open()
        recording.close()
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.read_text() == ""


def test_a_device_keeps_its_mode(tmp_path: Path) -> None:
    before = Path(os.devnull).stat().st_mode
    recording = Recording(os.devnull)
    recording.open()
    recording("line")
    recording.close()
    assert Path(os.devnull).stat().st_mode == before


def test_a_file_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        Recording(str(tmp_path / "no" / "where")).open()


def test_a_full_disk_ends_the_recording_with_one_line(tmp_path: Path, caplog) -> None:
    class Full:
        def write(self, _: str) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        def close(self) -> None:
            pass

    recording = Recording("x")
    recording._file = Full()  # type: ignore[assignment]
    recording("line")
    assert recording._file is None
    assert caplog.text.count("No space left on device") == 1
