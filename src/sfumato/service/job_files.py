"""Where the files of a job lie in the server's folder."""

import re
import shutil
from dataclasses import dataclass
from pathlib import Path

_ID = re.compile("[0-9a-f]{32}")


@dataclass(frozen=True, kw_only=True)
class JobFiles:
    """The folder of one job.

    Attributes:
        folder: All of it.
    """

    folder: Path

    @property
    def input(self) -> Path:
        """What was sent, under names of our own."""
        return self.folder / "input"

    @property
    def output(self) -> Path:
        """What `sfumato segment` writes."""
        return self.folder / "output"

    @property
    def view(self) -> Path:
        """What the viewer shows."""
        return self.folder / "view"


def job_files(data: Path, job_id: str) -> JobFiles:
    """Name the folder of a job.

    Raises:
        ValueError: If the id is none.
    """
    if not _ID.fullmatch(job_id):
        raise ValueError("no id of a job")
    return JobFiles(folder=data / "jobs" / job_id)


def list_folders(data: Path) -> list[Path]:
    """Return the folders of all jobs, also those that no list knows."""
    folder = data / "jobs"
    return sorted(folder.iterdir()) if folder.is_dir() else []


def remove_folder(folder: Path) -> None:
    """Remove a folder with what is in it; what is gone already does not matter."""
    shutil.rmtree(folder, ignore_errors=True)
