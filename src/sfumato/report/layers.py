"""What the panels of a picture are made of: images, contours, borders, masks."""

from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, Int32, UInt8
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.lines import Line2D
from matplotlib.patheffects import Normal, withStroke

from sfumato.cases.case import Case
from sfumato.report.colours import (
    CANVAS_INK,
    REFERENCE_COLOUR,
    UNCERTAIN_COLOUR,
    Rgb,
    class_colour,
    class_line_style,
    rgb,
)
from sfumato.report.slices import Cut

FlatLabel = UInt8[np.ndarray, "row column"]
FlatMask = Bool[np.ndarray, "row column"]

HALO = [withStroke(linewidth=2, foreground="#000000"), Normal()]
"""A dark rim, so that light letters and lines are seen on light images too."""

MANY_ELEMENTS = 300
"""From this many rows or columns on, a panel has fewer dots than elements."""


def is_shown_in_colour(case: Case) -> bool:
    """Tell whether an image is drawn in red, green and blue: a flat one of three channels is."""
    return len(case.image) == 3 and len(case.geometry.shape) == 2


def shown_image(case: Case, cut: Cut) -> Rgb:
    """Spread the intensities from dark to bright, leaving out the outermost half percent."""
    flat = cut.of(case.image if is_shown_in_colour(case) else case.image[:1]).astype(np.float64)
    finite = flat[np.isfinite(flat)]
    low, high = np.percentile(finite, (0.5, 99.5)) if finite.size else (0.0, 1.0)
    filled = np.where(np.isfinite(flat), flat, low)
    bright = np.clip((filled - low) / max(high - low, 1e-12), 0, 1)
    channels = np.broadcast_to(bright, (3, *bright.shape[1:]))
    return np.ascontiguousarray(np.moveaxis(channels, 0, -1), dtype=np.float32)


def draw_image(axes: Axes, image: Rgb, cut: Cut) -> None:
    """Draw colours with the cut's true proportions."""
    # Few elements are shown as they are; many are averaged rather than skipped.
    interpolation = "nearest" if max(image.shape[:2]) < MANY_ELEMENTS else "antialiased"
    axes.imshow(image, interpolation=interpolation, aspect=cut.spacing[0] / cut.spacing[1])


def draw_contours(axes: Axes, label: FlatLabel) -> None:
    """Draw around every class in its colour."""
    for value in np.unique(label[label > 0]).tolist():
        colour, style = class_colour(value - 1), class_line_style(value - 1)
        _draw_contour(axes, np.asarray(label == value), colour, 1.7, style)


def draw_thin_contours(axes: Axes, label: FlatLabel) -> None:
    """Draw around every class as for comparison."""
    for value in np.unique(label[label > 0]).tolist():
        _draw_contour(axes, np.asarray(label == value), REFERENCE_COLOUR, 0.7, "solid")


def draw_mask(axes: Axes, mask: FlatMask) -> None:
    """Tint the elements of a mask."""
    layer = np.zeros((*mask.shape, 4), np.float32)
    layer[mask] = (*rgb(UNCERTAIN_COLOUR), 0.5)
    axes.imshow(layer, interpolation="nearest", aspect=axes.get_aspect())


def draw_borders(axes: Axes, superpixels: Int32[np.ndarray, "row column"]) -> None:
    """Draw between every two elements that belong to different superpixels."""
    is_below = superpixels[1:] != superpixels[:-1]
    is_beside = superpixels[:, 1:] != superpixels[:, :-1]
    lines = np.concatenate([_edges(is_below, (1.0, 0.0)), _edges(is_beside, (0.0, 1.0))])
    drawn = LineCollection(list(lines), colors=[CANVAS_INK], linewidths=[0.5], alpha=0.65)
    axes.add_collection(drawn, autolim=False)


def draw_place(axes: Axes, cut: Cut) -> None:
    """Name the patient's sides, and draw a length to compare with."""
    n_rows, n_columns = (round(abs(a - b)) for a, b in (axes.get_ylim(), axes.get_xlim()))
    _write(axes, (0.5, 0.985), cut.top, {"ha": "center", "va": "top"})
    _write(axes, (0.015, 0.5), cut.left, {"ha": "left", "va": "center"})
    length_mm = round_length(0.4 * n_columns * cut.spacing[1])
    start, row = 0.04 * n_columns - 0.5, 0.95 * n_rows - 0.5
    bar = Line2D(
        [start, start + length_mm / cut.spacing[1]],
        [row, row],
        color=CANVAS_INK,
        linewidth=2,
        solid_capstyle="butt",
        path_effects=HALO,
    )
    axes.add_line(bar)
    _write(axes, (0.04, 0.065), f"{length_mm:g} mm", {"ha": "left", "va": "bottom"})


def round_length(longest_mm: float) -> float:
    """Return the largest 1, 2 or 5 times a power of ten that is not longer.

    Examples:
        >>> round_length(37.5), round_length(9.9), round_length(0.1)
        (20.0, 5.0, 0.1)
    """
    power = 10.0 ** np.floor(np.log10(longest_mm))
    fitting = [step for step in (1, 2, 5) if step * power <= longest_mm * (1 + 1e-9)]
    return float(max(fitting) * power)


def _edges(is_edge: FlatMask, along: tuple[float, float]) -> Float32[np.ndarray, "edge 2 2"]:
    """Return both ends (column, row) of the line after each marked element."""
    corner = np.argwhere(is_edge)[:, ::-1].astype(np.float32) + np.float32(0.5)
    return np.stack([corner - np.array(along, np.float32), corner], axis=1)


def _draw_contour(axes: Axes, mask: FlatMask, colour: str, width: float, style: str) -> None:
    """Draw around a mask, closed also where it touches the picture's border."""
    # Where a picture holds much, its lines are finer.
    width *= 1.0 if max(mask.shape) < MANY_ELEMENTS else 0.65
    n_rows, n_columns = mask.shape
    drawn = axes.contour(
        np.arange(-1, n_columns + 1),
        np.arange(-1, n_rows + 1),
        np.pad(mask, 1).astype(np.float32),
        levels=[0.5],
        colors=[colour],
        linewidths=[width],
        linestyles=[style],
    )
    rim = withStroke(linewidth=1.6 * width, foreground="#000000", alpha=0.55)
    drawn.set_path_effects([rim, Normal()])
    axes.set_xlim(-0.5, n_columns - 0.5)
    axes.set_ylim(n_rows - 0.5, -0.5)


def _write(axes: Axes, place: tuple[float, float], text: str, alignment: dict[str, Any]) -> None:
    axes.text(
        *place,
        text,
        transform=axes.transAxes,
        fontsize=7.5,
        color=CANVAS_INK,
        path_effects=HALO,
        **alignment,
    )
