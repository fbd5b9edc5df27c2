"""One set of colours for every picture and page.

Source: class colours after Okabe and Ito (2008), ordered so that the first few are told apart
with every common kind of colour blindness, on grey images and on paper alike. Their yellow is
kept for uncertainty, their black and blue are left out because they vanish on dark images.
"""

from collections.abc import Sequence
from typing import Literal, TypeAlias

import numpy as np
from jaxtyping import Float32

from sfumato.arrays import Probability

Rgb: TypeAlias = Float32[np.ndarray, "row column 3"]
"""Red, green and blue from 0 to 1."""

CLASS_COLOURS = ("#f28e2b", "#56b4e9", "#e07bb0", "#1fb58a", "#e8553a", "#a6a0f0")
UNCERTAIN_COLOUR = "#f0e442"
REFERENCE_COLOUR = "#ffffff"
CANVAS_COLOUR = "#14181c"
CANVAS_INK = "#e8eaed"
CANVAS_MUTED = "#a2a9b3"

LineStyle: TypeAlias = Literal["solid", "dashed", "dotted"]
LINE_STYLES: tuple[LineStyle, ...] = ("solid", "dashed", "dotted")


def class_colour(index: int) -> str:
    """Return the colour of a foreground class, counted from 0.

    Examples:
        >>> class_colour(0) == class_colour(len(CLASS_COLOURS))
        True
    """
    return CLASS_COLOURS[index % len(CLASS_COLOURS)]


def class_line_style(index: int) -> LineStyle:
    """Return the line of a foreground class, so that classes sharing a colour differ in it.

    Examples:
        >>> class_line_style(0), class_line_style(len(CLASS_COLOURS))
        ('solid', 'dashed')
    """
    return LINE_STYLES[index // len(CLASS_COLOURS) % len(LINE_STYLES)]


def rgb(colour: str) -> tuple[float, float, float]:
    """Return red, green and blue from 0 to 1.

    Examples:
        >>> rgb("#ff0033")
        (1.0, 0.0, 0.2)
    """
    red, green, blue = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    return red, green, blue


def shade(colour: str, factor: float) -> str:
    """Return a colour made darker, to be seen on white.

    Examples:
        >>> shade("#ff8000", 0.5)
        '#804000'
    """
    return "#" + "".join(f"{round(255 * factor * part):02x}" for part in rgb(colour))


def mix_classes(probability: Probability) -> Rgb:
    """Paint every element in the mixture of its classes' colours; background is black.

    Examples:
        >>> half = np.full((2, 1, 1), 0.5, np.float32)
        >>> np.allclose(mix_classes(half), np.array(rgb(class_colour(0))) / 2)
        True
    """
    return mix(probability[1:], [class_colour(k) for k in range(len(probability) - 1)])


def mix(weights: Float32[np.ndarray, "layer row column"], colours: Sequence[str]) -> Rgb:
    """Add up colours by their weights."""
    table = np.array([rgb(colour) for colour in colours], np.float32).reshape(-1, 3)
    mixed = np.einsum("krc,ki->rci", weights, table)
    return np.clip(mixed, 0, 1).astype(np.float32)
