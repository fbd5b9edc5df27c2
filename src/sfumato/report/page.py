"""One self-contained HTML page: nothing is fetched, everything is escaped.

A `Report` is plain data, so any command can put one together; `render_page` turns it into HTML
that is light or dark as its reader prefers, prints well, and can be read by a screen reader.
"""

import base64
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Literal, TypeAlias

from jinja2 import Environment, StrictUndefined, Template

from sfumato.report.viewed_case import ViewedCase, niivue_text, viewer_script, viewer_style


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A PNG or SVG and what it shows.

    Attributes:
        content: The file's bytes.
        alt: What the picture shows, for those who cannot see it.
        caption: A line beneath it; may be empty.
        title: A few words above it; may be empty.
        width: How much of the page it takes.
        viewed: The same case whole, if its reader can look at it in the page's viewer.
    """

    content: bytes
    alt: str
    caption: str = ""
    title: str = ""
    width: Literal["full", "half"] = "full"
    viewed: ViewedCase | None = None

    @property
    def uri(self) -> str:
        """The picture itself, as an address that points nowhere else."""
        kind = "png" if self.content.startswith(b"\x89PNG") else "svg+xml"
        return f"data:image/{kind};base64,{base64.b64encode(self.content).decode()}"


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One entry of a table.

    Attributes:
        text: What is shown.
        detail: Smaller lines beneath, such as an interval; may be empty.
        is_number: Whether the entry stands to the right, like its column's other numbers.
        sort_key: What sorting goes by; the text if None.
    """

    text: str
    detail: str = ""
    is_number: bool = False
    sort_key: float | None = None


Row: TypeAlias = Sequence[Cell | str]


@dataclass(frozen=True, kw_only=True)
class Table:
    """Rows under headings; the first entry of a row names it.

    Attributes:
        columns: One heading for each column.
        rows: One entry for each column, plain text or a `Cell`.
        caption: What the table shows; may be empty.
        is_sortable: Whether clicking a heading sorts the rows.
        summary: If given, the table is folded away under these words.
    """

    columns: Sequence[str]
    rows: Sequence[Row]
    caption: str = ""
    is_sortable: bool = False
    summary: str = ""


@dataclass(frozen=True, kw_only=True)
class Section:
    """A part of a page under its own heading.

    Attributes:
        title: The heading.
        text: Paragraphs, separated by empty lines; may be empty.
        table: Shown after the text.
        pictures: Shown after the table; a single half-width one beside it.
        facts: Names and values, possibly nested, shown last.
    """

    title: str
    text: str = ""
    table: Table | None = None
    pictures: Sequence[Picture] = ()
    facts: Mapping[str, object] | None = None

    @property
    def anchor(self) -> str:
        """The section's name in the page's own links.

        Examples:
            >>> Section(title="Case by case").anchor
            'case-by-case'
        """
        return re.sub(r"[^a-z0-9]+", "-", self.title.lower()).strip("-") or "section"

    @property
    def paragraphs(self) -> list[str]:
        """The text, taken apart at empty lines."""
        return [part for part in re.split(r"\n\s*\n", self.text.strip()) if part]


@dataclass(frozen=True, kw_only=True)
class Card:
    """A key figure.

    Attributes:
        label: What is measured.
        value: The number, with its unit.
        detail: A smaller line beneath, such as an interval.
        meaning: What a good value is, in a few words.
    """

    label: str
    value: str
    detail: str = ""
    meaning: str = ""


@dataclass(frozen=True, kw_only=True)
class Report:
    """What a page says.

    Attributes:
        title: The page's heading.
        headline: The result in a sentence or two.
        subtitle: A line above the headline; may be empty.
        cards: Key figures.
        notes: What the reader has to bear in mind: caveats in plain words.
        sections: The parts, in order.
        provenance: How the page came about: versions, command, seed, device, duration.
        glossary: Each term and what it means.
    """

    title: str
    headline: str
    subtitle: str = ""
    cards: Sequence[Card] = ()
    notes: Sequence[str] = ()
    sections: Sequence[Section] = ()
    provenance: Mapping[str, object] | None = None
    glossary: Mapping[str, str] | None = None

    @property
    def has_viewer(self) -> bool:
        """Whether a picture's case can be looked at in a viewer."""
        return any(picture.viewed for section in self.sections for picture in section.pictures)


def render_page(report: Report) -> str:
    """Return a report as one HTML page.

    Examples:
        >>> page = render_page(Report(title="Demo", headline="1 < 2"))
        >>> "<h1>Demo</h1>" in page, "1 &lt; 2" in page
        (True, True)
    """
    viewer = {}
    if report.has_viewer:
        viewer = {"style": viewer_style(), "script": viewer_script(), "niivue": niivue_text()}
    return _template().render(report=report, readable_facts=readable_facts, viewer=viewer).lstrip()


def readable_facts(facts: Mapping[str, object]) -> list[tuple[str, str]]:
    """Return nested facts as names and values for people.

    Examples:
        >>> readable_facts({"spacing_mm": (1.0, 0.5), "network": {"n_levels": 4}})
        [('spacing (mm)', '1 × 0.5'), ('network: number of levels', '4')]
    """
    return [(_fact_name(name), _fact_value(name, value)) for name, value in _flatten(facts)]


def duration(seconds: float) -> str:
    """Return a length of time in the two units that matter.

    Examples:
        >>> duration(0.31), duration(75), duration(3720.4)
        ('0.31 s', '1 min 15 s', '1 h 2 min')
    """
    if seconds < 60:
        return f"{seconds:.2g} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def _flatten(facts: Mapping[str, object], above: str = "") -> list[tuple[str, object]]:
    flat: list[tuple[str, object]] = []
    for name, value in facts.items():
        full = f"{above}{name}"
        if isinstance(value, Mapping) and value:
            flat += _flatten(value, f"{full}: ")
        elif isinstance(value, list | tuple) and value and isinstance(value[0], Mapping):
            for number, entry in enumerate(value, start=1):
                flat += _flatten(entry, f"{full} {number}: ")
        else:
            flat.append((full, value))
    return flat


def _fact_name(name: str) -> str:
    for unit in ("mm", "ms", "mb", "gb"):
        name = re.sub(rf"_{unit}\b", f" ({unit.upper() if unit.endswith('b') else unit})", name)
    name = re.sub(r"\bn_", "number of ", name)
    return re.sub(r"_seconds\b", "", name).replace("_", " ")


def _fact_value(name: str, value: object) -> str:
    if isinstance(value, list | tuple):
        is_size = (
            not name.endswith("axes")
            and 2 <= len(value) <= 3
            and all(isinstance(part, int | float) for part in value)
        )
        return (" × " if is_size else ", ").join(_fact_value("", part) for part in value) or "none"
    if isinstance(value, float | int) and re.search(r"(^|_| )seconds$", name):
        return duration(value)
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, Mapping):
        return "none"
    # True and 1 are equal to a dictionary, but not to a reader.
    return {"None": "–", "True": "yes", "False": "no"}.get(str(value), str(value))


def _keep_units(text: str) -> str:
    """Keep a number and its unit on one line."""
    return re.sub(r"(?<=\d) (?=(%|mm|s|min|h|cases?|steps?)\b|%)", "\u00a0", text)


@cache
def _template() -> Template:
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["keep_units"] = _keep_units
    source = files("sfumato.report").joinpath("page.html").read_text(encoding="utf-8")
    return environment.from_string(source)
