"""What lies within a radius of boundaries and structures."""

import numpy as np

from sfumato.arrays import Label, Mask, Probability, Spacing
from sfumato.labels.distance import signed_distance

SAME_LENGTH = 1e-5
"""Relative difference below which lengths in millimetres are equal: distances are float32."""


def near_boundary(label: Label, spacing: Spacing, radius_mm: float) -> Mask:
    """Mark the elements within a radius of an element of another class.

    Args:
        label: The class index of every element.
        spacing: Millimetres along each spatial axis.
        radius_mm: From centre to centre; with the spacing itself, only elements beside a
            boundary are marked.

    Raises:
        InputError: If spacing does not fit the label.

    Examples:
        >>> near_boundary(np.array([0, 0, 0, 1, 1], np.uint8), (2.0,), radius_mm=2.0)
        array([False, False,  True,  True, False])
    """
    is_near = np.zeros(label.shape, bool)
    for k in np.unique(label):
        inside = label == k
        is_near |= inside & (signed_distance(inside, spacing) <= _at_most(radius_mm))
    return is_near


def share_rings(
    label: Label, spacing: Spacing, n_classes: int, radius_mm: float, ring_probability: float
) -> Probability:
    """Give every structure the same probability in the ring around it.

    Args:
        label: The class index of every element.
        spacing: Millimetres along each spatial axis.
        n_classes: Number of classes, background included.
        radius_mm: How far rings reach beyond structures, from centre to centre.
        ring_probability: What the rings at an element have together, each of them as much; the
            element's own class has the rest.

    Raises:
        InputError: If spacing does not fit the label.

    Examples:
        >>> label = np.array([0, 0, 1, 2, 2], np.uint8)
        >>> share_rings(label, (1.0,), 3, radius_mm=1.0, ring_probability=0.25)
        array([[1.  , 0.75, 0.  , 0.  , 0.  ],
               [0.  , 0.25, 0.75, 0.25, 0.  ],
               [0.  , 0.  , 0.25, 0.75, 1.  ]], dtype=float32)
    """
    probability = np.zeros((n_classes, *label.shape), np.float32)
    for k in range(1, n_classes):
        mask = label == k
        probability[k] = ~mask & (signed_distance(mask, spacing) >= -_at_most(radius_mm))
    n_rings = probability.sum(axis=0)
    probability *= ring_probability / np.maximum(n_rings, 1)
    own = np.where(n_rings > 0, np.float32(1 - ring_probability), np.float32(1))
    for k in range(n_classes):
        np.copyto(probability[k], own, where=label == k)
    return probability


def _at_most(radius_mm: float) -> float:
    return radius_mm * (1 + SAME_LENGTH)
