"""What the scores of many cases say together, and the files that keep it."""

import csv
import io
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from jaxtyping import Float64, Int64

from sfumato.errors import InputError
from sfumato.evaluation.rater_scores import ONE_RATER, RATERS_METRICS
from sfumato.evaluation.scores import (
    CALIBRATION_METRICS,
    METRICS,
    UNSCALED,
    UNSCALED_METRICS,
    CaseScore,
)
from sfumato.labels.classes import ClassList
from sfumato.metrics.calibration import ReliabilityCurve, merge
from sfumato.storage import write_text

Table: TypeAlias = dict[str, dict[str, float]]
"""A number for each class and metric; the row `mean` is over all classes."""

CaseValues: TypeAlias = Float64[np.ndarray, "case"]
Weights: TypeAlias = Int64[np.ndarray, "resample case"]

MEAN = "mean"
N_RESAMPLES = 2000
SEED = 0

POOLED_ERRORS = {
    f"{name}{before}": f"{region}{before}"
    for before in ("", UNSCALED)
    for name, region in (("ece", "image"), ("ece_boundary", "boundary"))
}
"""Which region's curves are pooled over all cases for each calibration error."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Evaluation:
    """The scores of many cases, and what they say together.

    Attributes:
        cases: One entry for each case, in the order given.
        summary: For each class, the mean of each metric over the cases where it is defined.
            The row `mean` holds the mean over classes, and what concerns all classes: means over
            cases, but calibration errors of all cases' elements pooled.
        undefined: How many cases each mean leaves out, because the number is NaN there.
        intervals: Lower and upper end of the 95 % bootstrap interval of each number in the
            summary; NaN for fewer than two cases.
        reliability: The pooled reliability curve of each region, `image` and `boundary` (and
            both before scaling, where models have a temperature); empty without probabilities.
    """

    cases: tuple[CaseScore, ...]
    summary: Table
    undefined: dict[str, dict[str, int]]
    intervals: dict[str, dict[str, tuple[float, float]]]
    reliability: dict[str, ReliabilityCurve]


def summarise(scores: Sequence[CaseScore], classes: ClassList) -> Evaluation:
    """Average the scores of many cases, with intervals.

    The intervals are percentiles over 2000 resamples of whole cases, with a fixed seed, so
    the same scores give the same intervals.

    Args:
        scores: What `score_case` returned for each case.
        classes: The classes that were scored.

    Raises:
        InputError: If there is no case, or a class has a name that the summary needs.

    Source:
        Efron and Tibshirani, An introduction to the bootstrap, 1993, section 13.3.
    """
    if not scores:
        raise InputError("scores must hold at least one case; there is nothing to summarise")
    check_class_names(classes)
    n_cases = len(scores)
    once = np.ones((1, n_cases), np.int64)
    resamples = np.random.default_rng(SEED).multinomial(
        n_cases, np.full(n_cases, 1 / n_cases), size=N_RESAMPLES
    )
    means = _means(scores, classes.foreground, once)
    resampled = _means(scores, classes.foreground, resamples)
    rows = [_case_row(score) for score in scores]
    return Evaluation(
        cases=tuple(scores),
        summary={row: {m: float(v[0]) for m, v in means[row].items()} for row in means},
        undefined={
            row: {m: sum(math.isnan(case[row].get(m, math.nan)) for case in rows) for m in metrics}
            for row, metrics in means.items()
        },
        intervals={
            row: {m: _interval(v, n_cases) for m, v in resampled[row].items()} for row in resampled
        },
        reliability={
            region: merge([score.curves[region] for score in scores if region in score.curves])
            for region in POOLED_ERRORS.values()
            if any(region in score.curves for score in scores)
        },
    )


def check_class_names(classes: ClassList) -> None:
    """Refuse classes that could not be told from other rows of a summary.

    Raises:
        InputError: If a foreground class is named "mean", "case" or like a metric of all classes.
    """
    known = {"case", MEAN, *CALIBRATION_METRICS, *UNSCALED_METRICS, *RATERS_METRICS}
    for name in sorted(classes.foreground):
        if name in known or ONE_RATER.fullmatch(name):
            raise InputError(f"a class is named {name!r}, as the summary is; rename it")


def write_metrics(evaluation: Evaluation, folder: Path) -> None:
    """Write `metrics.json` with everything, and `metrics.csv` with a row for each number.

    The CSV has the columns case, class, metric and value; what concerns all classes together
    has the class `all`. Undefined numbers are null in JSON and empty in the CSV.

    Raises:
        FileError: If the files cannot be written.
    """
    document = {
        "n_cases": len(evaluation.cases),
        "summary": evaluation.summary,
        "intervals": evaluation.intervals,
        "undefined": evaluation.undefined,
        "reliability": {
            region: {
                "confidence": curve.confidence.tolist(),
                "accuracy": curve.accuracy.tolist(),
                "count": curve.count.tolist(),
            }
            for region, curve in evaluation.reliability.items()
        },
        "cases": [_case_document(score) for score in evaluation.cases],
    }
    text = json.dumps(nan_to_null(document), indent=2, ensure_ascii=False, allow_nan=False)
    write_text(folder / "metrics.json", text + "\n")
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(("case", "class", "metric", "value"))
    writer.writerows(_long_rows(evaluation.cases))
    write_text(folder / "metrics.csv", table.getvalue())


def _means(
    scores: Sequence[CaseScore], class_names: Sequence[str], weights: Weights
) -> dict[str, dict[str, Float64[np.ndarray, "resample"]]]:
    # Each number of the summary, for each way of counting the cases several times or never.
    means = {
        name: {
            metric: _weighted_mean(np.array([s.classes[name][metric] for s in scores]), weights)
            for metric in METRICS
        }
        for name in class_names
    }
    of_all = {
        metric: _nanmean(np.stack([means[name][metric] for name in class_names]))
        for metric in METRICS
    }
    for metric in dict.fromkeys(metric for score in scores for metric in score.overall):
        if metric in POOLED_ERRORS:
            of_all[metric] = _pooled_error(scores, POOLED_ERRORS[metric], weights)
        else:
            values = np.array([s.overall.get(metric, math.nan) for s in scores])
            of_all[metric] = _weighted_mean(values, weights)
    return {**means, MEAN: of_all}


def _weighted_mean(values: CaseValues, weights: Weights) -> Float64[np.ndarray, "resample"]:
    is_defined = np.isfinite(values)
    count = weights @ is_defined.astype(np.int64)
    total = weights @ np.where(is_defined, values, 0.0)
    return total / np.where(count > 0, count, math.nan)


def _nanmean(values: Float64[np.ndarray, "row column"]) -> Float64[np.ndarray, "column"]:
    count = np.isfinite(values).sum(axis=0)
    return np.nansum(values, axis=0) / np.where(count > 0, count, math.nan)


def _pooled_error(
    scores: Sequence[CaseScore], region: str, weights: Weights
) -> Float64[np.ndarray, "resample"]:
    curves = [(s.curves[region], i) for i, s in enumerate(scores) if region in s.curves]
    if not curves:
        return np.full(len(weights), math.nan)
    gaps = np.array([c.count * np.nan_to_num(c.confidence - c.accuracy) for c, _ in curves])
    counts = np.array([c.count for c, _ in curves])
    used = weights[:, [i for _, i in curves]]
    n_elements = (used @ counts).sum(axis=1)
    gap = np.abs(used @ gaps).sum(axis=1)
    return gap / np.where(n_elements > 0, n_elements, math.nan)


def _interval(resampled: Float64[np.ndarray, "resample"], n_cases: int) -> tuple[float, float]:
    if n_cases < 2 or np.isnan(resampled).all():
        return (math.nan, math.nan)
    low, high = np.nanpercentile(resampled, (2.5, 97.5))
    return (float(low), float(high))


def _case_row(score: CaseScore) -> dict[str, Mapping[str, float]]:
    # A case's own numbers by the rows of the summary.
    values = np.array([[of_class[m] for m in METRICS] for of_class in score.classes.values()])
    mean = dict(zip(METRICS, _nanmean(values).tolist(), strict=True))
    return {**score.classes, MEAN: {**mean, **score.overall}}


def _case_document(score: CaseScore) -> dict[str, Any]:
    row = _case_row(score)
    mean = {metric: row[MEAN][metric] for metric in METRICS}
    return {"case": score.id, **row, MEAN: mean, **score.overall}


def _long_rows(scores: Sequence[CaseScore]) -> Iterator[tuple[str, str, str, str]]:
    for score in scores:
        for name, metrics in (*score.classes.items(), ("all", score.overall)):
            for metric, value in metrics.items():
                yield score.id, name, metric, "" if math.isnan(value) else repr(float(value))


def nan_to_null(value: Any) -> Any:
    """Replace undefined numbers, however deep, by what JSON has for them."""
    if isinstance(value, dict):
        return {name: nan_to_null(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [nan_to_null(inner) for inner in value]
    return None if isinstance(value, float) and math.isnan(value) else value
