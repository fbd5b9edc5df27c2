"""How far every element lies from the boundary of a mask."""

import numpy as np

from sfumato._kernel import native
from sfumato.arrays import Distance, Mask, Spacing
from sfumato.labels.spacing import check_spacing


def signed_distance(mask: Mask, spacing: Spacing, n_threads: int = 1) -> Distance:
    """Measure the distance from every element to the boundary of a mask.

    Args:
        mask: True inside the structure.
        spacing: Millimetres along each spatial axis.
        n_threads: How many threads work; the result does not depend on it.

    Returns:
        Millimetres between the centre of an element and the nearest centre on the other
        side of the boundary, positive inside and negative outside. Without a boundary
        infinite: positive where the mask is full, negative where it is empty.

    Raises:
        InputError: If spacing does not fit the mask.

    Source:
        Felzenszwalb and Huttenlocher, Distance transforms of sampled functions, Theory of
        Computing 2012. doi:10.4086/toc.2012.v008a019

    Examples:
        >>> signed_distance(np.array([False, False, True, True]), (2.0,))
        array([-4., -2.,  2.,  4.], dtype=float32)
    """
    check_spacing(spacing, mask.ndim)
    if mask.size == 0:
        return np.empty(mask.shape, np.float32)
    n_missing = 3 - mask.ndim
    label = np.ascontiguousarray(mask).view(np.uint8).reshape(*[1] * n_missing, *mask.shape)
    volume_spacing = [*[1.0] * n_missing, *spacing]
    inside, outside = np.empty((2, *label.shape), np.float32)
    native.distance_to_class(label, 0, volume_spacing, inside, n_threads)
    native.distance_to_class(label, 1, volume_spacing, outside, n_threads)
    return np.where(label, inside, -outside).reshape(mask.shape)
