"""What every file format is turned into first: an array of some number type in a known place."""

from pathlib import Path
from typing import TypeAlias

import numpy as np
from jaxtyping import Shaped

from sfumato.arrays import Affine
from sfumato.errors import FileError, InputError
from sfumato.image.geometry import Geometry, VolumeAffine

Elements: TypeAlias = Shaped[np.ndarray, "channel *space"]
"""The values of a file in its own number type."""

SLAB = 16
"""Slices copied at a time where axes change their order: what is read stays in the cache."""
_ORDINALS = ("first", "second", "third")


def placed(
    path: Path, shape: tuple[int, ...], affine: Affine, plane: VolumeAffine | None = None
) -> Geometry:
    """Return where the array of a file lies, refusing arrays that cannot be an image.

    Args:
        path: The file, for messages.
        shape: Number of elements along each spatial axis.
        affine: From element index to patient millimetres.
        plane: Where a flat image lies in space, if the file says so.

    Raises:
        FileError: If the array is empty, has not two or three spatial axes, is a volume only
            one element thick, or the affine is degenerate.
    """
    check_shape(path, shape)
    try:
        return Geometry(shape=shape, affine=affine, plane=plane)
    except InputError as error:
        raise FileError(path, f"{error}; correct the header") from error


def check_shape(path: Path, shape: tuple[int, ...]) -> None:
    """Refuse shapes that no image has.

    Raises:
        FileError: If the shape is empty, not two- or three-dimensional, or a volume one
            element thick.
    """
    text = "×".join(map(str, shape))
    if len(shape) not in (2, 3):
        raise FileError(
            path,
            f"has {len(shape)} spatial axes ({text}), but an image has two or three;"
            " save every time point or position as a file of its own",
        )
    if min(shape) == 0:
        raise FileError(path, f"is empty (shape {text}); export it again")
    if len(shape) == 3 and min(shape) == 1:
        axis = _ORDINALS[shape.index(1)]
        raise FileError(
            path,
            f"is a volume of one element along its {axis} axis (shape {text});"
            " save it as a flat image, such as PNG or TIFF",
        )


def last_axis_fastest(values: Shaped[np.ndarray, "..."]) -> Shaped[np.ndarray, "..."]:
    """Copy an array from the file's order to ours, several times faster than at one go."""
    ours = np.empty(values.shape, values.dtype)
    for start in range(0, values.shape[-1], SLAB):
        slab = slice(start, start + SLAB)
        ours[..., slab] = values[..., slab]
    return ours


def bad_spacing(path: Path, spacing: str) -> FileError:
    """Return the error for a header whose spacing cannot be true."""
    return FileError(
        path,
        f"its header gives the spacing {spacing} mm, but spacing must be positive on every axis;"
        " correct the header",
    )


def damaged(path: Path, error: Exception) -> FileError:
    """Return the error for a file whose content cannot be decoded."""
    reason = (str(error).strip() or type(error).__name__).splitlines()[-1].strip().rstrip(".")
    return FileError(
        path, f"is damaged, cut short or of another format ({reason}); copy or export it again"
    )
