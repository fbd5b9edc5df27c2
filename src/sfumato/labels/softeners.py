"""All the ways to make a soft label, under one name each.

`superpixel` is the method; the others are what it is compared with.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from pydantic import Field, field_validator
from scipy.ndimage import convolve, gaussian_filter

from sfumato.arrays import Image, Label, Probability, Spacing
from sfumato.errors import InputError, unknown_name
from sfumato.labels.softening import check_label, one_hot, soften_image_label, soften_label
from sfumato.labels.spacing import check_spacing
from sfumato.labels.superpixels import SuperpixelSettings
from sfumato.settings import Settings

DEFAULT_SIGMA = 0.7
"""Width of the `gaussian` softener in smallest spacings."""


class SofteningSettings(Settings):
    """Which rule makes soft labels, and its numbers.

    Attributes:
        method: One of the names in `SOFTENERS`.
        scale_mm: For `superpixel` and `distance`: the distance from the boundary at which a
            class has the probability 3/4. None stands for the smallest spacing.
        epsilon: For `uniform`: the share of probability spread evenly over all classes.
        sigma_mm: For `gaussian`: the width of the blur. None stands for 0.7 times the
            smallest spacing.
    """

    method: str = "superpixel"
    scale_mm: float | None = Field(default=None, gt=0)
    epsilon: float = Field(default=0.1, ge=0, lt=1)
    sigma_mm: float | None = Field(default=None, gt=0)

    @field_validator("method")
    @classmethod
    def _is_known(cls, method: str) -> str:
        if method not in SOFTENERS:
            raise InputError(unknown_name("softening method", method, SOFTENERS))
        return method


@dataclass(frozen=True, kw_only=True, eq=False)
class SofteningInput:
    """What a softener may look at.

    Attributes:
        image: Intensities.
        label: The class index of every element.
        spacing: Millimetres along each spatial axis.
        n_classes: Number of classes, background included.
        softening: The numbers of the rules.
        superpixels: How superpixels are made.

    Raises:
        InputError: If image, label and spacing do not fit together, or the label holds a
            class index of `n_classes` or more.
    """

    image: Image
    label: Label
    spacing: Spacing
    n_classes: int
    softening: SofteningSettings
    superpixels: SuperpixelSettings

    def __post_init__(self) -> None:
        if self.image.shape[1:] != self.label.shape:
            raise InputError(
                f"the label has shape {self.label.shape}, but the image {self.image.shape[1:]};"
                " resample the label to the image's grid first"
            )
        check_spacing(self.spacing, self.label.ndim)
        check_label(self.label, self.n_classes)


def soften(
    image: Image,
    label: Label,
    spacing: Spacing,
    n_classes: int,
    softening: SofteningSettings,
    superpixels: SuperpixelSettings,
) -> Probability:
    """Make a soft label by the rule that the settings name.

    Args:
        image: Intensities.
        label: The class index of every element.
        spacing: Millimetres along each spatial axis.
        n_classes: Number of classes, background included.
        softening: The rule and its numbers.
        superpixels: How superpixels are made, where the rule needs them.

    Returns:
        The probability of every class. With `none`, `superpixel`, `distance` and `uniform`
        the hard label is the most probable class everywhere; `gaussian` and `svls` may give
        thin structures and corners to their surroundings.

    Raises:
        InputError: If image, label and spacing do not fit together, or the label holds a
            class index of `n_classes` or more.
    """
    known = SofteningInput(
        image=image,
        label=label,
        spacing=spacing,
        n_classes=n_classes,
        softening=softening,
        superpixels=superpixels,
    )
    return SOFTENERS[softening.method](known)


def soften_not(known: SofteningInput) -> Probability:
    """Leave the label hard: the baseline."""
    return one_hot(known.label, known.n_classes)


def soften_by_superpixels(known: SofteningInput) -> Probability:
    """Soften where superpixels cross a boundary.

    Source:
        Li et al. 2020, arXiv:2007.08897.
    """
    return soften_image_label(
        known.image,
        known.label,
        known.spacing,
        known.n_classes,
        known.superpixels,
        scale_mm=known.softening.scale_mm,
    )


def soften_by_distance(known: SofteningInput) -> Probability:
    """Soften the whole image by the distance to the boundary, without superpixels.

    Source:
        Li et al. 2020, arXiv:2007.08897, equation 1.
    """
    one_superpixel = np.zeros(known.label.shape, np.int32)
    return soften_label(
        known.label, one_superpixel, known.spacing, known.n_classes, known.softening.scale_mm
    )


def soften_uniformly(known: SofteningInput) -> Probability:
    """Spread a share of the probability evenly over all classes.

    Source:
        Szegedy et al., Rethinking the Inception architecture for computer vision, CVPR 2016.
    """
    probability = one_hot(known.label, known.n_classes)
    probability *= 1 - known.softening.epsilon
    probability += known.softening.epsilon / known.n_classes
    return probability


def soften_by_blurring(known: SofteningInput) -> Probability:
    """Blur the mask of every class with a Gaussian in millimetres."""
    sigma_mm = known.softening.sigma_mm or DEFAULT_SIGMA * min(known.spacing)
    sigma = [sigma_mm / step_mm for step_mm in known.spacing]
    probability = one_hot(known.label, known.n_classes)
    for mask in probability:
        gaussian_filter(mask, sigma, output=mask, mode="nearest")
    probability /= probability.sum(axis=0)
    return probability


def soften_by_neighbours(known: SofteningInput) -> Probability:
    """Give each element's own class one half and its neighbours' classes the other half.

    Neighbours are those of a 3×3 or 3×3×3 window in elements, whatever the spacing.

    Source:
        Islam and Glocker, Spatially varying label smoothing: capturing uncertainty from
        expert annotations, IPMI 2021. arXiv:2104.05788
    """
    offset = np.indices((3,) * known.label.ndim) - 1
    kernel = np.exp(-(offset**2).sum(axis=0) / 2)
    centre = (1,) * known.label.ndim
    kernel[centre] = 0
    kernel[centre] = kernel.sum()
    kernel /= kernel.sum()
    probability = one_hot(known.label, known.n_classes)
    for mask in probability:
        mask[...] = convolve(mask, kernel, mode="nearest")
    probability /= probability.sum(axis=0)
    return probability


SOFTENERS: dict[str, Callable[[SofteningInput], Probability]] = {
    "none": soften_not,
    "superpixel": soften_by_superpixels,
    "distance": soften_by_distance,
    "uniform": soften_uniformly,
    "gaussian": soften_by_blurring,
    "svls": soften_by_neighbours,
}
"""What a softener's name in the settings stands for."""
