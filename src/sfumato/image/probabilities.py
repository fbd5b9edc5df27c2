"""Probabilities of classes in NIfTI files, named as in BIDS: `_probseg`."""

import glob
import json
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from sfumato.arrays import Probability
from sfumato.errors import FileError, InputError
from sfumato.image.elements import placed
from sfumato.image.geometry import Geometry, VolumeAffine
from sfumato.image.kept_parts import kept_parts
from sfumato.image.names import NIFTI_SUFFIXES, file_stem, file_suffix
from sfumato.image.nifti import flat_geometry, load_nifti, nifti_stream, write_nifti
from sfumato.image.quantise import STEPS, quantise
from sfumato.storage import atomic_path, write_text

WritePart = Callable[[tuple[slice, ...], Probability], None]

_ROUNDING = 1e-3
"""By how much a probability may lie beyond 0 or 1, and a sum of exact ones beside 1."""
_MOST_ROUNDING = 0.05
"""By how much a sum of probabilities in bytes may lie beside 1, however many classes there are."""
_CLASS_FILE = re.compile(r"_label-([A-Za-z0-9]+)_probseg")


def write_probability(
    path: Path | str, probability: Probability, geometry: Geometry, class_names: Sequence[str]
) -> None:
    """Write a probability as NIfTI bytes, classes last, with the class names beside it.

    The bytes are steps of 1/255 and come with that slope, so every NIfTI reader shows
    probabilities. A flat image is stored as (row, column, 1, class). The names go to a JSON
    file of the same stem.

    Raises:
        FileError: If the name does not end in .nii.gz or .nii, or the disk is full.
        InputError: If there is not one name a class, or the classes do not sum to one.

    Source: BIDS 1.10, derivatives, probabilistic segmentations (`LabelMap`).
    """
    path = Path(path)
    _check_output(path, probability, geometry, class_names)
    steps = np.moveaxis(quantise(probability), 0, -1)
    if steps.ndim == 3:
        steps = steps[:, :, np.newaxis]
    _write_names(path, class_names)
    write_nifti(path, steps, geometry, slope=1 / STEPS)


@contextmanager
def probability_writer(
    path: Path | str, geometry: Geometry, class_names: Sequence[str]
) -> Iterator[WritePart]:
    """Write a probability as `write_probability` does, but part by part, with little memory.

    The parts go to a file of their own first, since NIfTI wants one whole class after the other.

    Args:
        path: A name ending in .nii.gz or .nii.
        geometry: Where the whole probability lies.
        class_names: One for each class.

    Yields:
        A function that takes where a part lies, one slice for each spatial axis, and the
        probability of every class there. Together the parts must cover the grid.

    Raises:
        FileError: If the name does not end in .nii.gz or .nii, or the disk is full.
    """
    path = Path(path)
    _check_suffix(path)
    with atomic_path(path) as temporary:
        with kept_parts(path.parent) as kept:

            def write(place: tuple[slice, ...], probability: Probability) -> None:
                kept.add(place, quantise(np.ascontiguousarray(probability)))

            yield write
            n_classes = len(class_names)
            with nifti_stream(temporary, geometry, n_classes, slope=1 / STEPS) as put:
                for index in range(n_classes):
                    put(kept.volume(index, geometry.shape))
        _write_names(path, class_names)


def write_class_probabilities(
    path: Path | str, probability: Probability, geometry: Geometry, class_names: Sequence[str]
) -> list[Path]:
    """Write every class to a file of its own, as BIDS names them: `sub-1_label-WM_probseg.nii.gz`.

    Args:
        path: The name without the class, such as `sub-1_probseg.nii.gz`.
        probability: The probability of every class, in the order of the names.
        geometry: Where it lies.
        class_names: Their letters and digits name the files; the full name and the class's place
            among the others go to a JSON file beside each.

    Returns:
        The files, class by class.

    Raises:
        FileError: If the name does not end in _probseg.nii.gz or _probseg.nii, or the disk is full.
        InputError: If there is not one name a class, two classes would have one file, or the
            classes do not sum to one.

    Source: BIDS 1.10, derivatives, probabilistic segmentations.
    """
    path = Path(path)
    _check_output(path, probability, geometry, class_names)
    start, mark, _ = file_stem(path).rpartition("_probseg")
    if not mark:
        raise FileError(
            path, "one file a class is named as in BIDS; end the name in _probseg.nii.gz"
        )
    letters = ["".join(re.findall("[A-Za-z0-9]", name)) for name in class_names]
    if "" in letters or len({word.lower() for word in letters}) < len(letters):
        raise InputError(
            "class_names must differ in their letters and digits, which name the files,"
            f" got {', '.join(class_names)}"
        )
    paths = [path.with_name(f"{start}_label-{word}_probseg{file_suffix(path)}") for word in letters]
    steps = quantise(probability)
    for index, (place, name) in enumerate(zip(paths, class_names, strict=True)):
        _write_names(place, [name], index)
        write_nifti(place, steps[index], geometry, slope=1 / STEPS)
    return paths


def read_probability(path: Path | str) -> tuple[Probability, Geometry]:
    """Read the probability of each class from NIfTI, such as a `_probseg` file of BIDS.

    The classes are the last axis: the fourth, or the fifth after one of a single element, as ITK
    writes vectors. If the name says `label-<class>_probseg` and there are only spatial axes, the
    files of the other classes are read too: they are all that differ from it in the class alone.
    Without a class BG or background, that has what the others leave of one. A volume of one
    slice is a flat image. Stored slopes are applied; what rounding left of the classes' sum is
    divided out.

    Raises:
        FileError: If the file is missing or damaged, has no axis of classes, holds values that
            are no probabilities, or classes that do not sum to one.

    Source: BIDS 1.10, derivatives, probabilistic segmentations.
    """
    path = Path(path)
    if file_suffix(path) not in NIFTI_SUFFIXES or not path.is_file():
        raise FileError(path, "no such NIfTI file; check the path")
    values, affine = load_nifti(path)
    if values.ndim <= 3 and _CLASS_FILE.search(path.name):
        return _read_class_files(path)
    if values.ndim == 5 and values.shape[3] == 1:
        values = values[:, :, :, 0]
    if values.ndim != 4:
        raise FileError(
            path,
            f"has {values.ndim} axes, but a probability must have four with the classes last;"
            " join files of one class each, background included",
        )
    return _placed(path, np.ascontiguousarray(np.moveaxis(values, -1, 0), np.float32), affine)


def read_class_names(path: Path | str) -> tuple[str, ...] | None:
    """Read what the classes of a probability are called, in the order of `read_probability`.

    They stand in `LabelMap` in the JSON file beside it, or in the names of one file a class.

    Returns:
        The names, or None where nothing says them.

    Raises:
        FileError: If the JSON file is damaged or its `LabelMap` no list of names.

    Source: BIDS 1.10, derivatives, probabilistic segmentations (`LabelMap`).
    """
    path = Path(path)
    names, _ = _read_sidecar(path)
    if _CLASS_FILE.search(path.name) and (names is None or len(names) == 1):
        files = _class_files(path)
        return (*(() if _has_background(files) else ("background",)), *(name for name, _ in files))
    return names


def _read_class_files(path: Path) -> tuple[Probability, Geometry]:
    files = _class_files(path)
    classes: list[np.ndarray] = []
    first_affine = None
    for _, place in files:
        values, affine = load_nifti(place)
        first_affine = affine if first_affine is None else first_affine
        values = values[..., np.newaxis] if values.ndim == 2 else values
        if (
            values.ndim != 3
            or (classes and values.shape != classes[0].shape)
            or not np.allclose(affine, first_affine, atol=1e-4)
        ):
            raise FileError(
                place,
                f"does not lie on the grid of {files[0][1].name}; resample the classes to one grid",
            )
        classes.append(values.astype(np.float32))
    if not _has_background(files):
        # What rounding left below zero is no error, more than that is found afterwards.
        rest = 1 - np.sum(classes, axis=0, dtype=np.float32)
        classes.insert(0, np.where((rest < 0) & (rest > -_MOST_ROUNDING), 0, rest))
    assert first_affine is not None
    return _placed(path, np.stack(classes), first_affine)


def _class_files(path: Path) -> list[tuple[str, Path]]:
    """List the names and files of all classes: background first, then by place, then by name."""
    pattern = _CLASS_FILE.sub("_label-*_probseg", glob.escape(file_stem(path)))
    files = []
    for place in sorted(path.parent.glob(pattern + file_suffix(path))):
        found = _CLASS_FILE.search(place.name)
        if found is None:
            continue
        names, index = _read_sidecar(place)
        name = names[0] if names else found[1]
        files.append((not _is_background(name), index, name, place))
    return [(name, place) for _, _, name, place in sorted(files)]


def _has_background(files: Sequence[tuple[str, Path]]) -> bool:
    return any(_is_background(name) for name, _ in files)


def _is_background(name: str) -> bool:
    return name.lower() in ("bg", "background")


def _check_output(
    path: Path, probability: Probability, geometry: Geometry, class_names: Sequence[str]
) -> None:
    _check_suffix(path)
    if len(class_names) != len(probability) or probability.shape[1:] != geometry.shape:
        raise InputError(
            f"probability must have one class a name and the shape {geometry.shape},"
            f" got {len(class_names)} names and {probability.shape}"
        )


def _check_suffix(path: Path) -> None:
    if file_suffix(path) not in NIFTI_SUFFIXES:
        raise FileError(path, "probabilities are written as NIfTI; use a name ending in .nii.gz")


def _sidecar(path: Path) -> Path:
    return path.with_name(f"{file_stem(path)}.json")


def _write_names(path: Path, class_names: Sequence[str], index: int | None = None) -> None:
    content: dict[str, object] = {"LabelMap": list(class_names)}
    if index is not None:
        content["LabelIndex"] = index
    write_text(_sidecar(path), json.dumps(content, indent=2) + "\n")


def _read_sidecar(path: Path) -> tuple[tuple[str, ...] | None, int]:
    """Return the names in the JSON file beside a probability and its class's place, if any."""
    sidecar = _sidecar(path)
    if not sidecar.is_file():
        return None, 0
    try:
        content = json.loads(sidecar.read_text("utf-8"))
        names, index = content.get("LabelMap"), content.get("LabelIndex", 0)
    except (OSError, ValueError, AttributeError) as error:
        raise FileError(sidecar, "is no JSON object; write it anew or remove it") from error
    if names is None:
        return None, 0
    is_list = isinstance(names, list) and names and all(isinstance(name, str) for name in names)
    if not is_list or not isinstance(index, int):
        raise FileError(sidecar, "LabelMap must be a list of class names; correct or remove it")
    return tuple(names), index


def _placed(
    path: Path, values: Float32[np.ndarray, "..."], affine: VolumeAffine
) -> tuple[Probability, Geometry]:
    probability = _normalized(path, values)
    if probability.shape[-1] == 1:
        flat = probability[..., 0]
        return flat, flat_geometry(path, flat.shape[1:], affine)
    return probability, placed(path, probability.shape[1:], affine)


def _normalized(path: Path, probability: Probability) -> Probability:
    """Divide out what rounding left of the sums, and refuse what no rounding explains."""
    lowest, highest = float(probability.min()), float(probability.max())
    # Written so that NaN is refused too.
    if not (lowest >= -_ROUNDING and highest <= 1 + _ROUNDING):
        raise FileError(
            path,
            f"holds values from {lowest:.4g} to {highest:.4g}, but probabilities are from 0 to 1;"
            " store whole numbers with the slope that makes them so",
        )
    probability = probability.clip(0, 1)
    total = probability.sum(axis=0)
    most = min(_ROUNDING + len(probability) / (2 * STEPS), _MOST_ROUNDING)
    if float(np.abs(total - 1).max()) > most:
        raise FileError(
            path,
            f"its classes do not sum to one, but to {total.min():.4g} to {total.max():.4g}, so it"
            " holds no probabilities of classes; add the background as the first one if it is"
            " missing",
        )
    probability /= total
    return probability
