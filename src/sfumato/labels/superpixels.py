"""Split an image into small regions of similar intensity."""

from collections.abc import Iterator
from itertools import pairwise, product
from math import prod
from typing import TypeAlias

import numpy as np
from jaxtyping import Float16
from pydantic import Field

from sfumato.arrays import Image, Spacing, Superpixels
from sfumato.errors import InputError
from sfumato.labels.spacing import check_spacing
from sfumato.settings import Settings

ScaledImage: TypeAlias = Float16[np.ndarray, "channel *space"]
"""Intensities in about [0, 1]; half precision tells 2000 of them apart and saves memory."""

THICK_SLICE = 1.5
"""An axis whose spacing exceeds the smallest by this factor is cut into slabs."""


class SuperpixelSettings(Settings):
    """How large and how regular superpixels are.

    Attributes:
        size_mm: Edge of a superpixel in millimetres: its area is size_mm² (2-D), its volume
            size_mm³ (3-D). None takes `default_size_mm`, or what the plan of a run chooses.
        compactness: Weight of closeness against intensity, where every channel's intensity
            lies in [0, 1]; higher gives rounder superpixels.
        is_photo: Whether the three channels are red, green and blue (0 to 255) of a colour
            photograph, to be compared as the eye does (CIELAB, divided by 100).
        n_iterations: Rounds in which SLIC moves its centres.
    """

    size_mm: float | None = Field(default=None, gt=0)
    compactness: float = Field(default=0.1, gt=0)
    is_photo: bool = False
    n_iterations: int = Field(default=10, ge=1)


def default_size_mm(spacing: Spacing) -> float:
    """Return the edge of a superpixel where nothing else is known.

    Returns:
        Millimetres: 4 times the geometric mean of the spacing in 3-D, 8 times in 2-D.

    Examples:
        >>> default_size_mm((0.5, 0.5)), default_size_mm((1.0, 1.0, 1.0))
        (4.0, 4.0)
    """
    n_elements = 4 if len(spacing) == 3 else 8
    return float(n_elements * prod(spacing) ** (1 / len(spacing)))


def has_contrast(image: Image) -> bool:
    """Tell whether any channel holds more than one intensity.

    Examples:
        >>> has_contrast(np.array([[3, 3, 3]], np.float32))
        False
    """
    return any(bool(channel.min() < channel.max()) for channel in image)


def compute_superpixels(
    image: Image, spacing: Spacing, settings: SuperpixelSettings
) -> Superpixels:
    """Group the elements of an image into superpixels with SLIC.

    Each channel is scaled by itself to [0, 1] between its 0.5 and 99.5 percentiles, so that
    none outweighs the others. Distances are in millimetres. An axis much coarser than the
    finest (thick slices) is cut into slabs about as thick as a superpixel is wide, and
    superpixels do not cross from one slab to the next.

    Args:
        image: Intensities of any scale.
        spacing: Millimetres along each spatial axis.
        settings: How large and how regular superpixels are.

    Returns:
        The superpixel index of every element. Every superpixel is connected through faces;
        the same input gives the same superpixels.

    Raises:
        InputError: If spacing does not fit the image, the image holds NaN or infinity, or
            `is_photo` is set for an image that is no colour photograph.

    Source:
        Achanta et al., SLIC superpixels compared to state-of-the-art superpixel
        methods, TPAMI 2012. doi:10.1109/TPAMI.2012.120

    Examples:
        >>> image = np.zeros((1, 4, 8), np.float32)
        >>> image[:, :, 4:] = 1
        >>> compute_superpixels(image, (1.0, 1.0), SuperpixelSettings(size_mm=4))[0]
        array([0, 0, 0, 0, 1, 1, 1, 1], dtype=int32)
    """
    from skimage.measure import label as label_connected

    shape = image.shape[1:]
    check_spacing(spacing, len(shape))
    if not np.isfinite(image).all():
        raise InputError("the image holds NaN or infinity; replace them by numbers first")
    size_mm = settings.size_mm or default_size_mm(spacing)
    scaled = _photo_to_lab(image) if settings.is_photo else _scale_channels(image)
    slabs = list(_slabs(shape, spacing, size_mm))
    pieces = [_slic(scaled[:, *slab], spacing, size_mm, settings) for slab in slabs]
    superpixels = np.empty(shape, np.int32)
    n_superpixels = 0
    for slab, piece in zip(slabs, pieces, strict=True):
        superpixels[slab] = piece + n_superpixels
        n_superpixels += int(piece.max()) + 1
    # SLIC's own clean-up merges small pieces by a rule that can leave one index in two places.
    connected = label_connected(superpixels, background=-1, connectivity=1)
    return np.asarray(connected - 1, np.int32)


def _scale_channels(image: Image) -> ScaledImage:
    scaled = np.empty(image.shape, np.float16)
    for channel, result in zip(image, scaled, strict=True):
        # Percentiles that are intensities of the image, so that a rescaled channel gives the
        # same bits.
        low, high = map(float, np.percentile(channel, (0.5, 99.5), method="nearest"))
        if low == high:  # contrast in less than half a percent of the elements counts too
            low, high = float(channel.min()), float(channel.max())
        if low == high:
            result[:] = 0
            continue
        result[:] = np.clip((channel - low) / (high - low), 0, 1)
    return scaled


def _photo_to_lab(image: Image) -> ScaledImage:
    from skimage.color import rgb2lab

    if image.shape[0] != 3 or image.min() < 0 or image.max() > 255:
        raise InputError(
            "is_photo needs three channels (red, green, blue) with values from 0 to 255, got"
            f" {image.shape[0]} with values from {image.min():g} to {image.max():g};"
            " set is_photo to false for any other image"
        )
    lab = rgb2lab(image / np.float32(255), channel_axis=0) / 100
    return np.asarray(lab, np.float16)


def _is_thick(spacing: Spacing) -> list[bool]:
    return [step_mm > THICK_SLICE * min(spacing) for step_mm in spacing]


def _slabs(shape: tuple[int, ...], spacing: Spacing, size_mm: float) -> Iterator[tuple[slice, ...]]:
    """Cut every axis with thick slices into pieces about as thick as a superpixel."""
    pieces = []
    for n_slices, step_mm, is_thick in zip(shape, spacing, _is_thick(spacing), strict=True):
        slab_slices = max(1, round(size_mm / step_mm)) if is_thick else n_slices
        n_slabs = max(1, round(n_slices / slab_slices))
        edges = [round(i * n_slices / n_slabs) for i in range(n_slabs + 1)]
        pieces.append([slice(a, b) for a, b in pairwise(edges)])
    return product(*pieces)


def _slic(
    scaled: ScaledImage, spacing: Spacing, size_mm: float, settings: SuperpixelSettings
) -> Superpixels:
    """Run SLIC on a piece of an image whose channels lie in [0, 1]."""
    from skimage.segmentation import slic
    from skimage.util import regular_grid

    shape = scaled.shape[1:]
    # One superpixel across a slab, and across an image that is thinner than a superpixel.
    n_segments = round(
        prod(
            1.0 if is_thick else max(1.0, n * step_mm / size_mm)
            for n, step_mm, is_thick in zip(shape, spacing, _is_thick(spacing), strict=True)
        )
    )
    if n_segments >= prod(shape):
        return np.arange(prod(shape), dtype=np.int32).reshape(shape)
    if n_segments == 1:
        return np.zeros(shape, np.int32)
    n_missing = 3 - len(shape)
    volume = scaled.reshape(-1, *[1] * n_missing, *shape)
    grid = regular_grid(volume.shape[1:], n_segments)
    step = max(along.step or 1 for along in grid)
    value_range = float(scaled.max() - scaled.min()) or 1.0
    labels = slic(
        volume,
        n_segments=n_segments,
        # scikit-image stretches the values it is given to [0, 1]; a piece of an image has to keep
        # the scale of the whole.
        compactness=settings.compactness / value_range,
        max_num_iter=settings.n_iterations,
        # Pieces below a quarter of a superpixel join a neighbour. With scikit-image's own half, a
        # noisy image has so many of them that neighbours grow to tens of superpixels.
        min_size_factor=0.25,
        # scikit-image divides distances by the largest seed step in elements, we by the size.
        spacing=[1.0] * n_missing + [step_mm * step / size_mm for step_mm in spacing],
        convert2lab=False,
        start_label=0,
        channel_axis=0,
    )
    return labels.reshape(shape).astype(np.int32)
