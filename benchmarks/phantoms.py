"""Synthetic images with known labels: as large as real ones, and nobody's."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32
from scipy.ndimage import gaussian_filter

from sfumato.arrays import Image, Label, Spacing

Field = Float32[np.ndarray, "*space"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Phantom:
    """An image, its label and how superpixels are made for it.

    Attributes:
        image: Intensities.
        label: The class index of every element, three classes.
        spacing: Millimetres along each spatial axis.
        size_mm: The edge of a superpixel.
        is_photo: Whether the channels are red, green and blue.
    """

    image: Image
    label: Label
    spacing: Spacing
    size_mm: float
    is_photo: bool = False


def brain(n_channels: int, shape: tuple[int, int, int] = (155, 240, 240)) -> Phantom:
    """Make a head without its skull and a tumour in it: air around, 1 mm, superpixels of 8 mm."""
    rng = np.random.default_rng(0)
    radius = _radius(shape, centre=(0.5, 0.5, 0.5), extent=(0.42, 0.42, 0.42))
    tissue = _texture(shape, 8, rng)
    # About 100 ml, as in the mean case of BraTS.
    tumour = _radius(shape, centre=(0.5, 0.6, 0.42), extent=(0.19, 0.12, 0.12))
    tumour += 0.12 * _texture(shape, 6, rng)
    inside = radius + 0.05 * tissue < 1
    label = (inside & (tumour < 1)).astype(np.uint8) + (inside & (tumour < 0.55))
    channels = []
    for _ in range(n_channels):
        by_class = np.array([0.45, *rng.uniform(0.55, 0.95, 2)], np.float32)
        clean = (by_class[label] + 0.08 * (tissue > 0.4)) * inside
        noisy = gaussian_filter(clean, 0.8) + _noise(shape, 0.02, rng) * inside
        channels.append(np.maximum(noisy, 0))
    return Phantom(
        image=np.stack(channels).astype(np.float32), label=label, spacing=(1.0,) * 3, size_mm=8.0
    )


def body(shape: tuple[int, int, int] = (120, 512, 512)) -> Phantom:
    """Make a trunk as computed tomography shows it, 3 × 0.8 × 0.8 mm: two organs are labelled."""
    rng = np.random.default_rng(1)
    texture = _texture(shape, 10, rng)
    trunk = _radius(shape, centre=(0.5, 0.5, 0.5), extent=(9.0, 0.36, 0.45)) < 1
    liver = _radius(shape, (0.5, 0.45, 0.32), (0.38, 0.2, 0.18)) + 0.15 * texture
    lesion = _radius(shape, (0.5, 0.45, 0.3), (0.2, 0.08, 0.07)) + 0.2 * texture
    label = (trunk & (liver < 1)).astype(np.uint8) + (trunk & (lesion < 1) & (liver < 1))
    values = np.array([0.55, 0.62, 0.52], np.float32)[label] * trunk
    values[_radius(shape, (0.5, 0.7, 0.5), (9.0, 0.06, 0.05)) < 1] = 0.95
    image = gaussian_filter(values, (0.3, 0.8, 0.8)) + _noise(shape, 0.015, rng)
    return Phantom(
        image=image[None].astype(np.float32), label=label, spacing=(3.0, 0.8, 0.8), size_mm=8.0
    )


def slice_of(edge: int, n_channels: int) -> Phantom:
    """Make a flat image with a structure in it; three channels are a colour photograph."""
    rng = np.random.default_rng(2)
    shape = (edge, edge)
    fine = _texture(shape, 6, rng)
    wavy = _radius(shape, (0.5, 0.45), (0.3, 0.26)) + 0.2 * _texture(shape, edge / 24, rng)
    label = (wavy < 1).astype(np.uint8) + (wavy < 0.5)
    channels = []
    for _ in range(n_channels):
        by_class = np.float32([0.25, 0.55, 0.8]) + rng.uniform(-0.1, 0.1, 3).astype(np.float32)
        clean = by_class[label] + 0.06 * (fine > 0.5)
        channels.append(gaussian_filter(clean, 1.0) + _noise(shape, 0.02, rng))
    image = np.stack(channels).astype(np.float32)
    if n_channels == 3:
        image = np.clip(image * 255, 0, 255).round().astype(np.uint8)
    return Phantom(
        image=image, label=label, spacing=(1.0, 1.0), size_mm=16.0, is_photo=n_channels == 3
    )


def _radius(shape: tuple[int, ...], centre: tuple[float, ...], extent: tuple[float, ...]) -> Field:
    """Return the distance from a centre, 1 on an ellipsoid; all in shares of the image."""
    squared = np.zeros(shape, np.float32)
    for axis, n in enumerate(shape):
        along = ((np.arange(n) + 0.5) / n - centre[axis]) / extent[axis]
        squared += (
            (along**2)
            .astype(np.float32)
            .reshape([-1 if i == axis else 1 for i in range(len(shape))])
        )
    return np.sqrt(squared)


def _texture(shape: tuple[int, ...], width: float, rng: np.random.Generator) -> Field:
    """Return smooth noise of standard deviation 1."""
    smooth = gaussian_filter(rng.standard_normal(shape, np.float32), width)
    return smooth / smooth.std()


def _noise(shape: tuple[int, ...], sigma: float, rng: np.random.Generator) -> Field:
    return np.float32(sigma) * rng.standard_normal(shape, np.float32)
