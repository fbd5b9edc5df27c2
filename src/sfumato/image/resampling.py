"""Resampling over the same field of view, axis by axis, so that parts can be had one by one."""

from functools import lru_cache

import numpy as np
from jaxtyping import Float32, Int
from scipy import ndimage

Channels = Float32[np.ndarray, "channel ..."]

_NEGLIGIBLE = 1e-9
"""Splines reach over the whole axis, but weights below this are lost in float32 anyway."""


@lru_cache(maxsize=16)
def spline_weights(n_old: int, n_new: int) -> Float32[np.ndarray, "new old"]:
    """Return what each old element counts for each new one, by cubic splines.

    Outside, the border is repeated. Interpolation in several dimensions is this along one
    axis after the other.
    """
    if n_old == n_new:
        return np.eye(n_old, dtype=np.float32)
    weights = np.empty((n_new, n_old))
    one_by_one = np.eye(n_old)
    ndimage.zoom(
        one_by_one, (n_new / n_old, 1), output=weights, order=3, mode="nearest", grid_mode=True
    )
    weights[np.abs(weights) < _NEGLIGIBLE] = 0
    weights = weights.astype(np.float32)
    weights.flags.writeable = False
    return weights


def needed_range(n_old: int, n_new: int, start: int, stop: int) -> tuple[int, int]:
    """Return the first and the last plus one of the old elements that new ones are made of."""
    if n_old == n_new:
        return start, stop
    used = np.flatnonzero(spline_weights(n_old, n_new)[start:stop].any(axis=0))
    return int(used[0]), int(used[-1]) + 1


def apply_weights(
    channels: Channels, weights: Float32[np.ndarray, "new old"], axis: int
) -> Channels:
    """Replace the elements along a spatial axis by weighted sums of them."""
    before, after = channels.shape[: 1 + axis], channels.shape[2 + axis :]
    if not after:
        return np.ascontiguousarray(channels) @ weights.T
    flat = np.ascontiguousarray(channels).reshape(*before, channels.shape[1 + axis], -1)
    return np.matmul(weights, flat).reshape(*before, len(weights), *after)


def linear_taps(
    n_old: int, n_new: int
) -> tuple[Int[np.ndarray, " new"], Int[np.ndarray, " new"], Float32[np.ndarray, " new"]]:
    """Return the two old neighbours of each new element, and how much the second one counts.

    Examples:
        >>> lower, upper, share = linear_taps(2, 4)
        >>> lower.tolist(), upper.tolist(), share.tolist()
        ([0, 0, 0, 1], [0, 1, 1, 1], [0.0, 0.25, 0.75, 0.0])
    """
    place = ((np.arange(n_new) + 0.5) * (n_old / n_new) - 0.5).clip(0, n_old - 1)
    lower = place.astype(int)
    share = (place - lower).astype(np.float32)
    return lower, lower + (share > 0), share


def resize_linear(channels: Channels, axis: int, n_new: int) -> Channels:
    """Resample a spatial axis linearly, repeating the border outside."""
    n_old = channels.shape[1 + axis]
    if n_old == n_new:
        return channels
    return blend_pairs(channels, axis, *linear_taps(n_old, n_new))


def blend_pairs(
    channels: Channels,
    axis: int,
    lower: Int[np.ndarray, " new"],
    upper: Int[np.ndarray, " new"],
    share: Float32[np.ndarray, " new"],
) -> Channels:
    """Return one element between each pair along a spatial axis, a view where they stay."""
    if not share.any() and np.array_equal(lower, np.arange(lower[0], lower[0] + len(lower))):
        index = (slice(None),) * (1 + axis) + (slice(int(lower[0]), int(lower[0]) + len(lower)),)
        return channels[index]
    result = channels.take(lower, 1 + axis)
    if share.any():
        difference = channels.take(upper, 1 + axis)
        difference -= result
        difference *= share.reshape(-1, *(1,) * (channels.ndim - 2 - axis))
        result += difference
    return result
