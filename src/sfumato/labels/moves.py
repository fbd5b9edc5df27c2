"""Small changes of a whole mask: what an annotation would be, had it been drawn a little off."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from sfumato.arrays import Mask, Spacing
from sfumato.labels.distance import signed_distance

LARGEST_MOVE = 2
"""How far masks are moved: up to so many elements along an axis, and up to so many smallest
spacings outwards and inwards."""


@dataclass(frozen=True, kw_only=True)
class Move:
    """A small change of a whole mask.

    Attributes:
        shift: Elements along each spatial axis.
        growth_mm: How far its boundary is moved outwards; negative is inwards.
    """

    shift: tuple[int, ...]
    growth_mm: float = 0.0


def small_moves(mask: Mask, spacing: Spacing) -> Iterator[tuple[Move, Mask]]:
    """Shift a mask along each axis, grow it and shrink it, by one element and by two.

    Where a mask is shifted away from the image's edge, what stands at the edge is repeated.

    Examples:
        >>> moves = list(small_moves(np.array([False, False, True, True, True]), (2.0,)))
        >>> [(move.shift, move.growth_mm) for move, _ in moves[2:6]]
        [((1,), 0.0), ((2,), 0.0), ((0,), 2.0), ((0,), -2.0)]
        >>> [moved.astype(int).tolist() for _, moved in moves[3:6]]
        [[0, 0, 0, 0, 1], [0, 1, 1, 1, 1], [0, 0, 0, 1, 1]]
    """
    steps = [n for n in range(-LARGEST_MOVE, LARGEST_MOVE + 1) if n]
    for axis, n in itertools.product(range(mask.ndim), steps):
        shift = tuple(n if other == axis else 0 for other in range(mask.ndim))
        source = np.clip(np.arange(mask.shape[axis]) - n, 0, mask.shape[axis] - 1)
        yield Move(shift=shift), mask.take(source, axis=axis)
    still = (0,) * mask.ndim
    distance = signed_distance(mask, spacing)
    for n in range(1, LARGEST_MOVE + 1):
        # Spacings that files round must not decide which elements are reached.
        reach_mm = n * min(spacing) * (1 + 1e-4)
        yield Move(shift=still, growth_mm=n * min(spacing)), distance >= -reach_mm
        yield Move(shift=still, growth_mm=-n * min(spacing)), distance > reach_mm
