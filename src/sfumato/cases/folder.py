"""Data sets that are told by their folders alone: images/ and labels/, or just images."""

import re
from collections.abc import Iterable
from itertools import islice
from pathlib import Path

from sfumato.cases.record import CaseRecord, Listing, sorted_records
from sfumato.errors import DatasetError, unknown_name
from sfumato.image.dicom_files import split_place, starts_like_dicom
from sfumato.image.files import IMAGE_SUFFIXES, file_stem, file_suffix

CHANNEL_ENDING = re.compile(r"(?P<case>.+)_(?P<channel>\d{4})")
"""How nnU-Net names the files of a case: `case_0000`, `case_0001`, …"""

_DICOM_SUFFIX = ".dcm"
_DICOM_INDEX = "DICOMDIR"  # lists the files of a disc; DICOM itself, but no image
_MOST_FILES_OPENED = 5


def read_folder(folder: Path) -> Listing:
    """List images/ and labels/ matched by stem, or a folder of images without labels.

    Without labels/ the data set is unlabelled. Also a folder of DICOM files is one case.

    Raises:
        DatasetError: If there are no images, two have one stem, or images and labels do not
            match one to one.
    """
    if (folder / "images").is_dir():
        return read_pair(folder / "images", folder / "labels")
    if (folder / "labels").is_dir():
        raise DatasetError(f"{folder}: has labels/ but no images/ beside it; add the images")
    return read_pair(folder, None)


def read_pair(images: Path, labels: Path | None) -> Listing:
    """Match a folder of images with a folder of labels by stem, if that exists.

    Raises:
        DatasetError: If there are no images, two have one stem, or they do not match.
    """
    records = sorted_records(images, list_images(images))
    if labels is None or not labels.is_dir():
        return Listing(records=records)
    label_records = sorted_records(labels, list_images(labels))
    label_paths = {record.id: record.image_paths for record in label_records}
    check_match({record.id for record in records}, set(label_paths), images, labels)
    return Listing(
        records=tuple(
            CaseRecord(
                id=record.id,
                group=record.group,
                image_paths=record.image_paths,
                label_paths=label_paths[record.id],
            )
            for record in records
        )
    )


def list_images(path: Path) -> list[CaseRecord]:
    """List the images at a path as unlabelled cases: a file, a DICOM folder, or many of both.

    Raises:
        DatasetError: If there are none.
    """
    if split_place(path)[1] is not None or starts_like_dicom(path):
        return [_image_record(path)]
    if path.is_file() and file_suffix(path) not in IMAGE_SUFFIXES:
        raise DatasetError(f"{path}: {unknown_name('file type', path.suffix, IMAGE_SUFFIXES)}")
    if path.is_file() or is_series(path):
        return [_image_record(path)]
    entries = [entry for entry in sorted(path.iterdir()) if not entry.name.startswith(".")]
    found = [entry for entry in entries if _is_image(entry)]
    if not found:
        raise DatasetError(
            f"{path}: holds no images; put files of these types there: {', '.join(IMAGE_SUFFIXES)}"
        )
    return [_image_record(entry) for entry in found]


def check_match(image_ids: set[str], label_ids: set[str], images: Path, labels: Path) -> None:
    """Refuse images without label and labels without image.

    Raises:
        DatasetError: Naming the first few that lack the other.
    """
    if missing := sorted(image_ids - label_ids):
        raise DatasetError(
            f"{labels}: missing label for {_first(missing)};"
            " add the label, or move the image out of the data set"
        )
    if missing := sorted(label_ids - image_ids):
        raise DatasetError(
            f"{images}: missing image for the label of {_first(missing)};"
            " add the image, or move the label out of the data set"
        )


def join_channels(records: Iterable[CaseRecord], n_channels: int) -> tuple[CaseRecord, ...] | None:
    """Gather the records `case_0000`, `case_0001`, … into one case each, called `case`.

    Returns:
        The cases sorted by id, or None unless every record is unlabelled, has one image file
        and is named so, and every case has exactly the channels 0 to n_channels - 1.
    """
    channels: dict[str, dict[int, Path]] = {}
    for record in records:
        match = CHANNEL_ENDING.fullmatch(record.id)
        if match is None or record.label_paths or len(record.image_paths) != 1:
            return None
        channels.setdefault(match["case"], {})[int(match["channel"])] = record.image_paths[0]
    expected = list(range(n_channels))
    if not channels or any(sorted(paths) != expected for paths in channels.values()):
        return None
    return tuple(
        CaseRecord(id=case_id, group=case_id, image_paths=tuple(paths[i] for i in sorted(paths)))
        for case_id, paths in sorted(channels.items())
    )


def is_series(path: Path) -> bool:
    """Tell whether a folder holds DICOM files directly, by their suffix or, lacking one, content.

    Only a few files are opened, and none in a folder that holds images of other types.
    """
    if not path.is_dir():
        return False
    files = [entry for entry in sorted(path.iterdir()) if not entry.name.startswith(".")]
    if any(file.suffix.lower() == _DICOM_SUFFIX for file in files):
        return True
    if any(file_suffix(file) in IMAGE_SUFFIXES for file in files):
        return False
    others = (file for file in files if file.is_file() and file.name.upper() != _DICOM_INDEX)
    return any(starts_like_dicom(file) for file in islice(others, _MOST_FILES_OPENED))


def _is_image(path: Path) -> bool:
    if path.is_file():
        return file_suffix(path) in IMAGE_SUFFIXES
    return is_series(path) or _has_series_within(path)


def _has_series_within(folder: Path) -> bool:
    """Tell whether a folder that holds no images itself has a DICOM series at any depth."""
    entries = [entry for entry in sorted(folder.iterdir()) if not entry.name.startswith(".")]
    if any(entry.is_file() and file_suffix(entry) in IMAGE_SUFFIXES for entry in entries):
        return False
    folders = [entry for entry in entries if entry.is_dir()]
    return any(is_series(entry) or _has_series_within(entry) for entry in folders)


def _image_record(path: Path) -> CaseRecord:
    # The dots of a UID are no ending.
    is_named = path.is_file() and file_suffix(path) in IMAGE_SUFFIXES
    case_id = file_stem(path) if is_named else path.resolve().name
    return CaseRecord(id=case_id, group=case_id, image_paths=(path,))


def _first(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
