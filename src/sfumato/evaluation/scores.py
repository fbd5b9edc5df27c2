"""What one case scores: every class by every metric, and its probabilities as a whole."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TypeAlias

import numpy as np
from jaxtyping import Float32, UInt8

from sfumato.arrays import Label, Mask, Probability, Spacing
from sfumato.errors import CaseError
from sfumato.labels.classes import ClassList
from sfumato.metrics.calibration import (
    ReliabilityCurve,
    boundary_band,
    brier_score,
    cross_entropy,
    expected_calibration_error,
    reliability_curve,
)
from sfumato.metrics.overlap import dice, precision, recall, relative_volume_error
from sfumato.metrics.surface import (
    average_surface_distance,
    hausdorff_distance,
    surface_dice,
    surface_distances,
)

METRICS = ("dice", "hd95_mm", "assd_mm", "nsd_1mm", "precision", "recall", "volume_error")
"""What is measured for each foreground class, from the segmentation alone."""

CALIBRATION_METRICS = ("ece", "brier", "cross_entropy", "ece_boundary", "brier_boundary")
"""What is measured for all classes together, from the probabilities."""

UNSCALED = "_unscaled"
"""Ends the name of what is measured before a model's temperature is applied."""
UNSCALED_METRICS = tuple(f"{name}{UNSCALED}" for name in CALIBRATION_METRICS)

BAND_WIDTH_ELEMENTS = 3
"""How far the boundary band reaches on each side, in elements of the finest axis."""


# Labels and probabilities come from different files, so whether their shapes agree is for
# `score_case` to say, not for their types.
AnyLabel: TypeAlias = UInt8[np.ndarray, "..."]
AnyProbability: TypeAlias = Float32[np.ndarray, "..."]


@dataclass(frozen=True, kw_only=True, eq=False)
class CaseScore:
    """What one case scores.

    Attributes:
        id: Name of the case.
        classes: For each foreground class, each of `METRICS`; NaN where undefined.
        overall: Each of `CALIBRATION_METRICS`; NaN without probabilities, and those of the
            boundary band also where the reference has no boundary. Where several people drew
            the case, also what `score_raters` measures; where the model has a temperature,
            also `UNSCALED_METRICS`.
        curves: The reliability curves behind the calibration errors, by region: `image` and
            `boundary` (and `image_unscaled`, `boundary_unscaled`); empty without probabilities.
    """

    id: str
    classes: Mapping[str, Mapping[str, float]]
    overall: Mapping[str, float]
    curves: Mapping[str, ReliabilityCurve] = field(default_factory=dict)


def score_case(
    reference: AnyLabel,
    segmentation: AnyLabel,
    spacing: Spacing,
    classes: ClassList,
    probability: AnyProbability | None = None,
    case_id: str = "",
) -> CaseScore:
    """Compare a segmentation with the reference, class by class.

    Args:
        reference: What the annotator drew, as class indices.
        segmentation: What the model found, on the same grid.
        spacing: Millimetres along each spatial axis; 1 for images that have none, so that
            their distances are in pixels.
        classes: The classes that both labels use.
        probability: What the model predicts for each class, if it is to be judged too.
        case_id: Name of the case, for the result and for messages.

    Raises:
        CaseError: If the arrays do not fit together or hold a class that is not in the list.
    """
    _check(reference, segmentation, classes, probability, case_id)
    by_class = {
        name: _score_mask(reference == index, segmentation == index, spacing)
        for index, name in enumerate(classes.names)
        if index > 0
    }
    if probability is None:
        undefined = dict.fromkeys(CALIBRATION_METRICS, math.nan)
        return CaseScore(id=case_id, classes=by_class, overall=undefined)
    overall, curves = score_probability(reference, spacing, probability)
    return CaseScore(id=case_id, classes=by_class, overall=overall, curves=curves)


def score_probability(
    reference: Label, spacing: Spacing, probability: Probability
) -> tuple[dict[str, float], dict[str, ReliabilityCurve]]:
    """Measure how honest the probabilities of one case are.

    Returns:
        Each of `CALIBRATION_METRICS`, and the reliability curves by region.
    """
    band = boundary_band(reference, spacing, width_mm=BAND_WIDTH_ELEMENTS * min(spacing))
    image_curve = reliability_curve(probability, reference)
    band_curve = reliability_curve(probability, reference, band)
    overall = {
        "ece": expected_calibration_error(image_curve),
        "brier": brier_score(probability, reference),
        "cross_entropy": cross_entropy(probability, reference),
        "ece_boundary": expected_calibration_error(band_curve),
        "brier_boundary": brier_score(probability, reference, band),
    }
    return overall, {"image": image_curve, "boundary": band_curve}


def add_unscaled(
    score: CaseScore, reference: Label, spacing: Spacing, unscaled: Probability
) -> CaseScore:
    """Add to a score how honest the probabilities were before the model's temperature."""
    overall, curves = score_probability(reference, spacing, unscaled)
    return replace(
        score,
        overall={**score.overall, **{name + UNSCALED: v for name, v in overall.items()}},
        curves={**score.curves, **{name + UNSCALED: curve for name, curve in curves.items()}},
    )


def _score_mask(reference: Mask, segmentation: Mask, spacing: Spacing) -> dict[str, float]:
    distances = surface_distances(reference, segmentation, spacing)
    return {
        "dice": dice(reference, segmentation),
        "hd95_mm": hausdorff_distance(distances, percentile=95),
        "assd_mm": average_surface_distance(distances),
        "nsd_1mm": surface_dice(distances, tolerance_mm=1),
        "precision": precision(reference, segmentation),
        "recall": recall(reference, segmentation),
        "volume_error": relative_volume_error(reference, segmentation),
    }


def _check(
    reference: AnyLabel,
    segmentation: AnyLabel,
    classes: ClassList,
    probability: AnyProbability | None,
    case_id: str,
) -> None:
    for what, label in (("reference", reference), ("segmentation", segmentation)):
        highest = int(label.max(initial=0))
        if highest >= len(classes):
            raise CaseError(
                case_id,
                f"the {what} holds class {highest}, but the classes end at {len(classes) - 1}"
                f" ({classes.names[-1]}); declare the class or correct the label",
            )
    if segmentation.shape != reference.shape:
        raise CaseError(
            case_id,
            f"the segmentation has shape {segmentation.shape}, but the reference"
            f" {reference.shape}; bring both to the same grid first",
        )
    expected = (len(classes), *reference.shape)
    if probability is not None and probability.shape != expected:
        raise CaseError(
            case_id,
            f"the probability has shape {probability.shape}, but {len(classes)} classes and the"
            f" reference ask for {expected}; bring both to the same grid and classes first",
        )
