"""The page on softened labels: how far softening went, case by case and in all."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sfumato.evaluation.softness import Softness
from sfumato.metrics.calibration import LEAST_PROBABILITY
from sfumato.report.curves import distribution_plot
from sfumato.report.metric_words import AROUND_BOUNDARIES, UNDEFINED, counted
from sfumato.report.page import Card, Cell, Picture, Report, Row, Section, Table, render_page

N_EXAMPLES = 12
"""Cases in the gallery."""

NO_TRUTH_NOTE = (
    "These figures say how far softening went, not whether it is right: only trained models, or"
    " several people's drawings of the same images, could tell."
)
RATERS_NOTE = (
    "Brier score and cross-entropy compare a soft label with the mean of all raters, the one whose"
    " label was softened included."
)

GLOSSARY = {
    "Softened": "Share of the elements that are not sure of their class.",
    "Volume shift": "The expected volume of a class (the sum of its probabilities) less the volume"
    " that was drawn, in mm³, or mm² of flat images, and as a share of the latter.",
    "Superpixels": f"Number of superpixels of a case. {AROUND_BOUNDARIES}",
    "Achievable accuracy": "Share of the elements that keep their class if every superpixel gets"
    " its commonest one.",
    "Boundary recall": "Share of the annotated boundary with a superpixel's border no further than"
    " one element away.",
    "Brier score": "Mean squared distance between the soft label and the raters' mean; 0 is equal,"
    " 2 is sure and wrong throughout.",
    "Cross-entropy": "How surprising the raters are to who expects the soft label, in nats an"
    f" element. No class is expected with less than 1/{round(1 / LEAST_PROBABILITY)}; without such"
    " a limit a hard label would score infinity wherever raters disagree.",
    UNDEFINED: "The number does not exist: a class that was not drawn, a label without boundary, a"
    " rule without superpixels, or a case that one person drew.",
}


@dataclass(frozen=True, kw_only=True)
class _Column:
    """A number that every case has.

    Attributes:
        name: What it is called.
        value: Where it is found.
        write: How it is written.
    """

    name: str
    value: Callable[[Softness], float]
    write: Callable[[float], str]


def example_ids(cases: Sequence[Softness], n_examples: int = N_EXAMPLES) -> list[str]:
    """Choose the cases of the gallery: evenly from the most softened to the least.

    Examples:
        >>> cases = [Softness(case_id=c, softened_share=s) for c, s in zip("abc", (0.1, 0.3, 0.2))]
        >>> example_ids(cases), example_ids(cases, 2)
        (['b', 'c', 'a'], ['b', 'a'])
    """
    ranked = sorted(cases, key=lambda case: (-case.softened_share, case.case_id))
    places = np.linspace(0, len(ranked) - 1, min(n_examples, len(ranked))).round().astype(int)
    return [ranked[place].case_id for place in places.tolist()]


def softening_page(  # noqa: PLR0913 - all that a page may hold
    cases: Sequence[Softness],
    *,
    title: str,
    pictures: Mapping[str, bytes] | None = None,
    volume_unit: str = "mm³",
    settings: Mapping[str, object] | None = None,
    notes: Sequence[str] = (),
    provenance: Mapping[str, object] | None = None,
) -> str:
    """Return the page on softened labels.

    Args:
        cases: What softening did to each label; at least one.
        title: The page's heading.
        pictures: The PNG of `softening_figure` by case; see `example_ids` for which to draw.
        volume_unit: What volumes are counted in.
        settings: How labels were softened, possibly nested.
        notes: What else the reader has to bear in mind.
        provenance: How the page came about.

    Returns:
        HTML that needs nothing else.
    """
    columns = _columns(cases)
    has_raters = any(math.isfinite(case.brier) for case in cases)
    report = Report(
        title=title,
        headline=_headline(cases),
        cards=[_card(column, cases) for column in columns],
        notes=[RATERS_NOTE if has_raters else NO_TRUTH_NOTE, *notes],
        sections=[
            _classes_section(cases, volume_unit),
            _spread_section(cases),
            *_gallery(cases, pictures or {}),
            _cases_section(cases, columns),
            *([Section(title="Settings", facts=settings)] if settings else []),
        ],
        provenance=provenance,
        glossary=GLOSSARY,
    )
    return render_page(report)


def _columns(cases: Sequence[Softness]) -> list[_Column]:
    """Name the numbers that any case has."""
    columns = [
        _Column(name="Softened", value=lambda case: case.softened_share, write=_percent),
        _Column(name="Superpixels", value=lambda case: case.n_superpixels, write=_count),
        _Column(
            name="Achievable accuracy",
            value=lambda case: case.achievable_accuracy,
            write=_percent,
        ),
        _Column(name="Boundary recall", value=lambda case: case.boundary_recall, write=_percent),
        _Column(name="Brier score", value=lambda case: case.brier, write=_decimals),
        _Column(name="Cross-entropy", value=lambda case: case.cross_entropy, write=_decimals),
    ]
    return [c for c in columns if any(math.isfinite(c.value(case)) for case in cases)]


def _headline(cases: Sequence[Softness]) -> str:
    share = _mean([case.softened_share for case in cases])
    shifts = {name: _mean([c.relative_volume_shift[name] for c in cases]) for name in _names(cases)}
    known = {name: shift for name, shift in shifts.items() if math.isfinite(shift)}
    text = f"{_percent(share)} of the elements became soft in {counted(len(cases), 'case')}"
    if not known:
        return f"{text}."
    name = max(known, key=lambda name: abs(known[name]))
    return f"{text}; the expected volume of {name} shifts by {_percent(known[name], '+')}" + (
        ", that of other classes by less." if len(known) > 1 else "."
    )


def _card(column: _Column, cases: Sequence[Softness]) -> Card:
    values = [value for case in cases if math.isfinite(value := column.value(case))]
    spread = f"{column.write(min(values))} to {column.write(max(values))}"
    return Card(
        label=column.name,
        value=column.write(_mean(values)),
        detail=spread if len(values) > 1 else "",
        meaning=f"mean of {counted(len(values), 'case')}",
    )


def _classes_section(cases: Sequence[Softness], volume_unit: str) -> Section:
    rows: list[Row] = []
    for name in _names(cases):
        shifts = [case.volume_shift[name] for case in cases]
        relative = [case.relative_volume_shift[name] for case in cases]
        defined = [value for value in relative if math.isfinite(value)]
        largest = max(defined, key=abs, default=math.nan)
        numbers = (_signed(_mean(shifts)), _percent(_mean(relative), "+"), _percent(largest, "+"))
        rows.append([name, *(Cell(text=text, is_number=True) for text in numbers)])
    text = (
        "Softening takes probability from one side of a boundary and gives it to the other. Where"
        " the boundary is curved, or one side was softened further than the other, a class grows or"
        " shrinks by that."
    )
    columns = ["class", f"mean shift, {volume_unit}", "mean shift, %", "largest shift, %"]
    return Section(title="Expected volumes", text=text, table=Table(columns=columns, rows=rows))


def _spread_section(cases: Sequence[Softness]) -> Section:
    softened = [100 * case.softened_share for case in cases]
    shifts = {
        f"{name}: volume shift": [100 * case.relative_volume_shift[name] for case in cases]
        for name in _names(cases)
    }
    return Section(
        title="From case to case",
        pictures=[
            Picture(
                title="One dot a case, in per cent",
                content=distribution_plot({"softened": softened, **shifts}, label="per cent"),
                alt="Share of softened elements and volume shift of every class, one dot a case.",
                caption="The short upright line is the median; the level one spans the middle half"
                " of the cases.",
            )
        ],
    )


def _gallery(cases: Sequence[Softness], pictures: Mapping[str, bytes]) -> list[Section]:
    by_id = {case.case_id: case for case in cases}
    shown = [
        Picture(
            title=f"{case_id}: {_percent(by_id[case_id].softened_share)} softened",
            content=picture,
            alt=f"Case {case_id}: image, hard label, soft label and how much probability was taken"
            " from the class that was drawn.",
        )
        for case_id, picture in pictures.items()
    ]
    if not shown:
        return []
    text = "From the case that was softened most to the one that was softened least."
    if any(math.isfinite(case.n_superpixels) for case in cases):
        text += f" {AROUND_BOUNDARIES}"
    return [Section(title="Gallery", text=text, pictures=shown)]


def _cases_section(cases: Sequence[Softness], columns: Sequence[_Column]) -> Section:
    names = _names(cases)
    rows: list[Row] = []
    for case in cases:
        numbers = [_cell(column.write, column.value(case)) for column in columns]
        shifts = [
            _cell(lambda value: _percent(value, "+"), case.relative_volume_shift[name])
            for name in names
        ]
        rows.append([case.case_id, *numbers, *shifts])
    table = Table(
        columns=[
            "case",
            *(column.name for column in columns),
            *(f"volume shift, {name}" for name in names),
        ],
        rows=rows,
        is_sortable=True,
        summary=f"All {counted(len(cases), 'case')}" if len(cases) > 1 else "The case",
    )
    return Section(title="Case by case", table=table)


def _cell(write: Callable[[float], str], value: float) -> Cell:
    key = value if math.isfinite(value) else None
    return Cell(text=write(value), is_number=True, sort_key=key)


def _names(cases: Sequence[Softness]) -> list[str]:
    """Return the foreground classes in the order of the data set."""
    return list(cases[0].relative_volume_shift)


def _mean(values: Sequence[float]) -> float:
    defined = [value for value in values if math.isfinite(value)]
    return sum(defined) / len(defined) if defined else math.nan


def _percent(share: float, sign: str = "") -> str:
    if not math.isfinite(share):
        return UNDEFINED
    return f"{100 * share:{sign}.2f} %".replace("-", "−")


def _signed(value: float) -> str:
    if not math.isfinite(value):
        return UNDEFINED
    n_decimals = 0 if abs(value) >= 1000 else 1
    return f"{value:+,.{n_decimals}f}".replace("-", "−")


def _count(value: float) -> str:
    return f"{value:,.0f}" if math.isfinite(value) else UNDEFINED


def _decimals(value: float) -> str:
    return f"{value:.4f}" if math.isfinite(value) else UNDEFINED
