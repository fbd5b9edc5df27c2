"""A picture of an annotation at the places where the image supports it least."""

from functools import partial

import numpy as np
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from sfumato.arrays import Label, Mask, Superpixels
from sfumato.cases.case import Case
from sfumato.errors import CaseError
from sfumato.evaluation.audit import CaseAudit, ClassAudit, Place
from sfumato.labels.classes import ClassList
from sfumato.labels.moves import small_moves
from sfumato.report.audit_words import place_words
from sfumato.report.canvas import Key, Layer, Panel, PanelRow, row_png
from sfumato.report.colours import (
    CANVAS_INK,
    REFERENCE_COLOUR,
    UNCERTAIN_COLOUR,
    class_colour,
    class_line_style,
)
from sfumato.report.layers import (
    draw_borders,
    draw_contours,
    draw_image,
    draw_mask,
    draw_place,
    draw_thin_contours,
    shown_image,
)
from sfumato.report.lettering import legend_label
from sfumato.report.slices import Cut, choose_cut

N_DETAILS = 2
"""Places of a case that are shown close up."""


def audit_figure(
    case: Case, audit: CaseAudit, classes: ClassList, superpixels: Superpixels, title: str = ""
) -> bytes:
    """Draw an annotation where the image supports it least.

    The panels: the slice through the worst place, with the annotated boundaries and, as a thin
    white line, where that of the worst class would be supported better; the worst place close
    up, first without anything, then with the borders of superpixels; and the next worst place.

    Args:
        case: Image, grid and label.
        audit: What was found, with at least one boundary.
        classes: Names for the legend.
        superpixels: Those of the audit.
        title: Printed above the panels.

    Returns:
        A PNG.

    Raises:
        CaseError: If the case has no label, or the audit found no boundary.
    """
    if case.label is None or audit.worst_class is None:
        raise CaseError(case.id, "has no annotated boundary, so there is nothing to show")
    worst, places = audit.classes[audit.worst_class], audit.places[:N_DETAILS]
    crossed = [np.asarray(superpixels == place.crossing.index) for place in places]
    parts = [_smaller_part(s, case.label, p) for s, p in zip(crossed, places, strict=True)]
    drawn = np.asarray(case.label > 0)
    overview = choose_cut(case.geometry, parts[0] if parts else drawn, drawn)
    better = _better_label(case, worst, classes.names.index(audit.worst_class))
    layers = _annotation_layers(case, case.label, overview)
    if better is not None:
        layers.append(partial(draw_thin_contours, label=overview.of(better)))
    panels = [Panel(title="Annotation", layers=layers)]
    for i, (place, superpixel, part) in enumerate(zip(places, crossed, parts, strict=True)):
        cut = choose_cut(case.geometry, part, _window(superpixel, place))
        if i == 0:
            panels.append(Panel(title="Worst place", layers=[_background(case, cut)]))
        detail = _annotation_layers(case, case.label, cut)
        detail.insert(1, partial(draw_mask, mask=cut.of(superpixel)))
        detail.insert(2, partial(draw_borders, superpixels=cut.of(superpixels)))
        words = "with superpixels" if i == 0 else "Next place"
        panels.append(Panel(title=words, layers=detail))
    keys = _keys(case.label, classes, is_better_shown=better is not None)
    note = overview.caption()
    return row_png(PanelRow(panels=panels, title=title, note=note, keys=keys, aspect=1.0))


def audit_figure_words(audit: CaseAudit) -> str:
    """Say what the close-ups of a picture show."""
    shown = "; ".join(place_words(place) for place in audit.places[:N_DETAILS])
    return f"Close up: {shown}." if shown else ""


def _smaller_part(superpixel: Mask, label: Label, place: Place) -> Mask:
    return np.asarray(superpixel & (label == label[place.crossing.element]))


def _better_label(case: Case, audit: ClassAudit, class_index: int) -> Label | None:
    """Give the mask of a class where the image supports it best, as a label of that class."""
    if case.label is None or audit.move is None:
        return None
    moves = small_moves(np.asarray(case.label == class_index), case.geometry.spacing)
    moved = next(moved for move, moved in moves if move == audit.move)
    return moved.astype(np.uint8)


def _window(superpixel: Mask, place: Place) -> Mask:
    """The surroundings of a place: on every side as much as its superpixel measures."""
    window = np.zeros(superpixel.shape, bool)
    box = []
    for axis, middle in enumerate(place.crossing.element):
        others = tuple(other for other in range(superpixel.ndim) if other != axis)
        used = np.flatnonzero(superpixel.any(axis=others))
        box.append(slice(max(middle - len(used), 0), middle + len(used) + 1))
    window[tuple(box)] = True
    return window


def _background(case: Case, cut: Cut) -> Layer:
    return partial(draw_image, image=shown_image(case, cut), cut=cut)


def _annotation_layers(case: Case, label: Label, cut: Cut) -> list[Layer]:
    layers: list[Layer] = [
        _background(case, cut),
        partial(draw_contours, label=cut.of(label)),
    ]
    # The millimetres of a flat image are often only a file format's default: none are claimed.
    if cut.top:
        layers.append(partial(draw_place, cut=cut))
    return layers


def _keys(label: Label, classes: ClassList, *, is_better_shown: bool) -> list[Key]:
    keys: list[Key] = [
        Line2D(
            [],
            [],
            color=class_colour(k - 1),
            linestyle=class_line_style(k - 1),
            linewidth=2.5,
            label=legend_label(classes.names[k]),
        )
        for k in np.unique(label[label > 0])[:4].tolist()
    ]
    if is_better_shown:
        words = "where it would be supported better"
        keys.append(Line2D([], [], color=REFERENCE_COLOUR, linewidth=0.9, label=words))
    keys.append(Line2D([], [], color=CANVAS_INK, linewidth=0.5, label="borders of superpixels"))
    keys.append(Patch(color=UNCERTAIN_COLOUR, alpha=0.5, label="cut through"))
    return keys
