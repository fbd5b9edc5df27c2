"""Soft labels drawn anew in the course of training.

Superpixels are one draw among many that fit an image as well; what a network meets of them
should not be an accident that it sees again and again.
"""

from collections import OrderedDict
from dataclasses import dataclass, field, replace

import numpy as np

from sfumato.arrays import Label, Probability, ProbabilityBytes, RawImage, Spacing
from sfumato.cases.preparation import PreparedCase
from sfumato.image.quantise import quantise
from sfumato.labels.softeners import SofteningSettings
from sfumato.labels.softening import soften_image_label
from sfumato.labels.superpixels import SuperpixelSettings, jitter_size

CACHE_BYTES = 2**28
"""Soft labels of whole cases that are remembered, about; what does not fit is drawn again."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Redrawing:
    """Draws soft labels by superpixels of random seeds and size.

    Attributes:
        softening: How often soft labels are drawn, and their scale.
        superpixels: How large superpixels are on average, and how regular.
        n_classes: Number of classes, background included.
    """

    softening: SofteningSettings
    superpixels: SuperpixelSettings
    n_classes: int
    _drawn: OrderedDict[tuple[int, int, int], ProbabilityBytes] = field(
        default_factory=OrderedDict, init=False, repr=False
    )

    def soften(
        self, levels: RawImage, label: Label, spacing: Spacing, rng: np.random.Generator
    ) -> Probability:
        """Draw the soft label of a case or a patch.

        Args:
            levels: The intensities that superpixels are drawn from.
            label: The class index of every element.
            spacing: Millimetres along each spatial axis.
            rng: Where randomness comes from.
        """
        return soften_image_label(
            levels,
            label,
            spacing,
            self.n_classes,
            jitter_size(self.superpixels, spacing, rng),
            scale_mm=self.softening.scale_mm,
            rng=rng,
            is_scaled=True,
        )

    def soften_case(self, case: PreparedCase, key: tuple[int, int, int]) -> PreparedCase:
        """Give a case the soft label that it has in an epoch.

        Args:
            case: A case with levels.
            key: The training's seed, the epoch and the case's number, which decide the draw.
        """
        if key not in self._drawn:
            seed, epoch, number = key
            sequence = np.random.SeedSequence([seed, epoch], spawn_key=(number,))
            self._drawn[key] = self._draw(case, np.random.default_rng(sequence))
            self._forget()
        self._drawn.move_to_end(key)
        return replace(case, soft_label=self._drawn[key], levels=None)

    def _draw(self, case: PreparedCase, rng: np.random.Generator) -> ProbabilityBytes:
        assert case.levels is not None
        return quantise(self.soften(case.levels, case.hard_label, case.geometry.spacing, rng))

    def _forget(self) -> None:
        """Drop what was used longest ago, but keep the latest however large it is."""
        while len(self._drawn) > 1 and sum(q.nbytes for q in self._drawn.values()) > CACHE_BYTES:
            self._drawn.popitem(last=False)
