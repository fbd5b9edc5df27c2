"""Writing files so that nothing half-written is ever seen and nothing is lost."""

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sfumato.errors import FileError

MARK = ".sfumato"
"""An empty file in every output folder: what is in there may be made again."""


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path`, and move it there if the block succeeds.

    The temporary file has the same suffixes, so writers that go by the name work. If the
    block raises, the temporary file is removed and `path` is what it was before.

    Raises:
        FileError: If the disk is full or the folder cannot be written to.
    """
    temporary = path.with_name(f".{os.getpid()}-{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        raise FileError(path, f"cannot be written ({os_reason(error)})") from error
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def claim_folder(folder: Path, *, overwrite: bool) -> None:
    """Make an output folder and mark it as ours, refusing one that already holds something.

    Args:
        folder: The folder that a command is about to fill.
        overwrite: Whether an existing folder is emptied first. Only a folder that sfumato
            marked is, so that a slip of the keyboard costs no data.

    Raises:
        FileError: If the folder exists with content and may not be emptied, or is a file.
    """
    if folder.is_file():
        raise FileError(folder, "is a file, but a folder is to be written there")
    if folder.exists() and any(folder.iterdir()):
        if not overwrite:
            raise FileError(folder, "exists already; choose another --out or add --overwrite")
        if not (folder / MARK).exists():
            raise FileError(
                folder, "was not written by sfumato, so it is not emptied; choose another --out"
            )
        shutil.rmtree(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / MARK).touch()
    except OSError as error:
        raise FileError(folder, f"cannot be made ({os_reason(error)})") from error


def os_reason(error: OSError) -> str:
    """Return what went wrong with a file in a few plain words."""
    if error.errno == errno.ENOSPC:
        return "the disk is full; free some space and run again"
    return (error.strerror or str(error)).lower()
