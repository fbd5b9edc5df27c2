"""Intensities: from a scanner's numbers to what a network takes."""

from typing import Literal

import numpy as np
from jaxtyping import Float32
from pydantic import Field, model_validator

from sfumato.arrays import Image
from sfumato.errors import InputError
from sfumato.settings import Settings


class ChannelSettings(Settings):
    """How one channel's intensities are brought to zero mean and unit spread.

    Attributes:
        normalization: "case" measures each image by itself (MRI, microscopy, photographs:
            scales differ between images); "dataset" uses the constants below (CT: Hounsfield
            units mean the same in every image).
        ignore_zero: Leave elements of exactly 0 out of the measurement and keep them 0 (air
            around a skull-stripped head).
        low: Smallest intensity kept, with "dataset".
        high: Largest intensity kept, with "dataset".
        mean: Subtracted, with "dataset".
        deviation: Divided by, with "dataset".
    """

    normalization: Literal["case", "dataset"] = "case"
    ignore_zero: bool = False
    low: float = 0.0
    high: float = 1.0
    mean: float = 0.0
    deviation: float = Field(default=1.0, gt=0)

    @model_validator(mode="after")
    def _is_range(self) -> "ChannelSettings":
        if self.low > self.high:
            raise InputError("low must not be above high")
        return self


class PreprocessingSettings(Settings):
    """How an image is brought to the network.

    Attributes:
        spacing_mm: Spacing of the model's grid, one number an axis; None lets the plan choose.
        channels: One entry for each channel; None lets the plan choose.
    """

    spacing_mm: tuple[float, ...] | None = None
    channels: tuple[ChannelSettings, ...] | None = None


def normalize_intensities(image: Image, channels: tuple[ChannelSettings, ...]) -> Image:
    """Bring every channel to about zero mean and unit standard deviation.

    A constant channel becomes 0 everywhere.

    Args:
        image: Intensities of any scale.
        channels: How each channel is treated.

    Raises:
        InputError: If the image does not have one channel for each entry.

    Examples:
        >>> image = np.array([[1.0, 3.0]], np.float32)
        >>> normalize_intensities(image, (ChannelSettings(),)).round(2)
        array([[-1.,  1.]], dtype=float32)
    """
    if len(image) != len(channels):
        raise InputError(
            f"the image must have {_channels(len(channels))}, as in training, got {len(image)}"
        )
    return np.stack(
        [_normalize_channel(c, s) for c, s in zip(image, channels, strict=True)]
    ).astype(np.float32, copy=False)


def _normalize_channel(
    channel: Float32[np.ndarray, "*space"], settings: ChannelSettings
) -> Float32[np.ndarray, "*space"]:
    if settings.normalization == "dataset":
        clipped = channel.clip(settings.low, settings.high)
        return (clipped - np.float32(settings.mean)) / np.float32(settings.deviation)
    is_measured = channel != 0 if settings.ignore_zero else np.ones(channel.shape, bool)
    if not is_measured.any():
        return np.zeros_like(channel)
    # A few very bright elements (vessels, implants, salt noise) must not set the scale.
    low, high = np.percentile(channel[is_measured], (0.5, 99.5))
    clipped = channel.clip(low, high)
    measured = clipped[is_measured].astype(np.float64)
    deviation = measured.std()
    if deviation <= 1e-6 * max(abs(float(low)), abs(float(high))):
        return np.zeros_like(channel)
    result = ((clipped - measured.mean()) / deviation).astype(np.float32)
    return np.where(is_measured, result, np.float32(0))


def _channels(n: int) -> str:
    return f"{n} channel" if n == 1 else f"{n} channels"
