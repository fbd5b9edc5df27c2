"""How well a model agrees with several people who drew the same image."""

import math
import re
from collections.abc import Sequence

import numpy as np

from sfumato.arrays import Label, Probability
from sfumato.evaluation.softness import brier_to, cross_entropy_to
from sfumato.labels.annotators import raters_mean
from sfumato.labels.classes import ClassList
from sfumato.metrics.calibration import brier_score, cross_entropy
from sfumato.metrics.overlap import dice, soft_dice

RATERS_METRICS = ("dice_raters", "soft_dice_raters", "brier_raters", "cross_entropy_raters")
"""What is measured against all raters together: the first on average over them, the others
against the share of them that gave an element each class."""
ONE_RATER = re.compile(r"(dice|brier|cross_entropy)_rater_(\d+)")
"""Names of what is measured against one rater."""


def score_raters(
    rater_labels: Sequence[Label],
    segmentation: Label,
    probability: Probability | None,
    classes: ClassList,
) -> dict[str, float]:
    """Compare a segmentation and its probabilities with what everyone drew.

    Args:
        rater_labels: What every annotator drew, on the segmentation's grid.
        segmentation: What the model found.
        probability: What the model predicts for each class, if it does.
        classes: The classes that all use.

    Returns:
        `RATERS_METRICS`, and for each rater, counted from 1, `dice_rater_1`, `brier_rater_1` and
        `cross_entropy_rater_1`. Dice are means over the classes where they are defined. NaN
        without probabilities, where they are needed. Nothing where fewer than two people drew.
    """
    if len(rater_labels) < 2:
        return {}
    found: dict[str, float] = {}
    for number, drawn in enumerate(rater_labels, start=1):
        found[f"dice_rater_{number}"] = _mean_over_classes(
            [dice(drawn == k, segmentation == k) for k in range(1, len(classes))]
        )
        found[f"brier_rater_{number}"], found[f"cross_entropy_rater_{number}"] = (
            (math.nan, math.nan)
            if probability is None
            else (brier_score(probability, drawn), cross_entropy(probability, drawn))
        )
    by_rater = [found[f"dice_rater_{number}"] for number in range(1, len(rater_labels) + 1)]
    together = dict.fromkeys(RATERS_METRICS, math.nan)
    together["dice_raters"] = _mean_over_classes(by_rater)
    if probability is not None:
        target = raters_mean(rater_labels, len(classes))
        together |= {
            "soft_dice_raters": _mean_over_classes(
                [soft_dice(target[k], probability[k]) for k in range(1, len(classes))]
            ),
            "brier_raters": brier_to(probability, target),
            "cross_entropy_raters": cross_entropy_to(probability, target),
        }
    return {**together, **found}


def _mean_over_classes(values: Sequence[float]) -> float:
    defined = [value for value in values if not math.isnan(value)]
    return float(np.mean(defined)) if defined else math.nan
