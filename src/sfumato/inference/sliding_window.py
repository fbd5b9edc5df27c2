"""Segmenting an image larger than a window: cut windows, predict, blend."""

from collections.abc import Callable, Iterator
from itertools import product

import numpy as np
import torch
from jaxtyping import Float32
from torch.nn import functional

from sfumato.arrays import Image, Probability
from sfumato.errors import InputError
from sfumato.model.tensors import Images, Logits

Corner = tuple[int, ...]
Network = Callable[[Images], Logits]


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
    Gaussian whose standard deviation is an eighth of the window.

    Source:
        Isensee et al., nnU-Net, Nature Methods 2021. doi:10.1038/s41592-020-01008-z
    """
    weight = np.ones((), np.float64)
    for n in window:
        offset = (np.arange(n) - (n - 1) / 2) / (n / 8)
        weight = weight[..., None] * np.exp(-0.5 * offset**2)
    # Corners must not vanish, or an element seen there alone would have no probability.
    return np.maximum(weight, 1e-3).astype(np.float32)


def predict_windows(
    network: Network,
    image: Image,
    window: tuple[int, ...],
    overlap: float,
    mirror_axes: tuple[int, ...] = (),
) -> Probability:
    """Predict the class probabilities of a whole image, window by window.

    Args:
        network: From a batch of images to logits, on the network's own device.
        image: Normalised intensities on the model's grid.
        window: Shape the network was trained with. A smaller image is padded to it by
            repeating its border.
        overlap: Share of a window that its neighbour covers too, at least.
        mirror_axes: Axes along which the window is predicted mirrored as well; the
            probabilities of all ways round are averaged.
    """
    shape = image.shape[1:]
    padding = [max(0, w - n) for n, w in zip(shape, window, strict=True)]
    before = [p // 2 for p in padding]
    around = [(0, 0), *((b, p - b) for b, p in zip(before, padding, strict=True))]
    padded = np.pad(image, around, mode="edge") if any(padding) else image
    weight = torch.from_numpy(gaussian_weight(window))
    total = torch.zeros(())
    weights = torch.zeros(padded.shape[1:])
    for corner in window_corners(padded.shape[1:], window, overlap):
        where = tuple(slice(c, c + w) for c, w in zip(corner, window, strict=True))
        cut = torch.from_numpy(padded[:, *where].copy())[None]  # a stored image is read-only
        probability = _predict_mirrored(network, cut, mirror_axes)
        if total.ndim == 0:
            total = torch.zeros((len(probability), *padded.shape[1:]))
        total[:, *where] += probability * weight
        weights[where] += weight
    total /= weights
    total /= total.sum(dim=0, keepdim=True)
    inner = tuple(slice(b, b + n) for b, n in zip(before, shape, strict=True))
    return np.ascontiguousarray(total[:, *inner].numpy())


def _predict_mirrored(
    network: Network, image: Images, mirror_axes: tuple[int, ...]
) -> torch.Tensor:
    ways = list(_subsets(tuple(2 + a for a in mirror_axes)))
    total = torch.zeros(())
    for axes in ways:
        logits = network(image.flip(axes)).float().cpu()
        total = total + functional.softmax(logits, dim=1).flip(axes)
    return total[0] / len(ways)


def _subsets(axes: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    for chosen in product((False, True), repeat=len(axes)):
        yield tuple(a for a, is_chosen in zip(axes, chosen, strict=True) if is_chosen)
