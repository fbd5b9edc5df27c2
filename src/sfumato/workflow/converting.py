"""Soft labels and probabilities from one file format to another."""

import re
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path

from sfumato.errors import FileError, SfumatoError
from sfumato.image.files import file_stem, read_class_names, read_probability, write_probability
from sfumato.image.probabilities import write_class_probabilities
from sfumato.labels.soft_label_file import SUFFIX, SoftLabel, read_soft_label, write_soft_label
from sfumato.workflow.failures import Failure
from sfumato.workflow.tracking import Track, silently

_PROBSEG = "_probseg"
_BIDS_ENDING = re.compile(r"(_label-[A-Za-z0-9]+)?_probseg$")


class Format(StrEnum):
    """How the probabilities of classes can be kept.

    Attributes:
        COMPACT: One small, checked file (`.sfsl`).
        NIFTI: One NIfTI file, classes last, its class names in JSON beside it.
        BIDS: One NIfTI file a class, named `..._label-<class>_probseg.nii.gz`.
    """

    COMPACT = "compact"
    NIFTI = "nifti"
    BIDS = "bids"


def convert_probabilities(
    paths: Sequence[Path], target: Format, out: Path, track: Track = silently
) -> list[Failure]:
    """Write probabilities in another format, under the names they have.

    NIfTI holds steps of 1/255, so what comes from there keeps those, and what goes there is
    rounded to them. A file that cannot be converted does not stop the others.

    Args:
        paths: `.sfsl` files or NIfTI files as `read_probability` takes them; of files that hold
            one class each, any one stands for all.
        target: The format that is written.
        out: Folder that is filled.
        track: Told how far the job is.

    Returns:
        The files that could not be converted.

    Raises:
        FileError: If two files would be written under one name.
    """
    stems: dict[str, Path] = {}
    for path in paths:
        other = stems.setdefault(_stem(path), path)
        if other != path:
            raise FileError(
                path, f"would be written under the same name as {other}; convert one at a time"
            )
    failures = []
    for stem, path in track(stems.items(), "Converting", len(stems)):
        try:
            _write(_read(path), target, out, stem)
        except (SfumatoError, MemoryError) as error:
            failures.append(Failure.of(path.name, error))
    return failures


def _stem(path: Path) -> str:
    name = path.stem if path.suffix.lower() == SUFFIX else file_stem(path)
    return _BIDS_ENDING.sub("", name)


def _read(path: Path) -> SoftLabel:
    if path.suffix.lower() == SUFFIX:
        return read_soft_label(path)
    probability, geometry = read_probability(path)
    names = read_class_names(path) or [f"class {k}" for k in range(len(probability))]
    if len(names) != len(probability):
        raise FileError(
            path, f"has {len(probability)} classes, but {len(names)} names in the JSON beside it"
        )
    return SoftLabel(probability=probability, geometry=geometry, class_names=tuple(names))


def _write(label: SoftLabel, target: Format, out: Path, stem: str) -> None:
    content = label.probability, label.geometry, label.class_names
    if target is Format.COMPACT:
        write_soft_label(out / f"{stem}{SUFFIX}", *content)
    elif target is Format.NIFTI:
        write_probability(out / f"{stem}{_PROBSEG}.nii.gz", *content)
    else:
        write_class_probabilities(out / f"{stem}{_PROBSEG}.nii.gz", *content)
