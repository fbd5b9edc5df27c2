"""What was made of which files: one line for each case, written as it is done.

A line is added at one go after the files of its case are in place, so whatever kills the
process, the manifest never claims what is not there. A line that was cut short counts for
nothing.
"""

import errno
import hashlib
import json
import os
import stat
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from pydantic import ValidationError

from sfumato.errors import FileError
from sfumato.image.dicom_files import split_place
from sfumato.inference.uncertainty import VolumeEstimate
from sfumato.settings import Settings
from sfumato.storage import lock_file, os_reason

MANIFEST_NAME = "manifest.jsonl"


class FileState(Settings):
    """What a file was when it was read or written.

    Attributes:
        n_bytes: Its size; of a DICOM folder, that of its files together.
        modified_ns: When it was changed last, in nanoseconds since 1970; None for outputs.
        sha256: The hash of its content.
    """

    n_bytes: int
    modified_ns: int | None = None
    sha256: str


class Entry(Settings):
    """A case that is done.

    Attributes:
        case: The case's name.
        job: Which settings, classes and version it was made with: the key of a start.
        inputs: Image files, then label files, by path.
        outputs: What was written, by path within the output folder.
        seconds: How long each stage took, such as "read" and "write".
        softened_share: Which share of its elements was softened, if it was softened.
        volumes: How large its structures are, if it was segmented, in the classes' order.
        is_placed: Whether its image says how large elements are.
        warning: What somebody should know of it; None where there is nothing.
    """

    case: str
    job: str
    inputs: dict[str, FileState]
    outputs: dict[str, FileState]
    seconds: dict[str, float]
    softened_share: float | None = None
    volumes: tuple[VolumeEstimate, ...] = ()
    is_placed: bool = True
    warning: str | None = None


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What is to be made of a case.

    Attributes:
        case: The case's name.
        job: The key of what decides the outcome beside the inputs.
        folder: The output folder.
        inputs: The files it is made from.
        outputs: The files that are made, within the folder.
    """

    case: str
    job: str
    folder: Path
    inputs: Sequence[Path]
    outputs: Sequence[Path]

    def is_done(self, known: Entry | None) -> bool:
        """Tell whether it was made already, by the size and time of its files; none is opened."""
        if known is None or not self._holds(known):
            return False
        try:
            states = [(str(path), size_and_time(path)) for path in self.inputs]
        except OSError:
            return False
        noted = known.inputs.items()
        return states == [(path, (state.n_bytes, state.modified_ns)) for path, state in noted]

    def is_same(self, inputs: dict[str, FileState], known: Entry | None) -> bool:
        """Tell whether it was made already, by the content of its input files."""
        if known is None or not self._holds(known):
            return False
        return _hashes(inputs) == _hashes(known.inputs)

    def read_inputs(self) -> dict[str, FileState]:
        """Read what can be read of the inputs; reading them as images says what is wrong."""
        states = {}
        for path in self.inputs:
            with suppress(OSError):
                states[str(path)] = file_state(path)
        return states

    def clear(self, known: Entry | None) -> None:
        """Remove what no longer holds, so that it is not taken for new if the case fails now."""
        for name in () if known is None else known.outputs:
            (self.folder / name).unlink(missing_ok=True)

    def entry(self, inputs: dict[str, FileState], seconds: dict[str, float]) -> Entry:
        """Note that it is made now; what else is known of it is for the caller to add."""
        with timed(seconds, "write"):
            outputs = {
                path.relative_to(self.folder).as_posix(): file_state(path, is_dated=False)
                for path in self.outputs
            }
        rounded = {stage: round(taken, 3) for stage, taken in seconds.items()}
        return Entry(case=self.case, job=self.job, inputs=inputs, outputs=outputs, seconds=rounded)

    def _holds(self, known: Entry) -> bool:
        """Tell whether it was made in the same way, and all that was written is there."""
        names = {path.relative_to(self.folder).as_posix() for path in self.outputs}
        if known.job != self.job or not names <= known.outputs.keys():
            return False
        try:
            return all(
                (self.folder / name).stat().st_size == state.n_bytes
                for name, state in known.outputs.items()
            )
        except OSError:
            return False


@contextmanager
def timed(seconds: dict[str, float], stage: str) -> Iterator[None]:
    """Add what the block takes to what its stage took so far."""
    started = time.monotonic()
    yield
    seconds[stage] = seconds.get(stage, 0) + time.monotonic() - started


def _hashes(inputs: dict[str, FileState]) -> list[str]:
    return [state.sha256 for state in inputs.values()]


class Manifest:
    """The manifest of an output folder, open for reading and adding.

    Only the places of lines are kept in memory, not their content.

    Args:
        path: The file; it is made if it is not there.

    Raises:
        FileError: If another process has it open, or it cannot be read or written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._places: dict[str, int] = {}
        self.first_start: dict[str, Any] | None = None
        try:
            # Unbuffered, so that a line is written when `add` returns.
            self._file = path.open("ab", buffering=0)
        except OSError as error:
            raise FileError(path, f"cannot be written ({os_reason(error)})") from error
        try:
            if not lock_file(self._file.fileno()):
                raise FileError(
                    path, "another process is working in this folder; wait for it, or stop it first"
                )
            self._end = self._index()
            self._file.truncate(self._end)
            # Only now: a line that was cut short must not stay in its buffer.
            self._lines = path.open("rb")
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> "Manifest":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._lines.close()
        self._file.close()

    def start(self, facts: dict[str, Any]) -> None:
        """Note that work starts, under which key, and with what."""
        self.first_start = self.first_start or facts
        self._add({"start": facts})

    def add(self, entry: Entry) -> None:
        """Note that a case is done.

        Raises:
            FileError: If the disk is full.
        """
        self._places[entry.case] = self._end
        self._add(entry.model_dump(mode="json", exclude_none=True))

    @property
    def case_ids(self) -> Iterator[str]:
        """The names of all cases that are known."""
        return iter(list(self._places))

    def find(self, case_id: str) -> Entry | None:
        """Return what is known of a case; None where it was never done."""
        place = self._places.get(case_id)
        if place is None:
            return None
        self._lines.seek(place)
        try:
            return Entry.model_validate_json(self._lines.readline())
        except ValidationError:  # written by another version
            return None

    def _index(self) -> int:
        """Note where the last line of every case is; return where the whole lines end."""
        place = 0
        with self._path.open("rb") as file:
            for line in file:
                if not line.endswith(b"\n"):
                    break
                self._note(line, place)
                place += len(line)
        return place

    def _note(self, line: bytes, place: int) -> None:
        try:
            content = json.loads(line)
        except ValueError:  # What a power cut may leave: the case is done again.
            return
        if not isinstance(content, dict):
            return
        if case_id := content.get("case"):
            self._places[case_id] = place
        elif self.first_start is None:
            self.first_start = content.get("start")

    def _add(self, content: dict[str, Any]) -> None:
        line = json.dumps(content, ensure_ascii=False).encode() + b"\n"
        try:
            if self._file.write(line) < len(line):
                os.ftruncate(self._file.fileno(), self._end)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            raise FileError(self._path, f"cannot be written ({os_reason(error)})") from error
        self._end += len(line)


def last_start(path: Path) -> dict[str, Any] | None:
    """Read what work in a folder was last started with, without claiming the folder.

    Returns:
        What `Manifest.start` noted; None where nothing can be read.
    """
    found = None
    with suppress(OSError, ValueError, AttributeError), path.open("rb") as file:
        for line in file:
            if line.startswith(b'{"start"') and line.endswith(b"\n"):
                found = json.loads(line).get("start")
    return found


def file_state(path: Path, *, is_dated: bool = True) -> FileState:
    """Read a file, or the files of a DICOM folder, for their hash.

    Args:
        path: A file or folder.
        is_dated: Whether the time of the last change is noted.

    Raises:
        OSError: If it is not there or cannot be read.
    """
    n_bytes, modified_ns = size_and_time(path)
    container, series = split_place(path)
    if container.is_dir():
        lines = [f"{_sha256(file)}  {file.name}\n" for file in _files_of(container)]
        sha256 = hashlib.sha256("".join(lines).encode()).hexdigest()
    else:
        sha256 = _sha256(container)
    if series is not None:
        sha256 = hashlib.sha256(f"{sha256}  {series}\n".encode()).hexdigest()
    return FileState(n_bytes=n_bytes, modified_ns=modified_ns if is_dated else None, sha256=sha256)


def size_and_time(path: Path) -> tuple[int, int]:
    """Return how large a file is (or all files of a folder) and when it was changed last.

    Raises:
        OSError: If it is not there.
    """
    path, _ = split_place(path)
    state = path.stat()
    if not stat.S_ISDIR(state.st_mode):
        return state.st_size, state.st_mtime_ns
    states = [file.stat() for file in _files_of(path)]
    newest = max((s.st_mtime_ns for s in states), default=0)
    return sum(s.st_size for s in states), max(newest, state.st_mtime_ns)


def _files_of(folder: Path) -> list[Path]:
    return sorted(file for file in folder.rglob("*") if file.is_file())


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
