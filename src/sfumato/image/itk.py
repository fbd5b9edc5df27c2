"""NRRD and MetaImage files, through SimpleITK."""

import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk  # noqa: N813 (the name its own manual uses)

from sfumato.arrays import Affine, LabelValues
from sfumato.errors import FileError
from sfumato.image.elements import Elements, bad_spacing, check_shape, damaged, placed
from sfumato.image.geometry import Geometry
from sfumato.image.names import file_suffix
from sfumato.storage import atomic_path

# Whatever ITK only warns of is checked here and raised in one plain line.
sitk.ProcessObject.SetGlobalWarningDisplay(False)

_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0])
# ITK counts a flat image x first and has no patient there: swapping both the indices and the
# millimetres gives rows first, and an image without rotation the plain diagonal affine.
_SWAP = np.array([[0.0, 1.0], [1.0, 0.0]])
_PIECE = 1 << 20
_UNZIP_EITHER = 47  # zlib's window size that accepts zlib and gzip streams alike


def read_itk(path: Path) -> tuple[Elements, Geometry]:
    """Read an NRRD or MetaImage file; vector elements become channels.

    Raises:
        FileError: If the file is damaged, or its header cannot be true.
    """
    try:
        header, start = _text_header(path)
        _check_stream(path, header, start)
        image = _read(path, header)
    except (RuntimeError, OSError, zlib.error) as error:
        raise damaged(path, error) from error
    n_axes = image.GetDimension()
    if n_axes not in (2, 3):
        check_shape(path, tuple(image.GetSize()))
    elements = _channels_first(image)
    return elements, placed(path, elements.shape[1:], _affine(image))


def write_itk(
    path: Path, values: LabelValues, geometry: Geometry, fields: Mapping[str, str] | None = None
) -> None:
    """Write a label as .nrrd or .mha, compressed, atomically.

    Args:
        path: Where to.
        values: The label.
        geometry: Where it lies.
        fields: What else the header says.

    Raises:
        FileError: If the grid is sheared, which these formats cannot hold.
    """
    is_volume = len(geometry.shape) == 3
    to_itk = _LPS_TO_RAS if is_volume else _SWAP
    matrix = to_itk @ geometry.affine[:-1, :-1]
    if not is_volume:
        matrix = matrix @ _SWAP
    spacing = np.linalg.norm(matrix, axis=0)
    direction = matrix / spacing
    if not np.allclose(direction.T @ direction, np.eye(len(spacing)), rtol=0, atol=1e-4):
        raise FileError(path, "cannot hold a sheared grid; write it as .nii.gz instead")
    image = sitk.GetImageFromArray(values.T if is_volume else values)
    image.SetSpacing(spacing.tolist())
    image.SetDirection(direction.ravel().tolist())
    image.SetOrigin((to_itk @ geometry.affine[:-1, -1]).tolist())
    for key, text in (fields or {}).items():
        image.SetMetaData(key, text)
    with atomic_path(path) as temporary:
        try:
            sitk.WriteImage(image, str(temporary), useCompression=True)
        except RuntimeError as error:
            raise FileError(
                path, "cannot be written; check that the disk has space and allows it"
            ) from error


def _read(path: Path, header: dict[str, str]) -> Any:
    spacings = _header_spacings(path, header)
    if not all(np.isfinite(s) and s > 0 for s in spacings):
        raise bad_spacing(path, " × ".join(f"{s:.4g}" for s in spacings))
    return sitk.ReadImage(str(path))


def _text_header(path: Path) -> tuple[dict[str, str], int]:
    """Return the text header with lower-case keys, and where the data begin."""
    is_meta = file_suffix(path) in (".mha", ".mhd")
    separator = "=" if is_meta else ":"
    header = {}
    with path.open("rb") as file:
        while line := file.readline(100_000).decode("latin-1").strip():
            key, _, value = line.partition(separator)
            header[key.strip().lower()] = value.strip(" =")
            if is_meta and key.strip() == "ElementDataFile":
                break
        return header, file.tell()


def _check_stream(path: Path, header: dict[str, str], start: int) -> None:
    """Compare the checksum of compressed data, which ITK's readers do not."""
    in_file = header.get("elementdatafile", "LOCAL") == "LOCAL" and "data file" not in header
    is_zipped = header.get("compresseddata", "").lower() == "true"
    if not in_file or not (is_zipped or header.get("encoding", "").lower() in ("gzip", "gz")):
        return
    unzip = zlib.decompressobj(_UNZIP_EITHER)
    with path.open("rb") as file:
        file.seek(start)
        while not unzip.eof:
            block = unzip.unconsumed_tail or file.read(_PIECE)
            if not block:
                raise OSError("the compressed data end too early")
            unzip.decompress(block, _PIECE)


def _header_spacings(path: Path, header: dict[str, str]) -> list[float]:
    """Return the spacings a header writes down, leaving out axes that are not spatial."""
    try:
        if "space directions" in header:
            vectors = header["space directions"].replace("none", "").split(")")
            texts = [vector.strip(" (") for vector in vectors]
            return [
                float(np.linalg.norm([float(x) for x in text.split(",")])) for text in texts if text
            ]
        text = header.get("elementspacing") or header.get("spacings") or ""
        values = [float(x) for x in text.split()]
    except ValueError as error:
        raise FileError(path, "its header gives no readable spacing; correct the header") from error
    # NRRD writes NaN for the axis of the channels.
    return values if "elementspacing" in header else [v for v in values if not np.isnan(v)]


def _channels_first(image: Any) -> Elements:
    array = sitk.GetArrayFromImage(image)
    is_vector = image.GetNumberOfComponentsPerPixel() > 1
    if image.GetDimension() == 3:
        return array.T if is_vector else array.T[np.newaxis]
    return np.moveaxis(array, -1, 0) if is_vector else array[np.newaxis]


def _affine(image: Any) -> Affine:
    n_axes = image.GetDimension()
    matrix = np.reshape(image.GetDirection(), (n_axes, n_axes)) * np.array(image.GetSpacing())
    origin = np.array(image.GetOrigin())
    affine = np.eye(n_axes + 1)
    if n_axes == 2:
        affine[:2, :2], affine[:2, 2] = _SWAP @ matrix @ _SWAP, _SWAP @ origin
    else:
        affine[:3, :3], affine[:3, 3] = _LPS_TO_RAS @ matrix, _LPS_TO_RAS @ origin
    return affine
