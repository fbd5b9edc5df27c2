"""Turning drawings of numbers into SVG that is light or dark as its reader prefers."""

import io
import re
from typing import Any

from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from sfumato.report.colours import CLASS_COLOURS, shade

# Drawn in these, a thing gets the page's own colour for text, for axes, for grid lines.
INK = "#010101"
MUTED = "#010102"
GRID = "#010103"

LIGHT = {INK: "#1b1f24", MUTED: "#5b6470", GRID: "#d9dde3"}
DARK = {INK: "#e8eaed", MUTED: "#a2a9b3", GRID: "#3a4048"}
DARKER = 0.82
"""Class colours on white are this much darker, for contrast."""


def svg(figure: Figure) -> bytes:
    """Write a drawing made in `INK`, `MUTED`, `GRID` and class colours.

    Returns:
        A UTF-8 document that points nowhere else; the same for the same drawing.
    """
    buffer = io.StringIO()
    # Without a date, and without matplotlib's note of its own home page.
    metadata: dict[str, str | None] = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    canvas: Any = FigureCanvasSVG(figure)
    canvas.print_svg(buffer, metadata=metadata)
    drawing = buffer.getvalue()
    drawing = drawing[drawing.index("<svg") :]
    drawing = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->", "", drawing, flags=re.DOTALL)
    return _follow_reader(_number_ids(drawing)).encode()


def _follow_reader(drawing: str) -> str:
    """Replace colours by variables, set by whether the reader prefers light or dark."""
    light = LIGHT | {colour: shade(colour, DARKER) for colour in CLASS_COLOURS}
    dark = DARK | {colour: colour for colour in CLASS_COLOURS}
    for i, colour in enumerate(light):
        drawing = drawing.replace(colour, f"var(--c{i})")
    light_rule, dark_rule = (
        ";".join(f"--c{i}:{value}" for i, value in enumerate(palette.values()))
        for palette in (light, dark)
    )
    style = f"svg{{{light_rule}}}@media (prefers-color-scheme:dark){{svg{{{dark_rule}}}}}"
    return drawing.replace(">", f"><style>{style}</style>", 1)


def _number_ids(drawing: str) -> str:
    """Replace matplotlib's random identifiers by numbers, in order of appearance."""
    names: dict[str, str] = {}
    for name in re.findall(r'\bid="([^"]+)"', drawing):
        names.setdefault(name, f"i{len(names)}")
    reference = re.compile(r'(\bid="|"#|url\(#)([^")]+)')
    return reference.sub(lambda hit: hit[1] + names.get(hit[2], hit[2]), drawing)
