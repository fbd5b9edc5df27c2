"""Whether probabilities mean what they say.

A model is calibrated if, of all the elements it is 80 % sure about, it gets 80 % right.
Most elements of a medical image are easy, and a model that is right and sure about them
looks calibrated whatever it says where it matters; so each measure takes a mask, and
`boundary_band` gives the one that matters: the elements near a boundary.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64
from scipy.ndimage import distance_transform_edt, find_objects

from sfumato.arrays import Label, Mask, Probability, Spacing
from sfumato.errors import InputError

LEAST_PROBABILITY = 1 / 255
"""No class is taken to be less probable than this in a cross-entropy, which would otherwise be
infinite wherever something else was drawn; it is the step in which files keep probabilities."""
WIDTH_SLACK = 1e-5
"""Files round their spacing, so a distance of 3.0000001 mm must count as within 3 mm."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ReliabilityCurve:
    """How often the model is right, as a function of how sure it is.

    The bins divide the confidences 0 to 1 evenly; each includes its upper end.

    Attributes:
        confidence: Mean probability of the most probable class in each bin; NaN if empty.
        accuracy: Share of each bin's elements whose most probable class is the reference's;
            NaN if empty.
        count: Number of elements in each bin.
    """

    confidence: Float64[np.ndarray, "bins"]
    accuracy: Float64[np.ndarray, "bins"]
    count: Int64[np.ndarray, "bins"]


def reliability_curve(
    probability: Probability, reference: Label, mask: Mask | None = None, n_bins: int = 15
) -> ReliabilityCurve:
    """Compare how sure the model is with how often it is right.

    Each element counts once, with its most probable class (the first of several equal ones).

    Args:
        probability: What the model predicts.
        reference: The right class of every element.
        mask: The elements that count; None for all.
        n_bins: Number of bins of equal width.

    Source:
        Guo et al., On calibration of modern neural networks, ICML 2017, eq. 2.

    Examples:
        >>> probability = np.array([[0.25, 0.25], [0.75, 0.75]], np.float32)
        >>> curve = reliability_curve(probability, np.array([0, 1], np.uint8), n_bins=2)
        >>> curve.count, curve.confidence, curve.accuracy
        (array([0, 2]), array([ nan, 0.75]), array([nan, 0.5]))
    """
    segmentation = probability.argmax(axis=0)
    is_right = (segmentation == reference).ravel()
    confidence = probability.max(axis=0).ravel()
    if mask is not None:
        is_right, confidence = is_right[mask.ravel()], confidence[mask.ravel()]
    # In double precision a float32's 0.2 lies just above 1/5, and would miss its bin.
    position = np.ceil(confidence * np.float32(n_bins)).astype(np.int64) - 1
    position = position.clip(0, n_bins - 1)
    # Without any element, bincount returns integers whatever the weights.
    return _curve(
        np.bincount(position, minlength=n_bins).astype(np.int64),
        confidence_sum=np.bincount(position, confidence, n_bins).astype(np.float64),
        right_sum=np.bincount(position, is_right, n_bins).astype(np.float64),
    )


def merge(curves: Sequence[ReliabilityCurve]) -> ReliabilityCurve:
    """Pool the elements of several cases into one curve.

    Raises:
        InputError: If there is no curve, or the curves differ in their number of bins.
    """
    if len({curve.count.size for curve in curves}) != 1:
        raise InputError("curves must hold at least one curve, and all with the same bins")
    return _curve(
        np.sum([curve.count for curve in curves], axis=0),
        confidence_sum=np.sum([_total(c.confidence, c.count) for c in curves], axis=0),
        right_sum=np.sum([_total(c.accuracy, c.count) for c in curves], axis=0),
    )


def expected_calibration_error(curve: ReliabilityCurve) -> float:
    """Measure how far confidence and accuracy lie apart on average.

    Returns:
        The mean over all elements of the distance between their bin's confidence and
        accuracy: 0 (calibrated) to 1. NaN if the curve holds no element.

    Source:
        Guo et al., On calibration of modern neural networks, ICML 2017, eq. 3.
    """
    n_elements = int(curve.count.sum())
    if n_elements == 0:
        return math.nan
    gap = np.abs(curve.confidence - curve.accuracy)
    return float(_total(gap, curve.count).sum() / n_elements)


def brier_score(probability: Probability, reference: Label, mask: Mask | None = None) -> float:
    """Measure the squared error of the probabilities.

    Args:
        probability: What the model predicts.
        reference: The right class of every element.
        mask: The elements that count; None for all.

    Returns:
        The mean over elements of the sum over classes of (p - 1)² for the right class and p²
        for each other one: 0 (sure and right) to 2 (sure and wrong). NaN if no element counts.

    Source:
        Brier, Verification of forecasts expressed in terms of probability, Monthly Weather
        Review 1950. doi:10.1175/1520-0493(1950)078<0001:VOFEIT>2.0.CO;2

    Examples:
        >>> probability = np.array([[0.5], [0.5]], np.float32)
        >>> brier_score(probability, np.array([1], np.uint8))
        0.5
    """
    if mask is not None:
        probability, reference = probability[:, mask], reference[mask]
    if reference.size == 0:
        return math.nan
    # Class by class: no second array of the size of the probability is needed.
    return sum(
        float(np.square(of_class - (reference == index)).mean(dtype=np.float64))
        for index, of_class in enumerate(probability)
    )


def cross_entropy(probability: Probability, reference: Label, mask: Mask | None = None) -> float:
    """Measure how surprising the reference is to the model.

    Args:
        probability: What the model predicts; raised to at least 1/255, and then divided by its
            sum.
        reference: The right class of every element.
        mask: The elements that count; None for all.

    Returns:
        The mean over elements of -log p of the right class, in nats: close to 0 if sure and
        right, 5.5 if sure and wrong. NaN if no element counts.

    Examples:
        >>> probability = np.array([[0.5], [0.5]], np.float32)
        >>> round(cross_entropy(probability, np.array([1], np.uint8)), 4)
        0.6931
    """
    if mask is not None:
        probability, reference = probability[:, mask], reference[mask]
    if reference.size == 0:
        return math.nan
    expected = np.maximum(probability, np.float32(LEAST_PROBABILITY))
    right = np.take_along_axis(expected, reference[None].astype(np.intp), axis=0)[0]
    return -float(np.log(right / expected.sum(axis=0)).mean(dtype=np.float64))


def boundary_band(reference: Label, spacing: Spacing, width_mm: float) -> Mask:
    """Find the elements near a boundary between two classes.

    Args:
        reference: The right class of every element.
        spacing: Millimetres along each spatial axis.
        width_mm: Largest distance between the centres of an element in the band and the
            nearest element of another class.

    Returns:
        Elements on both sides of every boundary; none if the reference has one class only.

    Examples:
        >>> boundary_band(np.array([0, 0, 0, 1, 1, 1], np.uint8), (1.0,), width_mm=2)
        array([False,  True,  True,  True,  True, False])
    """
    band = np.zeros(reference.shape, bool)
    limit_mm = width_mm * (1 + WIDTH_SLACK)
    box = _box_around_boundaries(reference, spacing, limit_mm)
    if box is None:
        return band
    cropped = reference[box]
    for index in np.unique(cropped):
        inside = cropped == index
        band[box] |= inside & (distance_transform_edt(inside, sampling=spacing) <= limit_mm)
    return band


def _box_around_boundaries(
    reference: Label, spacing: Spacing, margin_mm: float
) -> tuple[slice, ...] | None:
    # The part of the array that holds everything within a margin of a boundary, if any.
    touches = np.zeros(reference.shape, np.uint8)
    for axis in range(reference.ndim):
        along, touched = np.moveaxis(reference, axis, 0), np.moveaxis(touches, axis, 0)
        changes = along[1:] != along[:-1]
        touched[1:] |= changes
        touched[:-1] |= changes
    box = find_objects(touches, max_label=1)[0]
    if box is None:
        return None
    margins = [math.ceil(margin_mm / step) for step in spacing]
    return tuple(
        slice(max(edge.start - margin, 0), edge.stop + margin)
        for edge, margin in zip(box, margins, strict=True)
    )


def _curve(
    count: Int64[np.ndarray, "bins"],
    confidence_sum: Float64[np.ndarray, "bins"],
    right_sum: Float64[np.ndarray, "bins"],
) -> ReliabilityCurve:
    divisor = np.where(count > 0, count, math.nan)
    return ReliabilityCurve(
        confidence=confidence_sum / divisor, accuracy=right_sum / divisor, count=count
    )


def _total(
    mean: Float64[np.ndarray, "bins"], count: Int64[np.ndarray, "bins"]
) -> Float64[np.ndarray, "bins"]:
    return np.where(count > 0, mean, 0.0) * count
