"""Images, labels and probabilities on disk: the format goes by the ending of the file's name."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from sfumato.arrays import Image, LabelValues
from sfumato.errors import FileError, InputError, unknown_name
from sfumato.image.dicom import read_dicom
from sfumato.image.dicom_files import split_place, starts_like_dicom
from sfumato.image.elements import Elements
from sfumato.image.flat import read_picture, read_tiff, write_picture
from sfumato.image.geometry import Geometry
from sfumato.image.itk import read_itk, write_itk
from sfumato.image.names import (
    DICOM_SUFFIXES,
    IMAGE_SUFFIXES,
    ITK_SUFFIXES,
    NIFTI_SUFFIXES,
    TIFF_SUFFIXES,
    file_stem,
    file_suffix,
    is_dicom,
    label_suffix,
)
from sfumato.image.nifti import read_nifti, write_nifti
from sfumato.image.probabilities import (
    probability_writer,
    read_class_names,
    read_probability,
    write_class_probabilities,
    write_probability,
)

__all__ = [
    "IMAGE_SUFFIXES",
    "file_stem",
    "file_suffix",
    "is_dicom",
    "label_suffix",
    "probability_writer",
    "read_channels",
    "read_class_names",
    "read_image",
    "read_label",
    "read_probability",
    "write_class_probabilities",
    "write_label",
    "write_probability",
]

_LARGEST_VALUE = 2**32 - 1


def read_image(path: Path | str) -> tuple[Image, Geometry]:
    """Read the intensities of an image.

    Volumes keep their file's index order (x, y, z); flat images, except NIfTI, are (row,
    column). Colours are channels, and a transparency channel is dropped. PNG, JPEG and TIFF
    do not say how large an element is; it counts as 1 mm.

    Args:
        path: An image file; a folder or zip archive with one DICOM series; or either with the
            UID of one of its series behind, as if that were a file in there.

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


def _read(path: Path, *, is_label: bool) -> tuple[Elements, Geometry]:
    container, _ = split_place(path)
    if not container.exists():
        raise FileError(path, "no such file; check the path")
    suffix = file_suffix(path)
    if _holds_dicom(path, suffix):
        return read_dicom(path)
    if suffix in NIFTI_SUFFIXES:
        return read_nifti(path)
    if suffix in ITK_SUFFIXES:
        return read_itk(path)
    if suffix in TIFF_SUFFIXES:
        return read_tiff(path, is_label=is_label)
    if suffix in IMAGE_SUFFIXES:
        return read_picture(path, is_label=is_label)
    raise FileError(path, unknown_name("file type", suffix, IMAGE_SUFFIXES))


def _holds_dicom(path: Path, suffix: str) -> bool:
    if not path.is_file() or suffix in DICOM_SUFFIXES:
        return True
    return suffix not in IMAGE_SUFFIXES and starts_like_dicom(path)


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
