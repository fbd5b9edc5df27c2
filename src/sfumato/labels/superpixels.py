"""Split an image into small regions of similar intensity."""

from dataclasses import dataclass
from math import floor, gcd, isfinite, prod
from typing import NamedTuple

import numpy as np
from jaxtyping import Int16
from pydantic import Field

from sfumato._kernel import native
from sfumato.arrays import Image, Mask, RawImage, Spacing, Superpixels
from sfumato.errors import InputError
from sfumato.labels.spacing import check_spacing
from sfumato.settings import Settings

N_LEVELS = 4096
"""How many levels intensities are told apart by; superpixels are worked out in whole levels."""
CORE_TYPES = (np.float32, np.int16, np.uint16, np.uint8)
"""Intensities that need no copy."""
PHOTO_UNIT = (N_LEVELS - 1) / 2
"""Levels for a difference of one in L*, a* or b* of a photograph: they range from -1 to 1."""
N_SAMPLED = 2**15
"""About how many elements percentiles are taken from where there are more."""
LARGEST_GAIN = 1e38
"""Levels for one unit of intensity, at most: what float32 can hold."""
SEED_JITTER = 0.25
"""How far seeds are moved at most where superpixels are drawn at random, in superpixel edges."""
SIZE_JITTER = 0.25
"""By which share `jitter_size` makes superpixels larger or smaller at most."""
Levels = Int16[np.ndarray, "channel *space"]
"""Intensities as superpixels are told apart by: whole levels from 0 to `N_LEVELS` - 1."""


class SuperpixelSettings(Settings):
    """How large and how regular superpixels are.

    Attributes:
        size_mm: Edge of a superpixel in millimetres: its area is size_mm² (2-D), its volume
            size_mm³ (3-D). None takes `default_size_mm`, or what the plan of a run chooses.
        compactness: Weight of closeness against intensity, where every channel's intensity
            lies in [0, 1]; higher gives rounder superpixels.
        is_photo: Whether the three channels are red, green and blue (0 to 255) of a colour
            photograph, to be compared as the eye does (CIELAB, divided by 100).
        n_iterations: Rounds of SLIC. In each, a third of the elements may choose another centre, in
            the last one all.
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


def compute_superpixels(
    image: RawImage,
    spacing: Spacing,
    settings: SuperpixelSettings,
    *,
    where: Mask | None = None,
    rng: np.random.Generator | None = None,
    n_threads: int = 1,
) -> Superpixels:
    """Group the elements of an image into superpixels with SLIC.

    Each channel is scaled by itself to [0, 1] between its 0.5 and 99.5 percentiles, so that
    none outweighs the others. Seeds lie on a regular grid in millimetres, `size_mm` apart, one
    in the middle of every cell, with the mean intensity of the cell. In every round each
    element joins the nearest of the seeds of its own and the neighbouring cells, then seeds
    move to the mean of their elements. What is left in small unconnected pieces in the end,
    less than a quarter of a cell each, joins the superpixel with which it shares most faces.

    Args:
        image: Intensities of any scale.
        spacing: Millimetres along each spatial axis.
        settings: How large and how regular superpixels are.
        where: True where superpixels are wanted; None wants them everywhere.
        rng: Moves every seed at random, up to a quarter of a superpixel's edge along each
            axis, so that every call gives other superpixels; None leaves seeds where they are.
        n_threads: How many threads work; the result does not depend on it.

    Returns:
        The superpixel index of every element, -1 where none is wanted. Every superpixel is
        connected through faces; they are numbered by their first elements. The same input
        gives the same superpixels.

    Raises:
        InputError: If spacing or `where` do not fit the image, the image holds NaN or infinity,
            or `is_photo` is set for an image that is no colour photograph.

    Source:
        Achanta et al., SLIC superpixels compared to state-of-the-art superpixel
        methods, TPAMI 2012. doi:10.1109/TPAMI.2012.120

    Examples:
        >>> image = np.zeros((1, 4, 8), np.float32)
        >>> image[:, :, 4:] = 1
        >>> compute_superpixels(image, (1.0, 1.0), SuperpixelSettings(size_mm=4))[0]
        array([0, 0, 0, 0, 1, 1, 1, 1], dtype=int32)
    """
    shape = image.shape[1:]
    if where is not None and where.shape != shape:
        raise InputError(
            f"where must have the image's shape {shape}, got {where.shape};"
            " make the mask on the image's grid"
        )
    seeded = seed(image, spacing, settings, rng)
    wanted = None if where is None else in_three_axes(np.ascontiguousarray(where)).view(np.uint8)
    # Where all are wanted, all are written.
    superpixels = np.empty(shape, np.int32) if where is None else np.full(shape, -1, np.int32)
    n_superpixels = native.compute_superpixels(
        seeded.image,
        seeded.settings,
        wanted,
        in_three_axes(superpixels),
        n_threads,
    )
    check_finite(n_superpixels)
    return superpixels


@dataclass(frozen=True, kw_only=True, eq=False)
class Seeded:
    """An image as the compiled core takes it.

    Attributes:
        image: Intensities with three spatial axes.
        settings: The scale of intensities, the grid of seeds and the weights of distances.
        has_contrast: Whether any channel holds more than one intensity.
    """

    image: RawImage
    settings: native.Superpixels
    has_contrast: bool


def scale_to_levels(image: RawImage, settings: SuperpixelSettings) -> Levels:
    """Scale the intensities of an image as superpixels compare them.

    A piece of the result, handed over with `is_scaled`, is scaled as the whole image was; the
    whole of it gives the same superpixels as the image.

    Args:
        image: Intensities of any scale.
        settings: Says whether the image is a photograph.

    Raises:
        InputError: If the image is empty or holds NaN or infinity, or `is_photo` is set for an
            image that is no colour photograph.

    Examples:
        >>> scale_to_levels(np.array([[1.0, 2.0, 3.0]], np.float32), SuperpixelSettings())
        array([[   0, 2048, 4095]], dtype=int16)
    """
    _check_not_empty(image)
    image, scale = _scaled(image, settings)
    if settings.is_photo:
        image = _photo_to_lab(image)
    levels = np.empty(image.shape, np.int16)
    for channel, low, gain, result in zip(image, scale.low, scale.gain, levels, strict=True):
        if not np.isfinite(channel).all():
            check_finite(-1)
        # As the compiled core does it, operation by operation.
        with np.errstate(over="ignore"):  # far outside the percentiles, which is cut off
            above = (channel.astype(np.float32) - np.float32(low)) * np.float32(gain)
        level = (above + np.float32(0.5)).clip(0, N_LEVELS - 0.5)
        np.copyto(result, level, casting="unsafe")
    return levels


def jitter_size(
    settings: SuperpixelSettings, spacing: Spacing, rng: np.random.Generator
) -> SuperpixelSettings:
    """Draw a size of superpixels about the one that is set, up to a quarter larger or smaller."""
    size_mm = settings.size_mm or default_size_mm(spacing)
    factor = float(rng.uniform(1 - SIZE_JITTER, 1 + SIZE_JITTER))
    return settings.model_copy(update={"size_mm": size_mm * factor})


def seed(
    image: RawImage,
    spacing: Spacing,
    settings: SuperpixelSettings,
    rng: np.random.Generator | None = None,
    *,
    is_scaled: bool = False,
) -> Seeded:
    """Lay the grid of seeds over an image.

    Args:
        image: Intensities of any scale, or in levels.
        spacing: Millimetres along each spatial axis.
        settings: How large and how regular superpixels are.
        rng: Moves every seed at random; None leaves seeds where they are.
        is_scaled: Whether the image is (a piece of) what `scale_to_levels` returned.

    Raises:
        InputError: If spacing does not fit the image, the image is empty or holds NaN or infinity
            where percentiles are taken, or `is_photo` is set for an image that is no colour
            photograph.
    """
    shape = image.shape[1:]
    check_spacing(spacing, len(shape))
    _check_not_empty(image)
    size_mm = settings.size_mm or default_size_mm(spacing)
    n_cells = [
        min(n, max(1, floor(n * step_mm / size_mm + 0.5)))
        for n, step_mm in zip(shape, spacing, strict=True)
    ]
    if is_scaled:
        gain = tuple(float(channel.min() < channel.max()) for channel in image)
        scale = _Scale((0.0,) * len(image), gain, any(gain))
    else:
        image, scale = _scaled(image, settings)
    unit = PHOTO_UNIT if settings.is_photo else float(N_LEVELS - 1)
    n_missing = 3 - len(shape)
    weights = [settings.compactness * unit * step_mm / size_mm for step_mm in spacing]
    core_settings = native.Superpixels(
        low=scale.low,
        gain=scale.gain,
        n_cells=[1] * n_missing + n_cells,
        weights=[1.0] * n_missing + weights,
        n_iterations=settings.n_iterations,
        shifts=None if rng is None else _random_shifts(shape, n_cells, rng),
        is_photo=settings.is_photo and not is_scaled,
    )
    volume = image.reshape(len(image), *[1] * n_missing, *shape)
    return Seeded(
        image=np.ascontiguousarray(volume),
        settings=core_settings,
        has_contrast=scale.has_contrast,
    )


def in_three_axes(array: np.ndarray) -> np.ndarray:
    """View an image's array as a volume; a flat image is one slice."""
    return array.reshape(*[1] * (3 - array.ndim), *array.shape)


def check_finite(n_superpixels: int) -> None:
    """Refuse what the compiled core could not make superpixels of.

    Raises:
        InputError: If the core returned -1: it met NaN or infinity.
    """
    if n_superpixels < 0:
        raise InputError("the image holds NaN or infinity; replace them by numbers first")


def _check_not_empty(image: RawImage) -> None:
    if image.size == 0:
        raise InputError(f"the image is empty (shape {image.shape}); leave it out")


class _Scale(NamedTuple):
    """From intensities to levels: for each channel, what becomes level 0, and levels a unit."""

    low: tuple[float, ...]
    gain: tuple[float, ...]
    has_contrast: bool


def _scaled(image: RawImage, settings: SuperpixelSettings) -> tuple[RawImage, _Scale]:
    """Return an image as the compiled core takes it, and how it comes to levels."""
    if settings.is_photo:
        photo, has_contrast = _checked_photo(image)
        return photo, _Scale((-1.0,) * 3, (PHOTO_UNIT,) * 3, has_contrast)
    low, gain = zip(*(_level_scale(channel) for channel in image), strict=True)
    if image.dtype not in CORE_TYPES:
        image = image.astype(np.float32)
    return image, _Scale(low, gain, any(gain))


def _level_scale(channel: np.ndarray) -> tuple[float, float]:
    """Return the intensity that becomes level 0, and how many levels one unit of it is."""
    step = max(1, channel.size // N_SAMPLED)
    while gcd(step, channel.shape[-1]) > 1:  # else all elements would be taken from a few columns
        step += 1
    # Percentiles that are intensities of the image: for a rescaled channel, the rescaled ones.
    low, high = map(float, np.percentile(channel.ravel()[::step], (0.5, 99.5), method="nearest"))
    if not low < high:  # contrast in less than half a percent of the elements counts too
        low, high = float(channel.min()), float(channel.max())
    if not isfinite(low) or not isfinite(high):
        check_finite(-1)
    return (low, min((N_LEVELS - 1) / (high - low), LARGEST_GAIN)) if low < high else (low, 0.0)


def _checked_photo(image: RawImage) -> tuple[RawImage, bool]:
    """Return a photograph as the compiled core takes it, and whether it has contrast."""
    low, high = image.reshape(len(image), -1).min(axis=1), image.reshape(len(image), -1).max(axis=1)
    lowest, highest = float(low.min()), float(high.max())
    if not isfinite(lowest) or not isfinite(highest):
        check_finite(-1)
    if image.shape[0] != 3 or lowest < 0 or highest > 255:
        raise InputError(
            "is_photo needs three channels (red, green, blue) with values from 0 to 255, got"
            f" {image.shape[0]} with values from {lowest:g} to {highest:g};"
            " set is_photo to false for any other image"
        )
    photo = image if image.dtype == np.uint8 else image.astype(np.float32)
    return photo, bool((low < high).any())


def _photo_to_lab(photo: RawImage) -> Image:
    lab = np.empty(photo.shape, np.float32)
    native.photo_to_lab(np.ascontiguousarray(photo).reshape(3, -1), lab.reshape(3, -1))
    return lab


def _random_shifts(
    shape: tuple[int, ...], n_cells: list[int], rng: np.random.Generator
) -> np.ndarray:
    """Draw for every seed how many elements it is moved along each of three axes."""
    shifts = np.zeros((prod(n_cells), 3), np.float32)
    for axis, (n, m) in enumerate(zip(shape, n_cells, strict=True), start=3 - len(shape)):
        shifts[:, axis] = rng.uniform(-SEED_JITTER, SEED_JITTER, len(shifts)) * n / m
    return shifts
