"""Pictures of one case: what was drawn, what a model made of it, how a label was softened."""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from jaxtyping import Float32
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, Normalize
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from sfumato.arrays import Label, Probability, Superpixels
from sfumato.cases.case import Case
from sfumato.errors import CaseError
from sfumato.labels.classes import ClassList
from sfumato.report.canvas import Key, Layer, Panel, PanelRow, row_png
from sfumato.report.colours import (
    CANVAS_INK,
    REFERENCE_COLOUR,
    UNCERTAIN_COLOUR,
    class_colour,
    class_line_style,
    mix_classes,
)
from sfumato.report.layers import (
    draw_borders,
    draw_contours,
    draw_image,
    draw_mask,
    draw_place,
    draw_thin_contours,
    is_shown_in_colour,
    shown_image,
)
from sfumato.report.lettering import legend_label
from sfumato.report.slices import Cut, choose_cut

UNCERTAIN_BELOW = 0.9
"""An element is shown as uncertain where no class has this probability."""

SOFTENING_SIDE = 256
"""Elements along one side of a softening figure: few enough to tell superpixels apart."""

N_KEYS = 8
"""Classes that the legend names; more would not fit."""

FlatProbability = Float32[np.ndarray, "classes row column"]


def overlay_figure(
    case: Case,
    segmentation: Label,
    classes: ClassList,
    *,
    probability: Probability | None = None,
    title: str = "",
) -> bytes:
    """Draw a segmentation over its image, beside the reference and the model's doubts.

    The panels, from left to right: the image; the reference's contours if there is a
    reference; the segmentation's contours, with the reference as a thin white line; and, if
    probabilities are given, the elements where no class reaches a probability of 0.9, and the
    probability itself in the classes' colours.

    A volume is cut where the reference (else the segmentation) is largest, and the picture
    zooms in if both fill only a small part of it.

    Args:
        case: Image and grid, and the reference if there is one.
        segmentation: The label that the model produced, on the case's grid.
        classes: Names for the legend.
        probability: What the model gave each class.
        title: Printed above the panels.

    Returns:
        A PNG.

    Raises:
        CaseError: If segmentation or probability have another shape than the image.
    """
    _check_shape(case, segmentation.shape, "segmentation")
    cut = _overlay_cut(case, segmentation)
    background = _background(case, cut)
    panels, keys = [_image_panel(case, cut)], _class_keys(classes)
    contours: list[Layer] = [background, partial(draw_contours, label=cut.of(segmentation))]
    if case.label is not None:
        reference = cut.of(case.label)
        layers: list[Layer] = [background, partial(draw_contours, label=reference)]
        panels.append(Panel(title="Reference", layers=layers))
        contours.append(partial(draw_thin_contours, label=reference))
        keys.append(Line2D([], [], color=REFERENCE_COLOUR, linewidth=0.9, label="reference"))
    panels.append(Panel(title="Segmentation", layers=contours))
    if probability is not None:
        _check_shape(case, probability.shape[1:], "probability")
        panels += _probability_panels(cut.of(probability), background, cut)
        words = f"uncertain: no class reaches {UNCERTAIN_BELOW:g}"
        keys.append(Patch(color=UNCERTAIN_COLOUR, alpha=0.5, label=words))
    return row_png(_row(panels, cut, keys, title))


def softening_figure(
    case: Case,
    soft_label: Probability,
    classes: ClassList,
    *,
    superpixels: Superpixels | None = None,
    raters_mean: Probability | None = None,
    title: str = "",
) -> bytes:
    """Draw what softening made of a hard label.

    The panels: the image; the superpixels' borders over it, if given; the hard label; the
    soft label and the raters' mean, if given, all in the classes' colours; and how much
    probability was taken from the class that was drawn. A volume is cut where most elements
    were softened; of a large image, the detail with most softened elements is shown.

    Args:
        case: Image, grid and hard label.
        soft_label: Probability of each class, on the case's grid.
        classes: Names for the legend.
        superpixels: What guided the softening; -1 where there is none.
        raters_mean: Which share of several people gave each element each class.
        title: Printed above the panels.

    Returns:
        A PNG.

    Raises:
        CaseError: If the case has no label, or an array has another shape than the image.
    """
    if case.label is None:
        raise CaseError(case.id, "has no label, so there is nothing to show softened")
    _check_shape(case, soft_label.shape[1:], "soft label")
    taken = np.float32(1) - _probability_of(soft_label, case.label)
    is_softened = taken > 1e-3
    interest = is_softened if is_softened.any() else case.label > 0
    cut = choose_cut(case.geometry, interest, interest | (case.label > 0), SOFTENING_SIDE)
    hard_label = cut.of(case.label)

    panels = [_image_panel(case, cut)]
    if superpixels is not None:
        _check_shape(case, superpixels.shape, "superpixel map")
        borders = partial(draw_borders, superpixels=cut.of(superpixels))
        contours = partial(draw_contours, label=hard_label)
        layers: list[Layer] = [_background(case, cut), borders, contours]
        panels.append(Panel(title="Superpixels", layers=layers))
    hard = np.eye(len(soft_label), dtype=np.float32)[:, hard_label]
    panels += [
        Panel(title="Hard label", layers=[_painting(hard, cut)]),
        Panel(title="Soft label", layers=[_painting(cut.of(soft_label), cut)]),
    ]
    if raters_mean is not None:
        _check_shape(case, raters_mean.shape[1:], "raters' mean")
        panels.append(Panel(title="Raters' mean", layers=[_painting(cut.of(raters_mean), cut)]))
    panels.append(_taken_panel(cut.of(taken), cut))
    return row_png(_row(panels, cut, _class_keys(classes), title))


def _check_shape(case: Case, shape: tuple[int, ...], what: str) -> None:
    if shape != case.geometry.shape:
        raise CaseError(
            case.id,
            f"the {what} has shape {shape}, but the image {case.geometry.shape};"
            " bring it to the image's grid first",
        )


def _overlay_cut(case: Case, segmentation: Label) -> Cut:
    is_segmented = np.asarray(segmentation > 0)
    if case.label is None or not case.label.any():
        return choose_cut(case.geometry, is_segmented)
    is_reference = np.asarray(case.label > 0)
    return choose_cut(case.geometry, is_reference, is_reference | is_segmented)


def _row(panels: Sequence[Panel], cut: Cut, keys: Sequence[Key], title: str) -> PanelRow:
    return PanelRow(panels=panels, title=title, note=cut.caption(), keys=keys, aspect=cut.aspect)


def _background(case: Case, cut: Cut) -> Layer:
    return partial(draw_image, image=shown_image(case, cut), cut=cut)


def _image_panel(case: Case, cut: Cut) -> Panel:
    n_channels = len(case.image)
    is_whole = n_channels == 1 or is_shown_in_colour(case)
    title = "Image" if is_whole else f"Image, channel 1 of {n_channels}"
    layers = [_background(case, cut)]
    # The millimetres of a flat image are often only a file format's default: none are claimed.
    if cut.top:
        layers.append(partial(draw_place, cut=cut))
    return Panel(title=title, layers=layers)


def _class_keys(classes: ClassList) -> list[Key]:
    keys: list[Key] = [
        Line2D(
            [],
            [],
            color=class_colour(k),
            linestyle=class_line_style(k),
            linewidth=2.5,
            label=legend_label(name),
        )
        for k, name in enumerate(classes.foreground[:N_KEYS])
    ]
    n_more = len(classes.foreground) - len(keys)
    if n_more:
        keys.append(Patch(alpha=0, label=f"and {n_more} more"))
    return keys


def _probability_panels(probability: FlatProbability, background: Layer, cut: Cut) -> list[Panel]:
    is_uncertain = np.asarray(probability.max(axis=0) < UNCERTAIN_BELOW)
    is_binary = len(probability) == 2
    ramp = LinearSegmentedColormap.from_list(
        "probability", ["#000000", class_colour(0) if is_binary else CANVAS_INK]
    )
    scale = ScalarMappable(Normalize(0, 1), ramp)
    return [
        Panel(title="Uncertain", layers=[background, partial(draw_mask, mask=is_uncertain)]),
        Panel(
            title="Probability",
            layers=[_painting(probability, cut)],
            scale=(scale, "probability" if is_binary else "probability of each class"),
        ),
    ]


def _taken_panel(taken: Float32[np.ndarray, "row column"], cut: Cut) -> Panel:
    highest = max(float(np.ceil(taken.max() * 10)) / 10, 0.1)
    scale = ScalarMappable(Normalize(0, highest), "magma")
    colours = np.asarray(scale.to_rgba(taken))[..., :3].astype(np.float32)
    layers = [partial(draw_image, image=colours, cut=cut)]
    return Panel(title="Softened by", layers=layers, scale=(scale, "probability taken away"))


def _probability_of(probability: Probability, label: Label) -> Float32[np.ndarray, "*space"]:
    """Return the probability of each element's own class."""
    return np.take_along_axis(probability, label[np.newaxis].astype(np.intp), axis=0)[0]


def _painting(probability: FlatProbability, cut: Cut) -> Callable[[Axes], None]:
    return partial(draw_image, image=mix_classes(probability), cut=cut)
