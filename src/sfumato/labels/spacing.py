"""What a spacing must be, for everyone who measures in millimetres."""

from math import inf

from sfumato.arrays import Spacing
from sfumato.errors import InputError


def check_spacing(spacing: Spacing, n_axes: int) -> None:
    """Refuse a spacing that does not fit an array.

    Raises:
        InputError: If there is not one positive, finite number for each axis, or there are more
            than three axes.
    """
    if n_axes > 3:
        raise InputError(f"an image has at most 3 spatial axes, got {n_axes}; take it apart first")
    if len(spacing) != n_axes or not all(0 < step_mm < inf for step_mm in spacing):
        raise InputError(
            f"spacing must have a positive number for each of the {n_axes} spatial axes,"
            f" got {spacing}"
        )
