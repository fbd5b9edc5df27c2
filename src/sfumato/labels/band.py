"""The superpixels that softening looks at: those around the boundaries of a label."""

import numpy as np

from sfumato._kernel import native
from sfumato.arrays import Label, RawImage, Spacing, Superpixels
from sfumato.labels.superpixels import SuperpixelSettings, check_finite, in_three_axes, seed


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
    seeded = seed(image, spacing, settings)
    superpixels = np.full(label.shape, -1, np.int32)
    n_superpixels = native.compute_superpixels_near_boundaries(
        seeded.image,
        seeded.settings,
        in_three_axes(np.ascontiguousarray(label)),
        in_three_axes(superpixels),
        1,
    )
    check_finite(n_superpixels)
    return superpixels
