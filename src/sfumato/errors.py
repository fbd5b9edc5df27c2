"""Every error that sfumato raises on purpose.

* SfumatoError
  - InputError       an argument has the wrong shape, type, range or name
  - ConfigError      a settings file or flag cannot be used as written
  - FileError        one file cannot be read or written
  - CaseError        one case does not fit together
  - DatasetError     a folder or manifest cannot be understood as a data set
  - TrainingError    training cannot go on
  - ModelError       a trained model or checkpoint cannot be loaded or used
  - ServerError      a server cannot be reached, or refuses
"""

from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path


class SfumatoError(Exception):
    """Base of every error a caller may want to catch."""


class InputError(SfumatoError, ValueError):
    """An argument has the wrong shape, type, range or name."""


class ConfigError(SfumatoError):
    """A settings file or flag cannot be used as written."""


class FileError(SfumatoError):
    """One file cannot be read or written."""

    def __init__(self, path: Path | str, message: str) -> None:
        super().__init__(f"{path}: {message}")
        self.path = Path(path)


class CaseError(SfumatoError):
    """One case does not fit together."""

    def __init__(self, case_id: str, message: str) -> None:
        super().__init__(f"case {case_id!r}: {message}")
        self.case_id = case_id


class DatasetError(SfumatoError):
    """A folder or manifest cannot be understood as a data set."""


class TrainingError(SfumatoError):
    """Training cannot go on."""


class ModelError(SfumatoError):
    """A trained model or checkpoint cannot be loaded or used."""


class ServerError(SfumatoError):
    """A server cannot be reached, or refuses; `retry_seconds` says when to ask again, if ever."""

    def __init__(self, message: str, retry_seconds: float | None = None) -> None:
        super().__init__(message)
        self.retry_seconds = retry_seconds


def unknown_name(what: str, name: str, known: Iterable[str]) -> str:
    """Return the message for a name that is not one of the known ones.

    Examples:
        >>> unknown_name("loss", "dise", ["dice", "cross_entropy"])
        "unknown loss 'dise'; did you mean 'dice'? Known: cross_entropy, dice"
    """
    names = sorted(known)
    close = get_close_matches(name, names, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else "."
    return f"unknown {what} {name!r}{hint} Known: {', '.join(names)}"
