"""What softening did to a label, told without any model.

Most of these numbers need nothing but the labels and the superpixels, so they tell how far a
setting goes, not whether it is right. Only where several people drew the same image is there
something to be right about: how well the soft label made from one of them predicts them all.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float64, Int64
from scipy.ndimage import binary_dilation

from sfumato.arrays import Label, Mask, Probability, Spacing, Superpixels
from sfumato.labels.annotators import raters_mean
from sfumato.labels.classes import ClassList
from sfumato.labels.spacing import check_spacing
from sfumato.metrics.calibration import LEAST_PROBABILITY


@dataclass(frozen=True, kw_only=True, eq=False)
class Softness:
    """What softening did to the label of one case.

    Attributes:
        case_id: Name of the case.
        softened_share: See `softened_share`.
        volume_shift: For each foreground class, mm³ (mm² of a flat image), see `volume_shifts`.
        relative_volume_shift: The same over the class's volume; NaN where the class is absent.
        n_superpixels: Number of superpixels that were worked out; NaN without superpixels.
        achievable_accuracy: See `achievable_accuracy`; NaN without superpixels.
        boundary_recall: See `boundary_recall`; NaN without superpixels.
        brier: See `brier_to`; NaN where fewer than two people drew.
        cross_entropy: See `cross_entropy_to`; NaN where fewer than two people drew.
    """

    case_id: str
    softened_share: float
    volume_shift: Mapping[str, float] = field(default_factory=dict)
    relative_volume_shift: Mapping[str, float] = field(default_factory=dict)
    n_superpixels: float = math.nan
    achievable_accuracy: float = math.nan
    boundary_recall: float = math.nan
    brier: float = math.nan
    cross_entropy: float = math.nan


def measure_softness(  # noqa: PLR0913 - one case has that many parts
    label: Label,
    soft_label: Probability,
    spacing: Spacing,
    classes: ClassList,
    *,
    superpixels: Superpixels | None = None,
    rater_labels: Sequence[Label] = (),
    case_id: str = "",
) -> Softness:
    """Measure everything that can be told about a soft label.

    Args:
        label: The hard label that was softened.
        soft_label: What it became.
        spacing: Millimetres along each spatial axis.
        classes: The classes of the label.
        superpixels: Those by which the label was softened, -1 far from boundaries, or those
            of the whole image; None where the rule uses none.
        rater_labels: What everyone drew, the one whose label was softened included.
        case_id: Name of the case, for the result.

    Raises:
        InputError: If raters drew on different grids.
    """
    shift, relative = volume_shifts(label, soft_label, spacing)
    target = raters_mean(rater_labels, len(classes)) if len(rater_labels) > 1 else None
    return Softness(
        case_id=case_id,
        softened_share=softened_share(soft_label),
        volume_shift=dict(zip(classes.foreground, shift.tolist()[1:], strict=True)),
        relative_volume_shift=dict(zip(classes.foreground, relative.tolist()[1:], strict=True)),
        **{} if superpixels is None else _agreement(label, superpixels),
        **{} if target is None else _prediction(soft_label, target),
    )


def softened_share(soft_label: Probability) -> float:
    """Measure which share of the elements are not sure of their class.

    Returns:
        0 (a hard label) to 1; NaN if there are no elements.

    Examples:
        >>> softened_share(np.array([[1.0, 0.75], [0.0, 0.25]], np.float32))
        0.5
    """
    most = soft_label.max(axis=0)
    return float(np.mean(most < 1)) if most.size else math.nan


def volume_shifts(
    label: Label, soft_label: Probability, spacing: Spacing
) -> tuple[Float64[np.ndarray, "classes"], Float64[np.ndarray, "classes"]]:
    """Compare the expected volume of every class with what was drawn.

    Returns:
        For each class, background included, the sum of its probabilities less the volume that
        was drawn, in mm³ (mm² of a flat image), and that difference over the volume that was
        drawn; the latter is NaN where the class was not drawn.

    Examples:
        >>> soft_label = np.array([[1.0, 0.75, 0.5, 0.25], [0.0, 0.25, 0.5, 0.75]], np.float32)
        >>> volume_shifts(np.array([0, 0, 0, 1], np.uint8), soft_label, (2.0,))
        (array([-1.,  1.]), array([-0.16666667,  0.5       ]))
    """
    element_mm = math.prod(spacing)
    drawn = np.bincount(label.ravel(), minlength=len(soft_label)) * element_mm
    expected = soft_label.reshape(len(soft_label), -1).sum(axis=1, dtype=np.float64) * element_mm
    return expected - drawn, (expected - drawn) / np.where(drawn > 0, drawn, math.nan)


def achievable_accuracy(label: Label, superpixels: Superpixels) -> float:
    """Measure how much of a label is kept if every superpixel gets its commonest class.

    Args:
        label: The class index of every element.
        superpixels: The superpixel index of every element; -1 keeps its class.

    Returns:
        The share of elements that keep their class: 1 where no superpixel crosses a boundary.
        NaN if there are no elements.

    Source:
        Liu et al., Entropy rate superpixel segmentation, CVPR 2011 (achievable segmentation
        accuracy, ASA).

    Examples:
        >>> label = np.array([0, 0, 0, 1], np.uint8)
        >>> achievable_accuracy(label, np.array([0, 0, 1, 1], np.int32))
        0.75
    """
    if label.size == 0:
        return math.nan
    n_classes = int(label.max()) + 1
    joint = (superpixels.ravel().astype(np.int64) + 1) * n_classes + label.ravel()
    counts = np.bincount(joint, minlength=(int(superpixels.max()) + 2) * n_classes)
    by_superpixel = counts.reshape(-1, n_classes)
    n_kept = by_superpixel[0].sum() + by_superpixel[1:].max(axis=1).sum()
    return float(n_kept / label.size)


def boundary_recall(label: Label, superpixels: Superpixels) -> float:
    """Measure which share of the annotated boundary lies at borders of superpixels.

    Returns:
        Of the elements that share a face with another class, the share with a border of a
        superpixel no further than one element away, diagonals included. NaN without boundary.

    Source:
        Stutz, Hermans and Leibe, Superpixels: an evaluation of the state of the art, CVIU 2018.
        doi:10.1016/j.cviu.2017.03.007

    Examples:
        >>> label = np.array([0, 0, 0, 0, 0, 0, 1, 1], np.uint8)
        >>> boundary_recall(label, np.array([0, 0, 0, 0, 0, 0, 1, 1], np.int32))
        1.0
        >>> boundary_recall(label, np.array([0, 0, 0, 1, 1, 1, 1, 1], np.int32))
        0.0
    """
    edges = _borders(label)
    n_edges = int(edges.sum())
    if n_edges == 0:
        return math.nan
    near = binary_dilation(_borders(superpixels), np.ones((3,) * label.ndim, bool))
    return float((edges & near).sum() / n_edges)


def grid_cells(shape: Sequence[int], spacing: Spacing, size_mm: float) -> Superpixels:
    """Cut an image into equal cells that know nothing of it.

    What superpixels of the same size achieve beyond these cells, the image told them.

    Args:
        shape: The image's shape.
        spacing: Millimetres along each spatial axis.
        size_mm: About the edge of a cell: along each axis a whole number of cells fits, none
            thinner than an element.

    Examples:
        >>> grid_cells((6,), (1.0,), size_mm=3)
        array([0, 0, 0, 1, 1, 1], dtype=int32)
    """
    check_spacing(spacing, len(shape))
    n_cells = [
        min(n, max(1, round(n * mm / size_mm))) for n, mm in zip(shape, spacing, strict=True)
    ]
    along = [np.arange(n) * cells // n for n, cells in zip(shape, n_cells, strict=True)]
    place = np.meshgrid(*along, indexing="ij", sparse=True)
    cells: Int64[np.ndarray, "*space"] = np.zeros((1,) * len(shape), np.int64)
    for index, count in zip(place, n_cells, strict=True):
        cells = cells * count + index
    return cells.astype(np.int32)


def brier_to(probability: Probability, target: Probability) -> float:
    """Measure the squared distance between two probabilities.

    Returns:
        The mean over elements of the sum over classes of squared differences: 0 (equal) to 2
        (sure of different classes). NaN if there are no elements.

    Source:
        Brier, Verification of forecasts expressed in terms of probability, Monthly Weather
        Review 1950. doi:10.1175/1520-0493(1950)078<0001:VOFEIT>2.0.CO;2

    Examples:
        >>> half, sure = np.array([[0.5], [0.5]], np.float32), np.array([[0], [1]], np.float32)
        >>> brier_to(half, sure)
        0.5
    """
    if target[0].size == 0:
        return math.nan
    return float(np.square(probability - target).sum(axis=0, dtype=np.float64).mean())


def cross_entropy_to(
    probability: Probability, target: Probability, least: float = LEAST_PROBABILITY
) -> float:
    """Measure how surprising a target is to who expects a probability.

    Args:
        probability: What is expected.
        target: The probability of each class that is found.
        least: What any class is expected with at least; then the sum is made 1 again.

    Returns:
        Nats an element, on average; smallest, but for the effect of `least`, where both are
        equal. NaN if there are no elements.

    Examples:
        >>> half, sure = np.array([[0.5], [0.5]], np.float32), np.array([[0], [1]], np.float32)
        >>> round(cross_entropy_to(half, sure), 4)
        0.6931
    """
    if target[0].size == 0:
        return math.nan
    expected = np.maximum(probability, np.float32(least))
    expected /= expected.sum(axis=0)
    return -float((target * np.log(expected)).sum(axis=0, dtype=np.float64).mean())


def _agreement(label: Label, superpixels: Superpixels) -> dict[str, float]:
    return {
        "n_superpixels": float(superpixels.max(initial=-1) + 1),
        "achievable_accuracy": achievable_accuracy(label, superpixels),
        "boundary_recall": boundary_recall(label, superpixels),
    }


def _prediction(soft_label: Probability, target: Probability) -> dict[str, float]:
    return {
        "brier": brier_to(soft_label, target),
        "cross_entropy": cross_entropy_to(soft_label, target),
    }


def _borders(labels: Superpixels | Label) -> Mask:
    """Mark elements that share a face with one of another label."""
    found = np.zeros(labels.shape, bool)
    for axis in range(labels.ndim):
        along, touched = np.moveaxis(labels, axis, 0), np.moveaxis(found, axis, 0)
        differs = along[1:] != along[:-1]
        touched[1:] |= differs
        touched[:-1] |= differs
    return found
