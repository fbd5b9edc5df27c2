"""Segmenting an image larger than a window: cut windows, predict, blend, slab by slab."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import groupby, product

import numpy as np
import torch
from jaxtyping import Float32

from sfumato.arrays import Image, Probability
from sfumato.errors import InputError
from sfumato.image.grid import Slab
from sfumato.inference.averaging import Predict
from sfumato.model.tensors import Images, Probabilities

Corner = tuple[int, ...]

LARGEST_GROWTH = 4 / 3
"""How much longer than in training a window may be along an axis."""
LEAST_GAIN = 0.9
"""A longer window is taken if all together then have this share of the elements, or less."""
_PIECE = 1 << 24
"""Probabilities given on at a time, about: 64 MB."""
_UNIFORM = 1e-5
"""Normalised intensities that differ by less than this are one: resampling rounds."""


def window_corners(shape: tuple[int, ...], window: tuple[int, ...], overlap: float) -> list[Corner]:
    """Place windows over an image, evenly and touching its borders.

    Args:
        shape: Of the image, at least the window's along every axis.
        window: Shape of a window.
        overlap: Share of a window that its neighbour covers too, at least.

    Examples:
        >>> window_corners((10,), (4,), 0.5)
        [(0,), (2,), (4,), (6,)]
    """
    if not 0 <= overlap < 1:
        raise InputError(f"overlap must be at least 0 and below 1, got {overlap}")
    along_axes = []
    for n, w in zip(shape, window, strict=True):
        steps = int(np.ceil((n - w) / max(1.0, w * (1 - overlap))))
        along_axes.append([round(i * (n - w) / max(1, steps)) for i in range(steps + 1)])
    return list(product(*along_axes))


def gaussian_weight(window: tuple[int, ...]) -> Float32[np.ndarray, "*window"]:
    """Return how much each element of a window counts: most at its centre.

    A network sees less context at a window's border, so windows are blended with a
    Gaussian whose standard deviation is an eighth of the window, lowered by most of what it
    has left at the border.

    Source:
        Isensee et al., nnU-Net, Nature Methods 2021. doi:10.1038/s41592-020-01008-z
    """
    weight = np.ones((), np.float64)
    for n in window:
        offset = (np.arange(n) - (n - 1) / 2) / (n / 8)
        along = np.exp(-0.5 * offset**2)
        # Not cut off below: where windows meet near an edge of the image, both are far from
        # their centres, and still the one that ends there must count for next to nothing.
        weight = weight[..., None] * (along - 0.9 * along.min() * (n > 1))
    return weight.astype(np.float32)


def fitted_window(
    shape: tuple[int, ...],
    window: tuple[int, ...],
    divisors: tuple[int, ...],
    overlap: float = 0.5,
) -> tuple[int, ...]:
    """Enlarge a window by up to a third along axes where all windows together then do less work.

    One window may do where two were needed, which also leaves no place where they meet; or three
    where there were five, since even spacing makes them overlap more than they have to.

    Args:
        shape: Of the image.
        window: Shape the network was trained with.
        divisors: What the lengths of a window must divide by.
        overlap: Share of a window that its neighbour covers too, at least.

    Examples:
        >>> fitted_window((120, 300), (96, 96), (16, 16))
        (128, 128)
        >>> fitted_window((256, 144), (96, 96), (16, 16))
        (128, 96)
    """
    fitted = []
    for n, w, divisor in zip(shape, window, divisors, strict=True):
        first = (w // divisor + 1) * divisor
        work = {
            length: length * len(window_corners((max(n, length),), (length,), overlap))
            for length in (w, *range(first, int(w * LARGEST_GROWTH) + 1, divisor))
        }
        best = min(work, key=lambda length: (work[length], length))
        fitted.append(best if work[best] <= LEAST_GAIN * work[w] else w)
    return tuple(fitted)


@dataclass(frozen=True, kw_only=True)
class Windows:
    """The windows that cover an image.

    Attributes:
        shape: Of the image. Where it is smaller than a window it is padded by its border.
        size: Of a window.
        overlap: Share of a window that its neighbour covers too, at least.
        chosen_axis: Axis along which windows are predicted in order; None takes the longest.
    """

    shape: tuple[int, ...]
    size: tuple[int, ...]
    overlap: float
    chosen_axis: int | None = None

    @property
    def axis(self) -> int:
        """The axis along which windows are predicted in order."""
        return int(np.argmax(self.shape)) if self.chosen_axis is None else self.chosen_axis

    @property
    def padded_shape(self) -> tuple[int, ...]:
        """The image's shape, or the window's where that is larger."""
        return tuple(max(n, w) for n, w in zip(self.shape, self.size, strict=True))

    @property
    def padding(self) -> list[tuple[int, int]]:
        """How far the image is padded on both ends of each axis."""
        missing = [p - n for p, n in zip(self.padded_shape, self.shape, strict=True)]
        return [(m // 2, m - m // 2) for m in missing]

    def layers(self) -> list[tuple[int, list[Corner]]]:
        """Return the corners of all windows, gathered by where they begin along `axis`."""
        corners = window_corners(self.padded_shape, self.size, self.overlap)
        corners.sort(key=lambda corner: corner[self.axis])
        return [(start, list(same)) for start, same in groupby(corners, lambda c: c[self.axis])]


def across(axis: int, part: slice) -> tuple[slice, ...]:
    """Return the index of some slices across a spatial axis."""
    return (slice(None),) * axis + (part,)


def predict_windows(
    predict: Predict, image: Image, window: tuple[int, ...], overlap: float
) -> Probability:
    """Predict the class probabilities of a whole image that lies on the model's grid.

    Args:
        predict: Predicts windows.
        image: Normalised intensities.
        window: Shape of the windows. A smaller image is padded to it by repeating its border.
        overlap: Share of a window that its neighbour covers too, at least.
    """
    windows = Windows(shape=image.shape[1:], size=window, overlap=overlap)
    axis = windows.axis
    slabs = predict_slabs(predict, lambda part: image[:, *across(axis, part)], windows)
    return np.concatenate(list(slabs), axis=1 + axis)


def predict_slabs(
    predict: Predict, read: Callable[[slice], Image], windows: Windows
) -> Iterator[Slab]:
    """Predict the class probabilities of an image, giving slices once no later window meets them.

    No more than one layer of windows is held at a time, so memory does not grow with the
    image's length.

    Args:
        predict: Predicts windows.
        read: Gives slices of the image across `windows.axis`, normalised, on the model's grid.
        windows: Where windows lie.

    Yields:
        Slices of the image, a few at a time, first to last.
    """
    axis, depth = windows.axis, windows.size[windows.axis]
    layers, length = windows.layers(), windows.shape[windows.axis]
    predict = remember_uniform(predict)
    sums = _WeightedSums(windows)
    image = read(slice(0, min(depth, length)))
    for (start, corners), following in zip(layers, [*layers[1:], None], strict=True):
        padded = np.pad(image, [(0, 0), *windows.padding], mode="edge")
        for corner in corners:
            here = tuple(0 if a == axis else c for a, c in enumerate(corner))
            place = tuple(slice(c, c + w) for c, w in zip(here, windows.size, strict=True))
            # A copy, since what a file was read into may be read-only.
            sums.add(place, predict(torch.from_numpy(padded[:, *place].copy())[None])[0])
        n_done = depth if following is None else following[0] - start
        yield from sums.finished(n_done)
        if following is not None:
            sums.move_on(n_done)
            kept = image[:, *across(axis, slice(n_done, None))]
            fresh = read(slice(start + depth, start + depth + n_done))
            image = np.concatenate([kept, fresh], axis=1 + axis)


class _WeightedSums:
    """Sums of what windows say about the slices that the current layer of windows covers."""

    def __init__(self, windows: Windows) -> None:
        self._windows, self._axis = windows, windows.axis
        self._weight = torch.from_numpy(gaussian_weight(windows.size))
        shape = list(windows.padded_shape)
        shape[self._axis] = windows.size[self._axis]
        self._weights = torch.zeros(shape)
        self._sums: torch.Tensor | None = None

    def add(self, place: tuple[slice, ...], probability: torch.Tensor) -> None:
        """Add what one window says."""
        if self._sums is None:
            self._sums = torch.zeros((len(probability), *self._weights.shape))
        self._sums[:, *place].addcmul_(probability, self._weight)
        self._weights[place] += self._weight

    def finished(self, n_done: int) -> Iterator[Slab]:
        """Give the weighted means of the first slices, without the image's padding."""
        assert self._sums is not None
        inner = [
            slice(before, n - after)
            for n, (before, after) in zip(self._weights.shape, self._windows.padding, strict=True)
        ]
        first, last = inner[self._axis].start, min(inner[self._axis].stop, n_done)
        n_slices = max(1, _PIECE * self._weights.shape[self._axis] // self._sums.numel())
        for start in range(first, last, n_slices):
            inner[self._axis] = slice(start, min(start + n_slices, last))
            yield (self._sums[:, *inner] / self._weights[tuple(inner)]).numpy()

    def move_on(self, n_done: int) -> None:
        """Forget the first slices, and make room for new ones behind the others."""
        assert self._sums is not None
        for tensor, axis in ((self._sums, 1 + self._axis), (self._weights, self._axis)):
            depth = tensor.shape[axis]
            # In steps that do not overlap, for there is no room for a copy of everything.
            for start in range(n_done, depth, n_done):
                n = min(n_done, depth - start)
                tensor.narrow(axis, start - n_done, n).copy_(tensor.narrow(axis, start, n))
            tensor.narrow(axis, depth - n_done, n_done).zero_()


def remember_uniform(predict: Predict) -> Predict:
    """Predict windows of a single intensity once only, as they all look the same.

    Where intensities were cut off (air in computed tomography) or masked away (around a
    stripped head), many windows are such.
    """
    known: dict[tuple[float, ...], Probabilities] = {}

    def predict_or_recall(images: Images) -> Probabilities:
        spatial = tuple(range(2, images.ndim))
        lowest, highest = images.amin(spatial, keepdim=True), images.amax(spatial, keepdim=True)
        if float((highest - lowest).max()) > _UNIFORM:
            return predict(images)
        key = tuple(round(value, 4) for value in lowest.flatten().tolist())
        if key not in known:
            known.clear()  # One is enough, and they are large.
            known[key] = predict(lowest.expand(images.shape).contiguous())
        return known[key]

    return predict_or_recall
