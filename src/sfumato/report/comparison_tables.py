"""The tables of the page on an experiment."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from sfumato.evaluation.experiment import CLASS_METRICS, Average, Contrast, ExperimentSummary
from sfumato.evaluation.rater_scores import ONE_RATER, RATERS_METRICS
from sfumato.evaluation.runs import Condition
from sfumato.evaluation.scores import CALIBRATION_METRICS, UNSCALED
from sfumato.evaluation.summary import MEAN
from sfumato.report.comparison_words import (
    condition_words,
    difference_number,
    interval_words,
    p_words,
    panel_name,
    short_name,
    told_metrics,
)
from sfumato.report.metric_words import counted, metric_number, metric_words
from sfumato.report.page import Cell, Row, Section, Table


@dataclass(frozen=True, kw_only=True)
class TrainingLength:
    """What trainings took, on average.

    Attributes:
        steps: Steps of the optimiser.
        minutes: Minutes of training and validation, without preparing cases.
    """

    steps: float
    minutes: float


def average_sections(
    summary: ExperimentSummary, lengths: Mapping[tuple[str, Condition], TrainingLength]
) -> list[Section]:
    """Averages of the mean over classes, with what training took; then class by class."""
    told = [metric for metric in told_metrics(summary) if metric not in RATERS_METRICS]
    rows = _average_rows(summary, [MEAN], told)
    arms = [(s, c) for c in summary.conditions for s in summary.softeners]
    cost = {_arm_words(s, c): _length_cell(lengths.get((s, c))) for s, c in arms}
    table = Table(
        columns=["labels", *map(panel_name, told), "minutes"],
        rows=[[*row, cost[str(row[0])]] for row in rows],
        caption="Averages over cases, each averaged over its seeds; beneath them the standard"
        " deviation over seeds. HD95 and ASSD are in mm; minutes and steps of training are means.",
    )
    sections = [Section(title="Averages", table=table)]
    classes = [name for name in summary.class_names if name != MEAN]
    if classes:
        table = Table(
            columns=["labels", *map(panel_name, CLASS_METRICS)],
            rows=_average_rows(summary, classes, CLASS_METRICS),
            summary="Averages of every class",
        )
        sections.append(Section(title="Class by class", table=table))
    return sections


def _average_rows(
    summary: ExperimentSummary, class_names: Sequence[str], metrics: Sequence[str]
) -> list[Row]:
    rows: list[Row] = []
    for condition in summary.conditions:
        for softener in summary.softeners:
            for name in class_names:
                found = [summary.average(softener, condition, name, metric) for metric in metrics]
                if any(found):
                    head = _arm_words(softener, condition) + f", {name}" * (name != MEAN)
                    rows.append([head, *map(_average_cell, found)])
    return rows


def _arm_words(softener: str, condition: Condition) -> str:
    return f"{softener}, {condition_words(condition)}"


def _length_cell(length: TrainingLength | None) -> Cell:
    if length is None:
        return Cell(text="", is_number=True)
    detail = counted(round(length.steps), "step")
    return Cell(text=f"{length.minutes:.1f}", detail=detail, is_number=True)


def _average_cell(average: Average | None) -> Cell:
    if average is None:
        return Cell(text="", is_number=True)
    details = []
    if math.isfinite(average.seed_deviation):
        deviation = difference_number(average.metric, average.seed_deviation, is_signed=False)
        details.append(f"± {deviation}")
    if average.n_undefined:
        details.append(f"{average.n_undefined} undefined")
    return Cell(
        text=metric_number(average.metric, average.mean),
        detail="\n".join(details),
        is_number=True,
    )


def temperature_sections(
    summary: ExperimentSummary, temperatures: Mapping[tuple[str, Condition], Sequence[float]]
) -> list[Section]:
    """What one temperature for each model does; nothing where none was fitted."""
    rows: list[Row] = []
    for condition, softener in product(summary.conditions, summary.softeners):
        if not (fitted := temperatures.get((softener, condition))):
            continue
        middle, ends = f"{np.mean(fitted):.2f}", f"{min(fitted):.2f} to {max(fitted):.2f}"
        row: list[Cell | str] = [
            _arm_words(softener, condition),
            Cell(text=middle, detail=ends if len(fitted) > 1 else "", is_number=True),
        ]
        row += [_scaled_cell(summary, softener, condition, m) for m in CALIBRATION_METRICS]
        rows.append(row)
    if not rows:
        return []
    text = (
        "Every model has a temperature, fitted on training cases that were held back for it. It"
        " changes no segmentation. Everything else on this page is after scaling."
    )
    table = Table(
        columns=["labels", "temperature", *map(panel_name, CALIBRATION_METRICS)],
        rows=rows,
        caption="Averages before → after scaling.",
    )
    return [Section(title="Temperature scaling", text=text, table=table)]


def _scaled_cell(
    summary: ExperimentSummary, softener: str, condition: Condition, metric: str
) -> Cell:
    before, after = (
        metric_number(metric, math.nan if found is None else found.mean)
        for name in (metric + UNSCALED, metric)
        for found in [summary.average(softener, condition, MEAN, name)]
    )
    return Cell(text=f"{before} → {after}", is_number=True)


def rater_sections(summary: ExperimentSummary) -> list[Section]:
    """Averages against all raters and against each; nothing where one person drew."""
    measured = list(dict.fromkeys(average.metric for average in summary.averages))
    together = [metric for metric in RATERS_METRICS if metric in measured]
    if not together:
        return []
    single = [metric for metric in measured if ONE_RATER.fullmatch(metric)]
    text = "Several people drew these cases; everything else on this page is against the first."
    return [
        Section(
            title="Against several people",
            text=text,
            table=Table(
                columns=["labels", *map(panel_name, together)],
                rows=_average_rows(summary, [MEAN], together),
            ),
        ),
        Section(
            title="Rater by rater",
            table=Table(
                columns=["labels", *(metric_words(metric).name for metric in single)],
                rows=_average_rows(summary, [MEAN], single),
                summary="Scores against every rater",
            ),
        ),
    ]


def contrast_section(summary: ExperimentSummary) -> Section:
    """Every comparison with all that is known of it, folded away."""
    columns = ["comparison", "difference", "verdict", "p (Holm)", "effect size", "cases better"]
    columns += ["seed deviation", "smallest effect", "cases"]
    table = Table(
        columns=columns,
        rows=[_contrast_row(contrast) for contrast in summary.contrasts],
        caption="Differences with their 95 % intervals.",
        summary=f"All {counted(len(summary.contrasts), 'comparison')}",
    )
    return Section(title="Every comparison", table=table)


def _contrast_row(contrast: Contrast) -> Row:
    found, metric = contrast.found, contrast.metric
    place = "" if contrast.class_name == MEAN else f", {contrast.class_name}"
    head = (
        f"{contrast.softener}, {condition_words(contrast.condition)}{place}: {short_name(metric)}"
    )
    undefined = f"{found.n_undefined} undefined" if found.n_undefined else ""
    share = "–" if math.isnan(found.share_better) else f"{100 * found.share_better:.0f} %"
    return [
        head,
        Cell(
            text=difference_number(metric, found.difference),
            detail=interval_words(metric, found),
            is_number=True,
        ),
        found.verdict,
        Cell(text=p_words(contrast.corrected_p), is_number=True),
        Cell(
            text="–"
            if math.isnan(found.effect_size)
            else f"{found.effect_size:+.2f}".replace("-", "−"),
            is_number=True,
        ),
        Cell(text=share, is_number=True),
        Cell(text=difference_number(metric, found.seed_deviation, is_signed=False), is_number=True),
        Cell(
            text=difference_number(metric, found.smallest_effect, is_signed=False), is_number=True
        ),
        Cell(text=str(found.n_cases), detail=undefined, is_number=True),
    ]
