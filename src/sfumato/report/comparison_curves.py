"""Drawings of an experiment: differences with intervals, and what more cases or time bring.

Each function returns an SVG document that is light or dark as its reader prefers.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullLocator

from sfumato.evaluation.comparison import PairedComparison
from sfumato.report.colours import CLASS_COLOURS, class_colour
from sfumato.report.curves import style_axes
from sfumato.report.lettering import drawable, legend_label, plain
from sfumato.report.vector import INK, MUTED, svg

VERDICT_COLOURS = {"better": CLASS_COLOURS[3], "worse": CLASS_COLOURS[4]}
WIDTH = 10.4
PANELS_IN_A_ROW = 4
FOREST_ROW = 0.3
"""Height of a line in a plot of differences."""
LONGEST_LABEL = 34


@dataclass(frozen=True, kw_only=True)
class LearningCurve:
    """Validation Dice in the course of training, averaged over the runs of one kind.

    Attributes:
        softener: The kind of soft label.
        steps: Steps at each validation, on average.
        minutes: Minutes at each validation, on average.
        dice: Mean Dice on the validation cases.
    """

    softener: str
    steps: Sequence[float]
    minutes: Sequence[float]
    dice: Sequence[float]


def forest_plot(
    groups: Mapping[str, Sequence[str]], panels: Mapping[str, Sequence[PairedComparison | None]]
) -> bytes:
    """Draw differences with their intervals, one panel a metric and one line a comparison.

    Better lies to the right in every panel, whichever way the metric points. A difference is
    coloured where its interval does not hold 0; others are grey.

    Args:
        groups: For each condition, what is compared with the baseline.
        panels: For each metric its differences, in the order of all groups' rows.
    """
    places, labels = _forest_rows(groups)
    n_lines = -(-len(panels) // PANELS_IN_A_ROW)
    line_height = 1.05 + FOREST_ROW * len(labels)
    height = n_lines * line_height
    figure = Figure(figsize=(WIDTH, height))
    grid = figure.subplots(n_lines, PANELS_IN_A_ROW, squeeze=False)
    for axes in grid.flat[len(panels) :]:
        axes.set_axis_off()
    for i, (axes, (name, found)) in enumerate(zip(grid.flat, panels.items(), strict=False)):
        _draw_forest(axes, name, places, found)
        axes.set_yticks(
            range(len(labels)), labels if i % PANELS_IN_A_ROW == 0 else [""] * len(labels)
        )
        for row, tick in enumerate(axes.get_yticklabels()):
            tick.set_parse_math(False)
            tick.set_fontweight("normal" if row in places else "bold")
        axes.tick_params(axis="y", labelsize=9.5, labelcolor=INK, length=0)
        axes.set_ylim(len(labels) - 0.4, -0.6)
    longest = max(map(len, labels), default=0)
    figure.subplots_adjust(
        left=0.02 + 0.0083 * longest,
        right=0.985,
        bottom=0.5 / height,
        top=1 - 0.38 / height,
        wspace=0.12,
        hspace=0.85 * n_lines / (height - 0.85 * n_lines),
    )
    return svg(figure)


def _forest_rows(groups: Mapping[str, Sequence[str]]) -> tuple[list[int], list[str]]:
    """Return at which lines comparisons stand, and what stands before every line.

    A condition has a line of its own where there are several.
    """
    places: list[int] = []
    labels: list[str] = []
    for condition, rows in groups.items():
        if len(groups) > 1:
            labels.append(drawable(condition, LONGEST_LABEL))
        for row in rows:
            places.append(len(labels))
            labels.append(drawable(row, LONGEST_LABEL))
    return places, labels


def case_number_curves(
    numbers: Sequence[int], panels: Mapping[str, Mapping[str, Sequence[float]]]
) -> bytes:
    """Draw metrics against the number of training cases.

    Args:
        numbers: The numbers of training cases.
        panels: For each metric and kind of soft label its average at each number, the
            baseline first.
    """
    figure = _metric_panels(numbers, panels)
    for axes in figure.axes:
        axes.set_xscale("log")
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xticks(numbers, [f"{n}" for n in numbers])
        axes.set_xlabel("training cases")
    figure.subplots_adjust(left=0.055, right=0.985, bottom=0.16, top=0.78, wspace=0.3)
    return svg(figure)


def noise_curves(
    noises: Sequence[str], panels: Mapping[str, Mapping[str, Sequence[float]]]
) -> bytes:
    """Draw metrics by how training labels were spoilt.

    Args:
        noises: The kinds of noise.
        panels: For each metric and kind of soft label its average with each noise, the
            baseline first.
    """
    figure = _metric_panels(range(len(noises)), panels)
    for axes in figure.axes:
        axes.set_xticks(range(len(noises)), [drawable(noise, 20) for noise in noises])
        axes.tick_params(axis="x", labelrotation=35)
        for tick in axes.get_xticklabels():
            tick.set(parse_math=False, ha="right", rotation_mode="anchor")
        axes.set_xlim(-0.3, len(noises) - 0.7)
    figure.subplots_adjust(left=0.055, right=0.985, bottom=0.27, top=0.78, wspace=0.3)
    return svg(figure)


def learning_curves(curves: Sequence[LearningCurve]) -> bytes:
    """Draw validation Dice against steps and against minutes, a line for each kind of label."""
    figure = Figure(figsize=(WIDTH, 3.5))
    for axes, unit in zip(figure.subplots(1, 2, sharey=True), ("steps", "minutes"), strict=True):
        for i, curve in enumerate(curves):
            along = curve.steps if unit == "steps" else curve.minutes
            axes.plot(along, curve.dice, label=legend_label(curve.softener), **_line(i))
        axes.xaxis.set_major_locator(MaxNLocator(6))
        axes.set_xlabel(unit)
        _title(axes, f"Dice on the validation cases, by {unit}")
        style_axes(axes)
    _one_legend(figure)
    figure.subplots_adjust(left=0.055, right=0.985, bottom=0.15, top=0.78, wspace=0.08)
    return svg(figure)


def _metric_panels(
    places: Sequence[int], panels: Mapping[str, Mapping[str, Sequence[float]]]
) -> Figure:
    """Draw a panel for each metric, with a line for each kind of label."""
    figure = Figure(figsize=(WIDTH, 3.3))
    for axes, (name, curves) in zip(figure.subplots(1, len(panels)), panels.items(), strict=True):
        for i, (softener, values) in enumerate(curves.items()):
            axes.plot(places, values, label=legend_label(softener), **_line(i))
        _title(axes, name)
        style_axes(axes)
    _one_legend(figure)
    return figure


def _draw_forest(
    axes: Axes, name: str, places: Sequence[int], found: Sequence[PairedComparison | None]
) -> None:
    axes.axvline(0, color=MUTED, linewidth=1)
    is_higher_better = True
    for row, comparison in zip(places, found, strict=True):
        if comparison is None or math.isnan(comparison.difference):
            continue
        is_higher_better = comparison.is_higher_better
        colour = VERDICT_COLOURS.get(comparison.verdict, MUTED)
        if not math.isnan(comparison.low):
            axes.plot([comparison.low, comparison.high], [row, row], color=colour, linewidth=2)
        axes.plot([comparison.difference], [row], "o", color=colour, markersize=6)
    end = np.abs([*axes.get_xlim()]).max()  # so that 0 stands in the middle
    axes.set_xlim(*((-end, end) if is_higher_better else (end, -end)))
    # One number on either side, far enough from those of the next panel.
    tick = float(f"{0.65 * end:.1g}")
    axes.set_xticks([-tick, 0, tick], [f"{x:g}".replace("-", "−") for x in (-tick, 0, tick)])
    axes.set_xlabel("← worse    better →", fontsize=8.5, color=MUTED)
    _title(axes, name)
    style_axes(axes)
    axes.grid(visible=False, axis="y")


def _line(index: int) -> dict[str, Any]:
    """Return how the line of a kind of label looks; the baseline, 0, is in ink."""
    colour = INK if index == 0 else class_colour(index - 1)
    return {"color": colour, "linewidth": 1.8, "marker": "o", "markersize": 3.5}


def _title(axes: Axes, words: str) -> None:
    axes.set_title(words, fontsize=10, color=INK, loc="left", fontweight="bold")


def _one_legend(figure: Figure) -> None:
    """Explain the lines once, above all panels."""
    handles, labels = figure.axes[0].get_legend_handles_labels()
    legend = figure.legend(
        handles,
        labels,
        loc="upper left",
        ncols=5,
        fontsize=9,
        labelcolor=INK,
        frameon=False,
        handlelength=1.5,
    )
    plain(legend)
