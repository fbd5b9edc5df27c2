"""Pictures: PNG and JPEG through Pillow, TIFF (also as a stack of pages) through tifffile."""

import logging
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image as Picture
from PIL import UnidentifiedImageError

from sfumato.arrays import LabelValues
from sfumato.errors import FileError
from sfumato.image.elements import Elements, check_shape, damaged
from sfumato.image.geometry import Geometry
from sfumato.image.names import file_suffix
from sfumato.storage import atomic_path

_PNG_START = b"\x89PNG\r\n\x1a\n"
_TRANSPARENCY = (1, 2)  # associated and unassociated alpha; every other extra sample is a channel


def read_picture(path: Path, *, is_label: bool) -> tuple[Elements, Geometry]:
    """Read a PNG or JPEG file; its elements lie one millimetre apart.

    Args:
        path: The file.
        is_label: Whether the colours of a palette are class numbers, not to be looked up.

    Raises:
        FileError: If the file is damaged, too large, or would lose precision.
    """
    try:
        n_bits, is_gray = _png_depth(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Picture.DecompressionBombWarning)
            # Pillow goes by content, and some of its other formats start programs.
            with Picture.open(path, formats=("PNG", "JPEG")) as picture:
                elements = _picture_elements(picture, is_label)
    except Picture.DecompressionBombError as error:
        raise FileError(path, "is too large for a PNG or JPEG picture; save it as TIFF") from error
    except (OSError, SyntaxError, ValueError, UnidentifiedImageError) as error:
        raise damaged(path, error) from error
    if n_bits == 16 and not is_gray:
        raise FileError(path, "has 16-bit colours, which PNG reading cuts to 8; save it as TIFF")
    if is_label and is_gray and n_bits in (2, 4):
        elements = elements // (255 // (2**n_bits - 1))  # Pillow stretches few grey levels to 255
    return elements, _unit_geometry(path, elements.shape[1:])


def read_tiff(path: Path, *, is_label: bool) -> tuple[Elements, Geometry]:
    """Read a TIFF file: one page is a flat image, several are a volume (page, row, column).

    Elements lie one millimetre apart. Extra samples are channels, unless the file calls them
    transparency: that is dropped.

    Args:
        path: The file.
        is_label: Whether the colours of a palette are class numbers, not to be looked up.

    Raises:
        FileError: If the file is damaged or holds more than one image.
    """
    try:
        with _raise_logged_errors(), tifffile.TiffFile(path) as tiff:
            if len(tiff.series) != 1:
                raise FileError(
                    path,
                    f"holds {len(tiff.series)} pictures of different sizes;"
                    " save each as a file of its own",
                )
            series, page = tiff.series[0], tiff.pages[0]
            values, axes = series.asarray(), series.axes
            colours = None if is_label else page.colormap
            extra_samples = tuple(map(int, page.extrasamples))
            len(tiff.pages)  # walks to the end, and so notices if that is missing
    except (OSError, ValueError, zlib.error, LookupError) as error:
        raise damaged(path, error) from error
    elements = _tiff_channels_first(path, values, axes)
    is_kept = _kept_samples(len(elements), extra_samples)
    if not all(is_kept):
        elements = elements[is_kept]
    if colours is not None and len(elements) == 1:
        elements = (colours >> 8)[:, elements[0]]
    return elements, _unit_geometry(path, elements.shape[1:])


def write_picture(path: Path, values: LabelValues, geometry: Geometry) -> None:
    """Write a flat label of 8 or 16 bits as PNG, or a flat or deep one as TIFF, atomically.

    Raises:
        FileError: If the format cannot hold the values, the number of axes or the place.
    """
    is_png = file_suffix(path) == ".png"
    _check_holdable(path, values, geometry, is_png=is_png)
    with atomic_path(path) as temporary:
        if is_png:
            Picture.fromarray(values).save(temporary)
        else:
            axes = "YX" if values.ndim == 2 else "ZYX"
            # Without these words tifffile takes an axis of three for colours.
            tifffile.imwrite(
                temporary,
                values,
                photometric="minisblack",
                compression="zlib",
                metadata={"axes": axes},
            )


def _check_holdable(path: Path, values: LabelValues, geometry: Geometry, *, is_png: bool) -> None:
    name = "PNG" if is_png else "TIFF"
    if is_png and values.ndim != 2:
        raise FileError(path, "PNG holds flat images only; write a volume as .nii.gz")
    if is_png and values.dtype.itemsize > 2:
        raise FileError(
            path, f"PNG holds values up to 65535, got {values.max()}; write it as .tif or .nii.gz"
        )
    unit = Geometry.from_spacing(geometry.shape, (1.0,) * len(geometry.shape))
    if difference := unit.difference(geometry):
        raise FileError(
            path,
            f"{name} cannot say where an image lies ({difference}); write it as .nii.gz or .mha",
        )


def _picture_elements(picture: Picture.Image, is_label: bool) -> Elements:
    keeps_values = picture.mode in ("1", "L", "LA", "I", "I;16", "I;16B", "RGB", "RGBA")
    if not keeps_values and not (is_label and picture.mode == "P"):
        picture = picture.convert("RGB")
    values = np.asarray(picture)
    if values.ndim == 2:
        return values[np.newaxis]
    has_alpha = picture.mode in ("LA", "RGBA")
    return np.moveaxis(values[..., :-1] if has_alpha else values, -1, 0)


def _png_depth(path: Path) -> tuple[int, bool]:
    """Return the bits a sample of a PNG file has, and whether it is grey; 8 for a JPEG."""
    with path.open("rb") as file:
        start = file.read(26)
    if len(start) < 26 or not start.startswith(_PNG_START):
        return 8, False
    return start[24], start[25] == 0


def _tiff_channels_first(path: Path, values: np.ndarray, axes: str) -> Elements:
    """Move samples (S) or channels (C) to the front; every other axis is a spatial one."""
    depth = axes.replace("Y", "").replace("X", "").replace("S", "").replace("C", "")
    if "Y" not in axes or "X" not in axes or depth not in ("", "Z", "I", "Q"):
        check_shape(path, values.shape)
        raise FileError(path, f"has the axes {axes}; save it as YX, ZYX or with channels C or S")
    channel_axes = [axes.index(letter) for letter in "CS" if letter in axes]
    if len(channel_axes) > 1:
        raise FileError(path, f"has colours and channels both (axes {axes}); save only one")
    return np.moveaxis(values, channel_axes[0], 0) if channel_axes else values[np.newaxis]


def _kept_samples(n_samples: int, extra_samples: tuple[int, ...]) -> list[bool]:
    """Tell the samples that are kept from transparency; the extra ones come last.

    Examples:
        >>> _kept_samples(4, (2,)), _kept_samples(3, (0, 0))
        ([True, True, True, False], [True, True, True])
    """
    n_colours = n_samples - len(extra_samples)
    if n_colours < 1:  # pages were stacked otherwise than their samples say
        return [True] * n_samples
    return [True] * n_colours + [kind not in _TRANSPARENCY for kind in extra_samples]


@contextmanager
def _raise_logged_errors() -> Iterator[None]:
    """Raise what tifffile only logs: of a file cut short it may return the first page alone."""
    messages: list[str] = []

    def keep(record: logging.LogRecord) -> bool:
        if record.levelno >= logging.ERROR:
            messages.append(record.getMessage())
        return False

    logger = logging.getLogger("tifffile")
    logger.addFilter(keep)
    try:
        yield
    finally:
        logger.removeFilter(keep)
    if messages:
        raise ValueError(messages[0])


def _unit_geometry(path: Path, shape: tuple[int, ...]) -> Geometry:
    check_shape(path, shape)
    return Geometry(shape=shape, affine=np.eye(len(shape) + 1), is_placed=False)
