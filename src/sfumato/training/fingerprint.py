"""What a data set is like: measured once, so that the plan needs no expert."""

from collections.abc import Iterable, Sequence

import numpy as np
from jaxtyping import Float64

from sfumato.arrays import Mask, Spacing
from sfumato.cases.case import Case
from sfumato.errors import CaseError, InputError
from sfumato.image.grid import model_grid
from sfumato.labels.classes import ClassList
from sfumato.settings import Settings
from sfumato.training.mirror_pairs import MirrorPair, find_mirror_pairs

MAX_INTENSITIES = 20_000
"""Foreground elements looked at in each case."""

FINGERPRINT_CASES = 100
"""Cases looked at for the plan; more would change the medians little."""
SUBSET_SEED = 12345
"""Which cases `training.train_cases` takes does not depend on the training's own seed."""


class ChannelFingerprint(Settings):
    """Intensities of one channel, over all cases looked at.

    Attributes:
        low: 0.5th percentile within the structures.
        high: 99.5th percentile within the structures.
        mean: Mean within the structures.
        deviation: Standard deviation within the structures.
        minimum: Median over cases of the smallest intensity of the whole image.
        zero_share: Median over cases of the share of elements that are exactly 0.
    """

    low: float
    high: float
    mean: float
    deviation: float
    minimum: float
    zero_share: float


class Fingerprint(Settings):
    """What matters of a data set for choosing a model.

    Attributes:
        n_cases: Number of cases looked at.
        spacing_mm: Median spacing along the model's axes.
        fine_spacing_mm: 10th percentile of the spacing along each axis.
        shape_mm: Median extent along each axis.
        channels: Intensities, channel by channel.
        class_sizes_mm: For each foreground class, the median over cases of its area (mm²)
            or volume (mm³); 0 where no case has it.
        class_widths_mm: For each foreground class, the median over cases of its width, see
            `structure_width`; 0 where no case has it.
        class_cases: For each foreground class, the number of cases that have it.
        mirror_pairs: Classes that mirroring along an axis would take for each other.
    """

    n_cases: int
    spacing_mm: tuple[float, ...]
    fine_spacing_mm: tuple[float, ...]
    shape_mm: tuple[float, ...]
    channels: tuple[ChannelFingerprint, ...]
    class_sizes_mm: dict[str, float]
    class_widths_mm: dict[str, float]
    class_cases: dict[str, int]
    mirror_pairs: tuple[MirrorPair, ...] = ()


def measure_fingerprint(
    cases: Iterable[Case],
    classes: ClassList,
) -> Fingerprint:
    """Look at cases one after the other and summarise them.

    Args:
        cases: Labelled cases of one data set; a sample is enough.
        classes: The data set's classes.

    Raises:
        CaseError: If cases differ in their number of spatial axes or channels.
        InputError: If there is no case.
    """
    spacings, extents, intensities, whole_images = [], [], [], []
    sizes: dict[str, list[float]] = {name: [] for name in classes.foreground}
    widths: dict[str, list[float]] = {name: [] for name in classes.foreground}
    centres: list[list[Float64[np.ndarray, " axes"]]] = []
    first: Case | None = None
    for case in cases:
        first = first or case
        _check_alike(case, first)
        grid = model_grid(case.geometry, case.geometry.spacing)
        axes = grid.axes
        spacing = tuple(case.geometry.spacing[a] for a in axes)
        towards = np.where(grid.flipped, -1.0, 1.0) * spacing
        centres.append([])
        spacings.append(spacing)
        extents.append([case.geometry.shape[a] * case.geometry.spacing[a] for a in axes])
        intensities.append(_structure_intensities(case))
        flat = case.image.reshape(len(case.image), -1)
        whole_images.append([flat.min(axis=1), (flat == 0).mean(axis=1)])
        for index, name in enumerate(classes.foreground, start=1):
            mask = _label(case) == index
            centres[-1].append(_centre(mask)[list(axes)] * towards)
            if mask.any():
                sizes[name].append(float(mask.sum() * np.prod(spacing)))
                widths[name].append(structure_width(mask, case.geometry.spacing))
    if not intensities:
        raise InputError("cases must hold at least one labelled case, got none")
    channels = _channels(np.concatenate(intensities, axis=1), np.array(whole_images))
    median_widths = {n: float(np.median(w)) if w else 0.0 for n, w in widths.items()}
    return Fingerprint(
        n_cases=len(spacings),
        spacing_mm=tuple(float(s) for s in np.median(spacings, axis=0)),
        fine_spacing_mm=tuple(float(s) for s in np.percentile(spacings, 10, axis=0)),
        shape_mm=tuple(float(e) for e in np.median(extents, axis=0)),
        channels=channels,
        class_sizes_mm={n: float(np.median(s)) if s else 0.0 for n, s in sizes.items()},
        class_widths_mm=median_widths,
        class_cases={name: len(s) for name, s in sizes.items()},
        mirror_pairs=find_mirror_pairs(
            classes.foreground, np.array(centres), sizes, list(median_widths.values())
        ),
    )


def _centre(mask: Mask) -> Float64[np.ndarray, " axes"]:
    """Return the mean index of a structure along each axis; NaN where there is none."""
    total = np.count_nonzero(mask)
    if not total:
        return np.full(mask.ndim, np.nan)
    sums = [
        np.dot(np.arange(n), np.count_nonzero(mask, axis=tuple({*range(mask.ndim)} - {axis})))
        for axis, n in enumerate(mask.shape)
    ]
    return np.array(sums) / total


def structure_width(mask: Mask, spacing: Spacing) -> float:
    """Measure how wide a structure is: the diameter of a disc or ball, more or less.

    It is four times the area over the boundary's length (2-D), or six times the volume over
    its surface (3-D), which is exact for discs and balls and two or three times the thickness
    of sheets, however folded. A grid's faces overstate a boundary that runs every way, by
    4/π in 2-D and 3/2 in 3-D, and are counted that much less.

    Args:
        mask: True inside the structure, somewhere.
        spacing: Millimetres along each spatial axis.

    Returns:
        Millimetres. A structure without a boundary is as wide as the image's longest side.

    Examples:
        >>> square = np.zeros((12, 12), bool)
        >>> square[2:10, 2:10] = True
        >>> round(structure_width(square, (1.0, 1.0)), 1)
        10.2
    """
    element_mm = float(np.prod(spacing))
    boundary_mm = sum(
        np.count_nonzero(np.diff(mask, axis=axis)) * element_mm / step
        for axis, step in enumerate(spacing)
    )
    if boundary_mm == 0:
        return float(max(n * step for n, step in zip(mask.shape, spacing, strict=True)))
    overstated = 4 / np.pi if mask.ndim == 2 else 3 / 2
    return float(2 * mask.ndim * mask.sum() * element_mm * overstated / boundary_mm)


def _check_alike(case: Case, first: Case) -> None:
    if case.image.ndim != first.image.ndim or len(case.image) != len(first.image):
        raise CaseError(
            case.id,
            f"it has {len(case.image)} channels and {case.image.ndim - 1} axes, but case"
            f" {first.id!r} has {len(first.image)} and {first.image.ndim - 1};"
            " all cases of a data set must be alike",
        )


def _label(case: Case) -> np.ndarray:
    if case.label is None:
        raise CaseError(case.id, "it has no label, so it cannot be used for training")
    return case.label


def _structure_intensities(case: Case) -> np.ndarray:
    """Return intensities inside the structures; of the whole image where there are none."""
    flat = case.image.reshape(len(case.image), -1)
    inside = flat[:, _label(case).ravel() > 0]
    chosen = inside if inside.shape[1] else flat
    # A copy, or the whole image would be kept in memory.
    return chosen[:, :: max(1, chosen.shape[1] // MAX_INTENSITIES)].copy()


def _channels(inside: np.ndarray, whole_images: np.ndarray) -> tuple[ChannelFingerprint, ...]:
    minimum, zero_share = np.median(whole_images, axis=0)
    low, high = np.percentile(inside, (0.5, 99.5), axis=1)
    return tuple(
        ChannelFingerprint(
            low=float(low[c]),
            high=float(high[c]),
            mean=float(inside[c].mean(dtype=np.float64)),
            deviation=float(inside[c].std(dtype=np.float64)),
            minimum=float(minimum[c]),
            zero_share=float(zero_share[c]),
        )
        for c in range(len(inside))
    )


def fingerprint_sample(ids: Sequence[str]) -> list[str]:
    """Choose the cases that are looked at for the plan."""
    order = np.random.RandomState(SUBSET_SEED).permutation(len(ids))
    return sorted(ids[i] for i in order[:FINGERPRINT_CASES])


def choose_superpixel_size(fingerprint: Fingerprint, spacing: Spacing) -> float:
    """Choose the edge of superpixels: a quarter of the narrowest structure's width.

    It is kept between 4 and 8 elements (3-D) or 6 and 16 (2-D), counted by their mean
    spacing: smaller superpixels follow noise, larger ones swallow structures.
    """
    n_axes = len(spacing)
    element_mm = float(np.prod(spacing)) ** (1 / n_axes)
    widths = [width for width in fingerprint.class_widths_mm.values() if width > 0]
    smallest, largest = (6, 16) if n_axes == 2 else (4, 8)
    size_mm = np.clip(min(widths, default=0) / 4, smallest * element_mm, largest * element_mm)
    return float(f"{size_mm:.3g}")
