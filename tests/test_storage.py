"""Output that is whole or not there, on real files and real errors of the system."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sfumato.errors import FileError
from sfumato.storage import MARK, atomic_path, claim_folder, hold_folder, write_text

FULL = Path("/dev/full")
"""A file of Linux on a disk that is always full."""


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def stop_in_the_middle(path: Path, stop: type[BaseException]) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text("half")
        raise stop


def write_to_a_full_disk(path: Path) -> None:
    with atomic_path(path) as temporary:
        temporary.symlink_to(FULL)
        temporary.write_text("new")


def test_a_file_appears_under_its_name_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "a.nii.gz"
    with atomic_path(path) as temporary:
        assert temporary.parent == path.parent
        assert temporary.name.endswith("a.nii.gz")
        temporary.write_text("half")
        assert not path.exists()
        temporary.write_text("whole")
    assert path.read_text("utf-8") == "whole"
    assert names(path.parent) == ["a.nii.gz"]


def test_two_writers_of_one_file_never_mix(tmp_path: Path) -> None:
    """As on two machines whose processes have the same id, after one was taken for lost."""
    path = tmp_path / "a.txt"
    with atomic_path(path) as slow:
        slow.write_text("sl")
        with atomic_path(path) as quick:
            quick.write_text("quick")
        assert path.read_text("utf-8") == "quick"
        slow.write_text("slow")
    assert path.read_text("utf-8") == "slow"
    assert names(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("stop", [ValueError, KeyboardInterrupt])
def test_the_old_file_stays_when_writing_fails(tmp_path: Path, stop: type[BaseException]) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "old")
    with pytest.raises(stop):
        stop_in_the_middle(path, stop)
    assert path.read_text("utf-8") == "old"
    assert names(tmp_path) == ["a.txt"]


def test_text_is_written_in_utf_8_whatever_the_system_prefers(tmp_path: Path) -> None:
    write_text(tmp_path / "a.txt", "α 3×3 µm")
    assert (tmp_path / "a.txt").read_bytes() == "α 3×3 µm".encode()


@pytest.mark.skipif(not FULL.exists(), reason="this system has no /dev/full")
def test_a_full_disk_is_told_in_one_plain_line(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "old")
    with pytest.raises(FileError) as caught:
        write_to_a_full_disk(path)
    reason = "cannot be written (the disk is full; free some space and run again)"
    assert str(caught.value) == f"{path}: {reason}"
    assert path.read_text("utf-8") == "old"
    assert names(tmp_path) == ["a.txt"]


def test_a_place_that_is_no_folder_is_told_in_one_plain_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(FileError, match=r"file/a.txt: cannot be written \("):
        write_text(tmp_path / "file" / "a.txt", "")
    with pytest.raises(FileError, match=r"file/b/a.txt: cannot be written \("):
        write_text(tmp_path / "file" / "b" / "a.txt", "")
    (tmp_path / "folder").mkdir()
    with pytest.raises(FileError, match=r"folder: cannot be written \(is a directory\)"):
        write_text(tmp_path / "folder", "")
    assert names(tmp_path) == ["file", "folder"]


def test_a_claimed_folder_is_made_and_marked(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "run"
    claim_folder(folder, overwrite=False)
    assert names(folder) == [MARK]
    empty = tmp_path / "empty"
    empty.mkdir()
    claim_folder(empty, overwrite=False)
    assert names(empty) == [MARK]


def test_a_folder_with_content_is_refused_and_kept(tmp_path: Path) -> None:
    claim_folder(tmp_path, overwrite=False)
    (tmp_path / "result.txt").write_text("old")
    with pytest.raises(FileError, match="exists already; choose another --out or add --overwrite"):
        claim_folder(tmp_path, overwrite=False)
    assert (tmp_path / "result.txt").read_text("utf-8") == "old"


def test_overwriting_empties_a_folder_of_ours(tmp_path: Path) -> None:
    claim_folder(tmp_path, overwrite=False)
    (tmp_path / "result.txt").write_text("old")
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "weights").write_text("old")
    claim_folder(tmp_path, overwrite=True)
    assert names(tmp_path) == [MARK]


def test_overwriting_never_empties_a_folder_of_others(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(FileError, match="was not written by sfumato, so it is not emptied"):
        claim_folder(tmp_path, overwrite=True)
    assert (tmp_path / "thesis.txt").read_text("utf-8") == "years of work"


def test_overwriting_empties_a_linked_folder_but_not_what_links_in_it_lead_to(
    tmp_path: Path,
) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "scan.nii").write_text("irreplaceable")
    run = tmp_path / "run"
    claim_folder(run, overwrite=False)
    (run / "old.txt").write_text("old")
    (run / "data").symlink_to(data)
    link = tmp_path / "link"
    link.symlink_to(run)
    claim_folder(link, overwrite=True)
    assert link.is_symlink()
    assert names(run) == [MARK]
    assert (data / "scan.nii").read_text("utf-8") == "irreplaceable"


def test_a_file_is_not_taken_for_a_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("old")
    for overwrite in (False, True):
        with pytest.raises(FileError, match="is a file, but a folder is to be written there"):
            claim_folder(tmp_path / "file", overwrite=overwrite)
        with pytest.raises(FileError, match=r"file/run: cannot be made \("):
            claim_folder(tmp_path / "file" / "run", overwrite=overwrite)
    assert (tmp_path / "file").read_text("utf-8") == "old"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission_is_told_in_one_plain_line(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(FileError, match=r"cannot be written \(permission denied\)"):
        write_text(tmp_path / "a.txt", "")
    with pytest.raises(FileError, match=r"cannot be made \(permission denied\)"):
        claim_folder(tmp_path / "run", overwrite=False)


HOLD = """
import sys
from pathlib import Path
from sfumato.storage import hold_folder
with hold_folder(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Start a process that works in `tmp_path / "run"`."""
    command = [sys.executable, "-c", HOLD, str(tmp_path / "run")]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="utf-8"
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_a_folder_is_held_by_one_process_until_that_ends_or_dies(
    tmp_path: Path, holder: subprocess.Popen[str]
) -> None:
    folder = tmp_path / "run"
    with pytest.raises(FileError) as caught, hold_folder(folder):
        pass
    start = f"{folder}: is being written by another process (pid {holder.pid} on "
    assert str(caught.value).startswith(start)
    assert str(caught.value).endswith("); wait for it, or stop it")
    holder.kill()
    holder.wait()
    with hold_folder(folder):
        write_text(folder / "a.txt", "mine")
    with hold_folder(folder):
        assert (folder / "a.txt").read_text("utf-8") == "mine"


def test_a_held_folder_can_be_emptied_and_stays_held(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / MARK).touch()
    (folder / "old.txt").touch()
    with hold_folder(folder):
        claim_folder(folder, overwrite=True)
        with pytest.raises(FileError, match="is being written by another"), hold_folder(folder):
            pass


@pytest.mark.parametrize("is_there", [False, True])
def test_a_folder_that_nothing_was_written_to_is_left_as_it_was(
    tmp_path: Path, is_there: bool
) -> None:
    folder = tmp_path / "new" / "run"
    if is_there:
        folder.mkdir(parents=True)
    with pytest.raises(ValueError, match="bad input"), hold_folder(folder):
        raise ValueError("bad input")
    assert folder.exists() == is_there
    assert not is_there or names(folder) == []


def test_a_folder_of_somebody_else_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "photo.png").touch()
    with hold_folder(tmp_path), hold_folder(tmp_path / "photo.png"):
        assert names(tmp_path) == ["photo.png"]
