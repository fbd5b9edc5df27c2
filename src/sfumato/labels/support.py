"""How far an image supports the boundaries that were drawn in it.

A boundary is supported where it follows the borders of superpixels, for those lie where the
image changes. Where it runs through a superpixel it may still be supported: if both parts of
the superpixel differ in intensity, the boundary explains the difference. What is left is
boundary through regions that look the same on both sides.

A boundary is made of the faces between neighbouring elements inside and outside a mask; the
edge of the image is no boundary.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Float64, Int32, Integer

from sfumato.arrays import Mask, RawImage, Spacing, Superpixels
from sfumato.errors import InputError
from sfumato.labels.distance import signed_distance
from sfumato.labels.spacing import check_spacing

Shares = Float64[np.ndarray, "superpixel"]
Slices = tuple[slice, ...]

ROUNDING = 1e-12
"""A superpixel that varies less than this, next to its squared intensities, does not vary."""


@dataclass(frozen=True, kw_only=True, eq=False)
class SuperpixelIntensities:
    """An image in superpixels, with what any boundary through them is compared with.

    Attributes:
        superpixels: The superpixel index of every element.
        image: Intensities less the channel's mean.
        n_elements: Number of elements of each superpixel.
        sums: Sum of the intensities of each superpixel, channel by channel.
        variation: Squared deviation from each superpixel's own mean, summed over its elements.
    """

    superpixels: Superpixels
    image: Float32[np.ndarray, "channel *space"]
    n_elements: Integer[np.ndarray, "superpixel"]
    sums: Float64[np.ndarray, "channel superpixel"]
    variation: Float64[np.ndarray, "channel superpixel"]

    @staticmethod
    def of(image: RawImage, superpixels: Superpixels) -> "SuperpixelIntensities":
        """Sum up the intensities of every superpixel.

        Raises:
            InputError: If image and superpixels differ in shape, or an element has no
                superpixel (-1).
        """
        if superpixels.shape != image.shape[1:]:
            raise InputError(
                f"superpixels have shape {superpixels.shape}, but the image {image.shape[1:]};"
                " compute them from this image"
            )
        if superpixels.min(initial=0) < 0:
            raise InputError("every element must have a superpixel; cut the image to where it has")
        # Squares of large intensities that hardly differ would lose the difference.
        means = image.mean(axis=tuple(range(1, image.ndim)), keepdims=True, dtype=np.float64)
        centred = (image - means).astype(np.float32)
        index = superpixels.ravel()
        n_elements = np.bincount(index)
        sums = np.stack([np.bincount(index, channel.ravel()) for channel in centred])
        squares = np.stack([_sum_of_squares(index, channel) for channel in centred])
        variation = squares - sums**2 / np.maximum(n_elements, 1)
        return SuperpixelIntensities(
            superpixels=superpixels,
            image=centred,
            n_elements=n_elements,
            sums=sums,
            variation=np.where(variation > ROUNDING * squares, variation, 0),
        )


@dataclass(frozen=True, kw_only=True)
class BoundarySupport:
    """How long a boundary is, and how much of it the image does not support.

    Attributes:
        area_mm: Area of all its faces in mm² (length in mm of a flat image).
        unsupported_mm: Area of its faces within superpixels, each times the share of the
            superpixel's variation that the boundary does not explain.
    """

    area_mm: float
    unsupported_mm: float

    @property
    def unsupported_share(self) -> float:
        """The unsupported share of the boundary, 0 to 1; NaN without a boundary."""
        return self.unsupported_mm / self.area_mm if self.area_mm else math.nan


@dataclass(frozen=True, kw_only=True)
class CrossedSuperpixel:
    """A superpixel that a boundary runs through.

    Attributes:
        index: Its index.
        is_inside: Whether its smaller part lies inside the mask.
        element: The element of the smaller part that lies furthest from the boundary.
        volume_mm: Volume of the smaller part in mm³ (area in mm² of a flat image): what would
            change sides, did the boundary follow the superpixel's border.
        depth_mm: Distance of `element` from the boundary.
        explained_share: See `explained_shares`.
    """

    index: int
    is_inside: bool
    element: tuple[int, ...]
    volume_mm: float
    depth_mm: float
    explained_share: float

    @property
    def unsupported_mm(self) -> float:
        """Volume of the smaller part, less the share of it that the image explains."""
        return self.volume_mm * (1 - self.explained_share)


def explained_shares(mask: Mask, intensities: SuperpixelIntensities) -> Shares:
    """Measure how well the boundary of a mask explains each superpixel it runs through.

    Args:
        mask: True inside the structure.
        intensities: The image in superpixels.

    Returns:
        For every superpixel, the share of its variation in intensity that lies between its
        parts inside and outside the mask, not within them: 0 where both parts look alike, as
        they do where nothing varies; 1 where each part has one intensity of its own. Of several
        channels, the one that is explained best. NaN where no boundary runs through.

    Source:
        Fisher, Statistical methods for research workers, 1925 (the correlation ratio η²).

    Examples:
        >>> superpixels = np.array([0, 0, 0, 0, 1, 1, 1, 1, 2, 2], np.int32)
        >>> image = np.array([[1, 1, 5, 5, 1, 5, 1, 5, 1, 5]], np.float32)
        >>> mask = np.array([0, 0, 1, 1, 1, 1, 0, 0, 0, 0], bool)
        >>> explained_shares(mask, SuperpixelIntensities.of(image, superpixels)).round(6)
        array([ 1.,  0., nan])
    """
    _check_shape(mask, intensities)
    index, size = intensities.superpixels[mask], len(intensities.n_elements)
    inside = np.bincount(index, minlength=size)
    outside = intensities.n_elements - inside
    best = np.zeros(size)
    with np.errstate(divide="ignore", invalid="ignore"):
        for channel, total, variation in zip(
            intensities.image, intensities.sums, intensities.variation, strict=True
        ):
            part = np.bincount(index, channel[mask], minlength=size)
            between = (
                part**2 / inside + (total - part) ** 2 / outside - total**2 / intensities.n_elements
            )
            share = np.where(variation > 0, between / variation, 0)
            best = np.fmax(best, np.clip(share, 0, 1))
    return np.where((inside > 0) & (outside > 0), best, math.nan)


def boundary_support(
    mask: Mask, intensities: SuperpixelIntensities, spacing: Spacing
) -> BoundarySupport:
    """Measure how much of the boundary of a mask the image supports.

    Args:
        mask: True inside the structure.
        intensities: The image in superpixels.
        spacing: Millimetres along each spatial axis.

    Raises:
        InputError: If mask, image and spacing do not fit together.

    Examples:
        >>> superpixels = np.array([[0, 0, 1, 1]], np.int32)
        >>> flat = SuperpixelIntensities.of(np.ones((1, 1, 4), np.float32), superpixels)
        >>> along_a_border = np.array([[False, False, True, True]])
        >>> boundary_support(along_a_border, flat, (2.0, 1.0)).unsupported_share
        0.0
        >>> through_a_superpixel = np.array([[False, True, True, True]])
        >>> boundary_support(through_a_superpixel, flat, (2.0, 1.0))
        BoundarySupport(area_mm=2.0, unsupported_mm=2.0)
    """
    check_spacing(spacing, mask.ndim)
    unexplained = 1 - explained_shares(mask, intensities)
    area_mm = unsupported_mm = 0.0
    for axis, (before, after) in enumerate(_neighbours(mask.ndim)):
        face_mm = math.prod(spacing) / spacing[axis]
        is_boundary = mask[before] != mask[after]
        one = intensities.superpixels[before][is_boundary]
        other = intensities.superpixels[after][is_boundary]
        area_mm += face_mm * len(one)
        unsupported_mm += face_mm * float(unexplained[one[one == other]].sum())
    return BoundarySupport(area_mm=area_mm, unsupported_mm=unsupported_mm)


def worst_crossings(
    mask: Mask, intensities: SuperpixelIntensities, spacing: Spacing, n_worst: int
) -> tuple[CrossedSuperpixel, ...]:
    """Find the superpixels that a boundary cuts worst: evenly, and where nothing is seen.

    Args:
        mask: True inside the structure.
        intensities: The image in superpixels.
        spacing: Millimetres along each spatial axis.
        n_worst: How many to return at most.

    Returns:
        The superpixels with most unsupported volume, worst first.

    Raises:
        InputError: If mask, image and spacing do not fit together.
    """
    explained = explained_shares(mask, intensities)
    distance = signed_distance(mask, spacing)
    inside = np.bincount(intensities.superpixels[mask], minlength=len(explained))
    smaller = np.minimum(inside, intensities.n_elements - inside)
    crossed = np.flatnonzero(np.isfinite(explained))
    severity = smaller[crossed] * (1 - explained[crossed])
    order = np.argsort(-severity, kind="stable")[:n_worst]
    return tuple(
        _crossing(int(index), mask, distance, intensities, explained, spacing)
        for index in crossed[order]
    )


def _crossing(
    index: int,
    mask: Mask,
    distance: Float32[np.ndarray, "*space"],
    intensities: SuperpixelIntensities,
    explained: Shares,
    spacing: Spacing,
) -> CrossedSuperpixel:
    elements = np.flatnonzero(intensities.superpixels == index)
    is_inside = mask.ravel()[elements]
    is_smaller_inside = 2 * int(is_inside.sum()) <= len(elements)
    part = elements[is_inside == is_smaller_inside]
    depth = np.abs(distance.ravel()[part])
    element = np.unravel_index(part[depth.argmax()], mask.shape)
    return CrossedSuperpixel(
        index=index,
        is_inside=is_smaller_inside,
        element=tuple(map(int, element)),
        volume_mm=len(part) * math.prod(spacing),
        depth_mm=float(depth.max()),
        explained_share=float(explained[index]),
    )


def _sum_of_squares(
    index: Int32[np.ndarray, "element"], channel: Float32[np.ndarray, "*space"]
) -> Shares:
    return np.bincount(index, np.square(channel, dtype=np.float64).ravel())


def _neighbours(n_axes: int) -> Iterator[tuple[Slices, Slices]]:
    """For each axis, the slices that put neighbours along it side by side."""
    for axis in range(n_axes):
        before, after = [slice(None)] * n_axes, [slice(None)] * n_axes
        before[axis], after[axis] = slice(None, -1), slice(1, None)
        yield tuple(before), tuple(after)


def _check_shape(mask: Mask, intensities: SuperpixelIntensities) -> None:
    if mask.shape != intensities.superpixels.shape:
        raise InputError(
            f"the mask has shape {mask.shape}, but the image {intensities.superpixels.shape};"
            " bring both to the same grid first"
        )
