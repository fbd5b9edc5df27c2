"""Intensities: from a scanner's numbers to what a network takes."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from jaxtyping import Float32, UInt32
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


_BLOCK = 1 << 22  # elements measured at a time: temporary arrays stay small beside the image


@dataclass(frozen=True, kw_only=True)
class Scaling:
    """How one channel of one image is normalised: every number measured.

    Attributes:
        low: Smallest intensity kept.
        high: Largest intensity kept.
        mean: Subtracted.
        deviation: Divided by; infinite for a constant channel, which becomes 0.
        keeps_zero: Whether elements of exactly 0 stay 0.
        limits: Smallest and largest normalised intensity of the channel.
    """

    low: float
    high: float
    mean: float
    deviation: float
    keeps_zero: bool
    limits: tuple[float, float] = (-np.inf, np.inf)

    def apply(self, channel: Float32[np.ndarray, "*space"]) -> Float32[np.ndarray, "*space"]:
        """Normalise a channel, or any part of it."""
        result = channel.clip(np.float32(self.low), np.float32(self.high))
        result -= np.float32(self.mean)
        result /= np.float32(self.deviation)
        if self.keeps_zero:
            result[channel == 0] = 0
        return result


def measure_scalings(image: Image, channels: tuple[ChannelSettings, ...]) -> tuple[Scaling, ...]:
    """Measure how every channel is normalised, block by block, so that little memory is needed.

    Raises:
        InputError: If the image does not have one channel for each entry.
    """
    if len(image) != len(channels):
        raise InputError(
            f"the image must have {_channels(len(channels))}, as in training, got {len(image)}"
        )
    return tuple(_measure_channel(c, s) for c, s in zip(image, channels, strict=True))


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
    return apply_scalings(image, measure_scalings(image, channels))


def apply_scalings(image: Image, scalings: tuple[Scaling, ...]) -> Image:
    """Normalise an image, or any part of it, by what was measured."""
    return np.stack([s.apply(c) for c, s in zip(image, scalings, strict=True)])


def _measure_channel(channel: Float32[np.ndarray, "*space"], settings: ChannelSettings) -> Scaling:
    if settings.normalization == "dataset":
        scaling = Scaling(
            low=settings.low,
            high=settings.high,
            mean=settings.mean,
            deviation=settings.deviation,
            keeps_zero=False,
        )
    else:
        scaling = _measure_case(channel, settings.ignore_zero)
    ends = np.array([channel.min(), channel.max()], np.float32)
    # Neighbours of a smallest or largest 0 that stays 0 may still lie beyond it.
    lowest, highest = replace(scaling, keeps_zero=False).apply(ends)
    if scaling.keeps_zero:
        lowest, highest = min(lowest, 0), max(highest, 0)
    return replace(scaling, limits=(float(lowest), float(highest)))


def _measure_case(channel: Float32[np.ndarray, "*space"], ignore_zero: bool) -> Scaling:
    # A few very bright elements (vessels, implants, salt noise) must not set the scale.
    low, high = _percentiles(channel, (0.5, 99.5), ignore_zero)
    n, total, squares = 0, 0.0, 0.0
    for block in _measured(channel, ignore_zero):
        # From the lowest value on, or the squares of large offsets would drown the differences.
        above = block.clip(low, high).astype(np.float64) - low
        n, total = n + above.size, total + float(above.sum())
        squares += float(above @ above)
    mean = total / n if n else 0.0
    deviation = float(np.sqrt(max(squares / n - mean**2, 0))) if n else 0.0
    smallest = float(np.finfo(np.float32).tiny)
    if deviation <= max(1e-6 * max(abs(low), abs(high)), smallest):
        deviation = np.inf
    return Scaling(low=low, high=high, mean=low + mean, deviation=deviation, keeps_zero=ignore_zero)


def _measured(
    channel: Float32[np.ndarray, "*space"], ignore_zero: bool
) -> Iterator[Float32[np.ndarray, " n"]]:
    """Give the elements that count, in blocks."""
    n_rows = max(1, _BLOCK * len(channel) // max(1, channel.size))
    for start in range(0, len(channel), n_rows):
        block = channel[start : start + n_rows].ravel()
        yield block[block != 0] if ignore_zero else block


def _percentiles(
    channel: Float32[np.ndarray, "*space"], percents: tuple[float, ...], ignore_zero: bool
) -> tuple[float, ...]:
    """Return percentiles as NumPy does, interpolated, but without a copy of all elements.

    Elements are counted by the upper half of their bits, then, where a wanted one lies, by the
    lower half.
    """
    high_counts = np.zeros(1 << 16, np.int64)
    for block in _measured(channel, ignore_zero):
        high_counts += np.bincount(_sortable(block) >> 16, minlength=1 << 16)
    ends = high_counts.cumsum()
    n = int(ends[-1])
    if not n:
        return (0.0,) * len(percents)
    places = [percent / 100 * (n - 1) for percent in percents]
    ranks = sorted({min(int(place) + i, n - 1) for place in places for i in (0, 1)})
    bins = {rank: int(np.searchsorted(ends, rank, side="right")) for rank in ranks}
    low_counts = {b: np.zeros(1 << 16, np.int64) for b in bins.values()}
    for block in _measured(channel, ignore_zero):
        keys = _sortable(block)
        upper = keys >> 16
        for b, counts in low_counts.items():
            counts += np.bincount(keys[upper == b] & 0xFFFF, minlength=1 << 16)
    values = {}
    for rank, b in bins.items():
        within = rank - int(ends[b] - high_counts[b])
        low = int(np.searchsorted(low_counts[b].cumsum(), within, side="right"))
        values[rank] = _unsortable(b << 16 | low)
    return tuple(
        values[int(place)]
        + (values[min(int(place) + 1, n - 1)] - values[int(place)]) * (place - int(place))
        for place in places
    )


def _sortable(values: Float32[np.ndarray, " n"]) -> UInt32[np.ndarray, " n"]:
    """Return whole numbers in the same order as the values: their bits, signs turned."""
    bits = np.ascontiguousarray(values).view(np.uint32)
    return np.where(bits >> 31, ~bits, bits | np.uint32(1 << 31))


def _unsortable(key: int) -> float:
    bits = key ^ (1 << 31) if key >> 31 else ~key & 0xFFFFFFFF
    return float(np.array(bits, np.uint32).view(np.float32))


def _channels(n: int) -> str:
    return f"{n} channel" if n == 1 else f"{n} channels"
