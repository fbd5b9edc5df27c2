"""Structures that are each other's mirror image, such as a left and a right kidney.

Mirrored along the axis between them, one looks like the other but keeps its own name, so a
network that learns from mirrored patches could tell them apart no more.
"""

from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np
from jaxtyping import Float64

from sfumato.settings import Settings

LEAST_CASES = 3
"""Cases that must have both structures, or chance could make them look like partners."""
SAME_SIDE = 0.9
"""Share of the cases at least in which one lies on the same side of the other."""
SPREADS = 3.0
"""How many times the offset's spread (a normal distribution's deviation) it is at least."""
WIDTHS = 0.5
"""How many times the structures' mean width the offset is at least: one is not in the other."""
LARGEST_RATIO = 1.5
"""Between the sizes of partners."""


class MirrorPair(Settings):
    """Two classes that lie on two sides of an axis of the model's grid, and are alike in size."""

    axis: int
    names: tuple[str, str]


def find_mirror_pairs(
    names: Sequence[str],
    centres_mm: Float64[np.ndarray, "cases classes axes"],
    sizes_mm: Mapping[str, Sequence[float]],
    widths_mm: Sequence[float],
) -> tuple[MirrorPair, ...]:
    """Find the pairs of classes that mirroring would take for each other.

    One lies on the same side of the other in nearly all cases, at a distance that is large
    against its spread and against their widths, and less far along all other axes together;
    and their sizes are alike.

    Args:
        names: Of the foreground classes.
        centres_mm: Their centres of mass along the model's axes; NaN where a case lacks one.
        sizes_mm: Their areas or volumes in the cases that have them.
        widths_mm: Their widths, see `structure_width`.
    """
    pairs = []
    for i, j in combinations(range(len(names)), 2):
        offsets = centres_mm[:, j] - centres_mm[:, i]
        has_both = ~np.isnan(offsets).any(axis=1)
        if has_both.sum() < LEAST_CASES:
            continue
        offsets = offsets[has_both]
        ratio = np.median(sizes_mm[names[j]]) / np.median(sizes_mm[names[i]])
        typical = np.median(offsets, axis=0)
        axis = int(np.argmax(np.abs(typical)))
        along, distance = offsets[:, axis], abs(typical[axis])
        # The quarter beyond the median on each side lies 0.67 deviations away.
        spread = np.subtract(*np.percentile(along, (75, 25))) / 1.35
        if (
            np.mean(np.sign(along) == np.sign(typical[axis])) >= SAME_SIDE
            and distance >= SPREADS * spread
            and distance >= WIDTHS * (widths_mm[i] + widths_mm[j]) / 2
            and distance > np.linalg.norm(np.delete(typical, axis))
            and 1 / LARGEST_RATIO <= ratio <= LARGEST_RATIO
        ):
            pairs.append(MirrorPair(axis=axis, names=(names[i], names[j])))
    return tuple(pairs)
