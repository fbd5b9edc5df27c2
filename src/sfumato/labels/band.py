"""The superpixels that softening looks at: those around the boundaries of a label."""

import numpy as np
from jaxtyping import Bool
from scipy.ndimage import maximum_filter

from sfumato._kernel import native
from sfumato.arrays import Label, RawImage, Spacing, Superpixels
from sfumato.labels.spacing import check_spacing
from sfumato.labels.superpixels import (
    SuperpixelSettings,
    check_finite,
    count_cells,
    in_three_axes,
    seed,
)

Cells = Bool[np.ndarray, "*cells"]
"""True in some cells of the grid of seeds."""
BAND = 3
"""Superpixels are worked out in cells so close to one with a boundary; the compiled core agrees."""


def compute_superpixels_near_boundaries(
    image: RawImage, label: Label, spacing: Spacing, settings: SuperpixelSettings
) -> Superpixels:
    """Show the superpixels by which `soften_image_label` softens a label.

    Only the cells of the grid of seeds within three cells of a boundary have a seed, and only
    their elements join a superpixel.

    Args:
        image: Intensities of any scale.
        label: The class index of every element.
        spacing: Millimetres along each spatial axis.
        settings: How large and how regular superpixels are.

    Returns:
        The superpixel index of every element, -1 where none is needed; otherwise as
        `compute_superpixels`.

    Raises:
        InputError: If image, label and spacing do not fit together, the image holds NaN or
            infinity, or `is_photo` is set for an image that is no colour
            photograph.

    Examples:
        >>> image = np.zeros((1, 12), np.float32)
        >>> label = np.array([0] + 11 * [1], np.uint8)
        >>> settings = SuperpixelSettings(size_mm=2)
        >>> compute_superpixels_near_boundaries(image, label, (1.0,), settings)
        array([ 0,  0,  1,  1,  2,  2,  3,  3, -1, -1, -1, -1], dtype=int32)
    """
    shape = label.shape
    check_spacing(spacing, label.ndim)
    n_cells = count_cells(shape, spacing, settings)
    cell_of = [
        np.repeat(np.arange(m), np.diff(np.arange(m + 1) * n // m))
        for n, m in zip(shape, n_cells, strict=True)
    ]
    has_seed = _cells_near_boundaries(label, cell_of, n_cells)
    superpixels = np.full(shape, -1, np.int32)
    if not has_seed.any():
        return superpixels
    seeded = seed(image, spacing, settings, has_seed=has_seed)
    where = np.ascontiguousarray(has_seed[np.ix_(*cell_of)])
    n_superpixels = native.compute_superpixels(
        seeded.image, seeded.settings, in_three_axes(where).view(np.uint8),
        in_three_axes(superpixels), 1,
    )  # fmt: skip
    check_finite(n_superpixels)
    return superpixels


def _cells_near_boundaries(label: Label, cell_of: list[np.ndarray], n_cells: list[int]) -> Cells:
    """Mark the cells within `BAND` cells of one that has a face between two classes."""
    has_boundary = np.zeros(n_cells, bool)
    for axis in range(label.ndim):
        along = np.moveaxis(label, axis, 0)
        first, *others = np.nonzero(along[1:] != along[:-1])
        for side in (first, first + 1):
            place = [*others[:axis], side, *others[axis:]]
            has_boundary[tuple(c[p] for c, p in zip(cell_of, place, strict=True))] = True
    return np.asarray(maximum_filter(has_boundary, size=2 * BAND + 1))
