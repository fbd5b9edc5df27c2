"""What the compiled core offers; arrays are contiguous, results go to arrays that are handed in."""

from collections.abc import Sequence
from typing import Any

import numpy as np

class Superpixels:
    """How superpixels are made, in the core's own terms.

    `low` becomes level 0, `gain` is levels for one unit of intensity, by channel; `n_cells` and
    `weights` (levels for one element) go by axis; `shifts` moves seeds: cell, axis. Of a photo,
    three channels from 0 to 255, `low` and `gain` are those of L*, a* and b* divided by 100.
    """

    def __init__(
        self,
        *,
        low: Sequence[float],
        gain: Sequence[float],
        n_cells: Sequence[int],
        weights: Sequence[float],
        n_iterations: int,
        shifts: np.ndarray[Any, Any] | None,
        is_photo: bool,
    ) -> None: ...

def compute_superpixels(
    image: np.ndarray[Any, Any],
    settings: Superpixels,
    where: np.ndarray[Any, Any] | None,
    superpixels: np.ndarray[Any, Any],
    n_threads: int,
) -> int:
    """Fill in `superpixels` and return their number; -1 if the image is not finite."""

def compute_superpixels_near_boundaries(
    image: np.ndarray[Any, Any],
    settings: Superpixels,
    label: np.ndarray[Any, Any],
    superpixels: np.ndarray[Any, Any],
    n_threads: int,
) -> int:
    """Fill in `superpixels`, which holds -1, near boundaries; -1 if the image is not finite."""

def soften_image_label(
    image: np.ndarray[Any, Any],
    settings: Superpixels,
    label: np.ndarray[Any, Any],
    spacing: Sequence[float],
    scale_mm: float,
    probability: np.ndarray[Any, Any],
    n_threads: int,
) -> int:
    """Fill in `probability`, which holds zeros; -1 if the image is not finite."""

def soften_label(
    label: np.ndarray[Any, Any],
    superpixels: np.ndarray[Any, Any],
    n_superpixels: int,
    spacing: Sequence[float],
    scale_mm: float,
    probability: np.ndarray[Any, Any],
    n_threads: int,
) -> None:
    """Fill in `probability`, which holds zeros."""

def distance_to_class(
    label: np.ndarray[Any, Any],
    wanted: int,
    spacing: Sequence[float],
    distance: np.ndarray[Any, Any],
    n_threads: int,
) -> None:
    """Fill in the distance in mm to the nearest element of a class."""

def photo_to_lab(photo: np.ndarray[Any, Any], lab: np.ndarray[Any, Any]) -> None:
    """Fill in CIELAB, divided by 100, for three rows of red, green and blue."""

def pack_block(
    labels: np.ndarray[Any, Any], zones: np.ndarray[Any, Any], n_classes: int, n_zones: int
) -> bytes:
    """Return a block of labels and zones (0: certain) in few bytes."""

def unpack_block(
    data: bytes,
    labels: np.ndarray[Any, Any],
    zones: np.ndarray[Any, Any],
    n_classes: int,
    n_zones: int,
) -> None:
    """Fill in `labels` and `zones`; whatever the bytes are, the result is valid."""
