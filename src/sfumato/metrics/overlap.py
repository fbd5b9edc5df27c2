"""Agreement counted in elements.

Every function takes two masks on one grid and returns a plain number, NaN exactly where
the number has no meaning. NaN is never replaced by 0 or 1 here; whoever averages must say
how many cases were left out.
"""

import math

import numpy as np

from sfumato.arrays import Mask, MaskProbability


def dice(reference: Mask, segmentation: Mask) -> float:
    """Measure how much of two masks is shared.

    Returns:
        Twice the intersection over the sum of both sizes: 0 (apart) to 1 (the same).
        NaN if both masks are empty, since there is nothing to agree on.

    Source:
        Dice, Measures of the amount of ecologic association between species, Ecology 1945.
        doi:10.2307/1932409

    Examples:
        >>> dice(np.array([True, True, False]), np.array([False, True, False]))
        0.6666666666666666
    """
    return _ratio(2 * _shared(reference, segmentation), _size(reference) + _size(segmentation))


def soft_dice(reference: MaskProbability, probability: MaskProbability) -> float:
    """Measure how much two probabilities of lying in a structure have in common.

    Returns:
        Twice the sum of the smaller of both over the sum of both: 0 (apart) to 1, where they are
        equal and nowhere else. For masks it is their Dice. NaN if both are 0 everywhere.

    Source:
        Wang et al., Dice semimetric losses, MICCAI 2023. doi:10.1007/978-3-031-43898-1_46

    Examples:
        >>> half, sure = np.array([0.5, 0.5], np.float32), np.array([1, 0], np.float32)
        >>> soft_dice(half, half), soft_dice(half, sure)
        (1.0, 0.5)
    """
    both = reference.sum(dtype=np.float64) + probability.sum(dtype=np.float64)
    if both == 0:
        return math.nan
    return float(2 * np.minimum(reference, probability).sum(dtype=np.float64) / both)


def jaccard(reference: Mask, segmentation: Mask) -> float:
    """Measure how much of the union of two masks is shared.

    Returns:
        The intersection over the union: 0 (apart) to 1 (the same). NaN if both masks are
        empty.

    Examples:
        >>> jaccard(np.array([True, True, False]), np.array([False, True, False]))
        0.5
    """
    shared = _shared(reference, segmentation)
    return _ratio(shared, _size(reference) + _size(segmentation) - shared)


def precision(reference: Mask, segmentation: Mask) -> float:
    """Measure how much of the segmentation is right.

    Returns:
        The share of the segmentation that lies in the reference, 0 to 1. NaN if the
        segmentation is empty.

    Examples:
        >>> precision(np.array([True, True, False]), np.array([False, True, False]))
        1.0
    """
    return _ratio(_shared(reference, segmentation), _size(segmentation))


def recall(reference: Mask, segmentation: Mask) -> float:
    """Measure how much of the reference was found.

    Returns:
        The share of the reference that lies in the segmentation, 0 to 1. NaN if the
        reference is empty.

    Examples:
        >>> recall(np.array([True, True, False]), np.array([False, True, False]))
        0.5
    """
    return _ratio(_shared(reference, segmentation), _size(reference))


def relative_volume_error(reference: Mask, segmentation: Mask) -> float:
    """Compare the volumes of two masks, wherever they lie.

    Returns:
        The segmentation's surplus over the reference's volume: -1 (nothing found), 0 (equal),
        positive where too much was found. NaN if the reference is empty.

    Examples:
        >>> relative_volume_error(np.array([True, True, False]), np.array([False, True, False]))
        -0.5
    """
    return _ratio(_size(segmentation) - _size(reference), _size(reference))


def _size(mask: Mask) -> int:
    return int(np.count_nonzero(mask))


def _shared(reference: Mask, segmentation: Mask) -> int:
    return int(np.count_nonzero(reference & segmentation))


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else math.nan
