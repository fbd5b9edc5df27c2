"""All the ways to make a soft label, under one name each.

`superpixel` is the method; the others are what it is compared with.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from pydantic import Field, field_validator, model_validator
from scipy.ndimage import convolve, gaussian_filter

from sfumato.arrays import Image, Label, Probability, Spacing
from sfumato.errors import InputError, unknown_name
from sfumato.labels.annotators import check_raters, raters_mean, staple
from sfumato.labels.geodesic import geodesic_shares
from sfumato.labels.rings import near_boundary, share_rings
from sfumato.labels.softening import one_hot, soften_image_label, soften_label
from sfumato.labels.spacing import check_spacing
from sfumato.labels.superpixels import (
    N_LEVELS,
    SuperpixelSettings,
    default_size_mm,
    scale_to_levels,
)
from sfumato.settings import Settings

DEFAULT_SIGMA = 0.7
"""Width of the `gaussian` softener in smallest spacings."""
DEFAULT_CONTRAST = 10
"""Length of a step over the whole range of intensities for `geodesic`, in smallest spacings."""
ENSEMBLE_SPREAD = 4 / 3
"""By which factor superpixels of an ensemble are larger or smaller at most."""
ENSEMBLE_SEED = 0
"""Decides the draws of an ensemble: the same input gives the same soft label."""


class SofteningSettings(Settings):
    """Which rule makes soft labels, and its numbers.

    Attributes:
        method: One of the names in `SOFTENERS`.
        when: How often training draws superpixels: "once", before it; "every_epoch" anew for
            every case, or "every_patch" anew for every patch, at random. Only for `superpixel`.
        scale_mm: For `superpixel`, `superpixel_ensemble` and `distance`: the distance from the
            boundary at which a class has the probability 3/4; for `geodesic`: the way on which
            it falls to 1/e. None stands for the smallest spacing.
        n_draws: For `superpixel_ensemble`: of how many superpixel labels it is the mean.
        epsilon: For `uniform` and `boundary`: the share of probability spread evenly over all
            classes; for `geodesic`: the share that goes by geodesic distances.
        sigma_mm: For `gaussian`: the width of the blur. None stands for 0.7 times the
            smallest spacing.
        radius_mm: For `boundary` and `dilation`: how far from a boundary labels are softened.
            None stands for the smallest spacing.
        ring_probability: For `dilation`: the probability of a structure just outside it.
        contrast_mm: For `geodesic`: the way that a step over the whole range of intensities
            counts as. None stands for 10 times the smallest spacing.
        raters_by: For `raters`: how several people's labels become one, "mean" or "staple".
        raters_with_superpixels: For `raters`: whether to multiply with `superpixel`.
    """

    method: str = "superpixel"
    when: Literal["once", "every_epoch", "every_patch"] = "once"
    scale_mm: float | None = Field(default=None, gt=0)
    n_draws: int = Field(default=4, ge=1)
    epsilon: float = Field(default=0.1, ge=0, lt=1)
    sigma_mm: float | None = Field(default=None, gt=0)
    radius_mm: float | None = Field(default=None, gt=0)
    ring_probability: float = Field(default=0.25, gt=0, lt=0.5)
    contrast_mm: float | None = Field(default=None, gt=0)
    raters_by: Literal["mean", "staple"] = "mean"
    raters_with_superpixels: bool = False

    @property
    def uses_superpixels(self) -> bool:
        """Whether the rule looks at superpixels."""
        if self.method == "raters":
            return self.raters_with_superpixels
        return self.method in USES_SUPERPIXELS

    @field_validator("method")
    @classmethod
    def _is_known(cls, method: str) -> str:
        if method not in SOFTENERS:
            raise InputError(unknown_name("softening method", method, SOFTENERS))
        return method

    @model_validator(mode="after")
    def _draws_superpixels(self) -> "SofteningSettings":
        if self.when != "once" and self.method != "superpixel":
            raise InputError(
                f'when must be "once" for the method {self.method!r}, got "{self.when}"; only the'
                " method 'superpixel' can be drawn anew"
            )
        return self


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
        rater_labels: What every annotator drew; empty where there is only `label`.

    Raises:
        InputError: If image, labels and spacing do not fit together, or a label holds a
            class index of `n_classes` or more.
    """

    image: Image
    label: Label
    spacing: Spacing
    n_classes: int
    softening: SofteningSettings
    superpixels: SuperpixelSettings
    rater_labels: tuple[Label, ...] = ()

    def __post_init__(self) -> None:
        if self.image.shape[1:] != self.label.shape:
            raise InputError(
                f"the label has shape {self.label.shape}, but the image {self.image.shape[1:]};"
                " resample the label to the image's grid first"
            )
        check_spacing(self.spacing, self.label.ndim)
        check_raters((self.label, *self.rater_labels), self.n_classes)


def soften(  # noqa: PLR0913 - an image, what was drawn on it, and how
    image: Image,
    label: Label,
    spacing: Spacing,
    n_classes: int,
    softening: SofteningSettings,
    superpixels: SuperpixelSettings,
    *,
    rater_labels: tuple[Label, ...] = (),
) -> Probability:
    """Make a soft label by the rule that the settings name.

    Args:
        image: Intensities.
        label: The class index of every element.
        spacing: Millimetres along each spatial axis.
        n_classes: Number of classes, background included.
        softening: The rule and its numbers.
        superpixels: How superpixels are made, where the rule needs them.
        rater_labels: What every annotator drew, where the rule asks for that; empty where there
            is only `label`.

    Returns:
        The probability of every class. The hard label is the most probable class everywhere,
        but for three rules: `gaussian` and `svls` may give thin structures and corners to their
        surroundings, and with `raters` others may outvote it.

    Raises:
        InputError: If image, labels and spacing do not fit together, or a label holds a
            class index of `n_classes` or more.
    """
    known = SofteningInput(
        image=image,
        label=label,
        spacing=spacing,
        n_classes=n_classes,
        softening=softening,
        superpixels=superpixels,
        rater_labels=rater_labels,
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


def soften_by_many_superpixels(known: SofteningInput) -> Probability:
    """Average what superpixels of several sizes and seeds say.

    SLIC gives one of many equally good groupings; here no single one decides. The i-th of n
    draws has `size_mm` times (4/3)^((2i + 1) / n - 1), i from 0, and seeds moved at random.
    """
    size_mm = known.superpixels.size_mm or default_size_mm(known.spacing)
    n_draws = known.softening.n_draws
    rng = np.random.default_rng(ENSEMBLE_SEED)
    probability = np.zeros((known.n_classes, *known.label.shape), np.float32)
    for i in range(n_draws):
        factor = ENSEMBLE_SPREAD ** ((2 * i + 1) / n_draws - 1)
        probability += soften_image_label(
            known.image,
            known.label,
            known.spacing,
            known.n_classes,
            known.superpixels.model_copy(update={"size_mm": size_mm * factor}),
            scale_mm=known.softening.scale_mm,
            rng=rng,
        )
    # Rather than by their number: where all draws are one-hot, so is the mean, to the bit.
    probability /= probability.sum(axis=0)
    return probability


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


def soften_near_boundaries(known: SofteningInput) -> Probability:
    """Smooth uniformly, but only elements within `radius_mm` of one of another class."""
    radius_mm = known.softening.radius_mm or min(known.spacing)
    is_near = near_boundary(known.label, known.spacing, radius_mm)
    probability = one_hot(known.label, known.n_classes)
    epsilon = known.softening.epsilon
    for mask in probability:
        mask[is_near] = mask[is_near] * (1 - epsilon) + epsilon / known.n_classes
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


def soften_by_dilation(known: SofteningInput) -> Probability:
    """Give every structure a ring in which it has a fixed probability.

    The ring of a structure holds the elements outside it, of any other class, within
    `radius_mm` of it. Where rings of several structures meet they share `ring_probability`
    evenly; the class that was drawn there has the rest, more than one half. The background
    has no ring, so what was drawn stays certain but where another structure is near.

    Source:
        Kats, Goldberger and Greenspan, Soft labeling by distilling anatomical knowledge for
        improved MS lesion segmentation, ISBI 2019. arXiv:1901.09263
    """
    return share_rings(
        known.label,
        known.spacing,
        known.n_classes,
        known.softening.radius_mm or min(known.spacing),
        known.softening.ring_probability,
    )


def soften_by_geodesics(known: SofteningInput) -> Probability:
    """Soften by the way to every class, which is longer across edges of the image.

    Each class has exp(-D / `scale_mm`), where D is the geodesic distance to the nearest element
    of the class and intensities are scaled as superpixels compare them. Divided by their sum
    over classes these count with the weight `epsilon`, the one-hot label with the rest. So
    boundaries without an edge are softened on both sides, boundaries on an edge hardly.

    The authors' program measures from each structure's skeleton over intensities alone, gives
    the background one less the structures' mean and does not divide by the sum; here ways begin
    at the boundary that was drawn, have a length in millimetres too, and all classes count alike.

    Source:
        Adiga Vasudeva, Dolz and Lombaert, GeoLS: geodesic label smoothing for image
        segmentation, MIDL 2023. https://openreview.net/forum?id=mTIP1bkmR0q
    """
    smallest_mm = min(known.spacing)
    probability = geodesic_shares(
        scale_to_levels(known.image, known.superpixels),
        known.label,
        known.spacing,
        known.n_classes,
        scale_mm=known.softening.scale_mm or smallest_mm,
        contrast_mm=(known.softening.contrast_mm or DEFAULT_CONTRAST * smallest_mm)
        / (N_LEVELS - 1),
    )
    for k, share in enumerate(probability):
        # In this form what is one-hot already stays so to the bit.
        share += (1 - known.softening.epsilon) * ((known.label == k) - share)
    return probability


def soften_by_raters(known: SofteningInput) -> Probability:
    """Let everyone who drew have a say.

    By their mean, a class is as probable as the share of raters that drew it; by STAPLE, raters
    weigh as much as they seem reliable. Multiplied with `superpixel`, made from `label`, and
    divided by the sum over classes, `label` stays certain away from uncertain superpixels, and
    in these raters decide. With a single rater all of this is the one-hot label.
    """
    combine = {"mean": raters_mean, "staple": staple}[known.softening.raters_by]
    probability = combine(known.rater_labels or (known.label,), known.n_classes)
    if not known.softening.raters_with_superpixels:
        return probability
    by_superpixels = soften_by_superpixels(known)
    probability *= by_superpixels
    total = probability.sum(axis=0)
    # Where raters rule out what superpixels leave possible, superpixels have the last word.
    return np.divide(probability, total, out=by_superpixels, where=total > 0)


SOFTENERS: dict[str, Callable[[SofteningInput], Probability]] = {
    "none": soften_not,
    "superpixel": soften_by_superpixels,
    "superpixel_ensemble": soften_by_many_superpixels,
    "distance": soften_by_distance,
    "uniform": soften_uniformly,
    "boundary": soften_near_boundaries,
    "gaussian": soften_by_blurring,
    "svls": soften_by_neighbours,
    "dilation": soften_by_dilation,
    "geodesic": soften_by_geodesics,
    "raters": soften_by_raters,
}
"""What a softener's name in the settings stands for."""
USES_SUPERPIXELS = ("superpixel", "superpixel_ensemble")
"""Softeners that always look at superpixels; `raters` does so if asked."""
