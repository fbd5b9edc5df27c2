"""DICOM segmentations read back onto the grid of the image that they belong to."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pydicom
from jaxtyping import Float32, Int64, Shaped
from pydicom.pixels.utils import pixel_array
from pydicom.uid import SegmentationStorage

from sfumato.arrays import Label, Probability
from sfumato.errors import FileError
from sfumato.image.dicom_files import quietly
from sfumato.image.geometry import Geometry

Segments: TypeAlias = Float32[np.ndarray, "class *space"]

_LPS_TO_RAS = np.array([-1.0, -1.0, 1.0])
_SAME_ELEMENT = 0.05
"""How far a frame's elements may lie beside the image's, in elements."""


def is_dicom_segmentation(path: Path) -> bool:
    """Tell whether a file is a DICOM segmentation."""
    if path.suffix.lower() != ".dcm" or not path.is_file():
        return False
    try:
        header = pydicom.dcmread(path, specific_tags=["SOPClassUID"], stop_before_pixels=True)
    except (pydicom.errors.InvalidDicomError, OSError):
        return False
    return header.get("SOPClassUID") == SegmentationStorage


def read_dicom_label(path: Path, geometry: Geometry, class_names: Sequence[str]) -> Label:
    """Read a binary DICOM segmentation as class indices.

    Args:
        path: The file.
        geometry: The grid of the image; frames may lie on it in any direction.
        class_names: All classes, background first. Segments are told by their labels where
            these are such names, else by their numbers: segment 1 is class 1.

    Raises:
        FileError: If the file is damaged or fractional, does not lie on the grid, has other
            segments, or two segments hold the same element.
    """
    segments = _read(path, geometry, class_names, "BINARY")
    if (segments.sum(axis=0) > 1).any():
        raise FileError(path, "has elements in two segments, but a label holds one class each")
    label = np.zeros(geometry.shape, np.uint8)
    for index, segment in enumerate(segments, start=1):
        label[segment > 0] = index
    return label


def read_dicom_probability(
    path: Path, geometry: Geometry, class_names: Sequence[str]
) -> Probability:
    """Read a fractional DICOM segmentation as the probability of each class, background first.

    Args:
        path: The file.
        geometry: The grid of the image.
        class_names: As in `read_dicom_label`.

    Raises:
        FileError: If the file is damaged or binary, does not lie on the grid, has other
            segments, or its probabilities sum to more than one.
    """
    segments = _read(path, geometry, class_names, "FRACTIONAL")
    rest = 1 - segments.sum(axis=0)
    if rest.min(initial=0) < -len(segments) / 255:
        raise FileError(path, "its segments' probabilities sum to more than one")
    probability = np.concatenate([rest.clip(0, 1)[np.newaxis], segments])
    probability /= probability.sum(axis=0)
    return probability


def _read(path: Path, geometry: Geometry, class_names: Sequence[str], kind: str) -> Segments:
    with quietly(path):
        dataset = pydicom.dcmread(path)
        if dataset.SegmentationType != kind:
            raise FileError(path, f"is no {kind.lower()} segmentation")
        largest = float(dataset.get("MaximumFractionalValue") or 1)
        classes = _classes_of_segments(path, dataset, class_names)
        values = np.zeros((len(class_names) - 1, *geometry.shape), np.float32)
        shape = (-1, int(dataset.Rows), int(dataset.Columns))
        planes = pixel_array(dataset).reshape(shape)
        for (number, place), plane in zip(_places(path, dataset, geometry), planes, strict=True):
            values[classes[number] - 1][place] = plane / np.float32(largest)
    return values


def _classes_of_segments(
    path: Path, dataset: pydicom.Dataset, class_names: Sequence[str]
) -> dict[int, int]:
    """Return the class of each segment by its number."""
    labels = {int(s.SegmentNumber): str(s.SegmentLabel) for s in dataset.SegmentSequence}
    known = [name[:64] for name in class_names]
    if all(label in known[1:] for label in labels.values()):
        return {number: known.index(label) for number, label in labels.items()}
    if max(labels) >= len(class_names):
        raise FileError(
            path, f"has {max(labels)} segments, but there are {len(class_names) - 1} structures"
        )
    return {number: number for number in labels}


def _places(
    path: Path, dataset: pydicom.Dataset, geometry: Geometry
) -> Iterator[tuple[int, tuple[Any, ...]]]:
    """Give the number of each frame's segment, and where its elements lie in the image."""
    shared = dataset.SharedFunctionalGroupsSequence[0]
    for own in dataset.PerFrameFunctionalGroupsSequence:
        segment = _find(own, shared, "SegmentIdentificationSequence")
        number = int(segment.ReferencedSegmentNumber)
        if len(geometry.shape) == 2:
            if (int(dataset.Rows), int(dataset.Columns)) != geometry.shape:
                raise _off_grid(path)
            yield number, (slice(None), slice(None))
            continue
        position, across, down = _vectors(own, shared)
        to_index = np.linalg.inv(geometry.affine)
        start = to_index[:3, :3] @ position + to_index[:3, 3]
        steps = to_index[:3, :3] @ np.stack([down, across], axis=1)
        yield number, _elements(path, start, steps, (int(dataset.Rows), int(dataset.Columns)),
                                geometry.shape)  # fmt: skip


def _vectors(own: pydicom.Dataset, shared: pydicom.Dataset) -> tuple[Any, Any, Any]:
    """Return where a frame's first element lies, and the ways to the next column and row."""
    place = _find(own, shared, "PlanePositionSequence")
    plane = _find(own, shared, "PlaneOrientationSequence")
    measures = _find(own, shared, "PixelMeasuresSequence")
    position = np.array(place.ImagePositionPatient, float)
    directions = np.array(plane.ImageOrientationPatient, float)
    between_rows, between_columns = map(float, measures.PixelSpacing)
    across = directions[:3] * between_columns
    down = directions[3:] * between_rows
    return position * _LPS_TO_RAS, across * _LPS_TO_RAS, down * _LPS_TO_RAS


def _find(own: pydicom.Dataset, shared: pydicom.Dataset, name: str) -> pydicom.Dataset:
    """Return where values of a frame stand: in its own group, or in that of all."""
    return (own.get(name) or shared.get(name))[0]


def _elements(
    path: Path,
    start: Shaped[np.ndarray, "3"],
    steps: Shaped[np.ndarray, "3 2"],
    plane_shape: tuple[int, int],
    shape: tuple[int, ...],
) -> tuple[Int64[np.ndarray, "row column"], ...]:
    """Return the index of every element of a frame along each axis of the image."""
    rows, columns = np.indices(plane_shape)
    exact = start[:, None, None] + steps[:, :1, None] * rows + steps[:, 1:, None] * columns
    index = np.rint(exact).astype(np.int64)
    is_beside = np.abs(exact - index).max() > _SAME_ELEMENT
    is_outside = (index < 0).any() or (index.max(axis=(1, 2)) >= shape).any()
    if is_beside or is_outside:
        raise _off_grid(path)
    return tuple(index)


def _off_grid(path: Path) -> FileError:
    return FileError(path, "does not lie on the grid of the reference")
