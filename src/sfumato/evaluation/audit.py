"""Which annotations the image does not bear out, and where to look first.

An annotation that was shifted, grown or shrunk cuts through superpixels that one in the right
place follows. So two things make it suspicious: that much of its boundary runs through
homogeneous superpixels, and that less of it would if it were moved a little. The first alone
is high, too, where an image is blurred or a structure has no edge; the second is not.

Neither is proof: a boundary may follow a convention that no intensity shows.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.ndimage import find_objects

from sfumato.arrays import Label, Mask, RawImage, Spacing, Superpixels
from sfumato.cases.case import Case
from sfumato.errors import CaseError, InputError
from sfumato.image.geometry import Geometry
from sfumato.labels.classes import ClassList
from sfumato.labels.moves import LARGEST_MOVE, Move, small_moves
from sfumato.labels.superpixels import SuperpixelSettings, compute_superpixels, default_size_mm
from sfumato.labels.support import (
    BoundarySupport,
    CrossedSuperpixel,
    SuperpixelIntensities,
    boundary_support,
    worst_crossings,
)

LEAST_KEPT = 0.5
"""A boundary that shrinks below this share of its area is another one, not the same moved."""
MARGIN_CELLS = 3
"""How far around structures superpixels are made, in superpixel edges."""
N_PLACES = 5
"""Places that are told for each class of a case."""
OUTLIER_DEVIATIONS, FEWEST_USUAL = 3.0, 10


@dataclass(frozen=True, kw_only=True)
class Place:
    """A superpixel that a boundary cuts, where an annotator should look.

    Attributes:
        crossing: The superpixel; its element is one of the case's own grid.
        position_mm: Where that element lies in the patient: right, anterior, superior. Of a flat
            image, along rows and columns as its affine says.
        class_name: The class that the superpixel's smaller part was given.
        other_class: The class most of its larger part was given.
    """

    crossing: CrossedSuperpixel
    position_mm: tuple[float, ...]
    class_name: str
    other_class: str


@dataclass(frozen=True, kw_only=True)
class ClassAudit:
    """How suspicious the boundary of one class is.

    Attributes:
        support: How much of it the image supports.
        move: The small move after which the image would support it best; None if none helps.
        gain: By how much the unsupported share of the boundary would fall, then; 0 without one.
        places: The superpixels it cuts worst, worst first.
    """

    support: BoundarySupport
    move: Move | None
    gain: float
    places: tuple[Place, ...] = ()

    @property
    def score(self) -> float:
        """Unsupported share plus gain: 0 is a boundary on edges of the image, 1 is none on any.

        It is above 1 at most where a boundary in a flat region has an edge beside it.
        """
        return self.support.unsupported_share + self.gain


@dataclass(frozen=True, kw_only=True)
class CaseAudit:
    """How suspicious the annotation of one case is.

    Attributes:
        id: Name of the case.
        geometry: Its grid.
        classes: Every foreground class that has a boundary.
    """

    id: str
    geometry: Geometry
    classes: Mapping[str, ClassAudit]

    @property
    def worst_class(self) -> str | None:
        """The class with the highest score; None without any boundary."""
        return max(self.classes, key=lambda name: self.classes[name].score, default=None)

    @property
    def score(self) -> float:
        """The highest score of its classes; NaN without any boundary."""
        return max((audit.score for audit in self.classes.values()), default=math.nan)

    @property
    def places(self) -> tuple[Place, ...]:
        """The worst places of all classes, worst first, each superpixel once."""
        every = (place for audit in self.classes.values() for place in audit.places)
        worst: dict[int, Place] = {}
        for place in sorted(every, key=lambda place: -place.crossing.unsupported_mm):
            worst.setdefault(place.crossing.index, place)
        return tuple(worst.values())


@dataclass(frozen=True, kw_only=True, eq=False)
class NearStructures:
    """The part of a case that holds its structures and their surroundings.

    Attributes:
        label: The class index of every element.
        intensities: The image in superpixels.
        start: The first element in the whole case, along each axis.
    """

    label: Label
    intensities: SuperpixelIntensities
    start: tuple[int, ...]


def audit_case(case: Case, classes: ClassList, settings: SuperpixelSettings) -> CaseAudit:
    """Tell how far the image of a case bears out its label.

    Args:
        case: A case with a label.
        classes: The classes of the label.
        settings: How superpixels are made, as for softening.

    Raises:
        CaseError: If the case has no label, or its image is unfit: it holds NaN or infinity, or
            is of one intensity, so that it says nothing about any boundary.
    """
    if case.label is None:
        raise CaseError(case.id, "it has no label to audit; add one or leave the case out")
    audits: dict[str, ClassAudit] = {}
    if not case.label.any():
        return CaseAudit(id=case.id, geometry=case.geometry, classes=audits)
    if all(channel.min() == channel.max() for channel in case.image):
        raise CaseError(case.id, "its image is of one intensity throughout; is it the right file?")
    try:
        superpixels = superpixels_near(case.label, case.image, case.geometry.spacing, settings)
    except InputError as error:
        raise CaseError(case.id, str(error)) from error
    box = find_objects((superpixels >= 0).astype(np.uint8))[0]
    near = NearStructures(
        label=case.label[box],
        intensities=SuperpixelIntensities.of(case.image[(slice(None), *box)], superpixels[box]),
        start=tuple(part.start for part in box),
    )
    for k, name in enumerate(classes.names):
        mask = np.asarray(near.label == k)
        if k > 0 and mask.any() and not mask.all():
            audit = audit_mask(mask, near.intensities, case.geometry.spacing)
            audits[name] = replace(audit, places=_places(mask, near, classes, case.geometry))
    return CaseAudit(id=case.id, geometry=case.geometry, classes=audits)


def audit_mask(mask: Mask, intensities: SuperpixelIntensities, spacing: Spacing) -> ClassAudit:
    """Compare the support of a boundary with that of the same boundary moved a little.

    Args:
        mask: True inside the structure.
        intensities: The image in superpixels.
        spacing: Millimetres along each spatial axis.

    Returns:
        The audit, without places. Without a boundary its numbers are NaN.

    Raises:
        InputError: If mask, image and spacing do not fit together.
    """
    support = boundary_support(mask, intensities, spacing)
    best_move, best_share = None, support.unsupported_share
    for move, moved in small_moves(mask, spacing):
        elsewhere = boundary_support(moved, intensities, spacing)
        is_same = elsewhere.area_mm >= LEAST_KEPT * support.area_mm > 0
        if is_same and elsewhere.unsupported_share < best_share:
            best_move, best_share = move, elsewhere.unsupported_share
    return ClassAudit(support=support, move=best_move, gain=support.unsupported_share - best_share)


def superpixels_near(
    label: Label, image: RawImage, spacing: Spacing, settings: SuperpixelSettings
) -> Superpixels:
    """Make the superpixels of the box around all structures, wide enough for their boundaries.

    Returns:
        The superpixel index of every element, -1 outside that box.

    Raises:
        InputError: See `compute_superpixels`.
    """
    size_mm = settings.size_mm or default_size_mm(spacing)
    box = []
    for axis, step_mm in enumerate(spacing):
        others = tuple(other for other in range(label.ndim) if other != axis)
        used = np.flatnonzero(label.any(axis=others))
        margin = LARGEST_MOVE + math.ceil(MARGIN_CELLS * max(size_mm / step_mm, 1))
        box.append(slice(max(int(used[0]) - margin, 0), int(used[-1]) + margin + 1))
    is_wanted = np.zeros(label.shape, bool)
    is_wanted[tuple(box)] = True
    return compute_superpixels(image, spacing, settings, where=is_wanted)


def stand_out(scores: Sequence[float]) -> list[bool]:
    """Tell which scores lie far above the usual ones.

    Returns:
        For each score, whether it is more than 3 robust standard deviations above the median;
        never for NaN, nor where there are fewer than 10 scores to tell what is usual.

    Source:
        Leys et al., Detecting outliers: do not use standard deviation around the mean, use
        absolute deviation around the median, JESP 2013. doi:10.1016/j.jesp.2013.03.013

    Examples:
        >>> stand_out([0.4, 0.41, 0.42, 0.39, 0.4, 0.38, 0.43, 0.4, 0.9, 0.37])[7:]
        [False, True, False]
    """
    values = np.asarray(scores, np.float64)
    if np.isfinite(values).sum() < FEWEST_USUAL:
        return [False] * len(scores)
    usual = float(np.nanmedian(values))
    deviation = 1.4826 * float(np.nanmedian(np.abs(values - usual)))
    return [bool(score > usual + OUTLIER_DEVIATIONS * deviation) for score in values]


def _places(
    mask: Mask, near: NearStructures, classes: ClassList, geometry: Geometry
) -> tuple[Place, ...]:
    crossings = worst_crossings(mask, near.intensities, geometry.spacing, N_PLACES)
    return tuple(_place(crossing, mask, near, classes, geometry) for crossing in crossings)


def _place(
    crossing: CrossedSuperpixel,
    mask: Mask,
    near: NearStructures,
    classes: ClassList,
    geometry: Geometry,
) -> Place:
    is_larger = (near.intensities.superpixels == crossing.index) & (mask != crossing.is_inside)
    other = int(np.bincount(near.label[is_larger]).argmax())
    element = tuple(i + start for i, start in zip(crossing.element, near.start, strict=True))
    position = (geometry.affine @ [*element, 1.0])[:-1]
    return Place(
        crossing=replace(crossing, element=element),
        position_mm=tuple(position.tolist()),
        class_name=classes.names[near.label[crossing.element]],
        other_class=classes.names[other],
    )
