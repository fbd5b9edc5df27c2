"""What a model says about an image, and the segmentation that follows from it."""

from dataclasses import dataclass

import numpy as np

from sfumato.arrays import Label, Probability
from sfumato.image.geometry import Geometry


@dataclass(frozen=True, kw_only=True, eq=False)
class ProbabilityMap:
    """The probability of every class at every element of an image.

    Attributes:
        probability: Sums to one over the classes.
        geometry: The image's own grid.
    """

    probability: Probability
    geometry: Geometry

    def segmentation(self) -> Label:
        """Return the most probable class of every element, as class indices."""
        return self.probability.argmax(axis=0).astype(np.uint8)
