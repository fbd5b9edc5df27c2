"""Random changes to training patches: space moves image and labels alike, intensity the image.

Parameters are drawn first and applied after, so that what happened can be told and tested.
Rotations and scales act in millimetres: on thick slices a rotation stays a rotation.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float64
from pydantic import Field, field_validator
from torch.nn import functional

from sfumato.arrays import Image, Spacing
from sfumato.errors import InputError
from sfumato.settings import Settings

Matrix = Float64[np.ndarray, "axes axes"]
THICK_SLICES = 3.0
"""Spacings that differ by more than this factor are thick slices."""


class AugmentationSettings(Settings):
    """How much training patches are changed.

    Attributes:
        rotation_probability: Share of patches that are rotated.
        rotation_degrees: Largest rotation about each axis.
        scale_probability: Share of patches that are scaled.
        scale_range: Smallest and largest scale factor.
        mirror_axes: Axes of the model's grid along which half of the patches are mirrored;
            None lets the plan choose.
        noise_probability: Share of patches that get Gaussian noise.
        noise_deviation: Largest standard deviation of the noise, in units of the image's.
        brightness_probability: Share of patches whose intensities are multiplied.
        contrast_probability: Share of patches whose contrast is changed about the mean.
        gamma_probability: Share of patches whose intensities go through a power function.
        low_resolution_probability: Share of patches that are blurred by down- and upsampling.
    """

    rotation_probability: float = Field(default=0.3, ge=0, le=1)
    rotation_degrees: float = Field(default=20, ge=0, le=180)
    scale_probability: float = Field(default=0.3, ge=0, le=1)
    scale_range: tuple[float, float] = (0.8, 1.25)
    mirror_axes: tuple[int, ...] | None = None
    noise_probability: float = Field(default=0.1, ge=0, le=1)
    noise_deviation: float = Field(default=0.2, ge=0)
    brightness_probability: float = Field(default=0.15, ge=0, le=1)
    contrast_probability: float = Field(default=0.15, ge=0, le=1)
    gamma_probability: float = Field(default=0.15, ge=0, le=1)
    low_resolution_probability: float = Field(default=0.1, ge=0, le=1)

    @field_validator("scale_range")
    @classmethod
    def _is_range(cls, scale_range: tuple[float, float]) -> tuple[float, float]:
        if not 0 < scale_range[0] <= scale_range[1]:
            raise InputError("the smallest scale must be above 0 and not above the largest")
        return scale_range


@dataclass(frozen=True, kw_only=True)
class Placement:
    """Where a patch lies in an image.

    Attributes:
        centre: The patch's centre, as (fractional) indices of the image.
        matrix: From offsets in the patch to offsets in the image, both in elements.
    """

    centre: Float64[np.ndarray, " axes"]
    matrix: Matrix


def draw_matrix(
    settings: AugmentationSettings, spacing: Spacing, rng: np.random.Generator
) -> Matrix:
    """Draw a random rotation, scale and mirroring, as a matrix between element offsets."""
    n_axes = len(spacing)
    matrix = np.eye(n_axes)
    if rng.random() < settings.rotation_probability:
        angles = np.deg2rad(rng.uniform(-1, 1, 3) * settings.rotation_degrees)
        matrix = _rotation(angles, spacing)
    if rng.random() < settings.scale_probability:
        matrix = matrix * rng.uniform(*settings.scale_range)
    in_mm = np.diag(spacing)
    matrix = np.linalg.inv(in_mm) @ matrix @ in_mm
    for axis in settings.mirror_axes or ():
        if rng.random() < 0.5:
            matrix[:, axis] *= -1
    return matrix


def _rotation(angles: Float64[np.ndarray, "3"], spacing: Spacing) -> Matrix:
    """Rotate in the plane of each pair of axes, one after the other.

    Thick slices are rotated within themselves only: between them there is nothing to see.
    """
    n_axes = len(spacing)
    matrix = np.eye(n_axes)
    pairs = [(i, j) for i in range(n_axes) for j in range(i + 1, n_axes)]
    for angle, (i, j) in zip(angles, pairs, strict=False):
        if max(spacing[i], spacing[j]) > THICK_SLICES * min(spacing):
            continue
        plane = np.eye(n_axes)
        plane[i, i] = plane[j, j] = np.cos(angle)
        plane[i, j], plane[j, i] = -np.sin(angle), np.sin(angle)
        matrix = matrix @ plane
    return matrix


def change_intensities(
    image: Image, settings: AugmentationSettings, rng: np.random.Generator
) -> Image:
    """Return the image of a patch with randomly changed intensities.

    Args:
        image: Normalised intensities (about zero mean and unit deviation).
        settings: How likely and how strong each change is.
        rng: Where randomness comes from.
    """
    result = image
    if rng.random() < settings.low_resolution_probability:
        result = _lower_resolution(result, rng.uniform(0.5, 1))
    if rng.random() < settings.noise_probability:
        deviation = rng.uniform(0, settings.noise_deviation)
        noise = rng.standard_normal(result.shape, dtype=np.float32)
        result = result + np.float32(deviation) * noise
    if rng.random() < settings.brightness_probability:
        result = result * np.float32(rng.uniform(0.75, 1.25))
    if rng.random() < settings.contrast_probability:
        mean = result.mean(axis=tuple(range(1, result.ndim)), keepdims=True)
        result = (result - mean) * np.float32(rng.uniform(0.75, 1.25)) + mean
    if rng.random() < settings.gamma_probability:
        result = _gamma(result, float(np.exp(rng.uniform(-0.4, 0.4))))
    return result


def _lower_resolution(image: Image, zoom: float) -> Image:
    shape = image.shape[1:]
    mode = "trilinear" if len(shape) == 3 else "bilinear"
    small = tuple(max(1, round(n * zoom)) for n in shape)
    coarse = functional.interpolate(torch.from_numpy(image)[None], small, mode="nearest-exact")
    return functional.interpolate(coarse, shape, mode=mode)[0].numpy()


def _gamma(image: Image, gamma: float) -> Image:
    """Bend intensities by a power, keeping each channel's range."""
    axes = tuple(range(1, image.ndim))
    low = image.min(axis=axes, keepdims=True)
    spread = np.maximum(image.max(axis=axes, keepdims=True) - low, np.float32(1e-6))
    return ((image - low) / spread) ** np.float32(gamma) * spread + low
