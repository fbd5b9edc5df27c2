"""Text that any case or class may be called, made safe to draw.

Matplotlib would take dollar signs for formulas, skip legend entries that begin with an
underscore, and warn of letters its font lacks; a case's name must not spoil a picture.
"""

from functools import cache

from matplotlib.font_manager import FontProperties, findfont
from matplotlib.ft2font import FT2Font
from matplotlib.legend import Legend


def drawable(text: str, longest: int = 80) -> str:
    """Shorten a text, and replace line breaks and what the drawing font cannot show.

    Examples:
        >>> drawable("case 7"), drawable("a rather long name", 9)
        ('case 7', 'a rather…')
        >>> drawable("a" + chr(10) + chr(0x4E00))
        'a □'
    """
    if len(text) > longest:
        text = text[: longest - 1].rstrip() + "…"
    known = _known_characters()
    shown = (" " if character.isspace() else character for character in text)
    return "".join(character if ord(character) in known else "□" for character in shown)


def legend_label(name: str) -> str:
    """Return a name as a legend can show it.

    Examples:
        >>> legend_label("liver"), legend_label("_private")
        ('liver', ' _private')
    """
    label = drawable(name, 30)
    return f" {label}" if label.startswith("_") else label


def plain(legend: Legend) -> None:
    """Take a legend's dollar signs for what they are."""
    for text in legend.get_texts():
        text.set_parse_math(False)


@cache
def _known_characters() -> frozenset[int]:
    font = FT2Font(findfont(FontProperties(family="DejaVu Sans")))
    return frozenset(font.get_charmap())
