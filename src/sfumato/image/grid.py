"""The model's grid: the image's own field of view, in standard orientation and spacing."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, UInt8
from nibabel.orientations import io_orientation

from sfumato.arrays import Affine, Image, Label, Spacing
from sfumato.image.geometry import Geometry
from sfumato.image.resampling import (
    apply_weights,
    blend_pairs,
    linear_taps,
    needed_range,
    resize_linear,
    spline_weights,
)

ModelImage = Float32[np.ndarray, "channel *model"]
ModelLabel = UInt8[np.ndarray, "*model"]
Slab = Float32[np.ndarray, "classes ..."]
"""Some slices of probabilities."""
Place = tuple[slice, ...]
"""Where a part of an image lies in it, one slice for each spatial axis."""

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
        whole = slice(0, self.target.shape[0])
        placed = self.image_part_to_model(image, lambda part: part, 0, whole)
        if self.is_resampled:
            for channel, source in zip(placed, image, strict=True):
                channel.clip(source.min(), source.max(), out=channel)
        return placed

    def image_part_to_model(
        self, image: Image, prepare: Callable[[Image], Image], axis: int, part: slice
    ) -> ModelImage:
        """Bring some slices of an image to the model's grid, by cubic splines.

        Args:
            image: The whole image on its own grid; only what is needed of it is looked at.
            prepare: Changes intensities element by element, before they are resampled.
            axis: Of the model's grid, across the slices.
            part: The slices.
        """
        n_old, n_new = self._oriented_shape[axis], self.target.shape[axis]
        first, last = needed_range(n_old, n_new, part.start, part.stop)
        needed = [slice(None)] * len(self.axes)
        needed[self.axes[axis]] = self._source_range(axis, first, last)
        result = self._reorient(prepare(image[:, *needed]))
        if n_old != n_new:
            weights = spline_weights(n_old, n_new)[part, first:last]
            result = apply_weights(result, weights, axis)
        for other, (old, new) in enumerate(
            zip(self._oriented_shape, self.target.shape, strict=True)
        ):
            if other != axis and old != new:
                result = apply_weights(result, spline_weights(old, new), other)
        return result

    @property
    def is_resampled(self) -> bool:
        """Whether the model's grid has other steps than the image's own."""
        return self._oriented_shape != self.target.shape

    @property
    def _oriented_shape(self) -> tuple[int, ...]:
        return tuple(self.source.shape[a] for a in self.axes)

    def _source_range(self, axis: int, first: int, last: int) -> slice:
        """Return where slices of the reoriented image lie along the image's own axis."""
        n = self._oriented_shape[axis]
        return slice(n - last, n - first) if self.flipped[axis] else slice(first, last)

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
            share = (oriented == index).astype(np.float32)
            for axis, n in enumerate(self.target.shape):
                share = resize_linear(share, axis, n)
            share = share[0]
            is_better = share > best
            best[is_better] = share[is_better]
            result[is_better] = index
        return result

    def slabs_to_source(self, slabs: Iterable[Slab], axis: int) -> Iterator[tuple[Place, Slab]]:
        """Bring probabilities back to the image's own grid, linearly, as they come; sums stay 1.

        Args:
            slabs: The slices of the model's grid across an axis, first to last, in parts.
            axis: Of the model's grid.

        Yields:
            Parts of the image's own grid: where each lies, and its probabilities.
        """
        n_new = self._oriented_shape[axis]
        lower, upper, share = linear_taps(self.target.shape[axis], n_new)
        at_hand, n_gone, done = None, 0, 0
        for slab in slabs:
            resized = slab
            for other, n in enumerate(self._oriented_shape):
                if other != axis:
                    resized = resize_linear(resized, other, n)
            if at_hand is not None:
                resized = np.concatenate([at_hand, resized], axis=1 + axis)
            n_known = n_gone + resized.shape[1 + axis]
            ready = int(np.searchsorted(upper, n_known))
            if ready > done:
                now = slice(done, ready)
                yield self._slab_to_source(
                    blend_pairs(
                        resized, axis, lower[now] - n_gone, upper[now] - n_gone, share[now]
                    ),
                    axis,
                    now,
                )
            done = ready
            n_kept = max(0, n_known - int(lower[done])) if done < n_new else 0
            n_gone = n_known - n_kept
            at_hand = resized[_across(axis, slice(resized.shape[1 + axis] - n_kept, None))].copy()

    def _slab_to_source(self, oriented: Slab, axis: int, part: slice) -> tuple[Place, Slab]:
        place = [slice(0, n) for n in self.source.shape]
        place[self.axes[axis]] = self._source_range(axis, part.start, part.stop)
        backwards = [slice(None, None, -1 if f else 1) for f in self.flipped]
        unflipped = oriented[(slice(None), *backwards)]
        return tuple(place), unflipped.transpose(0, *(1 + np.argsort(self.axes)))

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


def _across(axis: int, part: slice) -> tuple[slice, ...]:
    """Return the index of some slices across a spatial axis, all classes."""
    return (slice(None),) * (1 + axis) + (part,)
