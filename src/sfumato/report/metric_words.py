"""What each metric is called, how its numbers are written, and what it means."""

import math
import re
from dataclasses import dataclass

from sfumato.evaluation.rater_scores import ONE_RATER
from sfumato.evaluation.scores import BAND_WIDTH_ELEMENTS, UNSCALED

AROUND_BOUNDARIES = (
    "Superpixels are worked out around boundaries only, since what lies further away stays hard in"
    " any case."
)
UNDEFINED = "–"


@dataclass(frozen=True, kw_only=True)
class MetricWords:
    """How one metric is shown to people.

    Attributes:
        name: What it is called, with its unit in brackets.
        meaning: One line.
        decimals: How many are written.
        is_percent: Whether it is written in per cent, with its sign.
        unit: Written after a number that stands alone.
    """

    name: str
    meaning: str
    decimals: int = 3
    is_percent: bool = False
    unit: str = ""


SURFACE_NOTE = "Every piece of the boundary counts by its area in mm²."

METRICS = {
    "dice": MetricWords(
        name="Dice",
        meaning="Overlap of segmentation and reference: twice what they share over the sum of"
        " both; 1 is perfect, 0 is no overlap. Undefined where both are empty.",
    ),
    "jaccard": MetricWords(
        name="Jaccard",
        meaning="What segmentation and reference share over what either covers; 1 is perfect.",
    ),
    "hd95_mm": MetricWords(
        name="HD95 (mm)",
        decimals=2,
        unit="mm",
        meaning="95 % of the boundary lies within this distance of the other boundary, the worse"
        f" of both directions. {SURFACE_NOTE} Undefined where one of both is empty.",
    ),
    "assd_mm": MetricWords(
        name="Mean surface distance (mm)",
        decimals=2,
        unit="mm",
        meaning=f"Average distance between both boundaries. {SURFACE_NOTE} Undefined where one of"
        " both is empty.",
    ),
    "nsd": MetricWords(
        name="Surface Dice",
        meaning="Share of both boundaries that lies within the tolerance of the other one;"
        f" 1 is perfect. {SURFACE_NOTE}",
    ),
    "precision": MetricWords(
        name="Precision", meaning="Share of the segmentation that lies in the reference."
    ),
    "recall": MetricWords(
        name="Recall", meaning="Share of the reference that the segmentation found."
    ),
    "volume_error": MetricWords(
        name="Volume error",
        decimals=1,
        is_percent=True,
        meaning="How much larger (+) or smaller (−) than the reference the segmentation is.",
    ),
    "ece": MetricWords(
        name="Calibration error (ECE)",
        meaning="Average gap between the probability a model states and the share of elements"
        " for which it is right; 0 is perfect.",
    ),
    "brier": MetricWords(
        name="Brier score",
        meaning="Mean squared distance between stated probabilities and what was drawn;"
        " 0 is perfect, 2 is sure and wrong throughout.",
    ),
    "cross_entropy": MetricWords(
        name="Cross-entropy",
        meaning="How surprising what was drawn is to the model, in nats; close to 0 is sure and"
        " right. No class counts as less probable than 1/255.",
    ),
}

AGAINST_RATERS = {
    "dice_raters": MetricWords(
        name="Dice with every rater",
        meaning="Mean over the people who drew a case of the Dice with what each of them drew.",
    ),
    "soft_dice_raters": MetricWords(
        name="Soft Dice, raters' mean",
        meaning="What probabilities and the share of raters that gave each element a class have in"
        " common, twice, over the sum of both; 1 only where they are equal.",
    ),
    "brier_raters": MetricWords(
        name="Brier score, raters' mean",
        meaning="Mean squared distance between stated probabilities and the share of raters that"
        " gave each element a class.",
    ),
    "cross_entropy_raters": MetricWords(
        name="Cross-entropy, raters' mean",
        meaning="How surprising what raters drew is to the model, in nats; no class counts as less"
        " probable than 1/255.",
    ),
}
BOUNDARY_BAND = "Boundary band"
GLOSSARY = {
    "95 % interval": "What the average over cases would vary within, had other cases of the same"
    " kind been drawn.",
    BOUNDARY_BAND: f"Elements within {BAND_WIDTH_ELEMENTS} element widths of the reference's"
    " boundaries, on both sides.",
    UNDEFINED: "The number does not exist, for instance the Dice of two empty masks. Such cases"
    " are counted, never replaced by 0 or 1.",
}


def metric_words(key: str) -> MetricWords:
    """Return how a metric is shown, going by its name in files.

    Examples:
        >>> metric_words("nsd_2mm").name
        'Surface Dice at 2 mm'
        >>> metric_words("ece_boundary").name
        'Calibration error (ECE), boundary band'
        >>> metric_words("brier_rater_2").name
        'Brier score, rater 2'
        >>> metric_words("ece_unscaled").name
        'Calibration error (ECE), before scaling'
        >>> metric_words("something_new").name
        'something new'
    """
    if known := (METRICS | AGAINST_RATERS).get(key):
        return known
    if one_rater := ONE_RATER.fullmatch(key):
        words = METRICS[one_rater[1]]
        return MetricWords(name=f"{words.name}, rater {one_rater[2]}", meaning=words.meaning)
    surface = re.fullmatch(r"nsd_([\d.]+)mm", key)
    if surface:
        words = METRICS["nsd"]
        return MetricWords(name=f"{words.name} at {surface[1]} mm", meaning=words.meaning)
    before = key.removesuffix(UNSCALED)
    if before != key:
        words = metric_words(before)
        return MetricWords(name=f"{words.name}, before scaling", meaning=words.meaning)
    base = key.removesuffix("_boundary")
    if base != key and base in METRICS:
        words = METRICS[base]
        return MetricWords(name=f"{words.name}, boundary band", meaning=words.meaning)
    return MetricWords(name=key.replace("_", " "), meaning="")


def metric_number(key: str, value: float, *, with_unit: bool = False) -> str:
    """Write a metric's value; a dash if it is undefined.

    Examples:
        >>> metric_number("dice", 0.88449), metric_number("hd95_mm", 1.5, with_unit=True)
        ('0.884', '1.50 mm')
        >>> metric_number("volume_error", -0.0312), metric_number("dice", float("nan"))
        ('−3.1 %', '–')
    """
    if not math.isfinite(value):
        return UNDEFINED
    words = metric_words(key)
    if words.is_percent:
        return f"{100 * value:+.{words.decimals}f} %".replace("-", "−")
    number = f"{value:.{words.decimals}f}".replace("-", "−")
    return f"{number} {words.unit}" if with_unit and words.unit else number


def counted(number: int, noun: str) -> str:
    """Write a number and its noun.

    Examples:
        >>> counted(1, "case"), counted(1234, "step")
        ('1 case', '1,234 steps')
    """
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
