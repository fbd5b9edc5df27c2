"""The page on an experiment: what each kind of soft label changed, and how sure that is."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product

import numpy as np

from sfumato.evaluation.experiment import CLASS_METRICS, Average, Contrast, ExperimentSummary
from sfumato.evaluation.rater_scores import ONE_RATER, RATERS_METRICS
from sfumato.evaluation.runs import Condition
from sfumato.evaluation.scores import CALIBRATION_METRICS, UNSCALED
from sfumato.evaluation.spoilt import SpoiltSummary
from sfumato.evaluation.summary import MEAN
from sfumato.metrics.calibration import ReliabilityCurve
from sfumato.report.comparison_curves import (
    LearningCurve,
    case_number_curves,
    forest_plot,
    learning_curves,
)
from sfumato.report.comparison_noise import curve_panels, noise_sections
from sfumato.report.comparison_words import (
    condition_words,
    difference_number,
    headline,
    interval_words,
    noise_words,
    p_words,
    panel_name,
    short_name,
    told_metrics,
    verdict_sentences,
)
from sfumato.report.curves import reliability_diagram
from sfumato.report.metric_words import counted, metric_number, metric_words
from sfumato.report.page import Cell, Picture, Report, Row, Section, Table, render_page

INTERVAL_NOTE = (
    "Intervals are over cases and seeds. They do not cover other training cases than those of the"
    " folds, nor other scanners or patients."
)
CHANCE_NOTE = (
    "Of comparisons of a thing with itself, about one in twenty is called better or worse by"
    " chance. The more metrics and kinds of label are compared, the more such verdicts there are;"
    " p-values are corrected for that by Holm."
)
GLOSSARY = {
    "Interval": "95 % interval of the difference, over other cases of the same kind and other"
    " seeds.",
    "Effect size": "Rank-biserial correlation: 1 if every case improved, −1 if none did, 0 if both"
    " weigh the same.",
    "Smallest effect": "The difference that an experiment of this size would find in four of five"
    " attempts. Smaller ones may well exist.",
    "Seed deviation": "Standard deviation over seeds: how far models lie apart that differ in"
    " nothing but their seed.",
}


@dataclass(frozen=True, kw_only=True)
class TrainingLength:
    """What trainings took, on average.

    Attributes:
        steps: Steps of the optimiser.
        minutes: Minutes of training and validation, without preparing cases.
    """

    steps: float
    minutes: float


@dataclass(frozen=True, kw_only=True)
class ExperimentPictures:
    """What is drawn besides the numbers.

    Attributes:
        learning: For each condition, a line of each kind of label.
        reliability: For each kind of label, its pooled curves by region.
        cases: Overlays of cases that gained and lost most, both models of each.
        most_cases: How many cases the fold with most trains on, for "all".
        lengths: For each kind of label and condition, what training took.
        temperatures: For each kind of label and condition, those of its models; empty where
            none was fitted.
        spoilt: For each noise, how far it spoilt training labels.
    """

    learning: Mapping[Condition, Sequence[LearningCurve]]
    reliability: Mapping[str, Mapping[str, ReliabilityCurve]]
    cases: Sequence[Picture]
    most_cases: int
    lengths: Mapping[tuple[str, Condition], TrainingLength] = field(default_factory=dict)
    temperatures: Mapping[tuple[str, Condition], Sequence[float]] = field(default_factory=dict)
    spoilt: Mapping[str, SpoiltSummary] = field(default_factory=dict)


def comparison_page(
    summary: ExperimentSummary,
    pictures: ExperimentPictures,
    *,
    title: str,
    notes: Sequence[str] = (),
    provenance: Mapping[str, object] | None = None,
) -> str:
    """Return the page on an experiment, as HTML that needs nothing else.

    Args:
        summary: What was found.
        pictures: What is drawn besides.
        title: The page's heading.
        notes: What else the reader has to bear in mind.
        provenance: How the page came about.
    """
    sections = [
        *_glance_sections(summary),
        Section(title="What came out", text="\n\n".join(verdict_sentences(summary))),
        *_average_sections(summary, pictures.lengths),
        *_temperature_sections(summary, pictures.temperatures),
        *_rater_sections(summary),
        _contrast_section(summary),
        *noise_sections(summary, pictures.spoilt),
        *_case_number_sections(summary, pictures.most_cases),
        *_learning_sections(pictures),
        *_reliability_sections(pictures),
    ]
    if pictures.cases:
        text = "Held-out cases whose mean Dice, averaged over seeds, changed most."
        sections.append(Section(title="Cases to look at", text=text, pictures=pictures.cases))
    report = Report(
        title=title,
        headline=headline(summary),
        notes=[INTERVAL_NOTE, CHANCE_NOTE, *notes],
        sections=sections,
        provenance=provenance,
        glossary=_glossary(summary),
    )
    return render_page(report)


def _glossary(summary: ExperimentSummary) -> dict[str, str]:
    told = told_metrics(summary)
    words = [metric_words(metric) for metric in told if not metric.endswith("_boundary")]
    return {word.name: word.meaning for word in words} | GLOSSARY


def _glance_sections(summary: ExperimentSummary) -> list[Section]:
    """All differences in one picture."""
    rows = [(s, c) for c in summary.conditions for s in summary.softeners[1:]]
    panels = {}
    for metric in told_metrics(summary):
        contrasts = [summary.contrast(s, c, MEAN, metric) for s, c in rows]
        if any(contrasts):
            unit = " (mm)" if metric.endswith("_mm") else ""
            panels[panel_name(metric) + unit] = [c.found if c else None for c in contrasts]
    if not panels:
        return []
    groups = {condition_words(c): summary.softeners[1:] for c in summary.conditions}
    picture = Picture(
        content=forest_plot(groups, panels),
        alt=" ".join(verdict_sentences(summary)),
        caption=f"Each kind of label less {summary.baseline}, with 95 % intervals. Right is better;"
        " green is better, red is worse, and grey cannot be told from no difference.",
    )
    return [Section(title="What soft labels buy, and what they cost", pictures=[picture])]


def _average_sections(
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


def _temperature_sections(
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


def _rater_sections(summary: ExperimentSummary) -> list[Section]:
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


def _contrast_section(summary: ExperimentSummary) -> Section:
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


def _case_number_sections(summary: ExperimentSummary, most_cases: int) -> list[Section]:
    numbers = sorted(summary.train_cases, key=lambda n: most_cases if n is None else n)
    if len(numbers) < 2:
        return []
    drawn = []
    for noise in summary.noises:
        conditions = [Condition(train_cases=n, noise=noise) for n in numbers]
        content = case_number_curves(
            [most_cases if n is None else n for n in numbers], curve_panels(summary, conditions)
        )
        alt = "Metrics against the number of training cases, a line for each kind of label."
        title = "" if len(summary.noises) == 1 else noise_words(noise)
        drawn.append(Picture(title=title, content=content, alt=alt))
    return [Section(title="With more training cases", pictures=drawn)]


def _learning_sections(pictures: ExperimentPictures) -> list[Section]:
    drawn = [
        Picture(
            title=f"Trained on {condition_words(condition)}",
            content=learning_curves(curves),
            alt="Validation Dice in the course of training, a line for each kind of label.",
        )
        for condition, curves in pictures.learning.items()
        if curves
    ]
    text = "Averages over folds and seeds of the Dice on the cases looked at along the way."
    return [Section(title="In the course of training", text=text, pictures=drawn)] if drawn else []


def _reliability_sections(pictures: ExperimentPictures) -> list[Section]:
    drawn = [
        Picture(
            title=softener,
            content=reliability_diagram(curves),
            alt=f"How often models trained on {softener} labels are right against how sure they"
            " are.",
            width="half",
        )
        for softener, curves in pictures.reliability.items()
        if curves
    ]
    text = "An honest model that states 0.7 is right seven times in ten: its line is the diagonal."
    title = "How honest the probabilities are"
    return [Section(title=title, text=text, pictures=drawn)] if drawn else []
