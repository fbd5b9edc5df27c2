"""What the page on an experiment says of training labels that were spoilt on purpose."""

import math
from collections.abc import Mapping, Sequence

from sfumato.evaluation.experiment import Degradation, ExperimentSummary
from sfumato.evaluation.runs import NO_NOISE, Condition
from sfumato.evaluation.spoilt import SpoiltSummary
from sfumato.evaluation.summary import MEAN
from sfumato.report.comparison_curves import noise_curves
from sfumato.report.comparison_words import (
    condition_words,
    degradation_sentences,
    difference_number,
    interval_words,
    noise_words,
    panel_name,
    told_metrics,
)
from sfumato.report.metric_words import counted, metric_number
from sfumato.report.page import Cell, Picture, Row, Section, Table

PANELS = ("dice", "assd_mm", "ece_boundary", "brier_boundary")
"""Metrics that are drawn against the number of training cases, and against noise."""
LESS_OR_MORE = {"better": "less than", "worse": "more than"}


def noise_sections(
    summary: ExperimentSummary, spoilt: Mapping[str, SpoiltSummary]
) -> list[Section]:
    """Return the sections on spoilt labels; none where no labels were spoilt.

    Args:
        summary: What was found.
        spoilt: For each noise, how far it spoilt training labels.
    """
    sections = []
    if spoilt:
        text = "Labels were spoilt for training only; every score is against labels as drawn."
        sections.append(
            Section(title="How far labels were spoilt", text=text, table=_spoilt_table(spoilt))
        )
    if summary.degradations:
        sections.append(
            Section(
                title="What spoilt labels cost",
                text="\n\n".join(degradation_sentences(summary)),
                table=_degradation_table(summary),
                pictures=[_noise_picture(summary, n) for n in summary.train_cases],
            )
        )
    return sections


def curve_panels(
    summary: ExperimentSummary, conditions: Sequence[Condition]
) -> dict[str, dict[str, list[float]]]:
    """Return for every drawn metric and kind of label its averages under some conditions."""
    return {
        panel_name(metric): {
            softener: [_mean(summary, softener, condition, metric) for condition in conditions]
            for softener in summary.softeners
        }
        for metric in PANELS
    }


def _mean(summary: ExperimentSummary, softener: str, condition: Condition, metric: str) -> float:
    average = summary.average(softener, condition, MEAN, metric)
    return math.nan if average is None else average.mean


def _noise_picture(summary: ExperimentSummary, train_cases: int | None) -> Picture:
    conditions = [Condition(train_cases=train_cases, noise=noise) for noise in summary.noises]
    return Picture(
        title=f"Trained on {condition_words(Condition(train_cases=train_cases))}",
        content=noise_curves(
            [noise_words(noise) for noise in summary.noises], curve_panels(summary, conditions)
        ),
        alt="Metrics by the noise of training labels, a line for each kind of label.",
    )


def _spoilt_table(spoilt: Mapping[str, SpoiltSummary]) -> Table:
    names = list(next(iter(spoilt.values())).dice)
    return Table(
        columns=["noise", "labels", *names],
        rows=[
            [
                noise,
                Cell(text=str(found.n_labels), is_number=True),
                *(_spoilt_cell(found, name) for name in names),
            ]
            for noise, found in spoilt.items()
        ],
        caption="Mean Dice between spoilt labels and those that were drawn.",
    )


def _spoilt_cell(found: SpoiltSummary, name: str) -> Cell:
    n_vanished = found.n_vanished[name]
    return Cell(
        text=metric_number("dice", found.dice[name]),
        detail=f"vanished in {counted(n_vanished, 'label')}" if n_vanished else "",
        is_number=True,
    )


def _degradation_table(summary: ExperimentSummary) -> Table:
    rows: list[Row] = []
    told = told_metrics(summary)
    for condition in summary.conditions:
        if condition.noise == NO_NOISE:
            continue
        for softener in summary.softeners:
            found = [summary.degradation(softener, condition, MEAN, metric) for metric in told]
            if any(found):
                head = f"{softener}, {condition_words(condition)}"
                rows.append([head, *(_degradation_cell(entry, summary) for entry in found)])
    return Table(
        columns=["labels", *map(panel_name, told)],
        rows=rows,
        caption="Models trained on spoilt labels less those trained on labels as drawn, with 95 %"
        f" intervals; beneath, whether that is more or less than with {summary.baseline}, where it"
        " can be told.",
    )


def _degradation_cell(entry: Degradation | None, summary: ExperimentSummary) -> Cell:
    if entry is None:
        return Cell(text="", is_number=True)
    details = [interval_words(entry.metric, entry.found)]
    beside = entry.beside_baseline
    if beside is not None and beside.verdict in LESS_OR_MORE:
        details.append(f"{LESS_OR_MORE[beside.verdict]} {summary.baseline}")
    return Cell(
        text=difference_number(entry.metric, entry.found.difference),
        detail="\n".join(filter(None, details)),
        is_number=True,
    )
