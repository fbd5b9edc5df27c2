"""What a model says about an image, and the segmentation that follows from it."""

from dataclasses import dataclass

import numpy as np

from sfumato.arrays import Label, Probability
from sfumato.image.geometry import Geometry


@dataclass(frozen=True, kw_only=True, eq=False)
class ProbabilitySlab:
    """A part of a probability map, whole along all axes but one.

    Attributes:
        place: Where it lies in the image, one slice for each spatial axis.
        probability: Sums to one over the classes.
    """

    place: tuple[slice, ...]
    probability: Probability

    def segmentation(self) -> Label:
        """Return the most probable class of every element, as class indices."""
        return most_probable(self.probability)


@dataclass(frozen=True, kw_only=True, eq=False)
class ProbabilityMap:
    """The probability of every class at every element of an image.

    Attributes:
        probability: Sums to one over the classes.
        geometry: The image's own grid.
        unscaled: What it was before the model's temperature; None where that is 1.
    """

    probability: Probability
    geometry: Geometry
    unscaled: Probability | None = None

    def segmentation(self) -> Label:
        """Return the most probable class of every element, as class indices."""
        return most_probable(self.probability)


def most_probable(probability: Probability) -> Label:
    """Return the most probable class of every element, the first of equally probable ones."""
    best = probability[0].copy()
    result = np.zeros(best.shape, np.uint8)
    # Class by class: NumPy's argmax over the first axis is several times slower.
    for index, one in enumerate(probability[1:], start=1):
        is_better = one > best
        np.copyto(best, one, where=is_better)
        np.copyto(result, np.uint8(index), where=is_better)
    return result
