"""The page on an evaluation: how good the segmentations are, and how far to trust that."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sfumato.evaluation.rater_scores import ONE_RATER, RATERS_METRICS
from sfumato.evaluation.scores import CALIBRATION_METRICS, UNSCALED
from sfumato.metrics.calibration import ReliabilityCurve
from sfumato.report.curves import distribution_plot, reliability_diagram
from sfumato.report.evaluation_words import (
    MEAN,
    Metrics,
    case_words,
    class_names,
    example_cases,
    headline,
    interval_words,
    n_cases,
    number_at,
    undefined_words,
)
from sfumato.report.metric_words import (
    BOUNDARY_BAND,
    GLOSSARY,
    UNDEFINED,
    counted,
    metric_number,
    metric_words,
)
from sfumato.report.page import Card, Cell, Picture, Report, Row, Section, Table, render_page
from sfumato.report.training_page import RunDescription, run_sections, training_headline
from sfumato.report.viewed_case import ViewedCase, viewer_words

RATERS_TEXT = (
    "Several people drew these cases. No segmentation can agree with all of them; probabilities"
    " can, with the share of them that gave each element a class."
)
CARDS = {
    "dice": "1 is perfect overlap, 0 none",
    "hd95_mm": "95 % of the boundary is at most this far off",
    "nsd_": "share of the boundary within tolerance; 1 is perfect",
    "ece": "gap between stated probability and share right; 0 is perfect",
}
HONESTY = (
    "An honest model that states a probability of 0.7 is right seven times in ten: its line"
    " follows the diagonal. Most of an image is easy background, so the boundary band, where"
    " doubt matters, is shown on its own."
)


@dataclass(frozen=True, kw_only=True)
class ShownCase:
    """What the page shows of a case.

    Attributes:
        overlay: The PNG of `overlay_figure`.
        viewed: The case itself, if the reader can look at it from all sides.
    """

    overlay: bytes
    viewed: ViewedCase | None = None


def evaluation_page(
    metrics: Metrics,
    *,
    title: str,
    shown: Mapping[str, ShownCase] | None = None,
    run: RunDescription | None = None,
    notes: Sequence[str] = (),
    extra_sections: Sequence[Section] = (),
) -> str:
    """Return the page on an evaluation.

    Args:
        metrics: `summary` and `intervals` (class or "mean" → metric → number or bounds),
            `undefined` (class → metric → number of cases), `n_cases`, `reliability` ("image",
            "boundary" → confidence, accuracy and count of each bin) and `cases`. All but
            `summary` may be missing.
        title: The page's heading.
        shown: Pictures by case; see `example_cases` for which to draw.
        run: How the model was trained and this page made.
        notes: What the reader has to bear in mind, in plain words.
        extra_sections: Shown after the metrics.

    Returns:
        HTML that needs nothing else.
    """
    run = run or RunDescription()
    sections = [
        _metrics_section(metrics),
        *extra_sections,
        *_reliability_sections(metrics),
        *_rater_sections(metrics),
        *run_sections(run, class_names(metrics), training_headline(run.history)),
        *_overlay_sections(metrics, shown or {}),
        *_case_sections(metrics),
    ]
    report = Report(
        title=title,
        headline=headline(metrics),
        cards=_cards(metrics),
        notes=notes,
        sections=sections,
        provenance=run.provenance,
        glossary=_glossary(metrics),
    )
    return render_page(report)


def _groups(metrics: Metrics) -> list[str]:
    """The classes, and their mean if there are several."""
    names = class_names(metrics)
    return names if len(names) == 1 else [*names, MEAN]


def _metric_names(metrics: Metrics) -> list[str]:
    """The names of the metrics that are given by class."""
    summary = metrics.get("summary", {})
    return list(dict.fromkeys(m for name in class_names(metrics) for m in summary.get(name) or {}))


def _calibration_names(metrics: Metrics) -> list[str]:
    """The names of the calibration metrics; none if there were no probabilities."""
    return [name for name in CALIBRATION_METRICS if _is_measured(metrics, name)]


def _is_measured(metrics: Metrics, name: str) -> bool:
    return math.isfinite(number_at(metrics, "summary", MEAN, name))


def _cards(metrics: Metrics) -> list[Card]:
    names = [*_metric_names(metrics), *_calibration_names(metrics)]
    chosen = [
        (next((name for name in names if name.startswith(start)), None), meaning)
        for start, meaning in CARDS.items()
    ]
    return [_card(metrics, name, meaning) for name, meaning in chosen if name]


def _card(metrics: Metrics, metric: str, meaning: str) -> Card:
    details = []
    interval = interval_words(metrics, MEAN, metric)
    if interval:
        details.append(f"95 % interval {interval}")
    boundary = number_at(metrics, "summary", MEAN, f"{metric}_boundary")
    if math.isfinite(boundary):
        details.append(f"{metric_number(metric, boundary)} in the boundary band")
    value = number_at(metrics, "summary", MEAN, metric)
    return Card(
        label=metric_words(metric).name.removesuffix(" (mm)"),
        value=metric_number(metric, value, with_unit=True),
        detail="; ".join(details),
        meaning=meaning,
    )


def _metrics_section(metrics: Metrics) -> Section:
    names, groups = _metric_names(metrics), _groups(metrics)
    rows: list[Row] = []
    for group in groups:
        head: list[Cell | str] = ["mean of the classes" if group == MEAN else group]
        rows.append(head + [_average_cell(metrics, group, name) for name in names])
    caption = f"Averages over {counted(n_cases(metrics), 'case')}"
    if any(interval_words(metrics, group, name) for group in groups for name in names):
        caption += "; beneath them the 95 % interval of that average"
    if any(undefined_words(metrics, group, name) for group in groups for name in names):
        caption += "; cases where a number is undefined are left out of it"
    columns = ["class", *(metric_words(name).name for name in names)]
    table = Table(columns=columns, rows=rows, caption=f"{caption}.")
    return Section(title="Metrics by class", table=table, pictures=_spread(metrics))


def _average_cell(metrics: Metrics, class_name: str, metric: str) -> Cell:
    details = (
        interval_words(metrics, class_name, metric),
        undefined_words(metrics, class_name, metric),
    )
    return Cell(
        text=metric_number(metric, number_at(metrics, "summary", class_name, metric)),
        detail="\n".join(detail for detail in details if detail),
        is_number=True,
    )


def _spread(metrics: Metrics) -> list[Picture]:
    """Every case's Dice; nothing for fewer than three cases."""
    cases = metrics.get("cases", ())
    names = class_names(metrics)
    values = {name: [number_at(case, name, "dice") for case in cases] for name in names}
    if len(cases) < 3 or not np.isfinite(list(values.values())).any():
        return []
    medians = ", ".join(f"{name} {_median(numbers)}" for name, numbers in values.items())
    return [
        Picture(
            title="Dice, one dot a case",
            content=distribution_plot(values),
            alt=f"Dice of every case by class. Medians: {medians}.",
            caption="The short upright line is the median; the level one spans the middle half"
            " of the cases.",
        )
    ]


def _median(numbers: Sequence[float]) -> str:
    defined = [number for number in numbers if math.isfinite(number)]
    return metric_number("dice", float(np.median(defined))) if defined else UNDEFINED


def _reliability_sections(metrics: Metrics) -> list[Section]:
    """How honest the probabilities are; nothing where none were given."""
    places = {
        "image": "whole image",
        "boundary": "boundary band",
        f"image{UNSCALED}": "whole image, before scaling",
        f"boundary{UNSCALED}": "boundary band, before scaling",
    }
    curves = {
        words: read_curve(metrics["reliability"][place])
        for place, words in places.items()
        if (metrics.get("reliability") or {}).get(place)
    }
    names = _calibration_names(metrics)
    if not curves and not names:
        return []
    pictures = []
    if curves:
        gaps = "; ".join(
            f"{metric_words(n).name} {_average_cell(metrics, MEAN, n).text}" for n in names
        )
        alt = f"How often the model is right against how sure it is. {gaps}"
        pictures.append(Picture(content=reliability_diagram(curves), alt=alt, width="half"))
    table = _calibration_table(metrics, names) if names else None
    title = "How honest the probabilities are"
    return [Section(title=title, text=HONESTY, pictures=pictures, table=table)]


def _calibration_table(metrics: Metrics, names: Sequence[str]) -> Table:
    """Each number, and what it was before the model's temperature where it has one."""
    has_temperature = any(_is_measured(metrics, name + UNSCALED) for name in names)
    rows: list[Row] = []
    for name in names:
        shown = [name, name + UNSCALED] if has_temperature else [name]
        cells = [_average_cell(metrics, MEAN, metric) for metric in shown]
        rows.append([metric_words(name).name, *cells])
    columns = ["calibration", "average", *["before temperature scaling"] * has_temperature]
    return Table(columns=columns, rows=rows)


def _rater_sections(metrics: Metrics) -> list[Section]:
    """How well the model agrees with several people; nothing where one drew."""
    together = [name for name in RATERS_METRICS if _is_measured(metrics, name)]
    if not together:
        return []
    rows: list[Row] = [[metric_words(n).name, _average_cell(metrics, MEAN, n)] for n in together]
    for name in metrics["summary"][MEAN]:
        if ONE_RATER.fullmatch(name) and _is_measured(metrics, name):
            rows.append([metric_words(name).name, _average_cell(metrics, MEAN, name)])
    table = Table(columns=["agreement", "average"], rows=rows)
    return [Section(title="Against several people", text=RATERS_TEXT, table=table)]


def read_curve(bins: Mapping[str, Sequence[float | None]]) -> ReliabilityCurve:
    """Read a reliability curve of a `metrics.json`; what is null there is NaN."""
    confidence, accuracy, count = (
        np.array([math.nan if v is None else v for v in bins[name]], np.float64)
        for name in ("confidence", "accuracy", "count")
    )
    return ReliabilityCurve(
        confidence=confidence, accuracy=accuracy, count=np.nan_to_num(count).astype(np.int64)
    )


def _overlay_sections(metrics: Metrics, shown: Mapping[str, ShownCase]) -> list[Section]:
    if not shown:
        return []
    scores = {str(case["case"]): case for case in metrics.get("cases", ())}
    roles = {example.case_id: example.role for example in example_cases(metrics)}
    # Worst, median, best; then what else was drawn, in the order it was given.
    order = [case_id for case_id in roles if case_id in shown]
    order += [case_id for case_id in shown if case_id not in roles]
    pictures = []
    for case_id in order:
        words = case_words(metrics, scores.get(case_id, {}))
        role = roles.get(case_id)
        pictures.append(
            Picture(
                title=f"{role.capitalize()} case: {case_id}" if role else case_id,
                content=shown[case_id].overlay,
                alt=f"Image, reference, segmentation and doubts of case {case_id}. {words}",
                caption=words,
                viewed=shown[case_id].viewed,
            )
        )
    text = viewer_words([one.viewed for one in shown.values() if one.viewed])
    return [Section(title="Cases to look at", text=text, pictures=pictures)]


def _case_sections(metrics: Metrics) -> list[Section]:
    """Every case's Dice, HD95 and calibration error, folded away."""
    cases = metrics.get("cases", ())
    shown = [
        (group, metric)
        for metric in ("dice", "hd95_mm")
        for group in _groups(metrics)
        if any(metric in (case.get(group) or {}) for case in cases)
    ]
    has_gap = any(math.isfinite(_case_gap(case)) for case in cases)
    rows: list[Row] = []
    for case in cases:
        row: list[Cell | str] = [str(case["case"])]
        row += [_case_cell(metric, number_at(case, group, metric)) for group, metric in shown]
        rows.append(row + [_case_cell("ece", _case_gap(case))] * has_gap)
    columns = ["case", *(f"{metric_words(m).name}, {g}" for g, m in shown)] + ["ECE"] * has_gap
    summary = f"Show all {counted(len(cases), 'case')}"
    table = Table(columns=columns, rows=rows, is_sortable=True, summary=summary)
    return [Section(title="Case by case", table=table)] if cases else []


def _case_gap(case: Mapping[str, Any]) -> float:
    alone = number_at(case, "ece")
    return alone if math.isfinite(alone) else number_at(case, MEAN, "ece")


def _case_cell(metric: str, value: float) -> Cell:
    key = value if math.isfinite(value) else None
    return Cell(text=metric_number(metric, value), is_number=True, sort_key=key)


def _glossary(metrics: Metrics) -> dict[str, str]:
    names = [*_metric_names(metrics), *_calibration_names(metrics)]
    names += [name for name in RATERS_METRICS if _is_measured(metrics, name)]
    # The boundary band has the whole image's metrics; once explained is enough.
    words = [metric_words(name.removesuffix("_boundary")) for name in names]
    terms = {word.name: word.meaning for word in words if word.meaning}
    return terms | {term: meaning for term, meaning in GLOSSARY.items() if _is_needed(term, names)}


def _is_needed(term: str, names: Sequence[str]) -> bool:
    return term != BOUNDARY_BAND or any(name.endswith("_boundary") for name in names)
