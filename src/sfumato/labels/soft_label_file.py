"""Soft labels in files of their own: small, checked, and read in parts.

A file (`.sfsl`) holds, little-endian, `SFSF`, the length and the CRC-32 of a piece of JSON, that
piece deflated, and then what `encode_soft_label` returns. The JSON says where the label lies
(`affine` and, for a flat image that lies in space, `plane`), whether the image's file said so, and
what the classes are called.
"""

import json
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sfumato.arrays import Probability
from sfumato.errors import FileError, InputError
from sfumato.image.geometry import Geometry
from sfumato.labels.encoding import decode_soft_label, encode_soft_label, shape_of_encoded
from sfumato.storage import atomic_path

SUFFIX = ".sfsl"
_PREFIX = struct.Struct("<4sII")
_MAGIC = b"SFSF"


@dataclass(frozen=True, kw_only=True, eq=False)
class SoftLabel:
    """A soft label, or a part of it, with what its file says.

    Attributes:
        probability: The probability of every class.
        geometry: The grid on which the part lies.
        class_names: What the classes are called, in order.
    """

    probability: Probability
    geometry: Geometry
    class_names: tuple[str, ...]


def write_soft_label(
    path: Path | str,
    probability: Probability,
    geometry: Geometry,
    class_names: Sequence[str],
    scale_mm: float | None = None,
) -> None:
    """Write a soft label to a small file.

    Args:
        path: Its name ends in .sfsl.
        probability: The probability of every class; see `encode_soft_label` for what comes back.
        geometry: The grid of the label.
        class_names: One for each class.
        scale_mm: What the label was softened with; None stands for the smallest spacing.

    Raises:
        FileError: If the name ends otherwise, or the disk is full.
        InputError: If there is not one name a class, or the probabilities are none.
    """
    path = Path(path)
    if path.suffix.lower() != SUFFIX:
        raise FileError(path, f"encoded soft labels are files that end in {SUFFIX}; rename it")
    if len(class_names) != len(probability) or probability.shape[1:] != geometry.shape:
        raise InputError(
            f"probability must have one class a name and the shape {geometry.shape},"
            f" got {len(class_names)} names and {probability.shape}"
        )
    about: dict[str, Any] = {
        "affine": geometry.affine.tolist(),
        "plane": None if geometry.plane is None else geometry.plane.tolist(),
        "is_placed": geometry.is_placed,
        "class_names": list(class_names),
    }
    content = zlib.compress(json.dumps(about).encode(), 9)
    data = encode_soft_label(probability, geometry.spacing, scale_mm)
    with atomic_path(path) as temporary:
        temporary.write_bytes(
            _PREFIX.pack(_MAGIC, len(content), zlib.crc32(content)) + content + data
        )


def read_soft_label(path: Path | str, part: Sequence[slice] | None = None) -> SoftLabel:
    """Read a soft label, or a part of it without the rest of the file.

    Args:
        path: What `write_soft_label` wrote.
        part: Slices along the spatial axes, without steps; None stands for everything.

    Raises:
        FileError: If the file is missing, damaged or no soft label, or the part holds nothing.
    """
    path = Path(path)
    try:
        # Mapped, so that only the blocks of the part are read.
        data = np.memmap(path, np.uint8, mode="r").data
    except FileNotFoundError as error:
        raise FileError(path, "no such file; check the path") from error
    except (OSError, ValueError) as error:  # an empty file cannot be mapped
        raise FileError(path, f"cannot be read ({error})") from error
    try:
        about, start = _read_about(data)
        probability = decode_soft_label(data[start:], part)
        geometry = _geometry(about, shape_of_encoded(data[start:]), part)
        names = tuple(about["class_names"])
        if len(names) != len(probability):
            raise InputError("its class names do not fit its classes; encode it again")
    except (InputError, KeyError, TypeError) as error:
        raise FileError(path, str(error)) from error
    return SoftLabel(probability=probability, geometry=geometry, class_names=names)


def _read_about(data: memoryview) -> tuple[dict[str, Any], int]:
    if len(data) < _PREFIX.size or bytes(data[:4]) != _MAGIC:
        raise InputError("is no soft label; it does not begin like one")
    _, n, checksum = _PREFIX.unpack_from(data)
    content = bytes(data[_PREFIX.size : _PREFIX.size + n])
    if len(content) < n or zlib.crc32(content) != checksum:
        raise InputError("is damaged (its first part is not what was written); copy it anew")
    about: dict[str, Any] = json.loads(zlib.decompress(content))
    return about, _PREFIX.size + n


def _geometry(
    about: dict[str, Any], shape: tuple[int, ...], part: Sequence[slice] | None
) -> Geometry:
    affine = np.array(about["affine"])
    plane = None if about["plane"] is None else np.array(about["plane"])
    if part is not None:
        ranges = [along.indices(n) for along, n in zip(part, shape, strict=True)]
        first = np.array([start for start, _, _ in ranges], float)
        shape = tuple(max(0, stop - start) for start, stop, _ in ranges)
        affine[:-1, -1] += affine[:-1, :-1] @ first
        if plane is not None:
            plane[:-1, -1] += plane[:-1, :2] @ first
    return Geometry(shape=shape, affine=affine, plane=plane, is_placed=about["is_placed"])
