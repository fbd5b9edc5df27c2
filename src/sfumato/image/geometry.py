"""Where an array lies in the patient."""

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from jaxtyping import Float64

from sfumato.arrays import Affine, Spacing
from sfumato.errors import InputError

VolumeAffine: TypeAlias = Float64[np.ndarray, "4 4"]

LARGEST_SHARE = 0.01
"""How far apart two grids may be and still count as one, in smallest spacings."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Geometry:
    """The grid that an image and its label share.

    Attributes:
        shape: Number of elements along each spatial axis.
        affine: From element index to patient millimetres, RAS (right, anterior, superior
            positive); 4×4 for a volume, 3×3 for a flat image.
        plane: Where a flat image lies in space, if its file says so. It is kept only so that
            a file written for the image lies there too; None for every other image.
        is_placed: Whether the image's file says how large its elements are and how it lies in
            the patient; where not, elements count as 1 mm.
    """

    shape: tuple[int, ...]
    affine: Affine
    plane: VolumeAffine | None = None
    is_placed: bool = True

    def __post_init__(self) -> None:
        n_axes = len(self.shape)
        if self.affine.shape != (n_axes + 1, n_axes + 1):
            raise InputError(
                f"affine must be {n_axes + 1}×{n_axes + 1} for {n_axes} spatial axes,"
                f" got {self.affine.shape}"
            )
        in_space = self.affine if self.plane is None else self.plane
        if not (np.isfinite(self.affine).all() and np.isfinite(in_space).all()):
            raise InputError("affine must be finite; the file's header has NaN or infinity in it")
        if min(self.spacing) <= 0 or np.linalg.det(self.affine[:-1, :-1]) == 0:
            raise InputError(f"spacing must be positive on every axis, got {self.spacing}")

    @staticmethod
    def from_spacing(shape: tuple[int, ...], spacing: Spacing) -> "Geometry":
        """Place an array of a known spacing at the origin, along the patient's axes.

        Raises:
            InputError: If there is not one positive number for each axis.
        """
        if len(spacing) != len(shape):
            raise InputError(
                f"spacing must have one number for each of the {len(shape)} spatial axes,"
                f" got {spacing}"
            )
        if min(spacing) <= 0:
            raise InputError(f"spacing must be positive on every axis, got {spacing}")
        return Geometry(shape=shape, affine=np.diag([*map(float, spacing), 1.0]))

    @property
    def spacing(self) -> Spacing:
        """Millimetres between neighbours along each spatial axis."""
        return tuple(float(s) for s in np.linalg.norm(self.affine[:-1, :-1], axis=0))

    @property
    def element_volume_mm3(self) -> float:
        """Volume of one element, also between slanted axes; of flat images its area in mm²."""
        return float(abs(np.linalg.det(self.affine[:-1, :-1])))

    def difference(self, other: "Geometry", tolerance_mm: float = 1e-2) -> str | None:
        """Say in words how another grid differs from this one.

        Where flat images lie in space (`plane`) is not compared.

        Args:
            other: The grid to compare with.
            tolerance_mm: Largest distance between corresponding corners that still counts
                as the same place; never more than a hundredth of this grid's smallest
                spacing, so that the fine grids of microscopes are told apart too.

        Returns:
            A phrase with the numbers of both grids, or None if they are the same.
        """
        if self.shape != other.shape:
            return f"shape {_times(other.shape)} instead of {_times(self.shape)}"
        corners = np.array(np.meshgrid(*[(0, n - 1) for n in self.shape])).reshape(
            len(self.shape), -1
        )
        moved = (other.affine - self.affine)[:-1]
        shift_mm = float(
            np.linalg.norm(moved[:, :-1] @ corners + moved[:, -1:], axis=0).max(initial=0)
        )
        if shift_mm <= min(tolerance_mm, LARGEST_SHARE * min(self.spacing)):
            return None
        if not np.allclose(self.spacing, other.spacing, rtol=1e-3):
            return f"spacing {_numbers(other.spacing)} mm instead of {_numbers(self.spacing)} mm"
        return f"a place up to {shift_mm:.3g} mm away"


def _times(shape: tuple[int, ...]) -> str:
    return "×".join(map(str, shape))


def _numbers(spacing: Spacing) -> str:
    return " × ".join(f"{s:.4g}" for s in spacing)
