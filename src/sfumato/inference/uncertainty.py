"""How large structures are, and where they may end, by a model's probabilities."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8

from sfumato.arrays import Label, MaskProbability, Probability
from sfumato.metrics.conformal import conformal_quantile, volume_error

CONTOUR_LEVELS = (0.1, 0.5, 0.9)
"""Probabilities at which nested contours lie: possible, likely, certain."""


def contour_steps(probability: MaskProbability) -> UInt8[np.ndarray, "*space"]:
    """Count how many contours an element lies in.

    Higher is surer, so that a threshold gives each contour whole: what is at least 1 is possibly
    the structure (10 %), at least 2 likely (50 %), 3 almost certainly (90 %).

    Args:
        probability: The probability of one structure.

    Examples:
        >>> contour_steps(np.array([0.05, 0.1, 0.6, 0.9, 1.0], np.float32))
        array([0, 1, 2, 3, 3], dtype=uint8)
    """
    steps = np.zeros(probability.shape, np.uint8)
    for level in CONTOUR_LEVELS:
        steps += probability >= np.float32(level)
    return steps


@dataclass(frozen=True, kw_only=True)
class VolumeEstimate:
    """What is known of one structure's volume, in mm³, or of its area in a flat image, in mm².

    Attributes:
        volume: The volume of the segmentation.
        expected: The sum of the probability.
        in_doubt: The sum of p (1 - p): how much volume may as well be there as not.
        element_volume: The volume of one element.
    """

    volume: float
    expected: float
    in_doubt: float
    element_volume: float

    def error(self, true_volume: float) -> float:
        """Measure how wrong the expected volume is; see `volume_error`."""
        return volume_error(true_volume, self.expected, self.in_doubt, self.element_volume)

    def interval(self, errors: Sequence[float], level: float) -> tuple[float, float]:
        """Say between which volumes the true one lies, with a probability of `level`.

        Args:
            errors: Those of cases that are like this one, and that the model has not seen.
            level: The probability, between 0 and 1.

        Returns:
            The ends, 0 or more; NaN where the errors are too few, see `conformal_quantile`.
        """
        reach = conformal_quantile(errors, level) * (self.in_doubt + self.element_volume)
        # Not max(), which may lose a NaN.
        return float(np.maximum(0.0, self.expected - reach)), self.expected + reach


class VolumeSums:
    """Adds up what structures' volumes need, from probabilities that come part by part.

    Args:
        n_classes: With background.
        element_volume: In mm³, of flat images mm².
    """

    def __init__(self, n_classes: int, element_volume: float) -> None:
        self._element_volume = element_volume
        self._expected = np.zeros(n_classes - 1)
        self._in_doubt = np.zeros(n_classes - 1)

    def add(self, probability: Probability) -> None:
        """Add a part of the image; each element is given once."""
        for index, one in enumerate(probability[1:]):
            self._expected[index] += one.sum(dtype=np.float64)
            self._in_doubt[index] += (one * (1 - one)).sum(dtype=np.float64)

    def estimates(self, segmentation: Label) -> list[VolumeEstimate]:
        """Return what is known of each structure's volume, in the order of their indices.

        Args:
            segmentation: The whole image's.
        """
        counts = np.zeros(len(self._expected) + 1, np.int64)
        # Slice by slice, since counting makes eight bytes of each.
        for part in segmentation:
            counts += np.bincount(part.ravel(), minlength=len(counts))
        return [
            VolumeEstimate(
                volume=float(count) * self._element_volume,
                expected=float(expected) * self._element_volume,
                in_doubt=float(in_doubt) * self._element_volume,
                element_volume=self._element_volume,
            )
            for count, expected, in_doubt in zip(
                counts[1:], self._expected, self._in_doubt, strict=True
            )
        ]
