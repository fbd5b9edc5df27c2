"""Intervals that hold the truth as often as they say, from errors on cases with known truth."""

import math
from collections.abc import Sequence

import numpy as np

from sfumato.errors import InputError


def volume_error(volume: float, expected: float, in_doubt: float, element_volume: float) -> float:
    """Measure how wrong an expected volume is, in units of the volume that was in doubt.

    Args:
        volume: The true volume.
        expected: The sum of the probability, times the volume of an element.
        in_doubt: The sum of p (1 - p), times the volume of an element.
        element_volume: Volume of one element; counts as in doubt too, so that a structure of
            which a model says for sure that it is not there has an error.

    Returns:
        0 (right) or more.

    Examples:
        >>> volume_error(volume=130.0, expected=100.0, in_doubt=19.0, element_volume=1.0)
        1.5
    """
    return abs(volume - expected) / (in_doubt + element_volume)


def conformal_quantile(errors: Sequence[float], level: float) -> float:
    """Find how large the error of one more case is at most, with a probability of `level`.

    Of n errors the ceil((n + 1) level)-th smallest. An error of a new case that is like these
    is not larger with a probability of at least `level`, and, where no two are equal, of at most
    level + 1 / (n + 1), whatever the errors' distribution.

    Args:
        errors: Those of cases that are like the new one, and that the model has not seen.
        level: The probability, between 0 and 1.

    Returns:
        The quantile; NaN where there are too few errors to tell: fewer than level / (1 - level),
        such as 9 for 0.9.

    Raises:
        InputError: If the level is none.

    Source:
        Lei et al., Distribution-free predictive inference for regression, JASA 2018, theorem 2.2.

    Examples:
        >>> conformal_quantile([3.0, 1.0, 2.0], 0.5), conformal_quantile([3.0, 1.0, 2.0], 0.9)
        (2.0, nan)
    """
    if not 0 < level < 1:
        raise InputError(f"level must be between 0 and 1, such as 0.9, got {level}")
    # (n + 1) level is a whole number too often for rounding to decide on one more.
    rank = math.ceil((len(errors) + 1) * level - 1e-9)
    if rank > len(errors):
        return math.nan
    return float(np.sort(np.asarray(errors, np.float64))[rank - 1])
