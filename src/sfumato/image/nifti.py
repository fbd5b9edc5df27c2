"""NIfTI files: images, labels, and probabilities in bytes."""

import gzip
import io
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

import nibabel
import numpy as np
from jaxtyping import Float64, Shaped, UInt8
from nibabel.openers import Opener
from nibabel.spatialimages import HeaderDataError

from sfumato.errors import FileError
from sfumato.image.elements import SLAB, Elements, bad_spacing, damaged, last_axis_fastest, placed
from sfumato.image.geometry import Geometry, VolumeAffine
from sfumato.image.names import file_suffix
from sfumato.storage import atomic_path

_FlatAffine: TypeAlias = Float64[np.ndarray, "3 3"]

_FORMATS = {348: nibabel.Nifti1Image, 540: nibabel.Nifti2Image}  # by the header's size in bytes
_METRE, _MILLIMETRE, _MICROMETRE = 1, 2, 3
_UNIT_MM = {_METRE: 1e3, _MILLIMETRE: 1.0, _MICROMETRE: 1e-3}
_COMPRESSION = 6
"""Of zlib's levels: a third smaller than level 1 where labels are soft; 9 gains little more and is
several times slower."""
_SPATIAL_UNIT = 0b111  # the bits of xyzt_units that stand for space; the others stand for time


def read_nifti(path: Path) -> tuple[Elements, Geometry]:
    """Read a flat image (x, y), a volume (x, y, z), or channels (x, y, z, c) or (x, y, z, 1, c).

    Stored slopes and intercepts are applied, and metres and micrometres become millimetres.
    A flat image tilted out of the patient's axial plane has its spacing for a grid, since a
    flat grid cannot say more; where it lies in space is kept for files written for it.

    Raises:
        FileError: If the file is damaged, or its header cannot be true.
    """
    values, affine = load_nifti(path)
    if values.ndim == 2:
        return values[np.newaxis], flat_geometry(path, values.shape, affine)
    if values.ndim == 5 and values.shape[3] == 1:
        values = values[:, :, :, 0]
    channels_first = np.moveaxis(values, -1, 0) if values.ndim > 3 else values[np.newaxis]
    channels_first = last_axis_fastest(channels_first)
    return channels_first, placed(path, channels_first.shape[1:], affine)


def load_nifti(path: Path) -> tuple[Shaped[np.ndarray, "..."], VolumeAffine]:
    """Read the array of a NIfTI file as it is stored, scaled, with its affine in millimetres.

    Scaled numbers of up to 16 bits come in float32, a slab at a time: scaling gives float64, which
    would take as much memory as the rest of reading.

    Raises:
        FileError: If the file is damaged, or its header cannot be true.
    """
    try:
        # The whole file is unpacked at once because only then gzip compares its checksum.
        raw = path.read_bytes()
        if file_suffix(path) == ".nii.gz":
            raw = gzip.decompress(raw)
        image_format = _check_header(path, raw)
        image = image_format.from_bytes(raw)
        values = _scaled(image)
    except (OSError, EOFError, zlib.error, ValueError, HeaderDataError) as error:
        raise damaged(path, error) from error
    if values.dtype.names:  # a colour picture: one field for each of R, G, B (and alpha)
        values = np.stack([values[name] for name in "RGB"], axis=-1)
    affine = np.array(image.affine, np.float64)
    # A file that names no unit, or an unknown one, is taken for millimetres as everywhere.
    affine[:3] *= _UNIT_MM.get(int(image.header["xyzt_units"]) & _SPATIAL_UNIT, 1.0)
    return values, affine


def _scaled(image: Any) -> Shaped[np.ndarray, "..."]:
    stored, is_scaled = image.dataobj, image.dataobj.slope != 1 or image.dataobj.inter != 0
    if not is_scaled or stored.dtype.names or stored.dtype.itemsize > 2 or len(stored.shape) < 3:
        return np.asanyarray(stored)
    values = np.empty(stored.shape, np.float32, order="F")
    for start in range(0, stored.shape[2], SLAB):
        slab = (slice(None), slice(None), slice(start, start + SLAB))
        values[slab] = stored[slab]
    return values


def write_nifti(
    path: Path,
    values: Shaped[np.ndarray, "..."],
    geometry: Geometry,
    slope: float | None = None,
) -> None:
    """Write an array whose first axes are the spatial ones, atomically.

    Args:
        path: A name ending in .nii.gz or .nii.
        values: What is stored, number for number.
        geometry: Where it lies; a flat array lies where its image did in space.
        slope: What readers multiply the stored numbers by.

    Raises:
        FileError: If an axis is longer than NIfTI can say, or the disk is full.
    """
    image = _new_image(path, _first_axis_fastest(values), geometry)
    if slope is not None:
        image.header.set_slope_inter(slope, 0)
    with atomic_path(path) as temporary, _opened(temporary) as stream:
        image.to_stream(stream)


@contextmanager
def nifti_stream(
    path: Path, geometry: Geometry, n_volumes: int, slope: float
) -> Iterator[Callable[[UInt8[np.ndarray, "*space"]], None]]:
    """Write bytes on one grid, volume after volume, a flat image as a volume of one slice.

    Args:
        path: A name ending in .nii.gz or .nii; written directly.
        geometry: Where the volumes lie.
        n_volumes: How many there will be, along the last axis.
        slope: What readers multiply the stored numbers by.

    Raises:
        FileError: If an axis is longer than NIfTI can say.
    """
    shape = (*geometry.shape, *(1,) * (3 - len(geometry.shape)), n_volumes)
    # Nibabel needs an array for its header; this one takes a single byte.
    image = _new_image(path, np.broadcast_to(np.uint8(0), shape), geometry)
    image.header.set_slope_inter(slope, 0)
    image.header.set_data_offset(image.header.single_vox_offset)
    with _opened(path) as stream:
        image.header.write_to(stream)

        def put(volume: UInt8[np.ndarray, "*space"]) -> None:
            for start in range(0, volume.shape[-1], SLAB):
                stream.write(volume[..., start : start + SLAB].tobytes(order="F"))

        yield put


def _new_image(path: Path, values: Shaped[np.ndarray, "..."], geometry: Geometry) -> Any:
    try:
        image = nibabel.Nifti1Image(values, _volume_affine(geometry))
    except HeaderDataError as error:
        raise FileError(
            path, f"cannot hold the shape {values.shape}; NIfTI ends at 32767 elements an axis"
        ) from error
    image.header.set_xyzt_units("mm")
    return image


def _opened(path: Path) -> Opener:
    packing = {"compresslevel": _COMPRESSION} if file_suffix(path) == ".nii.gz" else {}
    return Opener(path, "wb", **packing)


def _first_axis_fastest(values: Shaped[np.ndarray, "..."]) -> Shaped[np.ndarray, "..."]:
    """Copy an array from our order to the file's."""
    files = np.empty(values.shape, values.dtype, order="F")
    for start in range(0, len(values), SLAB):
        slab = slice(start, start + SLAB)
        files[slab] = values[slab]
    return files


def _check_header(path: Path, raw: bytes) -> Any:
    """Look at what the file itself says, before nibabel repairs it, and return its format."""
    sizes = {int.from_bytes(raw[:4], order) for order in ("little", "big")} & _FORMATS.keys()
    if not sizes:
        raise ValueError("it does not begin like a NIfTI file")
    image_format = _FORMATS[sizes.pop()]
    header = image_format.header_class.from_fileobj(io.BytesIO(raw), check=False)
    n_axes = int(header["dim"][0])
    if not 1 <= n_axes <= 7:
        raise ValueError(f"its header gives {n_axes} axes")
    shape = [int(n) for n in header["dim"][1 : n_axes + 1]]
    if min(shape) < 1:
        raise FileError(path, f"is empty (shape {'×'.join(map(str, shape))}); export it again")
    spacing = np.asarray(header["pixdim"][1 : min(n_axes, 3) + 1], np.float64)
    if not (np.isfinite(spacing).all() and spacing.min() > 0):
        raise bad_spacing(path, " × ".join(f"{s:.4g}" for s in spacing))
    n_bytes = int(np.prod(shape, dtype=object)) * header.get_data_dtype().itemsize
    if len(raw) < int(header["vox_offset"]) + n_bytes:
        raise ValueError(f"{len(raw)} bytes instead of {int(header['vox_offset']) + n_bytes}")
    return image_format


def _volume_affine(geometry: Geometry) -> VolumeAffine:
    if len(geometry.shape) == 3:
        return geometry.affine
    if geometry.plane is not None:
        return geometry.plane
    volume = np.eye(4)
    volume[:2, :2], volume[:2, 3] = geometry.affine[:2, :2], geometry.affine[:2, 2]
    return volume


def _flat_affine(affine: VolumeAffine) -> _FlatAffine:
    """Return the grid of a flat image by itself; of a tilted one that is only its spacing."""
    if not np.allclose(affine[2, :2], 0, atol=1e-6):
        return np.diag([*np.linalg.norm(affine[:3, :2], axis=0), 1.0])
    flat = np.eye(3)
    flat[:2, :2], flat[:2, 2] = affine[:2, :2], affine[:2, 3]
    return flat


def _plane(affine: VolumeAffine) -> VolumeAffine | None:
    """Return an affine that can be written back, or None where the axes are parallel.

    Some files give the axis that a flat image does not have no length; it then gets one
    millimetre across the image, which moves no element.
    """
    normal = np.cross(affine[:3, 0], affine[:3, 1])
    if not normal.any():
        return None
    if normal @ affine[:3, 2] != 0:
        return affine
    plane = affine.copy()
    plane[:3, 2] = normal / np.linalg.norm(normal)
    return plane


def flat_geometry(path: Path, shape: tuple[int, ...], affine: VolumeAffine) -> Geometry:
    """Return the place of a flat image, stored with two axes or as one slice of a volume.

    Raises:
        FileError: If the affine is degenerate.
    """
    return placed(path, shape, _flat_affine(affine), _plane(affine))
