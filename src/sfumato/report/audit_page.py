"""The page of an audit: a work list for annotators, worst first, with pictures."""

import math
from collections.abc import Mapping, Sequence

from sfumato.evaluation.audit import CaseAudit, stand_out
from sfumato.report.audit_figure import audit_figure_words
from sfumato.report.audit_words import (
    audit_words,
    element_words,
    move_words,
    percent,
    place_words,
)
from sfumato.report.curves import distribution_plot
from sfumato.report.metric_words import counted
from sfumato.report.page import Card, Cell, Picture, Report, Row, Section, Table, render_page

LONGEST_TABLE = 500
"""Cases on the page; files beside it hold all."""
NO_PROOF = (
    "A high score is a reason to look, not proof of an error: a boundary may follow a convention"
    " that no intensity shows, and a blurred image supports no boundary. An error in one small"
    " spot hardly changes a case's score; look for those among the worst places."
)
GLOSSARY = {
    "Score": "Unsupported share of the boundary plus what of it a small move would save; of the"
    " class where that is highest. 0 is a boundary on edges of the image throughout.",
    "Unsupported share": "Share of the boundary's area that runs through superpixels, each part"
    " counted by the share of the superpixel's variation in intensity that lies within its two"
    " sides, not between them.",
    "Better supported": "The small move of the whole structure (shifted by up to two elements, or"
    " up to two grown or shrunk) after which the unsupported share would be least, and by how"
    " much it would fall.",
    "Worst place": "The superpixel with the largest smaller part that looks like the other side,"
    " and how deep that part reaches from the boundary. Its place is given by element index,"
    " counted from 0, and in the patient's millimetres (right, anterior, superior).",
    "Stands out": "More than 3 robust standard deviations above the median score of the cases.",
}


def audit_page(
    audits: Sequence[CaseAudit],
    *,
    title: str,
    pictures: Mapping[str, bytes],
    notes: Sequence[str] = (),
    provenance: Mapping[str, object] | None = None,
) -> str:
    """Return the page of an audit.

    Args:
        audits: The cases, worst first; those without a boundary last.
        title: The page's heading.
        pictures: The PNG of `audit_figure` by case, for the cases that are shown.
        notes: What the reader has to bear in mind, in plain words.
        provenance: Versions, settings, seconds and the like.

    Returns:
        HTML that needs nothing else.
    """
    is_outlier = stand_out([audit.score for audit in audits])
    report = Report(
        title=title,
        headline=_headline(audits, is_outlier),
        cards=_cards(audits, is_outlier),
        notes=[NO_PROOF, *notes],
        sections=[
            *_picture_sections(audits, pictures),
            _ranking(audits, is_outlier),
            *_spread(audits),
        ],
        provenance=provenance,
        glossary=GLOSSARY,
    )
    return render_page(report)


def _headline(audits: Sequence[CaseAudit], is_outlier: Sequence[bool]) -> str:
    ranked = [audit for audit in audits if audit.classes]
    if not ranked:
        return "No case has an annotated boundary, so there is nothing to look at."
    n_outliers = sum(is_outlier)
    if not n_outliers:
        return (
            f"No annotation stands out among {counted(len(ranked), 'case')};"
            f" {ranked[0].id} is supported least by its image."
        )
    if n_outliers == 1:
        return (
            f"1 annotation of {len(ranked)} stands out: its image supports it less than usual. Look"
            " at it first."
        )
    return (
        f"{n_outliers} annotations of {len(ranked)} stand out: their images support them less than"
        " usual. Look at them first."
    )


def _cards(audits: Sequence[CaseAudit], is_outlier: Sequence[bool]) -> list[Card]:
    ranked = [audit for audit in audits if audit.classes]
    if not ranked:
        return []
    middle = ranked[len(ranked) // 2]
    return [
        Card(
            label="Stand out",
            value=str(sum(is_outlier)),
            detail=f"of {counted(len(ranked), 'case')}",
            meaning="scores far above the median",
        ),
        Card(
            label="Worst score",
            value=f"{ranked[0].score:.2f}",
            detail=ranked[0].id,
            meaning="0 is a boundary on edges of the image",
        ),
        Card(
            label="Median score",
            value=f"{middle.score:.2f}",
            meaning="what is usual here; blurred edges raise it",
        ),
    ]


def _picture_sections(audits: Sequence[CaseAudit], pictures: Mapping[str, bytes]) -> list[Section]:
    shown = [(rank, audit) for rank, audit in enumerate(audits, start=1) if audit.id in pictures]
    if not shown:
        return []
    text = (
        "Each row shows the slice through the worst place of a case, that place close up, first"
        " without and then with the annotation and the superpixels, and the next worst place."
        " Close up, ask: could you draw the boundary there from what you see?"
    )
    return [
        Section(
            title="Worst cases",
            text=text,
            pictures=[_picture(rank, audit, pictures[audit.id]) for rank, audit in shown],
        )
    ]


def _picture(rank: int, audit: CaseAudit, content: bytes) -> Picture:
    name = audit.worst_class
    found = "" if name is None else f"{name}: {audit_words(audit.classes[name], audit.geometry)}. "
    words = f"{found}{audit_figure_words(audit)}"
    return Picture(
        title=f"{rank}. {audit.id}, score {audit.score:.2f}",
        content=content,
        alt=f"Annotation of case {audit.id} at its worst places. {words}",
        caption=words,
    )


def _ranking(audits: Sequence[CaseAudit], is_outlier: Sequence[bool]) -> Section:
    rows = [
        _row(rank, audit, is_out)
        for rank, (audit, is_out) in enumerate(
            zip(audits[:LONGEST_TABLE], is_outlier, strict=False), start=1
        )
    ]
    caption = "Worst first; one line a case, on the class with its highest score."
    if len(audits) > LONGEST_TABLE:
        caption += f" The first {LONGEST_TABLE} of {len(audits)}; audit.csv has all."
    columns = ["case", "rank", "score", "class", "unsupported", "better supported", "worst place"]
    table = Table(columns=columns, rows=rows, caption=caption, is_sortable=True)
    return Section(title="Work list", table=table)


def _row(rank: int, audit: CaseAudit, is_out: bool) -> Row:
    order = Cell(text=str(rank), is_number=True, sort_key=rank)
    name = audit.worst_class
    if name is None or math.isnan(audit.score):
        return [audit.id, order, "–", "no boundary", "–", "–", "–"]
    worst = audit.classes[name]
    share = worst.support.unsupported_share
    return [
        audit.id,
        order,
        Cell(
            text=f"{audit.score:.2f}",
            detail="stands out" if is_out else "",
            is_number=True,
            sort_key=audit.score,
        ),
        name,
        Cell(text=percent(share), is_number=True, sort_key=share),
        Cell(
            text=move_words(worst.move, audit.geometry),
            detail=f"{percent(share - worst.gain)} there" if worst.move else "",
            sort_key=worst.gain,
        ),
        _place_cell(audit),
    ]


def _place_cell(audit: CaseAudit) -> Cell | str:
    if not audit.places:
        return "–"
    place = audit.places[0]
    position = element_words(tuple(round(mm) for mm in place.position_mm))
    return Cell(
        text=f"element {element_words(place.crossing.element)}",
        detail=f"{place_words(place)}\nat {position} mm",
        sort_key=place.crossing.unsupported_mm,
    )


def _spread(audits: Sequence[CaseAudit]) -> list[Section]:
    """Every case's score by class; nothing for fewer than three cases."""
    if len(audits) < 3:
        return []
    names = dict.fromkeys(name for audit in audits for name in audit.classes)
    scores = {
        name: [a.classes[name].score if name in a.classes else math.nan for a in audits]
        for name in names
    }
    picture = Picture(
        title="Score, one dot a case",
        content=distribution_plot(scores, label="score"),
        alt="Scores of all cases by class.",
        caption="The short upright line is the median; the level one spans the middle half of the"
        " cases. A dot far to the right of the others is worth a look.",
    )
    return [Section(title="All cases", pictures=[picture])] if scores else []
