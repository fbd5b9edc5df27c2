"""What an experiment found, in words."""

import math

from sfumato.evaluation.comparison import PairedComparison
from sfumato.evaluation.experiment import Contrast, ExperimentSummary
from sfumato.evaluation.summary import MEAN
from sfumato.report.metric_words import UNDEFINED, MetricWords, metric_words

TOLD = ("dice", "hd95_mm", "assd_mm", "nsd_1mm", "ece", "brier", "ece_boundary", "brier_boundary")
"""Metrics that sentences and pictures tell of, in this order."""
MORE_DECIMALS = 1
"""Differences are smaller than what they are differences of."""

SHORT_NAMES = {
    "assd_mm": "ASSD (mm)",
    "nsd_1mm": "surface Dice",
    "ece": "ECE",
    "brier": "Brier score",
    "ece_boundary": "ECE in the boundary band",
    "brier_boundary": "Brier score in the boundary band",
}


def cases_words(train_cases: int | None) -> str:
    """Say on how many cases models were trained.

    Examples:
        >>> cases_words(10), cases_words(1), cases_words(None)
        ('10 cases', '1 case', 'all cases')
    """
    if train_cases is None:
        return "all cases"
    return f"{train_cases} case" + "s" * (train_cases != 1)


def short_name(metric: str) -> str:
    """Name a metric in a word or two, without its unit.

    Examples:
        >>> short_name("hd95_mm"), short_name("ece_boundary")
        ('HD95', 'ECE in the boundary band')
    """
    return SHORT_NAMES.get(metric, metric_words(metric).name).removesuffix(" (mm)")


def difference_number(metric: str, value: float, *, is_signed: bool = True) -> str:
    """Write a difference of a metric; a dash if it is undefined.

    Examples:
        >>> difference_number("dice", 0.00361), difference_number("hd95_mm", -0.0512)
        ('+0.0036', '−0.051')
        >>> difference_number("dice", float("nan"))
        '–'
    """
    if not math.isfinite(value):
        return UNDEFINED
    words: MetricWords = metric_words(metric)
    sign = "+" if is_signed else ""
    return f"{value:{sign}.{words.decimals + MORE_DECIMALS}f}".replace("-", "−")


def interval_words(metric: str, found: PairedComparison) -> str:
    """Write the interval of a difference; nothing where there is none."""
    if math.isnan(found.low):
        return ""
    return f"{difference_number(metric, found.low)} to {difference_number(metric, found.high)}"


def p_words(value: float) -> str:
    """Write a p-value.

    Examples:
        >>> p_words(0.0312), p_words(0.00001), p_words(float("nan"))
        ('0.031', '< 0.001', '–')
    """
    if math.isnan(value):
        return UNDEFINED
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def verdict_sentences(summary: ExperimentSummary) -> list[str]:
    """Say of every kind of soft label, and every number of training cases, what it changed.

    Only where an interval does not hold 0 is anything called better or worse.
    """
    return [
        sentence
        for n in summary.train_cases
        for softener in summary.softeners[1:]
        if (sentence := _sentence(summary, softener, n))
    ]


def headline(summary: ExperimentSummary) -> str:
    """Say in a sentence or two what the experiment found."""
    told = [c for c in summary.contrasts if c.class_name == MEAN and c.metric in TOLD]
    if not told:
        return f"No kind of label could be compared with {summary.baseline}."
    if all(contrast.found.verdict == "unknown" for contrast in told):
        return (
            "One model of each kind tells nothing: another seed could turn every difference round."
        )
    clear = [c for c in told if c.found.verdict in ("better", "worse")]
    if not clear:
        return (
            f"Nothing could be told from {summary.baseline}: every interval over cases and seeds"
            " holds 0."
        )
    parts = []
    for softener in summary.softeners[1:]:
        ours = [c for c in told if c.softener == softener]
        words = [
            f"{verdict} in {_many(names)}"
            for verdict in ("better", "worse")
            if (names := _names([c for c in ours if c.found.verdict == verdict]))
        ]
        parts.append(f"{softener}: {', '.join(words) if words else 'nothing distinguishable'}")
    return f"Against {summary.baseline}: {'; '.join(parts)}."


def _sentence(summary: ExperimentSummary, softener: str, train_cases: int | None) -> str:
    found = [
        contrast
        for metric in TOLD
        if (contrast := summary.contrast(softener, train_cases, MEAN, metric))
        and contrast.found.n_cases
    ]
    if not found:
        return ""
    start = f"Trained on {cases_words(train_cases)}, {softener} against {summary.baseline}: "
    parts = []
    for verdict in ("better", "worse"):
        for contrast in found:
            if contrast.found.verdict == verdict:
                parts.append(
                    f"{short_name(contrast.metric)} {verdict} ({_with_interval(contrast)})"
                )
    if unclear := [c for c in found if c.found.verdict == "not distinguishable"]:
        parts.append(f"{_many(_names(unclear))} not distinguishable")
    if unknown := [c for c in found if c.found.verdict == "unknown"]:
        parts.append(f"nothing can be said of {_many(_names(unknown))} without a second seed")
    return start + "; ".join(parts) + "."


def _with_interval(contrast: Contrast) -> str:
    metric, found = contrast.metric, contrast.found
    return f"{difference_number(metric, found.difference)}, {interval_words(metric, found)}"


def _names(contrasts: list[Contrast]) -> list[str]:
    return list(dict.fromkeys(short_name(contrast.metric) for contrast in contrasts))


def _many(names: list[str]) -> str:
    if len(names) < 2:
        return "".join(names)
    return f"{', '.join(names[:-1])} and {names[-1]}"
