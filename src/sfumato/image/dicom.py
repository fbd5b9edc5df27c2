"""A DICOM series as one image: its slices in the order of their places, in physical values."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from jaxtyping import Float64, Shaped
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.utils import pixel_array

from sfumato.errors import FileError
from sfumato.image.dicom_files import DicomFile, damaged_dicom, find_series, quietly, read_whole
from sfumato.image.elements import Elements, last_axis_fastest, placed
from sfumato.image.geometry import Geometry, VolumeAffine
from sfumato.image.nifti import flat_geometry

INSTALL = "pip install 'sfumato[dicom]'"
"""How to get what compressed files and DICOM segmentations need."""

_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
_SAME = 1e-3
"""How far apart spacings (mm) and direction cosines may be and still count as the same."""
_SAME_PLACE_MM = 1e-2
_UNEVEN = 0.1
"""How far a slice may lie beside its even place, in steps: scanners round places."""
_LARGEST_TILT_DEGREES = 0.5
_WHAT_DIFFERS = {
    "EchoTime": "echo time",
    "AcquisitionNumber": "acquisition number",
    "TemporalPositionIdentifier": "time point",
    "TriggerTime": "trigger time",
    "DiffusionBValue": "b-value",
    "ImageType": "image type",
}

Point = Float64[np.ndarray, "3"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Frame:
    """One plane of a series: a whole file, or one of several in a multi-frame file.

    Attributes:
        file: Where it is stored.
        index: Its number in the file, from 0.
        shape: Rows and columns.
        colour: How its values mean grey or colours (PhotometricInterpretation).
        position: Where the centre of its first element lies, in DICOM's millimetres (left,
            posterior, superior), or None.
        directions: Of rows and of columns, or None.
        spacing: Between rows and between columns, or None.
        slope: What stored values are multiplied by.
        intercept: What is added then.
    """

    file: DicomFile
    index: int
    shape: tuple[int, int]
    colour: str
    position: Point | None
    directions: Float64[np.ndarray, "2 3"] | None
    spacing: Float64[np.ndarray, "2"] | None
    slope: float
    intercept: float


@dataclass(frozen=True, kw_only=True, eq=False)
class Stack:
    """The frames of one image in their order, and its grid."""

    path: Path
    frames: tuple[Frame, ...]
    geometry: Geometry

    @property
    def files(self) -> tuple[DicomFile, ...]:
        """Every file once, in the order of the first frame in it."""
        return tuple({id(frame.file): frame.file for frame in self.frames}.values())


def read_dicom(path: Path) -> tuple[Elements, Geometry]:
    """Read the image that a DICOM series holds.

    A volume's axes are column, row and slice, with slices in the order of their places; a
    single plane is a flat image of rows and columns. Values are rescaled as the header says.
    Where white is low (MONOCHROME1) and the values have no physical meaning, they are turned
    around, so that brighter is always higher. Colours are channels.

    Args:
        path: A folder or zip archive with one series at any depth, or with the series' UID
            behind, as if it were a file in there; or a file, such as a multi-frame one.

    Raises:
        FileError: If there is no series or there are several, slices are missing, doubled,
            unlike each other or stacked askew, or a file is damaged or cannot be decoded.
    """
    stack = stack_frames(path)
    planes = _read_planes(stack)
    if len(stack.frames) == 1:
        return planes[:, 0], stack.geometry
    return last_axis_fastest(planes.transpose(0, 3, 2, 1)), stack.geometry


def stack_frames(path: Path) -> Stack:
    """Put the frames of a series in order, without reading their pixels.

    Raises:
        FileError: As `read_dicom`, unless only the pixels are at fault.
    """
    files = _without_localizers(find_series(path))
    frames = []
    for file in files:
        with quietly(file.place):
            frames += list(_frames_of(file))
    _check_alike(path, frames)
    if len(frames) == 1:
        return Stack(path=path, frames=tuple(frames), geometry=_flat_geometry(path, frames[0]))
    frames, step = _in_order(path, frames)
    first = frames[0]
    assert first.position is not None
    affine = _LPS_TO_RAS @ _affine(first, step)
    shape = (*reversed(first.shape), len(frames))
    return Stack(path=path, frames=tuple(frames), geometry=placed(path, shape, affine))


def _without_localizers(files: list[DicomFile]) -> list[DicomFile]:
    """Leave out the overviews that some scanners keep in the series of the slices."""
    others = [f for f in files if "LOCALIZER" not in str(f.header.get("ImageType"))]
    return others or files


def _frames_of(file: DicomFile) -> Iterator[Frame]:
    header = file.header
    for index in range(int(header.get("NumberOfFrames") or 1)):
        measures = _group(header, index, "PixelMeasuresSequence")
        spacing = measures.get("PixelSpacing") or header.get("ImagerPixelSpacing")
        rescale = _group(header, index, "PixelValueTransformationSequence")
        slope, intercept = rescale.get("RescaleSlope"), rescale.get("RescaleIntercept")
        plane = _group(header, index, "PlaneOrientationSequence").get("ImageOrientationPatient")
        position = _group(header, index, "PlanePositionSequence").get("ImagePositionPatient")
        yield Frame(
            file=file,
            index=index,
            shape=(int(header.Rows), int(header.Columns)),
            colour=str(header.get("PhotometricInterpretation")),
            position=_numbers(position, 3),
            directions=_numbers(plane, 2, 3),
            spacing=_numbers(spacing, 2),
            slope=1.0 if slope is None else float(slope),
            intercept=0.0 if intercept is None else float(intercept),
        )


def _numbers(value: Any, *shape: int) -> Float64[np.ndarray, "..."] | None:
    return np.array(value, np.float64).reshape(shape) if value else None


def _group(header: pydicom.Dataset, index: int, name: str) -> pydicom.Dataset:
    """Return where values of a frame stand: its own group, the shared one, or the header."""
    own = header.get("PerFrameFunctionalGroupsSequence")
    shared = header.get("SharedFunctionalGroupsSequence")
    for groups in ([own[index]] if own else []) + list(shared or []):
        if found := groups.get(name):
            return found[0]
    return header


def _check_alike(path: Path, frames: Sequence[Frame]) -> None:
    if any(frame.file.header.get("ModalityLUTSequence") for frame in frames):
        raise FileError(path, "gives its values by a table; export it with linear rescaling")
    if any(frame.colour == "PALETTE COLOR" for frame in frames):
        raise FileError(path, "gives its colours by a palette; export it in grey or RGB")
    sizes = dict.fromkeys("×".join(map(str, frame.shape)) for frame in frames)
    spacings = _distinct([frame.spacing for frame in frames])
    references = {str(frame.file.header.get("FrameOfReferenceUID")) for frame in frames}
    for n_kinds, what in (
        (len(sizes), f"sizes ({', '.join(sizes)})"),
        (len(spacings), f"pixel spacings ({', '.join(spacings)})"),
        (len(_distinct([frame.directions for frame in frames])), "directions"),
        (len({frame.colour for frame in frames}), "kinds of colour"),
        (len(references), "frames of reference"),
    ):
        if n_kinds > 1:
            raise FileError(
                path,
                f"holds images of different {what}; put those of one volume into a folder of"
                " their own",
            )


def _distinct(values: Sequence[Shaped[np.ndarray, "..."] | None]) -> list[str]:
    """Write down values that differ by more than rounding."""
    distinct: list[Any] = []
    for value in values:
        if not any(_is_same(value, other) for other in distinct):
            distinct.append(value)
    return ["none" if v is None else "/".join(f"{x:.4g}" for x in v.ravel()) for v in distinct]


def _is_same(a: Shaped[np.ndarray, "..."] | None, b: Shaped[np.ndarray, "..."] | None) -> bool:
    if a is None or b is None:
        return a is b
    return np.allclose(a, b, atol=_SAME)


def _in_order(path: Path, frames: Sequence[Frame]) -> tuple[list[Frame], Point]:
    """Sort frames along their normal, and return the way from one to the next."""
    first = frames[0]
    if any(frame.position is None for frame in frames) or first.directions is None:
        raise FileError(
            path,
            f"holds {len(frames)} images that do not say where they lie, such as those of a film;"
            " give it one image",
        )
    normal = np.cross(*first.directions)
    positions = np.array([frame.position for frame in frames])
    order = np.argsort(positions @ normal, kind="stable")
    positions = positions[order]
    _check_gaps(path, frames, positions @ normal)
    step = (positions[-1] - positions[0]) / (len(positions) - 1)
    _check_tilt(path, step, normal)
    return [frames[i] for i in order], step


def _check_gaps(path: Path, frames: Sequence[Frame], depths: Float64[np.ndarray, "frame"]) -> None:
    gaps = np.diff(depths)
    n_places = 1 + int(np.count_nonzero(gaps > _SAME_PLACE_MM))
    if n_places < len(depths):
        names = [name for key, name in _WHAT_DIFFERS.items() if _differs(frames, key)]
        cause = f", which differ in {names[0]}" if names else ""
        raise FileError(
            path,
            f"holds {len(depths)} images at {n_places} places{cause}; put those of one volume"
            " into a folder of their own",
        )
    usual = float(np.median(gaps))
    even = np.linspace(depths[0], depths[-1], len(depths))
    if np.abs(depths - even).max() <= _UNEVEN * gaps.mean():
        return
    apart = f"its slices lie {gaps.min():.4g} to {gaps.max():.4g} mm apart"
    n_missing = int(np.sum(np.rint(gaps / usual) - 1))
    where = int(np.argmax(gaps))
    if np.abs(gaps / usual - np.rint(gaps / usual)).max() < 2 * _UNEVEN and n_missing > 0:
        missing = "one is missing" if n_missing == 1 else f"{n_missing} are missing"
        raise FileError(
            path,
            f"{apart}: {missing}, the first after slice {where + 1} of {len(depths)};"
            " export the series again",
        )
    raise FileError(path, f"{apart}, but a volume needs even steps; resample it to even ones first")


def _differs(frames: Sequence[Frame], keyword: str) -> bool:
    return len({str(frame.file.header.get(keyword)) for frame in frames}) > 1


def _check_tilt(path: Path, step: Point, normal: Point) -> None:
    tilt = np.degrees(np.arctan2(np.linalg.norm(np.cross(step, normal)), step @ normal))
    if tilt > _LARGEST_TILT_DEGREES:
        raise FileError(
            path,
            f"its slices are stacked at {tilt:.1f}° to their normal (a tilted gantry); resample"
            " it to a straight volume first, for example with dcm2niix",
        )


def _affine(frame: Frame, step: Point) -> VolumeAffine:
    """Return the affine from column, row and slice to DICOM's millimetres."""
    assert frame.position is not None
    assert frame.directions is not None
    if frame.spacing is None:
        raise FileError(frame.file.place, "does not say how large its elements are")
    affine = np.eye(4)
    affine[:3, 0] = frame.directions[0] * frame.spacing[1]
    affine[:3, 1] = frame.directions[1] * frame.spacing[0]
    affine[:3, 2], affine[:3, 3] = step, frame.position
    return affine


def _flat_geometry(path: Path, frame: Frame) -> Geometry:
    shape = frame.shape
    if frame.spacing is None:
        return replace(Geometry.from_spacing(shape, (1.0, 1.0)), is_placed=False)
    if frame.position is None or frame.directions is None:
        return placed(path, shape, np.diag([*frame.spacing, 1.0]))
    affine = _LPS_TO_RAS @ _affine(frame, np.cross(*frame.directions))
    return flat_geometry(path, shape, affine[:, [1, 0, 2, 3]])


def _read_planes(stack: Stack) -> Shaped[np.ndarray, "channel slice row column"]:
    files = stack.files
    for file in files:
        _check_decoder(file)
    is_changed = any(_is_changed(frame) for frame in stack.frames)
    order = {(id(f.file), f.index): place for place, f in enumerate(stack.frames)}
    planes: Shaped[np.ndarray, "channel slice row column"] | None = None
    for file, dataset in zip(files, read_whole(files, has_pixels=True), strict=True):
        values = _decode(file, dataset)
        if planes is None:
            dtype = np.dtype(np.float32) if is_changed else values.dtype
            shape = (values.shape[-1], len(order), *values.shape[1:3])
            planes = np.empty(shape, dtype)
        planes = planes.astype(np.result_type(planes, values), copy=False)
        for index, plane in enumerate(values):
            place = order[id(file), index]
            planes[:, place] = np.moveaxis(_physical(stack.frames[place], plane), -1, 0)
    assert planes is not None
    return planes


def _check_decoder(file: DicomFile) -> None:
    with quietly(file.place):
        is_plain = not file.syntax.is_compressed or file.syntax.is_deflated
    if is_plain:
        return
    try:
        is_available = get_decoder(file.syntax).is_available
    except NotImplementedError:
        raise FileError(
            file.place, f"is compressed as {file.syntax.name}; export it uncompressed"
        ) from None
    if not is_available:
        raise FileError(
            file.place, f"is compressed as {file.syntax.name}; to read it, install {INSTALL}"
        )


def _decode(
    file: DicomFile, dataset: pydicom.Dataset
) -> Shaped[np.ndarray, "frame row column channel"]:
    n_samples = int(file.header.get("SamplesPerPixel") or 1)
    shape = (-1, int(file.header.Rows), int(file.header.Columns), n_samples)
    with quietly(file.place):
        values = pixel_array(dataset).reshape(shape)
        if len(values) != int(file.header.get("NumberOfFrames") or 1):
            raise damaged_dicom(file.place)
    return values


def _is_changed(frame: Frame) -> bool:
    return frame.colour == "MONOCHROME1" or (frame.slope, frame.intercept) != (1.0, 0.0)


def _physical(
    frame: Frame, values: Shaped[np.ndarray, "row column channel"]
) -> Shaped[np.ndarray, "row column channel"]:
    if not _is_changed(frame):
        return values
    if (frame.slope, frame.intercept) != (1.0, 0.0):
        return values * frame.slope + frame.intercept
    header = frame.file.header
    # In the range of stored values, highest and lowest change places.
    highest = -1 if header.get("PixelRepresentation") else 2 ** int(header.BitsStored) - 1
    return highest - values.astype(np.int64)
