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

from dataclasses import dataclass
from math import ceil

import numpy as np
from jaxtyping import Bool, Float32
from scipy.ndimage import find_objects

from sfumato.arrays import (
    Distance,
    Label,
    Mask,
    MaskProbability,
    Probability,
    Spacing,
    Superpixels,
)
from sfumato.errors import InputError
from sfumato.labels.distance import signed_distance
from sfumato.labels.spacing import check_spacing

Box = tuple[slice, ...]

FIRST_REACH = 8
"""Margin around an uncertain region, in smallest spacings, within which distances are sought."""
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
    n_superpixels = int(superpixels.max(initial=0)) + 1
    has_inside = np.zeros(n_superpixels, bool)
    has_outside = np.zeros(n_superpixels, bool)
    has_inside[superpixels[mask]] = True
    has_outside[superpixels[~mask]] = True
    return (has_inside & has_outside)[superpixels]


def distance_to_probability(distance: Distance, scale_mm: float) -> MaskProbability:
    """Map a signed distance to the probability of lying inside.

    Args:
        distance: Millimetres to the boundary, positive inside; may be infinite.
        scale_mm: The distance at which the probability is 3/4.

    Returns:
        One half at the boundary itself, towards 1 far inside and 0 far outside.

    Source:
        Li et al. 2020, equation 1: (d / (1 + |d|) + 1) / 2. Written so that it holds at
        infinity too and keeps its precision near 0.

    Examples:
        >>> distance_to_probability(np.array([-np.inf, -2, 2, np.inf], np.float32), 2.0)
        array([0.  , 0.25, 0.75, 1.  ], dtype=float32)
    """
    probability = np.abs(distance)
    probability /= scale_mm
    probability += 1
    np.divide(0.5, probability, out=probability)
    np.subtract(1, probability, out=probability, where=distance > 0)
    return probability


def soften_mask(
    mask: Mask, superpixels: Superpixels, spacing: Spacing, scale_mm: float | None = None
) -> MaskProbability:
    """Soften the boundary of one structure.

    Args:
        mask: True inside the structure.
        superpixels: The superpixel index of every element.
        spacing: Millimetres along each spatial axis.
        scale_mm: The distance at which the probability is 3/4; None stands for the
            smallest spacing.

    Returns:
        The probability of lying inside: 0 or 1 outside the uncertain region.

    Raises:
        InputError: If spacing does not fit the mask.

    Examples:
        >>> mask = np.array([False, False, True, True])
        >>> soften_mask(mask, np.array([0, 1, 1, 1], np.int32), (1.0,)).round(3)
        array([0.   , 0.25 , 0.75 , 0.833], dtype=float32)
    """
    check_spacing(spacing, mask.ndim)
    probability = mask.astype(np.float32)
    _soft_values(mask, superpixels, spacing, scale_mm or min(spacing)).write_to(probability)
    return probability


def soften_label(
    label: Label,
    superpixels: Superpixels,
    spacing: Spacing,
    n_classes: int,
    scale_mm: float | None = None,
) -> Probability:
    """Soften every boundary of a label.

    Args:
        label: The class index of every element.
        superpixels: The superpixel index of every element.
        spacing: Millimetres along each spatial axis.
        n_classes: Number of classes, background included.
        scale_mm: The distance from the boundary at which one of two classes has the
            probability 3/4; None stands for the smallest spacing.

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
    check_label(label, n_classes)
    if superpixels.shape != label.shape:
        raise InputError(
            f"superpixels have shape {superpixels.shape}, but the label {label.shape};"
            " compute them from the image on the label's grid"
        )
    check_spacing(spacing, label.ndim)
    smallest_mm = min(spacing)
    scale_mm = smallest_mm if scale_mm is None else scale_mm
    if not smallest_mm / SCALE_RANGE <= scale_mm <= smallest_mm * SCALE_RANGE:
        raise InputError(
            f"scale_mm must be within a factor of {SCALE_RANGE:g} of the smallest spacing"
            f" ({smallest_mm:g} mm), got {scale_mm:g}; leave it out for the smallest spacing"
        )
    present = [k for k in range(n_classes) if (label == k).any()]
    # The probabilities, large with many classes, are made last: distances need the memory first.
    to_soften = present[:1] if len(present) == 2 else present
    softened = [_soft_values(label == k, superpixels, spacing, scale_mm) for k in to_soften]
    probability = one_hot(label, n_classes)
    for k in reversed(to_soften):
        softened.pop().write_to(probability[k])
    if len(present) == 2:
        # Two masks that fill the image share one boundary: d changes its sign, q becomes 1 - q.
        np.subtract(1, probability[present[0]], out=probability[present[1]])
    probability /= probability.sum(axis=0)
    return probability


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
    highest = int(label.max(initial=0))
    if highest >= n_classes:
        raise InputError(
            f"the label holds class {highest}, but n_classes is {n_classes}, which allows"
            f" 0 to {n_classes - 1}; correct the label or declare the class"
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class _SoftValues:
    """The probabilities of one class in its uncertain region.

    Attributes:
        box: The part of the image that holds the region.
        region: The region within the box.
        values: The probabilities at the region's elements, in array order.
    """

    box: Box
    region: Mask
    values: Float32[np.ndarray, " element"]

    def write_to(self, probability: MaskProbability) -> None:
        probability[self.box][self.region] = self.values


def _soft_values(
    mask: Mask, superpixels: Superpixels, spacing: Spacing, scale_mm: float
) -> _SoftValues:
    region = uncertain_region(mask, superpixels)
    found = find_objects(region.view(np.uint8))
    if not found:
        nowhere = (slice(0, 0),) * mask.ndim
        return _SoftValues(box=nowhere, region=region[nowhere], values=np.empty(0, np.float32))
    box, region = found[0], region[found[0]]
    distance = _distance_in(box, region, mask, spacing)
    return _SoftValues(box=box, region=region, values=distance_to_probability(distance, scale_mm))


def _distance_in(
    box: Box, region: Bool[np.ndarray, "*box"], mask: Mask, spacing: Spacing
) -> Float32[np.ndarray, " element"]:
    """Measure the signed distance at the elements of an uncertain region."""
    reach_mm = FIRST_REACH * min(spacing)
    while True:
        margins = [ceil(reach_mm / step_mm) for step_mm in spacing]
        wide = tuple(
            slice(max(0, along.start - margin), min(n, along.stop + margin))
            for along, margin, n in zip(box, margins, mask.shape, strict=True)
        )
        inner = tuple(
            slice(along.start - around.start, along.stop - around.start)
            for along, around in zip(box, wide, strict=True)
        )
        distance = signed_distance(mask[wide], spacing)[inner][region]
        # The box holds every superpixel of the region whole, so both sides of the boundary; what
        # lies outside `wide` is farther than `reach_mm` from the region. So a second look is exact.
        farthest_mm = float(np.abs(distance).max())
        if farthest_mm <= reach_mm or mask[wide].size == mask.size:
            return distance
        reach_mm = farthest_mm
