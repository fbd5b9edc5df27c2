"""Drawings of a number over two settings."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64
from matplotlib.colors import LinearSegmentedColormap, Normalize, to_hex
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from sfumato.report.vector import INK, MUTED, svg

LOWEST_COLOUR, HIGHEST_COLOUR = "#fdf6ec", "#b0500a"
ON_LIGHT, ON_DARK = "#1b1f23", "#fffefd"
"""Letters on cells; they stay as they are, for cells do not follow the reader either."""


def heat_map(
    values: Float64[np.ndarray, "row column"],
    row_names: Sequence[str],
    column_names: Sequence[str],
    *,
    axes_words: tuple[str, str],
    marked: tuple[int, int] | None = None,
    number_format: str = ".4f",
) -> bytes:
    """Draw a number in every cell of a table, the larger the darker.

    Args:
        values: The numbers; a cell whose number is NaN stays empty.
        row_names: What each row stands for, from top to bottom.
        column_names: What each column stands for.
        axes_words: What the rows and the columns are.
        marked: The row and column of the cell that gets a frame.
        number_format: How numbers are written.

    Returns:
        An SVG document that is light or dark as its reader prefers.
    """
    n_rows, n_columns = values.shape
    height = 0.6 + 0.42 * n_rows
    figure = Figure(figsize=(5.6, height))
    axes = figure.add_axes((0.15, 0.52 / height, 0.82, 0.42 * n_rows / height))
    finite = values[np.isfinite(values)]
    scale = Normalize(finite.min(), finite.max()) if finite.size else Normalize(0, 1)
    ramp = LinearSegmentedColormap.from_list("heat", [LOWEST_COLOUR, HIGHEST_COLOUR])
    for row, column in np.ndindex(n_rows, n_columns):
        value = float(values[row, column])
        if not np.isfinite(value):
            continue
        # Where all cells are alike, the scale is a single point.
        place = float(scale(value)) if finite.max() > finite.min() else 0.0
        box = Rectangle((column - 0.48, row - 0.46), 0.96, 0.92, color=to_hex(ramp(place)))
        axes.add_patch(box)
        ink = ON_DARK if place > 0.55 else ON_LIGHT
        words = f"{value:{number_format}}".replace("-", "−")
        axes.text(column, row, words, ha="center", va="center", fontsize=9, color=ink)
    if marked is not None:
        frame = (marked[1] - 0.48, marked[0] - 0.46)
        axes.add_patch(Rectangle(frame, 0.96, 0.92, fill=False, edgecolor=INK, linewidth=2.2))
    axes.set(xlim=(-0.52, n_columns - 0.48), ylim=(n_rows - 0.48, -0.52))
    axes.set_xticks(range(n_columns), list(column_names))
    axes.set_yticks(range(n_rows), list(row_names))
    axes.set_ylabel(axes_words[0], fontsize=9, color=MUTED)
    axes.set_xlabel(axes_words[1], fontsize=9, color=MUTED)
    axes.set_facecolor("none")
    figure.set_facecolor("none")
    axes.spines[:].set_visible(False)
    axes.tick_params(colors=MUTED, labelsize=9, length=0)
    return svg(figure)
