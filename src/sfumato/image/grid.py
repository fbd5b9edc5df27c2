"""The model's grid: the image's own field of view, in standard orientation and spacing."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float32, UInt8
from nibabel.orientations import io_orientation
from scipy import ndimage

from sfumato.arrays import Affine, Image, Label, Probability, Spacing
from sfumato.image.geometry import Geometry

ModelImage = Float32[np.ndarray, "channel *model"]
ModelLabel = UInt8[np.ndarray, "*model"]
ModelProbability = Float32[np.ndarray, "classes *model"]
Order = Literal[1, 3]
"""1 interpolates linearly, 3 by cubic splines."""

SAME_SPACING = 1e-3
"""Relative difference of spacings below which an image is not resampled."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ModelGrid:
    """How an image's own grid and the grid a model works on relate.

    A volume's axes are reordered and flipped (which loses nothing) so that they run as
    nearly as they can to the patient's right, anterior and superior; then each axis is
    resampled to the model's spacing, over the same field of view. A flat image has no
    patient axes and keeps its own.

    Attributes:
        source: The image's own grid.
        target: The model's grid.
        axes: For each model axis, the source axis it comes from.
        flipped: For each model axis, whether it runs against the source axis.
    """

    source: Geometry
    target: Geometry
    axes: tuple[int, ...]
    flipped: tuple[bool, ...]

    def image_to_model(self, image: Image) -> ModelImage:
        """Bring an image to the model's grid, by cubic splines.

        Splines swing beyond the values on both sides of an edge; what leaves a channel's
        range is cut off, so that a photograph stays within 0 to 255.
        """
        oriented = self._reorient(image)
        resized = _resize(oriented, self.target.shape, order=3)
        if resized is not oriented:
            for channel, source in zip(resized, oriented, strict=True):
                channel.clip(source.min(), source.max(), out=channel)
        return resized

    def label_to_model(self, label: Label, n_classes: int) -> ModelLabel:
        """Bring a hard label to the model's grid.

        Each class is resampled linearly by itself and the largest wins, which keeps
        boundaries smoother than taking the nearest element.
        """
        oriented = self._reorient(label[None])
        if oriented.shape[1:] == self.target.shape:
            return oriented[0]
        best = np.full(self.target.shape, -1, np.float32)
        result = np.zeros(self.target.shape, np.uint8)
        for index in range(n_classes):
            mask = (oriented == index).astype(np.float32)
            share = _resize(mask, self.target.shape, order=1)[0]
            is_better = share > best
            best[is_better] = share[is_better]
            result[is_better] = index
        return result

    def probability_to_source(self, probability: ModelProbability) -> Probability:
        """Bring probabilities back to the image's own grid, linearly; sums stay 1."""
        oriented_shape = tuple(self.source.shape[a] for a in self.axes)
        resized = _resize(probability, oriented_shape, order=1)
        backwards = [slice(None, None, -1 if f else 1) for f in self.flipped]
        unflipped = resized[(slice(None), *backwards)]
        result = unflipped.transpose(0, *(1 + np.argsort(self.axes)))
        return np.ascontiguousarray(result)

    def _reorient(self, channels: np.ndarray) -> np.ndarray:
        moved = channels.transpose(0, *(1 + a for a in self.axes))
        forwards = [slice(None, None, -1 if f else 1) for f in self.flipped]
        return np.ascontiguousarray(moved[(slice(None), *forwards)])


def model_grid(source: Geometry, spacing: Spacing) -> ModelGrid:
    """Find the model's grid for an image.

    Args:
        source: The image's own grid.
        spacing: The model's spacing along its axes (for a volume: right, anterior, superior).
    """
    axes, flipped = _orientation(source)
    affine = _reoriented_affine(source, axes, flipped)
    shape = tuple(source.shape[a] for a in axes)
    oriented = Geometry(shape=shape, affine=affine)
    new_shape = tuple(
        n if abs(own / wanted - 1) < SAME_SPACING else max(1, round(n * own / wanted))
        for n, own, wanted in zip(shape, oriented.spacing, spacing, strict=True)
    )
    scale = np.array(shape) / np.array(new_shape)
    resampled = affine.copy()
    resampled[:-1, :-1] = affine[:-1, :-1] * scale
    # Both grids cover the same box, so the first centres differ by half the change of step.
    resampled[:-1, -1] = affine[:-1, -1] + affine[:-1, :-1] @ ((scale - 1) / 2)
    target = Geometry(shape=new_shape, affine=resampled)
    return ModelGrid(source=source, target=target, axes=axes, flipped=flipped)


def _orientation(geometry: Geometry) -> tuple[tuple[int, ...], tuple[bool, ...]]:
    n_axes = len(geometry.shape)
    if n_axes != 3:
        return tuple(range(n_axes)), (False,) * n_axes
    orientation = io_orientation(geometry.affine)
    axes = np.argsort(orientation[:, 0])
    flipped = orientation[axes, 1] < 0
    return tuple(int(a) for a in axes), tuple(bool(f) for f in flipped)


def _reoriented_affine(
    geometry: Geometry, axes: tuple[int, ...], flipped: tuple[bool, ...]
) -> Affine:
    n_axes = len(axes)
    change = np.zeros((n_axes + 1, n_axes + 1))
    change[-1, -1] = 1
    for new, (old, is_flipped) in enumerate(zip(axes, flipped, strict=True)):
        change[old, new] = -1 if is_flipped else 1
        change[old, -1] = geometry.shape[old] - 1 if is_flipped else 0
    return geometry.affine @ change


def _resize(
    channels: Float32[np.ndarray, "channel *space"], shape: tuple[int, ...], order: Order
) -> Float32[np.ndarray, "channel *resized"]:
    """Resample every channel over the same field of view, repeating the border outside."""
    if channels.shape[1:] == shape:
        return channels
    zoom = [new / old for new, old in zip(shape, channels.shape[1:], strict=True)]
    result = np.empty((len(channels), *shape), np.float32)
    for channel, out in zip(channels, result, strict=True):
        ndimage.zoom(channel, zoom, output=out, order=order, mode="nearest", grid_mode=True)
    return result
