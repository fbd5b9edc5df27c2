"""The page on a sweep: which superpixels are recommended, why, and what they achieve."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from sfumato.evaluation.recommendation import Difference, Recommendation, best_places
from sfumato.evaluation.sweep import TRUTH_FIGURES, Sweep
from sfumato.report.heat_maps import heat_map
from sfumato.report.metric_words import AROUND_BOUNDARIES, counted
from sfumato.report.page import Card, Cell, Picture, Report, Row, Section, Table, render_page
from sfumato.report.sweep_words import (
    FIGURE_WORDS,
    METHOD_WORDS,
    edge_words,
    figure_number,
    headline,
    interval_text,
    reason,
    verdict,
)

GRID_NOTE = (
    "The plain grid has cells of equal size that know nothing of the image, in the place of"
    " superpixels. As far as superpixels are not better than it, their gain over the other labels"
    " is the formula's and not the image's."
)
RATERS_NOTE = (
    "The first rater, whose drawing is softened, is one of those that the mean is of. That favours"
    " the hard label."
)
GROUPS_NOTE = (
    "Intervals are over cases. What another kind of case would change, they do not tell, least of"
    " all where the groups are few."
)
USE_WORDS = (
    "config.toml beside this page holds these settings: sfumato train and sfumato soften take it"
    " with --config."
)
NO_TRUTH_NOTE = (
    "Nobody drew a case twice, so nothing here tells right from wrong. Figures from the labels"
    " alone say how far a setting goes, not whether it is right; only trained models, or several"
    " raters, could tell."
)
NOT_HELD_OUT_NOTE = (
    "All cases belong to one group, so none could be held out, and nothing confirms the choice."
)


@dataclass(frozen=True, kw_only=True)
class SweepExample:
    """A case that shows the recommended setting.

    Attributes:
        case_id: Name of the case.
        role: What it stands for.
        picture: The PNG of `softening_figure`.
    """

    case_id: str
    role: str
    picture: bytes


def sweep_page(
    sweep: Sweep,
    found: Recommendation,
    *,
    title: str,
    examples: Sequence[SweepExample] = (),
    notes: Sequence[str] = (),
    provenance: Mapping[str, object] | None = None,
) -> str:
    """Return the page on a sweep.

    Args:
        sweep: What was measured.
        found: What it recommends.
        title: The page's heading.
        examples: Cases softened as recommended.
        notes: What else the reader has to bear in mind.
        provenance: How the page came about.

    Returns:
        HTML that needs nothing else.
    """
    report = Report(
        title=title,
        headline=headline(sweep, found),
        cards=_cards(sweep, found),
        notes=[*_own_notes(sweep, found), *notes],
        sections=[
            _recommendation_section(sweep, found),
            *([_held_out_section(sweep, found)] if sweep.is_held_out.any() else []),
            _heat_section(sweep, found),
            *_example_sections(examples),
            _candidates_section(sweep, found),
        ],
        provenance=provenance,
        glossary={words.name: words.meaning for words in FIGURE_WORDS.values()},
    )
    return render_page(report)


def _cards(sweep: Sweep, found: Recommendation) -> list[Card]:
    figures = ["brier"] if found.differences else ["accuracy_gain", "achievable_accuracy"]
    figures += ["boundary_recall", "softened_share", "volume_shift"]
    cards = []
    for figure in figures[:4]:
        estimate = found.estimates["superpixel"][figure]
        interval = interval_text(figure, estimate)
        mean, cases = estimate.mean, counted(estimate.n_cases, "held-out case")
        if estimate.n_cases == 0:
            mean = float(sweep.chosen_by(figure)[found.chosen])
            cases = f"{counted(int((~sweep.is_held_out).sum()), 'case')} that chose it"
        cards.append(
            Card(
                label=FIGURE_WORDS[figure].name,
                value=figure_number(figure, mean),
                detail=f"95 % interval {interval}" if interval else "",
                meaning=f"recommended setting, {cases}",
            )
        )
    return cards


def _own_notes(sweep: Sweep, found: Recommendation) -> list[str]:
    notes = [GRID_NOTE, RATERS_NOTE] if found.differences else [NO_TRUTH_NOTE]
    notes.append(GROUPS_NOTE if sweep.is_held_out.any() else NOT_HELD_OUT_NOTE)
    return [*notes, *filter(None, [edge_words(sweep, found)])]


def _recommendation_section(sweep: Sweep, found: Recommendation) -> Section:
    text = f"{reason(sweep, found)} {verdict(found)}\n\n{USE_WORDS}"
    facts = sweep.candidates[found.chosen].numbers
    return Section(title="Recommendation", text=text, facts=facts)


def _held_out_section(sweep: Sweep, found: Recommendation) -> Section:
    figures = [
        *(TRUTH_FIGURES if found.differences else ("accuracy_gain", "achievable_accuracy")),
        "boundary_recall",
        "softened_share",
        "volume_shift",
    ]
    rows: list[Row] = []
    for method, index in found.best.items():
        row: list[Cell | str] = [sweep.candidates[index].words]
        for figure in figures:
            estimate = found.estimates[method][figure]
            text = figure_number(figure, estimate.mean)
            row.append(Cell(text=text, detail=interval_text(figure, estimate), is_number=True))
        rows.append(row)
    for method, by_figure in found.differences.items():
        rows.append(
            [f"superpixel − {METHOD_WORDS[method]}", *_difference_cells(by_figure, figures)]
        )
    n_held_out = int(sweep.is_held_out.sum())
    n_choosing = len(sweep.case_ids) - n_held_out
    text = (
        f"All numbers were chosen on {counted(n_choosing, 'case')}; the table is of"
        f" {counted(n_held_out, 'other case')}, of other groups, that chose nothing."
    )
    caption = "Averages over held-out cases, with 95 % bootstrap intervals over cases"
    if found.differences:
        caption += "; differences are taken case by case, and negative ones favour superpixels"
    table = Table(
        columns=["label", *(FIGURE_WORDS[figure].name for figure in figures)],
        rows=rows,
        caption=f"{caption}.",
    )
    return Section(title="On held-out cases", text=text, table=table)


def _difference_cells(
    by_figure: Mapping[str, Difference], figures: Sequence[str]
) -> list[Cell | str]:
    cells: list[Cell | str] = []
    for figure in figures:
        if figure not in by_figure:
            cells.append(Cell(text="", is_number=True))
            continue
        difference = by_figure[figure]
        details = [interval_text(figure, difference.estimate, is_signed=True)]
        if difference.estimate.n_cases:
            details.append(f"smaller in {difference.share_better:.0%}")
        text = figure_number(figure, difference.estimate.mean, is_signed=True)
        cells.append(Cell(text=text, detail="\n".join(filter(None, details)), is_number=True))
    return cells


def _heat_section(sweep: Sweep, found: Recommendation) -> Section:
    figures = [*(TRUTH_FIGURES if found.differences else ()), "accuracy_gain"]
    figures += ["boundary_recall", "softened_share", "volume_shift"]
    places = best_places(sweep)
    text = (
        "Averages over the cases that chose. Rows are the compactness of superpixels, columns their"
        " size; the frame is around the recommended setting."
    )
    if found.differences:
        text += " Every cell stands for the scale with the smallest Brier score in it."
    pictures = []
    for figure in figures:
        words = FIGURE_WORDS[figure]
        pictures.append(
            Picture(
                title=words.name + (" (%)" if words.is_percent else ""),
                content=_heat_picture(sweep, found, figure, places),
                alt=f"{words.name} for every size and compactness of superpixels. {words.meaning}",
                caption=words.meaning,
                width="half",
            )
        )
    return Section(title="Size and compactness", text=text, pictures=pictures)


def _heat_picture(
    sweep: Sweep, found: Recommendation, figure: str, places: Mapping[tuple[float, float], int]
) -> bytes:
    sizes = sorted({size_mm for size_mm, _ in places})
    kinds = sorted({compactness for _, compactness in places})
    words, means = FIGURE_WORDS[figure], sweep.chosen_by(figure)
    values: Float64[np.ndarray, "row column"] = np.array(
        [[means[places[size_mm, compactness]] for size_mm in sizes] for compactness in kinds]
    )
    chosen = sweep.candidates[found.chosen].superpixels
    return heat_map(
        100 * values if words.is_percent else values,
        [f"{compactness:g}" for compactness in kinds],
        [f"{size_mm:g}" for size_mm in sizes],
        axes_words=("compactness", "size (mm)"),
        marked=(kinds.index(chosen.compactness), [*sizes].index(chosen.size_mm or 0)),
        number_format=f".{words.decimals}f",
    )


def _example_sections(examples: Sequence[SweepExample]) -> list[Section]:
    if not examples:
        return []
    pictures = [
        Picture(
            title=f"{example.case_id}: {example.role}",
            content=example.picture,
            alt=f"Case {example.case_id}: image, superpixels, hard label, soft label and how much"
            " probability was taken from the class that was drawn.",
        )
        for example in examples
    ]
    text = f"Held-out cases, softened as recommended. {AROUND_BOUNDARIES}"
    return [Section(title="Examples", text=text, pictures=pictures)]


def _candidates_section(sweep: Sweep, found: Recommendation) -> Section:
    figures = [*(TRUTH_FIGURES if found.differences else ()), "accuracy_gain"]
    figures += ["boundary_recall", "softened_share", "volume_shift"]
    means = {figure: sweep.chosen_by(figure) for figure in figures}
    rows: list[Row] = []
    for index, candidate in enumerate(sweep.candidates):
        row: list[Cell | str] = [candidate.words]
        for figure in figures:
            value = float(means[figure][index])
            key = value if np.isfinite(value) else None
            row.append(Cell(text=figure_number(figure, value), is_number=True, sort_key=key))
        rows.append(row)
    table = Table(
        columns=["label", *(FIGURE_WORDS[figure].name for figure in figures)],
        rows=rows,
        caption="Averages over the cases that chose.",
        is_sortable=True,
        summary=f"All {len(rows)} settings",
    )
    return Section(title="Everything that was tried", table=table)
