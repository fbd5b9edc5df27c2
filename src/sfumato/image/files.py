"""Images, labels and probabilities on disk: the format goes by the ending of the file's name."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from sfumato.arrays import Image, LabelValues, Probability
from sfumato.errors import FileError, InputError, unknown_name
from sfumato.image.elements import Elements, placed
from sfumato.image.flat import read_picture, read_tiff, write_picture
from sfumato.image.geometry import Geometry
from sfumato.image.itk import read_itk, read_series, write_itk
from sfumato.image.names import (
    IMAGE_SUFFIXES,
    ITK_SUFFIXES,
    NIFTI_SUFFIXES,
    TIFF_SUFFIXES,
    file_stem,
    file_suffix,
    label_suffix,
)
from sfumato.image.nifti import flat_geometry, load_nifti, read_nifti, write_nifti
from sfumato.image.quantise import STEPS, quantise
from sfumato.storage import write_text

__all__ = [
    "IMAGE_SUFFIXES",
    "file_stem",
    "file_suffix",
    "label_suffix",
    "read_channels",
    "read_image",
    "read_label",
    "read_probability",
    "write_label",
    "write_probability",
]

_LARGEST_VALUE = 2**32 - 1
_ROUNDING = 1e-3
"""By how much a probability may lie beyond 0 or 1, and a sum of exact ones beside 1."""
_MOST_ROUNDING = 0.05
"""By how much a sum of probabilities in bytes may lie beside 1, however many classes there are."""


def read_image(path: Path | str) -> tuple[Image, Geometry]:
    """Read the intensities of an image.

    Volumes keep their file's index order (x, y, z); flat images, except NIfTI, are (row,
    column). Colours are channels, and a transparency channel is dropped. PNG, JPEG and TIFF
    do not say how large an element is; it counts as 1 mm.

    Args:
        path: An image file, or a folder with one DICOM series.

    Raises:
        FileError: If the file is missing, damaged, not an image, or has intensities that
            are not finite.
    """
    path = Path(path)
    elements, geometry = _read(path, is_label=False)
    if elements.dtype.kind not in "buif":
        raise FileError(path, f"has {elements.dtype} elements; save its magnitude as real numbers")
    with np.errstate(over="ignore"):
        image = np.ascontiguousarray(elements, dtype=np.float32)
    n_bad = image.size - int(np.count_nonzero(np.isfinite(image)))
    if n_bad:
        raise FileError(
            path,
            f"{n_bad} of {image.size} intensities are NaN or infinite;"
            " replace them by the background's intensity",
        )
    return image, geometry


def read_channels(paths: Sequence[Path]) -> tuple[Image, Geometry]:
    """Read the channels of one case from several files on one grid.

    Raises:
        FileError: If a file cannot be read or lies on another grid than the first.
        InputError: If there is no file.
    """
    if not paths:
        raise InputError("paths must name at least one image file, got none")
    first, geometry = read_image(paths[0])
    images = [first]
    for path in paths[1:]:
        image, other = read_image(path)
        if difference := geometry.difference(other):
            raise FileError(
                path,
                f"does not lie on the grid of {paths[0].name}: {difference};"
                " resample the channels to one grid first",
            )
        images.append(image)
    return (first if len(images) == 1 else np.concatenate(images)), geometry


def read_label(path: Path | str) -> tuple[LabelValues, Geometry]:
    """Read a label in the data set's own whole numbers, in the smallest type that holds them.

    The colours of a palette are not looked up: their indices are the label.

    Raises:
        FileError: If the file is missing or damaged, or its values are no class numbers.
    """
    path = Path(path)
    if file_suffix(path) in (".jpg", ".jpeg"):
        raise FileError(path, "JPEG changes the values of a label; save it as PNG")
    elements, geometry = _read(path, is_label=True)
    if len(elements) != 1:
        raise FileError(
            path,
            f"has {len(elements)} channels or colours, but a label must have one;"
            " save class numbers (indices) instead of colours",
        )
    return np.ascontiguousarray(_to_whole_numbers(path, elements[0])), geometry


def write_label(path: Path | str, values: LabelValues, geometry: Geometry) -> None:
    """Write a label in the smallest number type that holds it, atomically.

    Args:
        path: Where to; .nii.gz, .nii, .nrrd, .mha, .png, .tif or .tiff.
        values: Class numbers, 0 or more.
        geometry: Where the label lies.

    Raises:
        FileError: If the format cannot hold the label or its place, or the disk is full.
        InputError: If the label is negative or has another shape than its geometry.
    """
    path = Path(path)
    if values.shape != geometry.shape:
        raise InputError(
            f"values must have the shape of their geometry, got {values.shape} and {geometry.shape}"
        )
    if values.min(initial=0) < 0:
        raise InputError(f"values must be 0 or more, got {values.min()}")
    suffix = file_suffix(path)
    small = values.astype(np.min_scalar_type(values.max(initial=0)), copy=False)
    if suffix in NIFTI_SUFFIXES:
        write_nifti(path, small, geometry)
    elif suffix in (".nrrd", ".mha"):
        write_itk(path, small, geometry)
    elif suffix in (".png", *TIFF_SUFFIXES):
        write_picture(path, small, geometry)
    elif suffix in IMAGE_SUFFIXES:
        raise FileError(path, f"a label is not written as {suffix}; use {label_suffix(path)}")
    else:
        raise FileError(path, unknown_name("file type", suffix, IMAGE_SUFFIXES))


def write_probability(
    path: Path, probability: Probability, geometry: Geometry, class_names: Sequence[str]
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
    if file_suffix(path) not in NIFTI_SUFFIXES:
        raise FileError(path, "probabilities are written as NIfTI; use a name ending in .nii.gz")
    if len(class_names) != len(probability) or probability.shape[1:] != geometry.shape:
        raise InputError(
            f"probability must have one class a name and the shape {geometry.shape},"
            f" got {len(class_names)} names and {probability.shape}"
        )
    steps = np.moveaxis(quantise(probability), 0, -1)
    if steps.ndim == 3:
        steps = steps[:, :, np.newaxis]
    sidecar = path.with_name(f"{file_stem(path)}.json")
    write_text(sidecar, json.dumps({"LabelMap": list(class_names)}, indent=2) + "\n")
    write_nifti(path, steps, geometry, slope=1 / STEPS)


def read_probability(path: Path | str) -> tuple[Probability, Geometry]:
    """Read the probability of each class from NIfTI, such as a `_probseg` file of BIDS.

    The classes are the last axis: the fourth, or the fifth after one of a single element, as ITK
    writes vectors. A volume of one slice is a flat image. Stored slopes are applied; what
    rounding left of the classes' sum is divided out.

    Raises:
        FileError: If the file is missing or damaged, has no axis of classes, holds values that
            are no probabilities, or classes that do not sum to one.

    Source: BIDS 1.10, derivatives, probabilistic segmentations.
    """
    path = Path(path)
    if file_suffix(path) not in NIFTI_SUFFIXES or not path.is_file():
        raise FileError(path, "no such NIfTI file; check the path")
    values, affine = load_nifti(path)
    if values.ndim == 5 and values.shape[3] == 1:
        values = values[:, :, :, 0]
    if values.ndim != 4:
        raise FileError(
            path,
            f"has {values.ndim} axes, but a probability must have four with the classes last;"
            " join files of one class each, background included",
        )
    probability = np.ascontiguousarray(np.moveaxis(values, -1, 0), dtype=np.float32)
    probability = _normalized(path, probability)
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


def _read(path: Path, *, is_label: bool) -> tuple[Elements, Geometry]:
    if path.is_dir():
        return read_series(path)
    if not path.is_file():
        raise FileError(path, "no such file; check the path")
    suffix = file_suffix(path)
    if suffix in NIFTI_SUFFIXES:
        return read_nifti(path)
    if suffix in ITK_SUFFIXES:
        return read_itk(path)
    if suffix in TIFF_SUFFIXES:
        return read_tiff(path, is_label=is_label)
    if suffix in IMAGE_SUFFIXES:
        return read_picture(path, is_label=is_label)
    hint = "; for DICOM give the folder of the series" if suffix == ".dcm" else ""
    raise FileError(path, unknown_name("file type", suffix, IMAGE_SUFFIXES) + hint)


def _to_whole_numbers(path: Path, values: np.ndarray) -> LabelValues:
    if values.dtype.kind not in "buif":
        raise FileError(path, f"has {values.dtype} elements, but a label must have whole numbers")
    if values.dtype.kind == "f":
        is_fractional = ~np.isfinite(values) | (values != np.rint(values))
        if is_fractional.any():
            raise FileError(
                path,
                f"holds the value {values[is_fractional][0]:.4g}, but a label must have whole"
                " numbers; save class numbers, not intensities or probabilities",
            )
    lowest, highest = values.min(), values.max()
    if lowest < 0 or highest > _LARGEST_VALUE:
        value = int(lowest if lowest < 0 else highest)
        raise FileError(
            path,
            f"holds the value {value}, but class numbers must be 0 to {_LARGEST_VALUE};"
            " renumber the classes",
        )
    return values.astype(np.min_scalar_type(int(highest)), copy=False)
