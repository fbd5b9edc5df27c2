"""Which flat cut of a case is shown, and which way up."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Bool, Shaped
from nibabel.orientations import io_orientation

from sfumato.arrays import Mask
from sfumato.image.geometry import Geometry

LARGEST_SIDE = 400
"""Elements along one side of a picture, unless told otherwise: what a panel can still show."""

PLANES = {"AR": "axial slice", "SR": "coronal slice", "SA": "sagittal slice", "": "slice"}
"""What a cut is called, by the patient's sides at the top and on the left."""

FlatMask = Bool[np.ndarray, "row column"]


@dataclass(frozen=True, kw_only=True)
class Cut:
    """A flat cut through a case, turned the way such images are read.

    Volumes are shown as in radiology: superior (or anterior) up, and the patient's right (or
    anterior) side on the left of the picture. Flat images stay as they are, and so do the pages
    of a stack whose file does not say how it lies in the patient.

    Attributes:
        axis: The spatial axis the cut stands across; None for a flat image.
        index: The element along `axis`.
        n_slices: The number of elements along `axis`.
        is_transposed: Whether the two axes that are left change places.
        flips: Whether rows and columns run backwards.
        spacing: Millimetres between rows and between columns.
        shape: Rows and columns of the whole cut.
        start: The first row and column that are kept.
        size: How many rows and columns are kept.
        top: Letter of the patient's side at the top; empty where that is unknown.
        left: Letter of the patient's side on the left; empty where that is unknown.
    """

    axis: int | None = None
    index: int = 0
    n_slices: int = 1
    is_transposed: bool = False
    flips: tuple[bool, bool] = (False, False)
    spacing: tuple[float, float]
    shape: tuple[int, int]
    start: tuple[int, int] = (0, 0)
    size: tuple[int, int]
    top: str = ""
    left: str = ""

    @property
    def aspect(self) -> float:
        """Width over height, in millimetres."""
        return self.size[1] * self.spacing[1] / (self.size[0] * self.spacing[0])

    def of(self, array: Shaped[np.ndarray, "..."]) -> Shaped[np.ndarray, "*lead row column"]:
        """Cut an array whose last axes are the case's spatial ones."""
        flat = array if self.axis is None else np.take(array, self.index, axis=self.axis - 3)
        if self.is_transposed:
            flat = np.swapaxes(flat, -1, -2)
        row_step, column_step = (-1 if flip else 1 for flip in self.flips)
        rows, columns = (
            slice(start, start + size) for start, size in zip(self.start, self.size, strict=True)
        )
        return flat[..., ::row_step, ::column_step][..., rows, columns]

    def caption(self) -> str:
        """Say where the cut lies; empty for the whole of a flat image."""
        words = []
        if self.axis is not None:
            plane = PLANES[self.top + self.left]
            words.append(f"{plane} {self.index + 1} of {self.n_slices}")
        if self.size != self.shape:
            words.append("detail")
        return ", ".join(words)


def choose_cut(
    geometry: Geometry,
    interest: Mask,
    relevance: Mask | None = None,
    largest_side: int = LARGEST_SIDE,
) -> Cut:
    """Choose the cut that shows most of what is of interest.

    A volume is cut across the axis with the coarsest spacing, since the planes in between were
    drawn and looked at; where spacings are alike (within 5 %), across the one from foot to head.
    Of a stack whose file does not say how it lies in the patient, a page is shown.

    Args:
        geometry: The case's grid.
        interest: What the cut should show most of; where it is empty, the middle is taken.
        relevance: What the picture should zoom in on; `interest` if not given.
        largest_side: Rows or columns that are kept at most; of a larger cut, the detail with
            most of `interest` is taken.

    Returns:
        The cut, cropped to what is relevant if that fills less than half of it.
    """
    cut = _whole_cut(geometry, interest)
    cut = _crop(cut, cut.of(interest if relevance is None else relevance))
    return _detail(cut, cut.of(interest), largest_side)


def slice_axis(geometry: Geometry) -> int:
    """Return the axis a volume is cut across, going by how it lies in the patient."""
    spacing = np.array(geometry.spacing)
    is_coarse = spacing > 0.95 * spacing.max()
    world = _world_axes(geometry)
    return max(np.flatnonzero(is_coarse).tolist(), key=lambda axis: world[axis][0])


def fullest_slice(mask: Mask, axis: int) -> int:
    """Return where along an axis a mask is largest; the middle if it is empty.

    Examples:
        >>> mask = np.zeros((2, 2, 5), bool)
        >>> fullest_slice(mask, axis=2)
        2
        >>> mask[0, 0, 1:4] = mask[1, 1, 3] = True
        >>> fullest_slice(mask, axis=2)
        3
    """
    others = tuple(other for other in range(mask.ndim) if other != axis)
    areas = np.count_nonzero(mask, axis=others)
    return int(np.argmax(areas)) if areas.any() else mask.shape[axis] // 2


def _whole_cut(geometry: Geometry, interest: Mask) -> Cut:
    is_flat = len(geometry.shape) == 2
    if is_flat or not geometry.is_placed:
        height, width = geometry.shape[-2:]
        row_mm, column_mm = geometry.spacing[-2:]
        page = Cut(spacing=(row_mm, column_mm), shape=(height, width), size=(height, width))
        if is_flat:
            return page
        return replace(
            page, axis=0, index=fullest_slice(interest, axis=0), n_slices=geometry.shape[0]
        )
    axis = slice_axis(geometry)
    world = _world_axes(geometry)
    first, second = (other for other in range(3) if other != axis)
    row_axis, column_axis = sorted((first, second), key=lambda other: -world[other][0])
    shape = (geometry.shape[row_axis], geometry.shape[column_axis])
    return Cut(
        axis=axis,
        index=fullest_slice(interest, axis),
        n_slices=geometry.shape[axis],
        is_transposed=row_axis == second,
        flips=(world[row_axis][1] > 0, world[column_axis][1] > 0),
        spacing=(geometry.spacing[row_axis], geometry.spacing[column_axis]),
        shape=shape,
        size=shape,
        top="RAS"[world[row_axis][0]],
        left="RAS"[world[column_axis][0]],
    )


def _world_axes(geometry: Geometry) -> list[tuple[int, int]]:
    """For each array axis, the nearest patient axis (0 R, 1 A, 2 S) and its direction."""
    table: Any = io_orientation(geometry.affine)
    return [(int(world), int(direction)) for world, direction in table]


def _crop(cut: Cut, relevance: FlatMask) -> Cut:
    """Keep what is relevant with a margin, if that is less than half of the cut."""
    if not relevance.any():
        return cut
    used = [np.flatnonzero(np.asarray(relevance.any(axis=1 - axis))) for axis in range(2)]
    ends = [(int(where[0]), int(where[-1]) + 1) for where in used]
    sides_mm = [(b - a) * mm for (a, b), mm in zip(ends, cut.spacing, strict=True)]
    starts, sizes = [], []
    for (a, b), side_mm, mm, n in zip(ends, sides_mm, cut.spacing, cut.shape, strict=True):
        # A margin of a quarter on each side, but no strip: as long as the other side is.
        wanted = round(max(1.5 * side_mm, *sides_mm) / mm)
        size = min(max(wanted, b - a + 8), n)
        starts.append(min(max((a + b - size) // 2, 0), n - size))
        sizes.append(size)
    if sizes[0] * sizes[1] > relevance.size / 2:
        return cut
    return replace(cut, start=(starts[0], starts[1]), size=(sizes[0], sizes[1]))


def _detail(cut: Cut, interest: FlatMask, largest_side: int) -> Cut:
    """Keep the window of at most `largest_side` that shows most of what is of interest."""
    height, width = (min(n, largest_side) for n in cut.size)
    if (height, width) == cut.size:
        return cut
    # A table of sums over all rectangles from the corner gives every window's area at once.
    corner = np.pad(interest.astype(np.int64).cumsum(axis=0).cumsum(axis=1), ((1, 0), (1, 0)))
    upper, lower = corner[:-height], corner[height:]
    area = lower[:, width:] - lower[:, :-width] - upper[:, width:] + upper[:, :-width]
    # Of equally full windows the most central one, so that an empty label shows the middle.
    best = np.argwhere(area == area.max())
    middle = (np.array(area.shape) - 1) / 2
    row, column = best[np.abs(best - middle).sum(axis=1).argmin()].tolist()
    start = (cut.start[0] + row, cut.start[1] + column)
    return replace(cut, start=start, size=(height, width))
