"""DICOM segmentations: what a model found, in a file that refers to the series it was found in."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pydicom
from jaxtyping import Shaped
from pydicom.sr.codedict import codes as known_codes
from pydicom.uid import ExplicitVRLittleEndian, RLELossless, generate_uid

from sfumato.arrays import Label, Probability
from sfumato.errors import ConfigError, FileError
from sfumato.image.dicom import INSTALL, Stack, stack_frames
from sfumato.image.dicom_files import quietly, read_whole
from sfumato.image.geometry import Geometry
from sfumato.image.quantise import STEPS
from sfumato.image.structure_codes import Code, StructureCodes
from sfumato.storage import atomic_path

Planes: TypeAlias = Shaped[np.ndarray, "slice row column *classes"]

_SERIES_NUMBERS_FROM = 1000
"""What is added to the number of the source, so that viewers list both side by side."""
_MAY_BE_EMPTY = (
    "PatientID", "PatientName", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID",
    "StudyDate", "StudyTime", "ReferringPhysicianName", "Manufacturer",
)  # fmt: skip


def check_can_write_dicom() -> None:
    """Refuse to go on where what writes DICOM segmentations is not installed.

    Raises:
        ConfigError: If it is not.
    """
    if find_spec("highdicom") is None:
        raise ConfigError(
            f"DICOM segmentations need highdicom; install it with {INSTALL}, or write NIfTI with"
            " --format nifti"
        )


def write_dicom_label(
    path: Path, label: Label, source: Path, structures: Mapping[str, StructureCodes]
) -> None:
    """Write a segmentation as a binary DICOM SEG, atomically.

    Class 1 is segment 1 and so on. Slices in which a segment is empty have no frame for it, as
    is usual: each frame says where it lies.

    Args:
        path: Where to.
        label: Class indices on the grid of `read_dicom`.
        source: The series, as it was given to `read_dicom`.
        structures: What each class but the background is called, and its codes.

    Raises:
        FileError: If the series changed or lacks what a segmentation needs, or the disk is full.

    Source: DICOM PS3.3, A.51 (Segmentation IOD).
    """
    _write(path, _as_planes(label), source, structures)


@contextmanager
def dicom_probability_writer(
    path: Path, geometry: Geometry, source: Path, structures: Mapping[str, StructureCodes]
) -> Iterator[Callable[[tuple[slice, ...], Probability], None]]:
    """Write probabilities as a fractional DICOM SEG, atomically, in steps of 1/255.

    As `write_dicom_label`; the probability of the background, class 0, is not kept.

    Args:
        path: Where to.
        geometry: The grid of `read_dicom`.
        source: The series, as it was given to `read_dicom`.
        structures: What each class but the background is called, and its codes.

    Yields:
        A function that takes where a part lies, one slice for each spatial axis, and the
        probability of every class there. Together the parts must cover the grid.

    Raises:
        FileError: As `write_dicom_label`.
    """
    plane_shape = geometry.shape[::-1] if len(geometry.shape) == 3 else (1, *geometry.shape)
    planes = np.zeros((*plane_shape, len(structures)), np.float32)

    def write(place: tuple[slice, ...], probability: Probability) -> None:
        for index, values in enumerate(probability[1:]):
            space = planes[0, ..., index] if len(place) == 2 else planes[..., index].T
            space[place] = values

    yield write
    _write(path, planes, source, structures)


def _as_planes(values: Shaped[np.ndarray, "*space"]) -> Planes:
    return values[np.newaxis] if values.ndim == 2 else values.transpose(2, 1, 0)


def _write(
    path: Path, planes: Planes, source: Path, structures: Mapping[str, StructureCodes]
) -> None:
    stack = stack_frames(source)
    if planes.shape[:3] != (len(stack.frames), *stack.frames[0].shape):
        raise FileError(source, "changed since it was read; segment it again")
    datasets = [_completed(stack, d) for d in read_whole(stack.files, has_pixels=False)]
    if len(datasets) < len(stack.frames):
        planes = _in_stored_order(source, stack, planes)
    try:
        with quietly(source):
            segmentation = _segmentation(datasets, planes, structures)
    except FileError:
        raise FileError(
            source,
            "its header lacks or contradicts what a DICOM segmentation must repeat of it; add"
            " --format nifti",
        ) from None
    with atomic_path(path) as temporary:
        segmentation.save_as(temporary)


def _completed(stack: Stack, dataset: pydicom.Dataset) -> pydicom.Dataset:
    """Add, empty, what may be empty but must be there; anonymous files often lack it."""
    if "FrameOfReferenceUID" not in dataset:
        raise FileError(
            stack.path,
            "has no frame of reference, which a DICOM segmentation needs; add --format nifti",
        )
    for name in _MAY_BE_EMPTY:
        if name not in dataset:
            setattr(dataset, name, "")
    if not dataset.get("SliceThickness"):  # A multi-frame file has it elsewhere.
        spacing = stack.geometry.spacing
        dataset.SliceThickness = f"{spacing[2]:.6g}" if len(spacing) == 3 else "1"
    return dataset


def _in_stored_order(source: Path, stack: Stack, planes: Planes) -> Planes:
    if len(stack.files) > 1:
        raise FileError(
            source,
            "is several multi-frame files, of which no DICOM SEG is made; add --format nifti",
        )
    return planes[np.argsort([frame.index for frame in stack.frames])]


def _segmentation(
    datasets: Sequence[pydicom.Dataset], planes: Planes, structures: Mapping[str, StructureCodes]
) -> Any:
    import highdicom

    is_fractional = planes.ndim == 4
    kind = "probabilities" if is_fractional else "segmentation"
    number = datasets[0].get("SeriesNumber")
    return highdicom.seg.Segmentation(
        source_images=datasets,
        pixel_array=planes,
        segmentation_type="FRACTIONAL" if is_fractional else "BINARY",
        segment_descriptions=_descriptions(structures),
        series_instance_uid=_new_uid(),
        series_number=_SERIES_NUMBERS_FROM + int(number or 0),
        series_description=f"sfumato {kind}",
        sop_instance_uid=_new_uid(),
        instance_number=1,
        manufacturer="sfumato",
        manufacturer_model_name="sfumato",
        software_versions=version("sfumato"),
        device_serial_number=version("sfumato"),
        content_label=kind.upper(),
        content_description=f"sfumato {kind}",
        max_fractional_value=STEPS,
        # Bits are packed, not compressed: no compression of bits is read everywhere.
        transfer_syntax_uid=RLELossless if is_fractional else ExplicitVRLittleEndian,
    )


def _descriptions(structures: Mapping[str, StructureCodes]) -> list[Any]:
    import highdicom

    algorithm = highdicom.AlgorithmIdentificationSequence(
        name="sfumato",
        version=version("sfumato"),
        family=known_codes.DCM.ArtificialIntelligence,
    )
    descriptions = []
    for number, (name, codes) in enumerate(structures.items(), start=1):
        description = highdicom.seg.SegmentDescription(
            segment_number=number,
            segment_label=name[:64],
            segmented_property_category=_concept(codes.category),
            segmented_property_type=_concept(codes.type),
            algorithm_type="AUTOMATIC",
            algorithm_identification=algorithm,
            tracking_uid=_new_uid(),
            tracking_id=name[:64],
        )
        if codes.modifier is not None:
            # Its place is inside the type, where highdicom has no argument for it.
            kind = description.SegmentedPropertyTypeCodeSequence[0]
            kind.SegmentedPropertyTypeModifierCodeSequence = [_concept(codes.modifier)]
        descriptions.append(description)
    return descriptions


def _concept(code: Code) -> Any:
    import highdicom

    return highdicom.sr.CodedConcept(
        value=code.value, scheme_designator=code.scheme, meaning=code.meaning
    )


def _new_uid() -> str:
    """Make a UID under 2.25, which everyone may use with a random number."""
    return generate_uid(prefix=None)
