"""Prepared cases on disk: made once, read in pieces, made again when anything changed."""

import hashlib
import io
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import overload

import numpy as np

from sfumato.cases.dataset import CaseRecord, Dataset
from sfumato.cases.preparation import PreparationSettings, PreparedCase, prepare_case
from sfumato.errors import FileError
from sfumato.image.geometry import Geometry
from sfumato.labels.classes import ClassList
from sfumato.storage import os_reason

FORMAT_VERSION = 3
"""Part of the key: raise it whenever preparation or this layout changes."""


def prepare_dataset(
    dataset: Dataset, settings: PreparationSettings, folder: Path
) -> Iterator[Path]:
    """Prepare the cases of a data set one after the other, reusing what is there.

    Args:
        dataset: Cases with labels.
        settings: How they are prepared.
        folder: Where prepared cases are kept; a case is prepared again when its files or
            the settings differ from those it was made with.

    Yields:
        Where one case after the other is kept, for `StoredCases`.

    Raises:
        SfumatoError: If a case cannot be read or prepared, or the disk is full.
    """
    for record in dataset.records:
        place = folder / f"{record.id}-{_key(record, settings, dataset.classes)}"
        if not place.is_dir():
            _save(prepare_case(dataset.load(record.id), settings), place)
        yield place


class StoredCases(Sequence[PreparedCase]):
    """Prepared cases on disk, opened one at a time and read as far as they are used.

    A thousand cases that stay open would be thousands of open files, which systems refuse.

    Args:
        places: What `prepare_dataset` yielded.
    """

    def __init__(self, places: Sequence[Path]) -> None:
        self.places = tuple(places)

    def __len__(self) -> int:
        return len(self.places)

    @overload
    def __getitem__(self, index: int) -> PreparedCase: ...

    @overload
    def __getitem__(self, index: slice) -> "StoredCases": ...

    def __getitem__(self, index: int | slice) -> "PreparedCase | StoredCases":
        """Open a case; its arrays are memory maps.

        Raises:
            FileError: If its files are damaged or gone.
        """
        if isinstance(index, slice):
            return StoredCases(self.places[index])
        return _load(self.places[index])


def _key(record: CaseRecord, settings: PreparationSettings, classes: ClassList) -> str:
    files = [
        (str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns)
        for path in (*record.image_paths, *record.label_paths)
        if path.exists()
    ]
    content = json.dumps([FORMAT_VERSION, files, classes.values, settings.model_dump(mode="json")])
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def _save(case: PreparedCase, place: Path) -> None:
    """Write a case under another name first, so that no half-written one is ever read."""
    temporary = place.with_name(f".{os.getpid()}-{place.name}")
    # A process that was killed may have had the same number.
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        temporary.mkdir(parents=True)
        _save_array(temporary / "image.npy", case.image)
        _save_array(temporary / "hard_label.npy", case.hard_label)
        for name, array in (("soft_label", case.soft_label), ("levels", case.levels)):
            if array is not None:
                _save_array(temporary / f"{name}.npy", array)
        _save_array(temporary / "affine.npy", case.geometry.affine)
        for index, positions in enumerate(case.positions, start=1):
            _save_array(temporary / f"positions_{index}.npy", positions)
        temporary.rename(place)
    except OSError as error:
        raise FileError(place, f"cannot be written ({os_reason(error)})") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _save_array(path: Path, array: np.ndarray) -> None:
    # NumPy itself does not tell a full disk from another error.
    buffer = io.BytesIO()
    np.save(buffer, array)
    path.write_bytes(buffer.getbuffer())


def _load(place: Path) -> PreparedCase:
    n_foreground = len(list(place.glob("positions_*.npy")))
    is_redrawn = (place / "levels.npy").exists()
    try:
        hard_label = np.load(place / "hard_label.npy", mmap_mode="r")
        return PreparedCase(
            id=place.name.rpartition("-")[0],
            image=np.load(place / "image.npy", mmap_mode="r"),
            hard_label=hard_label,
            soft_label=None if is_redrawn else np.load(place / "soft_label.npy", mmap_mode="r"),
            levels=np.load(place / "levels.npy", mmap_mode="r") if is_redrawn else None,
            positions=tuple(
                np.load(place / f"positions_{index}.npy") for index in range(1, n_foreground + 1)
            ),
            geometry=Geometry(shape=hard_label.shape, affine=np.load(place / "affine.npy")),
        )
    except (OSError, ValueError, EOFError) as error:
        raise FileError(place, "is damaged; delete this folder and run again") from error
