"""What the numbers of an evaluation say, in words."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from sfumato.report.metric_words import counted, metric_number

Metrics: TypeAlias = Mapping[str, Any]
"""The content of a metrics.json, as JSON reads it; undefined numbers are None or NaN."""

MEAN = "mean"
"""Stands in the place of a class for the mean over classes."""


@dataclass(frozen=True, kw_only=True)
class Example:
    """A case that stands for others.

    Attributes:
        role: What it stands for: worst, second worst, third worst, median or best.
        case_id: Which case.
        mean_dice: Its Dice, averaged over classes.
    """

    role: str
    case_id: str
    mean_dice: float

    @property
    def is_bad(self) -> bool:
        """Whether it is one of the worst."""
        return self.role.endswith("worst")


def example_cases(metrics: Metrics) -> list[Example]:
    """Choose the cases whose overlays are shown: the three worst, median and best by mean Dice.

    Cases with undefined Dice stand for nothing; of few cases, each is named once.

    Examples:
        >>> cases = [{"case": c, "mean": {"dice": d}} for c, d in zip("abc", (0.9, 0.5, 0.8))]
        >>> [(example.role, example.case_id) for example in example_cases({"cases": cases})]
        [('worst', 'b'), ('median', 'c'), ('best', 'a')]
    """
    ranked = sorted(
        (dice, str(case["case"]))
        for case in metrics.get("cases", ())
        if math.isfinite(dice := number_at(case, MEAN, "dice"))
    )
    last = len(ranked) - 1
    middle = last // 2
    bad = {"worst": 0} | {w: i for i, w in ((1, "second worst"), (2, "third worst")) if i < middle}
    places = bad | {"median": middle, "best": last}
    if last < 2:
        places = {"only": 0} if last == 0 else {"worst": 0, "best": last}
    return [
        Example(role=role, case_id=ranked[place][1], mean_dice=ranked[place][0])
        for role, place in places.items()
        if ranked
    ]


def headline(metrics: Metrics) -> str:
    """Say in a sentence how good the segmentations are.

    Examples:
        >>> headline({"summary": {"mean": {"dice": 0.884, "hd95_mm": 1.5}}, "n_cases": 52})
        'Mean Dice 0.884 over 52 cases; on average, 95 % of the boundary lies within 1.50 mm.'
    """
    dice = number_at(metrics, "summary", MEAN, "dice")
    over = f"over {counted(n_cases(metrics), 'case')}"
    parts = [f"Mean Dice is undefined {over}"]
    if math.isfinite(dice):
        interval = interval_words(metrics, MEAN, "dice")
        bounds = f" (95 % interval {interval})" if interval else ""
        parts = [f"Mean Dice {metric_number('dice', dice)}{bounds} {over}"]
    distance = number_at(metrics, "summary", MEAN, "hd95_mm")
    if math.isfinite(distance):
        within = metric_number("hd95_mm", distance, with_unit=True)
        parts.append(f"on average, 95 % of the boundary lies within {within}")
    gap = number_at(metrics, "summary", MEAN, "ece")
    if math.isfinite(gap):
        parts.append(f"stated probabilities are off by {100 * gap:.1f} percentage points")
    return "; ".join(parts) + "."


def class_names(metrics: Metrics) -> list[str]:
    """Return the foreground classes in the order of the data set."""
    return [name for name in metrics.get("summary", {}) if name != MEAN]


def n_cases(metrics: Metrics) -> int:
    """Return the number of cases."""
    return int(metrics.get("n_cases", len(metrics.get("cases", ()))))


def number_at(table: Mapping[str, Any], *keys: str) -> float:
    """Look a number up in nested tables; NaN where it is missing or null.

    Examples:
        >>> number_at({"mean": {"dice": 0.5}}, "mean", "dice")
        0.5
        >>> number_at({"mean": {"dice": None}}, "mean", "dice")
        nan
    """
    entry: Any = table
    for key in keys:
        entry = entry.get(key) if isinstance(entry, Mapping) else None
    return math.nan if entry is None else float(entry)


def interval_words(metrics: Metrics, class_name: str, metric: str) -> str:
    """Write an interval without its unit; nothing where there is none."""
    bounds = ((metrics.get("intervals") or {}).get(class_name) or {}).get(metric)
    if bounds is None or any(bound is None or not math.isfinite(bound) for bound in bounds):
        return ""
    return " to ".join(metric_number(metric, bound).removesuffix(" %") for bound in bounds)


def undefined_words(metrics: Metrics, class_name: str, metric: str) -> str:
    """Say in how many cases a metric is undefined; nothing if in none."""
    count = number_at(metrics, "undefined", class_name, metric)
    return f"{count:.0f} undefined" if count > 0 else ""


def case_words(metrics: Metrics, case: Mapping[str, Any]) -> str:
    """Sum up a case's scores."""
    names = class_names(metrics)
    parts = []
    for name in [MEAN, *names] if len(names) != 1 else names:
        scores = [
            f"{words} {metric_number(metric, number_at(case, name, metric), with_unit=True)}"
            for metric, words in (("dice", "Dice"), ("hd95_mm", "HD95"))
            if metric in (case.get(name) or {})
        ]
        if scores:
            parts.append(f"{name}: {', '.join(scores)}")
    return "; ".join(parts) + "." if parts else ""
