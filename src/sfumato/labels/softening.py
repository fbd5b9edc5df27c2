"""Turn a hard label into a soft one, guided by superpixels.

A superpixel that lies on both sides of an annotated boundary tells that the boundary
is not where the image changes, so the label is uncertain there. Only in such
superpixels does the label become a probability, which falls off with the distance to
the boundary.

The most probable class of a soft label is the hard label, everywhere: at an element of
class k the probability of k is above one half (equation 1, d > 0) or one, that of every
other class below one half (d < 0) or zero, and dividing by the sum keeps the order.

Source:
    Li et al., Superpixel-guided label softening for medical image segmentation,
    MICCAI 2020. arXiv:2007.08897
"""

import numpy as np

from sfumato._kernel import native
from sfumato.arrays import Label, Mask, Probability, RawImage, Spacing, Superpixels
from sfumato.errors import InputError
from sfumato.labels.spacing import check_spacing
from sfumato.labels.superpixels import (
    SuperpixelSettings,
    check_finite,
    in_three_axes,
    seed,
)

SCALE_RANGE = 1e4
"""How many times larger or smaller than the smallest spacing `scale_mm` may be; float32 still
tells the probabilities on both sides of a boundary apart."""


def uncertain_region(mask: Mask, superpixels: Superpixels) -> Mask:
    """Mark every superpixel that lies on both sides of the boundary of a mask.

    Args:
        mask: True inside the structure.
        superpixels: The superpixel index of every element.

    Returns:
        True in superpixels that hold elements of the structure and others too.

    Examples:
        >>> mask = np.array([False, False, True, True, True, True])
        >>> superpixels = np.array([0, 0, 0, 1, 1, 1], np.int32)
        >>> uncertain_region(mask, superpixels)
        array([ True,  True,  True, False, False, False])
    """
    # Superpixel -1, where none was wanted, is the last entry.
    n_superpixels = int(superpixels.max(initial=0)) + 1
    has_inside = np.zeros(n_superpixels + 1, bool)
    has_outside = np.zeros(n_superpixels + 1, bool)
    has_inside[superpixels[mask]] = True
    has_outside[superpixels[~mask]] = True
    has_inside[-1] = False
    return (has_inside & has_outside)[superpixels]


def soften_label(
    label: Label,
    superpixels: Superpixels,
    spacing: Spacing,
    n_classes: int,
    scale_mm: float | None = None,
    *,
    n_threads: int = 1,
) -> Probability:
    """Soften every boundary of a label, given the superpixels.

    Args:
        label: The class index of every element.
        superpixels: The superpixel index of every element.
        spacing: Millimetres along each spatial axis.
        n_classes: Number of classes, background included.
        scale_mm: The distance from the boundary at which one of two classes has the
            probability 3/4; None stands for the smallest spacing.
        n_threads: How many threads work; the result does not depend on it.

    Returns:
        The probability of every class. Away from uncertain superpixels this is the
        one-hot label, to the bit; everywhere the hard label is the most probable class.

    Raises:
        InputError: If the label holds a class index of `n_classes` or more, if label and
            superpixels differ in shape, if spacing does not fit the label, or if `scale_mm`
            is so large that every probability would be one half, or so small that the label
            would stay hard.

    Examples:
        >>> label = np.array([0, 0, 1, 1], np.uint8)
        >>> superpixels = np.array([0, 1, 1, 2], np.int32)
        >>> soften_label(label, superpixels, spacing=(1.0,), n_classes=2)
        array([[1.  , 0.75, 0.25, 0.  ],
               [0.  , 0.25, 0.75, 1.  ]], dtype=float32)
    """
    if superpixels.shape != label.shape:
        raise InputError(
            f"superpixels have shape {superpixels.shape}, but the label {label.shape};"
            " compute them from the image on the label's grid"
        )
    scale_mm = checked_scale(label, spacing, n_classes, scale_mm)
    probability = np.zeros((n_classes, *label.shape), np.float32)
    if label.size == 0:
        return probability
    native.soften_label(
        in_three_axes(np.ascontiguousarray(label)),
        in_three_axes(np.ascontiguousarray(superpixels)),
        int(superpixels.max(initial=-1)) + 1,
        [*[1.0] * (3 - label.ndim), *spacing],
        scale_mm,
        probability.reshape(n_classes, *in_three_axes(label).shape),
        n_threads,
    )
    return probability


def soften_image_label(  # noqa: PLR0913 - an image, its label, and how
    image: RawImage,
    label: Label,
    spacing: Spacing,
    n_classes: int,
    settings: SuperpixelSettings,
    *,
    scale_mm: float | None = None,
    rng: np.random.Generator | None = None,
    is_scaled: bool = False,
    n_threads: int = 1,
) -> Probability:
    """Soften every boundary of a label, all in one pass: superpixels, distances, probabilities.

    Superpixels are worked out only where they can matter: in the cells of their grid that lie
    within three cells of a boundary. That is part of the method's definition. Far from the
    boundary's cells nothing changes; near them, superpixels of the whole image would differ in
    few elements.

    An image without contrast says nothing about where a boundary runs, neither for nor
    against the annotation, so its label stays hard.

    Args:
        image: Intensities of any scale.
        label: The class index of every element.
        spacing: Millimetres along each spatial axis.
        n_classes: Number of classes, background included.
        settings: How large and how regular superpixels are.
        scale_mm: The distance from the boundary at which one of two classes has the
            probability 3/4; None stands for the smallest spacing.
        rng: Draws other superpixels at every call, see `compute_superpixels`.
        is_scaled: Whether the image is a piece of what `scale_to_levels` made of the whole one,
            so that intensities count in it as in the whole.
        n_threads: How many threads work; the result does not depend on it.

    Returns:
        The probability of every class. Away from uncertain superpixels this is the
        one-hot label, to the bit; everywhere the hard label is the most probable class.

    Raises:
        InputError: If image, label and spacing do not fit together, the label holds a class
            index of `n_classes` or more, `scale_mm` is extreme, the image holds NaN or infinity
            near a boundary, or `is_photo` is set for an image that is no colour photograph.
    """
    if image.shape[1:] != label.shape:
        raise InputError(
            f"the label has shape {label.shape}, but the image {image.shape[1:]};"
            " resample the label to the image's grid first"
        )
    scale_mm = checked_scale(label, spacing, n_classes, scale_mm)
    seeded = seed(image, spacing, settings, rng, is_scaled=is_scaled)
    if not seeded.has_contrast:
        return one_hot(label, n_classes)
    probability = np.zeros((n_classes, *label.shape), np.float32)
    n_superpixels = native.soften_image_label(
        seeded.image,
        seeded.settings,
        in_three_axes(np.ascontiguousarray(label)),
        [*[1.0] * (3 - label.ndim), *spacing],
        scale_mm,
        probability.reshape(n_classes, *in_three_axes(label).shape),
        n_threads,
    )
    check_finite(n_superpixels)
    return probability


def checked_scale(label: Label, spacing: Spacing, n_classes: int, scale_mm: float | None) -> float:
    """Return `scale_mm`, or the smallest spacing where it is None.

    Raises:
        InputError: If the label does not fit its classes or the spacing, or the scale is extreme.
    """
    check_label(label, n_classes)
    check_spacing(spacing, label.ndim)
    smallest_mm = min(spacing)
    scale_mm = smallest_mm if scale_mm is None else scale_mm
    if not smallest_mm / SCALE_RANGE <= scale_mm <= smallest_mm * SCALE_RANGE:
        raise InputError(
            f"scale_mm must be within a factor of {SCALE_RANGE:g} of the smallest spacing"
            f" ({smallest_mm:g} mm), got {scale_mm:g}; leave it out for the smallest spacing"
        )
    return scale_mm


def one_hot(label: Label, n_classes: int) -> Probability:
    """Give every element's own class the probability 1.

    Examples:
        >>> one_hot(np.array([0, 1, 1], np.uint8), n_classes=2)
        array([[1., 0., 0.],
               [0., 1., 1.]], dtype=float32)
    """
    check_label(label, n_classes)
    probability = np.empty((n_classes, *label.shape), np.float32)
    for k in range(n_classes):
        np.equal(label, k, out=probability[k])
    return probability


def check_label(label: Label, n_classes: int) -> None:
    """Refuse a label that holds classes which are not there.

    Raises:
        InputError: If the label holds a class index of `n_classes` or more.
    """
    if not 1 <= n_classes <= 256:
        raise InputError(f"n_classes must be from 1 to 256, got {n_classes}")
    highest = int(label.max(initial=0))
    if highest >= n_classes:
        raise InputError(
            f"the label holds class {highest}, but n_classes is {n_classes}, which allows"
            f" 0 to {n_classes - 1}; correct the label or declare the class"
        )
