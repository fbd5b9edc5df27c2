"""How far every element lies from the boundary of a mask."""

import numpy as np
from scipy.ndimage import distance_transform_edt

from sfumato.arrays import Distance, Mask, Spacing

N_SLICES_AT_ONCE = 4
"""Slices whose distances are worked out together; keeps float64 temporaries small."""


def signed_distance(mask: Mask, spacing: Spacing) -> Distance:
    """Measure the distance from every element to the boundary of a mask.

    Args:
        mask: True inside the structure.
        spacing: Millimetres along each spatial axis.

    Returns:
        Millimetres between the centre of an element and the nearest centre on the other
        side of the boundary, positive inside and negative outside. Without a boundary
        infinite: positive where the mask is full, negative where it is empty.

    Examples:
        >>> signed_distance(np.array([False, False, True, True]), (2.0,))
        array([-4., -2.,  2.,  4.], dtype=float32)
    """
    if mask.all():
        return np.full(mask.shape, np.inf, np.float32)
    if not mask.any():
        return np.full(mask.shape, -np.inf, np.float32)
    distance = np.zeros(mask.shape, np.float32)
    _add_distance_inside(distance, mask, spacing, sign=1)
    _add_distance_inside(distance, ~mask, spacing, sign=-1)
    return distance


def _add_distance_inside(distance: Distance, mask: Mask, spacing: Spacing, sign: int) -> None:
    """Add `sign` times the distance to the nearest False element, where the mask is True."""
    # SciPy's own distances pass through float64 coordinates of the whole array; indices take a
    # quarter of that memory, and the float64 work below is done a few slices at a time.
    nearest = distance_transform_edt(
        mask, sampling=spacing, return_distances=False, return_indices=True
    )
    for start in range(0, mask.shape[0], N_SLICES_AT_ONCE):
        part = slice(start, start + N_SLICES_AT_ONCE)
        squared = np.zeros(distance[part].shape)
        for axis, step_mm in enumerate(spacing):
            first = start if axis == 0 else 0
            index = np.arange(first, first + squared.shape[axis])
            along_axis = [-1 if other == axis else 1 for other in range(mask.ndim)]
            squared += ((nearest[axis][part] - index.reshape(along_axis)) * step_mm) ** 2
        distance[part] += sign * np.sqrt(squared)
