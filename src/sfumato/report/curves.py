"""Drawings of numbers: training curves, reliability, the spread over cases.

Each function returns an SVG document that is light or dark as its reader prefers.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float64
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullFormatter

from sfumato.metrics.calibration import ReliabilityCurve
from sfumato.report.colours import CLASS_COLOURS, class_colour, class_line_style
from sfumato.report.lettering import drawable, legend_label, plain
from sfumato.report.vector import GRID, INK, MUTED, svg

Numbers = Float64[np.ndarray, " n"]
HistoryRow = Mapping[str, Any]

LOSS_TERMS = {
    "loss_total": ("total", INK, "solid"),
    "loss_hard": ("against the hard label", CLASS_COLOURS[4], "solid"),
    "loss_soft": ("against the soft label", CLASS_COLOURS[5], "solid"),
}
CURVE_COLOURS = (INK, CLASS_COLOURS[4], CLASS_COLOURS[5], CLASS_COLOURS[3])


def training_curves(history: Sequence[HistoryRow], class_names: Sequence[str] = ()) -> bytes:
    """Draw the loss and the validation Dice of a training run, against steps and minutes.

    The loss is drawn faintly as it was, and strongly averaged over a fortieth of the run on
    both sides.

    Args:
        history: One mapping for each noted step: `step`, and whatever is known of
            `elapsed_seconds`, `loss_hard`, `loss_soft`, `loss_total`, `dice` (by class) and
            `mean_dice`. What a row lacks is left out.
        class_names: The foreground classes in their order, so that each keeps its colour;
            if not given, the order in which they appear.
    """
    figure = Figure(figsize=(10.4, 3.7))
    loss_axes, dice_axes = figure.subplots(1, 2)
    _draw_losses(loss_axes, history)
    _draw_validation(dice_axes, history, class_names)
    for axes in (loss_axes, dice_axes):
        style_axes(axes)
        axes.xaxis.set_major_formatter("{x:g} steps")
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        _add_minutes(axes, history)
        _legend(axes)
    figure.subplots_adjust(left=0.055, right=0.985, bottom=0.2, top=0.84, wspace=0.14)
    return svg(figure)


def reliability_diagram(curves: Mapping[str, ReliabilityCurve]) -> bytes:
    """Draw how often a model is right against how sure it is.

    On the diagonal, of all elements given a probability of 0.7, seven in ten are right. The
    strip beneath shows how many elements got which probability (on a logarithmic scale).

    Args:
        curves: What each line stands for, and the line; bins without elements are left out.
    """
    figure = Figure(figsize=(5.2, 6.2))
    axes, strip = figure.subplots(2, 1, sharex=True, height_ratios=(5, 1.1))
    axes.plot([0, 1], [0, 1], color=MUTED, linewidth=1, linestyle=(0, (4, 3)))
    for place, words in (((0.03, 0.97), "too cautious"), ((0.97, 0.04), "too sure")):
        side = {"ha": "left", "va": "top"} if place[0] < 0.5 else {"ha": "right", "va": "bottom"}
        axes.text(*place, words, color=MUTED, fontsize=9, style="italic", **side)
    for i, (name, curve) in enumerate(curves.items()):
        _draw_reliability(axes, strip, name, curve, i)
    axes.set(xlim=(0, 1), ylim=(0, 1), ylabel="share that was right")
    strip.set_yscale("log")
    strip.set(ylim=(1e-5, 1), xlabel="probability given", ylabel="elements")
    for each in (axes, strip):
        style_axes(each)
    strip.set_yticks([1e-4, 1e-2, 1], ["0.01 %", "1 %", "100 %"])
    strip.yaxis.set_minor_formatter(NullFormatter())
    strip.tick_params(axis="y", which="minor", length=0)
    _legend(axes)
    figure.subplots_adjust(left=0.16, right=0.97, bottom=0.09, top=0.91, hspace=0.09)
    return svg(figure)


def distribution_plot(values: Mapping[str, Sequence[float]], label: str = "Dice") -> bytes:
    """Draw one dot a case for each class, with median and quartiles.

    Args:
        values: The cases' values by class, foreground classes in their order; NaN where a
            value is undefined, which is counted beside the dots.
        label: What the values are.
    """
    height = 1.0 + 0.62 * max(len(values), 1)
    figure = Figure(figsize=(7.2, height))
    axes = figure.subplots()
    for row, numbers in enumerate(values.values()):
        _draw_spread(axes, row, np.asarray(numbers, np.float64))
    axes.set_yticks(range(len(values)), [drawable(name, 30) for name in values])
    for tick in axes.get_yticklabels():
        tick.set_parse_math(False)
    axes.set_ylim(max(len(values), 1) - 0.4, -0.6)
    axes.set_xlabel(label)
    style_axes(axes)
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", labelsize=10, labelcolor=INK)
    longest = max((len(name) for name in values), default=0)
    left = 0.05 + 0.0115 * min(longest, 30)
    figure.subplots_adjust(left=left, right=0.87, bottom=0.6 / height, top=1 - 0.1 / height)
    return svg(figure)


def _draw_losses(axes: Axes, history: Sequence[HistoryRow]) -> None:
    for key, (name, colour, style) in LOSS_TERMS.items():
        steps, losses = _series(history, key)
        if not steps.size:
            continue
        marker = "o" if steps.size < 3 else None
        smooth = _moving_average(losses, steps.size // 40)
        axes.plot(steps, losses, color=colour, linewidth=0.7, alpha=0.3)
        axes.plot(
            steps, smooth, color=colour, linewidth=1.9, linestyle=style, label=name, marker=marker
        )
    _heading(axes, "Loss while training")


def _draw_validation(axes: Axes, history: Sequence[HistoryRow], class_names: Sequence[str]) -> None:
    names = list(class_names)
    for row in history:
        names += [name for name in row.get("dice") or {} if name not in names]
    for k, name in enumerate(names):
        rows = [
            {"step": row.get("step"), name: (row.get("dice") or {}).get(name)} for row in history
        ]
        _draw_dice(axes, _series(rows, name), name, class_colour(k), class_line_style(k))
    if len(names) != 1:
        _draw_dice(axes, _series(history, "mean_dice"), "mean", INK, "solid")
    axes.set_ylim(top=1)
    _heading(axes, "Dice on the validation cases")


def _draw_dice(
    axes: Axes, series: tuple[Numbers, Numbers], name: str, colour: str, style: str
) -> None:
    steps, values = series
    if not steps.size:
        return
    marker = "o" if steps.size <= 40 else None
    width = 2.2 if colour == INK else 1.6
    axes.plot(
        steps,
        values,
        color=colour,
        linestyle=style,
        linewidth=width,
        marker=marker,
        markersize=3.5,
        label=legend_label(name),
    )


def _draw_reliability(
    axes: Axes, strip: Axes, name: str, curve: ReliabilityCurve, index: int
) -> None:
    is_used = (np.asarray(curve.count) > 0) & np.isfinite(curve.accuracy)
    share = np.asarray(curve.count, np.float64)[is_used]
    share /= max(share.sum(), 1.0)
    confidence, accuracy = curve.confidence[is_used], curve.accuracy[is_used]
    colour = CURVE_COLOURS[index % len(CURVE_COLOURS)]
    axes.plot(confidence, accuracy, color=colour, linewidth=1.8, label=legend_label(name))
    # Dots grow with what they stand for, so that a bin of ten elements does not shout.
    axes.scatter(confidence, accuracy, s=12 + 70 * np.sqrt(share), color=colour, linewidths=0)
    strip.plot(
        confidence, share, color=colour, linewidth=1.6, marker="o", markersize=3, clip_on=False
    )


def _draw_spread(axes: Axes, row: int, numbers: Numbers) -> None:
    defined = np.sort(numbers[np.isfinite(numbers)])
    colour = class_colour(row)
    n_undefined = numbers.size - defined.size
    words = f"{defined.size} cases" + (f"\n{n_undefined} undefined" if n_undefined else "")
    axes.annotate(
        words,
        (1.015, row),
        xycoords=("axes fraction", "data"),
        va="center",
        fontsize=8.5,
        color=MUTED,
        annotation_clip=False,
    )
    if not defined.size:
        return
    # Neighbours in value are spread up and down by the golden ratio: even, and the same each time.
    offset = (np.arange(defined.size) * 0.6180339887 % 1 - 0.5) * 0.36
    axes.scatter(defined, row + offset, s=16, color=colour, alpha=0.75, linewidths=0)
    low, middle, high = np.percentile(defined, (25, 50, 75))
    axes.plot([low, high], [row, row], color=INK, linewidth=1.2)
    axes.plot([middle, middle], [row - 0.24, row + 0.24], color=INK, linewidth=2.2)


def _series(rows: Sequence[HistoryRow], key: str) -> tuple[Numbers, Numbers]:
    """Return steps and values of the rows that have both."""
    pairs = [
        (float(row["step"]), float(row[key]))
        for row in rows
        if row.get("step") is not None and row.get(key) is not None
    ]
    table = np.array(pairs, np.float64).reshape(-1, 2)
    table = table[np.isfinite(table).all(axis=1)]
    return table[:, 0], table[:, 1]


def _moving_average(values: Numbers, reach: int) -> Numbers:
    """Average each value with `reach` neighbours on both sides, fewer at the ends."""
    window = np.ones(2 * reach + 1)
    total = np.convolve(values, window)[reach : reach + values.size]
    return total / np.convolve(np.ones_like(values), window)[reach : reach + values.size]


def _add_minutes(axes: Axes, history: Sequence[HistoryRow]) -> None:
    """Write the minutes under the steps at which they were reached."""
    steps, seconds = _series(history, "elapsed_seconds")
    if steps.size < 2 or seconds[-1] <= seconds[0]:
        return
    # After a resumed run the clock may step back; the axis must not.
    minutes = np.maximum.accumulate(seconds) / 60
    first, last = axes.get_xlim()
    ticks = MaxNLocator(5).tick_values(minutes[0], minutes[-1])
    ticks = ticks[(ticks >= minutes[0]) & (ticks <= minutes[-1])]
    below = axes.secondary_xaxis(-0.13)
    below.set_xticks(np.interp(ticks, minutes, steps), [f"{tick:g} min" for tick in ticks])
    below.tick_params(colors=MUTED, labelsize=9, length=0)
    below.spines["bottom"].set_visible(False)
    axes.set_xlim(first, last)


def _heading(axes: Axes, words: str) -> None:
    axes.set_title(words, fontsize=11, color=INK, loc="left", fontweight="bold", pad=24)


def style_axes(axes: Axes) -> None:
    """Give axes the page's colours, a grid and no frame."""
    axes.set_facecolor("none")
    axes.figure.set_facecolor("none")
    axes.grid(visible=True, color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(MUTED)
    axes.tick_params(colors=MUTED, labelsize=9, length=3)
    axes.tick_params(which="minor", colors=MUTED)
    for label in (axes.xaxis.label, axes.yaxis.label):
        label.set_color(MUTED)
        label.set_fontsize(9)


def _legend(axes: Axes) -> None:
    if not axes.get_legend_handles_labels()[0]:
        axes.text(0.5, 0.5, "not recorded", transform=axes.transAxes, ha="center", color=MUTED)
        return
    legend = axes.legend(
        loc="lower left",
        bbox_to_anchor=(0, 1.0),
        ncols=4,
        fontsize=9,
        labelcolor=INK,
        frameon=False,
        borderaxespad=0.2,
        borderpad=0,
        handlelength=1.5,
        columnspacing=1.2,
    )
    plain(legend)
