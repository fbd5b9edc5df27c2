"""Agreement of outlines: how far the surfaces of two masks lie apart.

The surface runs half-way between elements inside and outside a mask. It is made of one
piece in each neighbourhood of 2×2 (2-D) or 2×2×2 (3-D) elements that has both, and a piece
counts with its length or area in mm. So a stretch of surface does not weigh more where it
is sampled more finely, as it would if border elements were counted.

What lies outside the array is outside the mask, so a structure cut off by the edge of the
image has a surface there.

Source:
    Nikolov et al., Clinically applicable segmentation of head and neck anatomy for
    radiotherapy, JMIR 2021. doi:10.2196/26151
"""

import itertools
import math
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias

import numpy as np
from jaxtyping import Float64
from scipy.ndimage import find_objects
from scipy.ndimage import label as connected_components
from scipy.spatial import KDTree

from sfumato.arrays import Mask, Spacing
from sfumato.errors import InputError

Point: TypeAlias = Float64[np.ndarray, "axis"]
Polygon: TypeAlias = tuple[Point, ...]
"""Corners in order: two for a piece of contour, three or more for a piece of surface."""

TOLERANCE_SLACK = 1e-5
"""Files round their spacing, so a distance of 1.0000001 mm must count as within 1 mm."""


@dataclass(frozen=True, kw_only=True, eq=False)
class SurfaceDistances:
    """How far each piece of one surface lies from the other surface, and how large it is.

    Attributes:
        reference_mm: From each piece of the reference's surface to the nearest piece of the
            segmentation's; infinite if the segmentation is empty.
        segmentation_mm: The other way round.
        reference_area: Size of each piece of the reference's surface: mm² in 3-D, mm in 2-D.
        segmentation_area: Size of each piece of the segmentation's surface.
    """

    reference_mm: Float64[np.ndarray, "reference"]
    segmentation_mm: Float64[np.ndarray, "segmentation"]
    reference_area: Float64[np.ndarray, "reference"]
    segmentation_area: Float64[np.ndarray, "segmentation"]

    @property
    def has_both_surfaces(self) -> bool:
        """Whether neither mask is empty, so that there are distances to speak of."""
        return self.reference_mm.size > 0 and self.segmentation_mm.size > 0


def surface_distances(reference: Mask, segmentation: Mask, spacing: Spacing) -> SurfaceDistances:
    """Measure the distances between two surfaces, in both directions.

    Args:
        reference: What the annotator drew.
        segmentation: What the model found, on the same grid.
        spacing: Millimetres along each of the two or three spatial axes.

    Returns:
        What all the measures below are made of. Distances run between the centres of the
        neighbourhoods in which the pieces lie.

    Raises:
        InputError: If the masks are not 2-D or 3-D arrays with one spacing for each axis.

    Examples:
        >>> pixel, other = np.zeros((2, 1, 4), bool)
        >>> pixel[0, 0] = other[0, 2] = True
        >>> distances = surface_distances(pixel, other, (1.0, 1.0))
        >>> distances.reference_mm
        array([2., 1., 2., 1.])
        >>> distances.reference_area.round(2)
        array([0.71, 0.71, 0.71, 0.71])
    """
    if not reference.ndim == len(spacing) in (2, 3):
        raise InputError(
            "reference must be a 2-D or 3-D mask with one spacing for each axis, got shape"
            f" {reference.shape} and spacing {spacing}"
        )
    reference_mm, reference_area = _surface(reference, spacing)
    segmentation_mm, segmentation_area = _surface(segmentation, spacing)
    return SurfaceDistances(
        reference_mm=_nearest(reference_mm, segmentation_mm),
        segmentation_mm=_nearest(segmentation_mm, reference_mm),
        reference_area=reference_area,
        segmentation_area=segmentation_area,
    )


def hausdorff_distance(distances: SurfaceDistances, percentile: float = 95) -> float:
    """Measure how far the surfaces lie apart at their worst places.

    Args:
        distances: What `surface_distances` returned.
        percentile: The part of each surface, in percent of its area, that lies within the
            returned distance of the other surface; 100 gives the Hausdorff distance itself.

    Returns:
        The larger of the two directions' percentiles in mm. NaN if a mask is empty.
    """
    if not distances.has_both_surfaces:
        return math.nan
    return max(
        _percentile(distances.reference_mm, distances.reference_area, percentile),
        _percentile(distances.segmentation_mm, distances.segmentation_area, percentile),
    )


def average_surface_distance(distances: SurfaceDistances) -> float:
    """Measure how far the surfaces lie apart on average.

    Returns:
        The area-weighted mean over all pieces of both surfaces in mm, so the larger surface
        counts for more. NaN if a mask is empty.
    """
    if not distances.has_both_surfaces:
        return math.nan
    total_mm = (
        distances.reference_mm @ distances.reference_area
        + distances.segmentation_mm @ distances.segmentation_area
    )
    return float(total_mm / _total_area(distances))


def surface_dice(distances: SurfaceDistances, tolerance_mm: float) -> float:
    """Measure how much of the two surfaces agrees, up to a tolerated distance.

    Args:
        distances: What `surface_distances` returned.
        tolerance_mm: The largest distance that still counts as agreement.

    Returns:
        The area within tolerance of the other surface over the area of both surfaces: 0 to
        1; 0 if exactly one mask is empty, NaN if both are. Also known as the normalised
        surface distance.
    """
    total_area = _total_area(distances)
    if total_area == 0:
        return math.nan
    limit_mm = tolerance_mm * (1 + TOLERANCE_SLACK)
    agreeing_area = (
        distances.reference_area[distances.reference_mm <= limit_mm].sum()
        + distances.segmentation_area[distances.segmentation_mm <= limit_mm].sum()
    )
    return float(agreeing_area / total_area)


def _total_area(distances: SurfaceDistances) -> float:
    return float(distances.reference_area.sum() + distances.segmentation_area.sum())


def _percentile(
    distances_mm: Float64[np.ndarray, "piece"],
    area: Float64[np.ndarray, "piece"],
    percentile: float,
) -> float:
    order = np.argsort(distances_mm)
    covered = np.cumsum(area[order])
    first_enough = np.searchsorted(covered, covered[-1] * percentile / 100)
    return float(distances_mm[order[min(int(first_enough), order.size - 1)]])


def _nearest(
    from_mm: Float64[np.ndarray, "piece axis"], to_mm: Float64[np.ndarray, "other axis"]
) -> Float64[np.ndarray, "piece"]:
    # Surfaces are thin: a search tree takes half the time of a distance map of the whole
    # region on a brain, and is exact as well.
    if not len(to_mm) or not len(from_mm):
        return np.full(len(from_mm), math.inf)
    return np.asarray(KDTree(to_mm).query(from_mm)[0], np.float64)


def _surface(
    mask: Mask, spacing: Spacing
) -> tuple[Float64[np.ndarray, "piece axis"], Float64[np.ndarray, "piece"]]:
    # Place (mm) and size of every piece of surface. Neighbourhood i spans elements i-1 and i.
    box = find_objects(mask.view(np.uint8), max_label=1)[0]
    if box is None:
        return np.zeros((0, mask.ndim)), np.zeros(0)
    code = np.zeros([edge.stop - edge.start + 1 for edge in box], np.uint8)
    for bit, corner in enumerate(_corners(mask.ndim)):
        window = tuple(
            slice(1 - side, length - side) for side, length in zip(corner, code.shape, strict=True)
        )
        code[window] += mask[box].view(np.uint8) << np.uint8(bit)
    index = np.nonzero((code > 0) & (code < 2 ** (2**mask.ndim) - 1))
    start = np.array([edge.start for edge in box])
    return (np.stack(index, axis=1) + start) * np.array(spacing), _areas(spacing)[code[index]]


def _corners(n_axes: int) -> list[tuple[int, ...]]:
    return list(itertools.product((0, 1), repeat=n_axes))


@lru_cache(maxsize=64)
def _areas(spacing: Spacing) -> Float64[np.ndarray, "code"]:
    # A triangle's normal, as long as its area is large, scales with the other two axes.
    stretch = math.prod(spacing) / np.array(spacing)
    return np.linalg.norm(_normals(len(spacing)) * stretch, axis=-1).sum(axis=1)


@lru_cache(maxsize=2)
def _normals(n_axes: int) -> Float64[np.ndarray, "code piece axis"]:
    # The pieces of surface of every neighbourhood at unit spacing, as normals; the code has
    # a bit for each corner inside the mask. Unused rows are zero: no neighbourhood needs
    # more than four triangles.
    corners = _corners(n_axes)
    normals = np.zeros((2 ** len(corners), 4, n_axes))
    for code in range(len(normals)):
        inside = np.array([code >> bit & 1 for bit in range(len(corners))], bool)
        pieces = _pieces(inside.reshape((2,) * n_axes))
        for row, piece in enumerate(pieces):
            normals[code, row] = _normal(piece)
    return normals


def _pieces(inside: Mask) -> list[Polygon]:
    # Whichever side has fewer corners is taken apart into pieces connected along edges; each
    # such piece is cut off by one loop through the midpoints of the edges that leave it.
    if 2 * inside.sum() > inside.size:
        inside = ~inside
    components, n_components = connected_components(inside)
    pieces: list[Polygon] = []
    for component in range(1, n_components + 1):
        loop = _loop(_midpoints(components == component, inside))
        # A skew loop can be triangulated in several ways, which differ in area. The one
        # largest at unit spacing is taken; where several are, they agree at any spacing.
        largest = max(_triangulations(loop), key=_unit_area)
        pieces.extend(largest)
    return pieces


def _midpoints(component: Mask, inside: Mask) -> list[Point]:
    midpoints = []
    for corner in np.argwhere(component):
        for axis in range(inside.ndim):
            neighbour = corner.copy()
            neighbour[axis] = 1 - corner[axis]
            if not inside[tuple(neighbour)]:
                midpoints.append((corner + neighbour) / 2)
    return midpoints


def _loop(midpoints: list[Point]) -> Polygon:
    # Neighbours on the loop lie in one face of the cube: they share a coordinate 0 or 1.
    # A 2-D contour passes through two midpoints only, which need no order.
    loop, rest = midpoints[:1], midpoints[1:]
    while len(rest) > 1:
        following = next(
            position
            for position, point in enumerate(rest)
            if ((point == loop[-1]) & (point != 0.5)).any()
        )
        loop.append(rest.pop(following))
    return (*loop, *rest)


def _triangulations(loop: Polygon) -> list[list[Polygon]]:
    if len(loop) <= loop[0].size:
        return [[loop] if len(loop) == loop[0].size else []]
    return [
        [*left, (loop[0], loop[cut], loop[-1]), *right]
        for cut in range(1, len(loop) - 1)
        for left in _triangulations(loop[: cut + 1])
        for right in _triangulations(loop[cut:])
    ]


def _unit_area(pieces: list[Polygon]) -> float:
    # Rounded, so that the choice among equals does not hang on the last bit.
    return round(sum(float(np.linalg.norm(_normal(piece))) for piece in pieces), 9)


def _normal(piece: Polygon) -> Point:
    edges = [corner - piece[0] for corner in piece[1:]]
    if len(edges) == 1:
        return np.array([-edges[0][1], edges[0][0]])
    return np.asarray(np.cross(edges[0], edges[1]) / 2, np.float64)
