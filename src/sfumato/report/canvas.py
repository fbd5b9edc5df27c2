"""Drawing rows of image panels as PNG, on a dark canvas as on a radiologist's screen.

Only matplotlib's object interface is used: no pyplot, no global state, so pictures can be
drawn in several threads at once, and the same input gives the same bytes.
"""

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from PIL import Image

from sfumato.report.colours import CANVAS_COLOUR, CANVAS_INK, CANVAS_MUTED
from sfumato.report.lettering import drawable, plain

Layer: TypeAlias = Callable[[Axes], None]
Key: TypeAlias = Patch | Line2D
Box: TypeAlias = tuple[float, float, float, float]

DOTS_PER_INCH = 120
# All in inches.
PANEL_HEIGHT, NARROWEST_PANEL, WIDEST_PANEL = 2.7, 1.7, 5.4
GAP = 0.12
KEY_LINE = 0.19


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One picture of a row.

    Attributes:
        title: A few words above the picture.
        layers: What is drawn into the panel's axes, one after the other.
        scale: The colour scale to show beneath, with its label.
    """

    title: str
    layers: Sequence[Layer]
    scale: tuple[ScalarMappable, str] | None = None


@dataclass(frozen=True, kw_only=True)
class PanelRow:
    """Panels that show the same part of the same case.

    Attributes:
        panels: From left to right; at most the last one has a colour scale.
        title: Above the row; may be empty.
        note: In small letters beside the title; may be empty.
        keys: The entries of the legend beneath.
        aspect: Width of each picture over its height.
    """

    panels: Sequence[Panel]
    title: str
    note: str
    keys: Sequence[Key]
    aspect: float


@dataclass(frozen=True, kw_only=True)
class _Layout:
    """Where things stand, in inches."""

    panel: tuple[float, float]
    width: float
    head: float
    foot: float
    n_key_columns: int

    @property
    def height(self) -> float:
        return self.head + self.panel[1] + self.foot

    def box(self, left: float, bottom: float, width: float, height: float) -> Box:
        """Return a rectangle as matplotlib wants it: in parts of the whole."""
        return (
            left / self.width,
            bottom / self.height,
            width / self.width,
            height / self.height,
        )


def row_png(row: PanelRow) -> bytes:
    """Draw a row of panels."""
    layout = _lay_out(row)
    figure = Figure(
        figsize=(layout.width, layout.height), dpi=DOTS_PER_INCH, facecolor=CANVAS_COLOUR
    )
    canvas = FigureCanvasAgg(figure)
    for i, panel in enumerate(row.panels):
        left = GAP + i * (layout.panel[0] + GAP)
        axes = figure.add_axes(layout.box(left, layout.foot, *layout.panel))
        axes.set_axis_off()
        axes.set_title(panel.title, fontsize=9.5, color=CANVAS_INK, loc="left", pad=4)
        for draw in panel.layers:
            draw(axes)
        if panel.scale is not None:
            box = layout.box(left, layout.foot - 0.18, layout.panel[0], 0.09)
            _draw_scale(figure.add_axes(box), *panel.scale)
    _draw_heading(figure, row, layout)
    _draw_keys(figure, row, layout)
    return _png(canvas)


def _lay_out(row: PanelRow) -> _Layout:
    width = min(max(PANEL_HEIGHT * row.aspect, NARROWEST_PANEL), WIDEST_PANEL)
    total_width = len(row.panels) * (width + GAP) + GAP
    # The legend keeps clear of the colour scale; letters are about 0.072 inches wide.
    free = total_width - GAP - (width + GAP) * (row.panels[-1].scale is not None)
    key_widths = [0.5 + 0.072 * len(str(key.get_label())) for key in row.keys]
    n_columns = len(row.keys)
    if sum(key_widths) > free:
        n_columns = max(int(free / max(key_widths)), 1)
    n_key_lines = -(-len(row.keys) // max(n_columns, 1))
    return _Layout(
        panel=(width, min(PANEL_HEIGHT, width / row.aspect)),
        width=total_width,
        head=0.62 if row.title or row.note else 0.36,
        foot=max(0.46, 0.2 + KEY_LINE * n_key_lines),
        n_key_columns=max(n_columns, 1),
    )


def _draw_heading(figure: Figure, row: PanelRow, layout: _Layout) -> None:
    """Write title and note on one line."""
    canvas: Any = figure.canvas
    left = GAP
    n_letters = int((layout.width - 2.5) / 0.1)
    for text, size, colour in ((row.title, 11.0, CANVAS_INK), (row.note, 8.5, CANVAS_MUTED)):
        if not text:
            continue
        drawn = figure.text(
            left / layout.width,
            1 - 0.24 / layout.height,
            drawable(text, n_letters),
            fontsize=size,
            color=colour,
            va="center_baseline",
            parse_math=False,
        )
        left += drawn.get_window_extent(canvas.get_renderer()).width / figure.dpi + 0.18


def _draw_keys(figure: Figure, row: PanelRow, layout: _Layout) -> None:
    if not row.keys:
        return
    legend = figure.legend(
        handles=list(row.keys),
        loc="upper left",
        bbox_to_anchor=(GAP / layout.width, (layout.foot - 0.1) / layout.height),
        ncols=layout.n_key_columns,
        fontsize=8.5,
        labelcolor=CANVAS_INK,
        frameon=False,
        borderpad=0.1,
        borderaxespad=0,
        handlelength=1.6,
        columnspacing=1.4,
    )
    plain(legend)


def _draw_scale(axes: Axes, colours: ScalarMappable, label: str) -> None:
    bar = axes.figure.colorbar(colours, cax=axes, orientation="horizontal")
    bar.outline.set_visible(False)
    low, high = colours.get_clim()
    bar.set_ticks([low, high], labels=[f"{low:g}", f"{high:g}"])
    axes.tick_params(length=0, labelsize=8, labelcolor=CANVAS_MUTED, pad=2)
    first, last = axes.get_xticklabels()
    first.set_horizontalalignment("left")
    last.set_horizontalalignment("right")
    axes.text(
        0.5,
        -0.35,
        label,
        transform=axes.transAxes,
        ha="center",
        va="top",
        fontsize=8,
        color=CANVAS_MUTED,
    )


def _png(canvas: Any) -> bytes:
    """Save with 64 levels of each colour: no eye misses the others, a third of the bytes."""
    canvas.draw()
    levels = np.asarray(canvas.buffer_rgba())[..., :3] & 0b1111_1100
    buffer = io.BytesIO()
    Image.fromarray(levels | levels >> 6).save(buffer, "png", optimize=True)
    return buffer.getvalue()
