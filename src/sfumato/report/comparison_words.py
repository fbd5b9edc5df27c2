"""What an experiment found, in words."""

import math
import re
from collections.abc import Mapping

from sfumato.evaluation.comparison import PairedComparison
from sfumato.evaluation.experiment import ExperimentSummary
from sfumato.evaluation.rater_scores import RATERS_METRICS
from sfumato.evaluation.runs import NO_NOISE, Condition
from sfumato.evaluation.summary import MEAN
from sfumato.report.metric_words import UNDEFINED, MetricWords, metric_words

TOLD = (
    "dice", "hd95_mm", "assd_mm", "nsd_1mm", "ece", "brier", "ece_boundary", "brier_boundary",
    *RATERS_METRICS,
)  # fmt: skip
"""Metrics that sentences and pictures tell of, in this order, as far as they were measured."""
MORE_DECIMALS = 1
"""Differences are smaller than what they are differences of."""

SHORT_NAMES = {
    "assd_mm": "ASSD (mm)",
    "nsd_1mm": "surface Dice",
    "ece": "ECE",
    "brier": "Brier score",
    "ece_boundary": "ECE in the boundary band",
    "brier_boundary": "Brier score in the boundary band",
    "soft_dice_raters": "soft Dice with the raters' mean",
    "brier_raters": "Brier score to the raters' mean",
    "cross_entropy_raters": "cross-entropy to the raters' mean",
}


def told_metrics(summary: ExperimentSummary) -> list[str]:
    """List those of `TOLD` that were measured."""
    measured = {average.metric for average in summary.averages}
    return [metric for metric in TOLD if metric in measured]


def cases_words(train_cases: int | None) -> str:
    """Say on how many cases models were trained.

    Examples:
        >>> cases_words(10), cases_words(1), cases_words(None)
        ('10 cases', '1 case', 'all cases')
    """
    if train_cases is None:
        return "all cases"
    return f"{train_cases} case" + "s" * (train_cases != 1)


def condition_words(condition: Condition) -> str:
    """Say on what models were trained.

    Examples:
        >>> condition_words(Condition(train_cases=10, noise="erode:1mm"))
        '10 cases, erode:1mm'
    """
    noise = "" if condition.noise == NO_NOISE else f", {condition.noise}"
    return cases_words(condition.train_cases) + noise


def noise_words(noise: str) -> str:
    """Say how training labels are spoilt.

    Examples:
        >>> noise_words("none"), noise_words("erode:1mm")
        ('labels as drawn', 'erode:1mm')
    """
    return "labels as drawn" if noise == NO_NOISE else noise


def short_name(metric: str) -> str:
    """Name a metric in a word or two, without its unit.

    Examples:
        >>> short_name("hd95_mm"), short_name("ece_boundary")
        ('HD95', 'ECE in the boundary band')
    """
    return SHORT_NAMES.get(metric, metric_words(metric).name).removesuffix(" (mm)")


def panel_name(metric: str) -> str:
    """Name a metric above a small picture.

    Examples:
        >>> panel_name("ece_boundary"), panel_name("soft_dice_raters")
        ('ECE, band', "soft Dice, raters' mean")
    """
    name = short_name(metric).replace(" in the boundary band", ", band")
    return re.sub(" (with|to) the raters' mean", ", raters' mean", name)


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
    """Say of every kind of soft label, under every condition, what it changed.

    Only where an interval does not hold 0 is anything called better or worse.
    """
    return [
        sentence
        for condition in summary.conditions
        for softener in summary.softeners[1:]
        if (sentence := _sentence(summary, softener, condition))
    ]


def degradation_sentences(summary: ExperimentSummary) -> list[str]:
    """Say of every kind of soft label whether spoilt labels harm it less than the baseline."""
    return [
        sentence
        for condition in summary.conditions
        for softener in summary.softeners[1:]
        if (sentence := _degradation_sentence(summary, softener, condition))
    ]


def headline(summary: ExperimentSummary) -> str:
    """Say in a sentence or two what the experiment found under its main condition."""
    main = summary.main_condition
    told = [
        c for m in TOLD for s in summary.softeners[1:] if (c := summary.contrast(s, main, MEAN, m))
    ]
    if not told:
        return f"No kind of label could be compared with {summary.baseline}."
    where = f", trained on {condition_words(main)}" if len(summary.conditions) > 1 else ""
    if all(contrast.found.verdict == "unknown" for contrast in told):
        return (
            "One model of each kind tells nothing: another seed could turn every difference round."
        )
    clear = [c for c in told if c.found.verdict in ("better", "worse")]
    if not clear:
        return (
            f"Nothing could be told from {summary.baseline}{where}: every interval over cases and"
            " seeds holds 0."
        )
    parts = []
    for softener in summary.softeners[1:]:
        ours = [c for c in told if c.softener == softener]
        words = [
            f"{verdict} in {_many(names)}"
            for verdict in ("better", "worse")
            if (names := [short_name(c.metric) for c in ours if c.found.verdict == verdict])
        ]
        parts.append(f"{softener}: {', '.join(words) if words else 'nothing distinguishable'}")
    return f"Against {summary.baseline}{where}: {'; '.join(parts)}."


def _sentence(summary: ExperimentSummary, softener: str, condition: Condition) -> str:
    contrasts = [summary.contrast(softener, condition, MEAN, metric) for metric in TOLD]
    found = {c.metric: c.found for c in contrasts if c and c.found.n_cases}
    if not found:
        return ""
    noise = "" if condition.noise == NO_NOISE else f" with labels spoilt by {condition.noise}"
    start = f"Trained on {cases_words(condition.train_cases)}{noise}, {softener} against"
    clear = [
        f"{numbers} {verdict}"
        for verdict in ("better", "worse")
        for numbers in _with_numbers(found, verdict)
    ]
    parts = [*clear, *_unclear(found, has_clear=bool(clear))]
    return f"{start} {summary.baseline}: {'; '.join(parts)}."


def _degradation_sentence(summary: ExperimentSummary, softener: str, condition: Condition) -> str:
    found = {}
    for metric in TOLD:
        entry = summary.degradation(softener, condition, MEAN, metric)
        if entry and entry.beside_baseline and entry.beside_baseline.n_cases:
            found[metric] = entry.beside_baseline
    if not found:
        return ""
    parts = [
        f"{word} than {summary.baseline} in {_many(names)}"
        for verdict, word in (("better", "less"), ("worse", "more"))
        if (names := _with_numbers(found, verdict))
    ]
    start = f"Trained on {cases_words(condition.train_cases)}, {softener} loses by"
    parts += _unclear(found, has_clear=bool(parts))
    return f"{start} {condition.noise}, beside {summary.baseline}: {'; '.join(parts)}."


def _with_numbers(found: Mapping[str, PairedComparison], verdict: str) -> list[str]:
    """Name the metrics of a verdict, each with its difference and interval."""
    return [
        f"{short_name(metric)} ({difference_number(metric, comparison.difference)},"
        f" {interval_words(metric, comparison)})"
        for metric, comparison in found.items()
        if comparison.verdict == verdict
    ]


def _unclear(found: Mapping[str, PairedComparison], *, has_clear: bool) -> list[str]:
    """Say of which metrics nothing can be told."""
    names = {
        verdict: [short_name(m) for m, c in found.items() if c.verdict == verdict]
        for verdict in ("not distinguishable", "unknown")
    }
    unclear, unknown = names["not distinguishable"], names["unknown"]
    parts = []
    if unclear:
        is_all = not has_clear and not unknown
        parts.append(
            "nothing distinguishable" if is_all else f"{_many(unclear)} not distinguishable"
        )
    if unknown:
        parts.append(f"nothing can be said of {_many(unknown)} without a second seed")
    return parts


def _many(names: list[str]) -> str:
    if len(names) < 2:
        return "".join(names)
    return f"{', '.join(names[:-1])} and {names[-1]}"
