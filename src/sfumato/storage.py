"""Writing files so that nothing half-written is ever seen and nothing is lost."""

import errno
import os
import platform
import secrets
import shutil
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from sfumato.errors import FileError

MARK = ".sfumato"
"""A file in every output folder: what is in there may be made again.

It is locked, and holds the process's number, while a process works in the folder.
"""


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path`, and move it there if the block succeeds.

    The temporary file has the same suffixes, so writers that go by the name work. If the
    block raises, the temporary file is removed and `path` is what it was before.

    Raises:
        FileError: If the disk is full or the folder cannot be written to.
    """
    # By chance, not by process: containers on several machines often share their process ids.
    temporary = path.with_name(f".{secrets.randbits(32)}-{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        raise FileError(path, f"cannot be written ({os_reason(error)})") from error
    finally:
        # Where not even the folder could be made, there is nothing to remove.
        with suppress(OSError):
            temporary.unlink()


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary files and folders that a killed process left below a folder."""
    for path in list(folder.rglob(".[0-9]*-*")):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def check_output(folder: Path, *, overwrite: bool, inputs: Iterable[Path] = ()) -> None:
    """Refuse an output folder that already holds something.

    Args:
        folder: The folder that a command is about to fill.
        overwrite: Whether an existing folder may be emptied. Only a folder that sfumato marked
            may, so that a slip of the keyboard costs no data.
        inputs: What the command reads; a folder that holds any of it is not emptied.

    Raises:
        FileError: If the folder exists with content and may not be emptied, or is a file.
    """
    if folder.is_file():
        raise FileError(folder, "is a file, but a folder is to be written there")
    content = {path.name for path in folder.iterdir()} if folder.exists() else set()
    if content <= {MARK}:  # A mark alone is left by a command that failed at once.
        return
    if not overwrite:
        raise FileError(folder, "exists already; choose another --out or add --overwrite")
    if MARK not in content:
        raise FileError(
            folder, "was not written by sfumato, so it is not emptied; choose another --out"
        )
    place = folder.resolve()
    if lost := next((path for path in inputs if path.resolve().is_relative_to(place)), None):
        raise FileError(
            folder, f"holds {lost}, which is to be read, so it is not emptied; choose another --out"
        )


def claim_folder(folder: Path, *, overwrite: bool, inputs: Iterable[Path] = ()) -> None:
    """Make an output folder, or empty it, and mark it as ours; see `check_output`.

    Raises:
        FileError: If the folder may not be emptied, or cannot be made.
    """
    check_output(folder, overwrite=overwrite, inputs=inputs)
    try:
        if folder.exists():
            _empty(folder)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / MARK).touch()
    except OSError as error:
        raise FileError(folder, f"cannot be made ({os_reason(error)})") from error


def _empty(folder: Path) -> None:
    """Remove what is in a folder, but neither the folder (a mounted one, say) nor its mark."""
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path.name != MARK:
            path.unlink()


@contextmanager
def hold_folder(folder: Path) -> Iterator[None]:
    """Keep other processes from working in an output folder at the same time.

    The folder is made if it is not there, and removed again if nothing gets written. A folder
    that is not ours is left alone: `check_output` says what is to be said.

    Raises:
        FileError: If another process works in the folder, or it cannot be made.
    """
    mark = folder / MARK
    if folder.exists() and not mark.exists() and (folder.is_file() or any(folder.iterdir())):
        yield
        return
    is_new, is_made = not mark.exists(), not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(mark, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise FileError(folder, f"cannot be made ({os_reason(error)})") from error
    try:
        if not lock_file(descriptor):
            holder = os.read(descriptor, 200).decode(errors="replace") or "unknown"
            raise FileError(
                folder,
                f"is being written by another process (pid {holder}); wait for it, or stop it",
            )
        _write_holder(descriptor, f"{os.getpid()} on {platform.node()}")
        try:
            yield
        finally:
            _write_holder(descriptor, "")
            if is_new and {path.name for path in folder.iterdir()} == {MARK}:
                mark.unlink()
                if is_made:
                    folder.rmdir()
    finally:
        os.close(descriptor)


def _write_holder(descriptor: int, holder: str) -> None:
    with suppress(OSError):  # A full disk: what is written next tells.
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, holder.encode(), 0)


def lock_file(descriptor: int) -> bool:
    """Lock an open file for this process; the system gives it back however this one ends.

    Returns:
        Whether no other process has it locked; True where there are no locks, as on some
        network file systems.
    """
    if sys.platform == "win32":
        return True
    import fcntl

    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


def os_reason(error: OSError) -> str:
    """Return what went wrong with a file in a few plain words."""
    if error.errno == errno.ENOSPC:
        return "the disk is full; free some space and run again"
    return (error.strerror or str(error)).lower()
