"""Images that were sent ahead, to be segmented when a later request says how."""

import hashlib
import json
import re
import secrets
import time
from dataclasses import dataclass
from pathlib import Path

from sfumato.service.job_files import remove_folder

SESSION_SECONDS = 3600.0
"""How long an image is kept that nobody has segmented since."""
_ABOUT = "about.json"
_ID = re.compile("[0-9a-f]{32}")


@dataclass(frozen=True, kw_only=True)
class Session:
    """An image that was sent ahead.

    Attributes:
        folder: Holds it in the folder `input`.
        file_names: What its files were called.
        name: What the case is called.
    """

    folder: Path
    file_names: tuple[str, ...]
    name: str

    @property
    def id(self) -> str:
        """Cannot be guessed, unless it was made from a name."""
        return self.folder.name

    @property
    def age_seconds(self) -> float:
        """How long ago it came."""
        try:
            return time.time() - self.folder.stat().st_mtime
        except OSError:  # It goes just now.
            return 0.0


def new_session_id() -> str:
    """Draw an id."""
    return secrets.token_hex(16)


def named_session_id(name: str) -> str:
    """Make the id of an image that a client gave a name."""
    return hashlib.sha256(name.encode()).hexdigest()[:32]


def keep_session(
    data: Path, session_id: str, folder: Path, file_names: list[str], name: str
) -> Session:
    """Keep what came under an id; what was there before goes.

    Args:
        data: The server's folder.
        session_id: The id.
        folder: Holds the folder `input`; it is moved.
        file_names: What the files were called.
        name: What the case is called.
    """
    about = {"file_names": file_names, "name": name}
    (folder / _ABOUT).write_text(json.dumps(about), encoding="utf-8")
    place = data / "sessions" / session_id
    place.parent.mkdir(exist_ok=True)
    remove_folder(place)
    folder.rename(place)
    return Session(folder=place, file_names=tuple(file_names), name=name)


def find_session(data: Path, session_id: str) -> Session | None:
    """Return what was kept under an id, if it is still there."""
    folder = data / "sessions" / session_id
    try:
        if not _ID.fullmatch(session_id):
            return None
        about = json.loads((folder / _ABOUT).read_text(encoding="utf-8"))
    except OSError:
        return None
    return Session(folder=folder, file_names=tuple(about["file_names"]), name=about["name"])


def list_sessions(data: Path) -> list[Session]:
    """Return all that is kept."""
    folder = data / "sessions"
    found = [find_session(data, path.name) for path in folder.iterdir()] if folder.exists() else []
    return [session for session in found if session is not None]


def copy_input(session: Session, folder: Path) -> None:
    """Put the files of a session into another folder, without copying what is in them."""
    for path in sorted((session.folder / "input").iterdir()):
        (folder / path.name).hardlink_to(path)
