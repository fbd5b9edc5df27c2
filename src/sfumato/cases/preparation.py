"""From a case to everything that training needs of it."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int32

from sfumato.arrays import Image, Label, ProbabilityBytes
from sfumato.cases.case import Case
from sfumato.errors import CaseError, InputError
from sfumato.image.geometry import Geometry
from sfumato.image.grid import ModelGrid, ModelLabel, model_grid
from sfumato.image.preprocessing import PreprocessingSettings, normalize_intensities
from sfumato.image.quantise import quantise
from sfumato.labels.softeners import SofteningSettings, soften
from sfumato.labels.softening import check_label
from sfumato.labels.superpixels import Levels, SuperpixelSettings, scale_to_levels
from sfumato.settings import Settings

MAX_POSITIONS = 10_000
"""About how many elements are remembered for each class: plenty to draw patch centres from."""


class PreparationSettings(Settings):
    """Everything that decides what a prepared case looks like, besides its files.

    Attributes:
        preprocessing: The model's grid and intensities, nothing left open.
        superpixels: How large and how regular superpixels are.
        softening: Which rule makes the soft label.
        n_classes: Number of classes, background included.
    """

    preprocessing: PreprocessingSettings
    superpixels: SuperpixelSettings
    softening: SofteningSettings
    n_classes: int


@dataclass(frozen=True, kw_only=True, eq=False)
class PreparedCase:
    """A case on the model's grid with its hard and its soft label, ready to cut patches from.

    Attributes:
        id: Name of the case.
        image: Normalised intensities.
        hard_label: What the annotator drew.
        soft_label: The probability of each class, in steps of 1/255; None where training draws
            it anew.
        levels: The intensities that superpixels are then drawn from, else None. Normalised ones
            would not do: they are cut off, and skull-stripped heads lose their outline.
        positions: For each foreground class, indices of (some of) its elements.
        geometry: The model's grid.
    """

    id: str
    image: Image
    hard_label: Label
    soft_label: ProbabilityBytes | None
    levels: Levels | None = None
    positions: tuple[Int32[np.ndarray, "_ axes"], ...]
    geometry: Geometry


def prepare_case(case: Case, settings: PreparationSettings) -> PreparedCase:
    """Bring a case to the model's grid, soften its label and normalise its intensities.

    Superpixels are computed here, on the model's grid, where training will see them; or, where
    it draws them anew, what it needs for that.

    Args:
        case: A case with a label.
        settings: How it is done.

    Raises:
        CaseError: If the case has no label, or does not fit the settings.
    """
    if case.label is None:
        raise CaseError(case.id, "it has no label, so it cannot be used for training")
    spacing, channels = settings.preprocessing.spacing_mm, settings.preprocessing.channels
    if spacing is None or channels is None:
        raise InputError("preprocessing must be complete; let the plan fill it first")
    if len(case.geometry.shape) != len(spacing):
        raise CaseError(
            case.id,
            f"it is {len(case.geometry.shape)}-D, but the model works on {len(spacing)}-D images",
        )
    grid = model_grid(case.geometry, spacing)
    hard_label = grid.label_to_model(case.label, settings.n_classes)
    try:
        # Intensities come first: resampling blurs what is exactly 0 around a stripped skull.
        image = grid.image_to_model(normalize_intensities(case.image, channels))
        intensities = grid.image_to_model(case.image)
        soft_label, levels = None, None
        if settings.softening.when == "once":
            soft_label = soften(
                intensities,
                hard_label,
                grid.target.spacing,
                settings.n_classes,
                settings.softening,
                settings.superpixels,
                rater_labels=_rater_labels(case, grid, settings),
            )
        else:
            check_label(hard_label, settings.n_classes)
            levels = scale_to_levels(intensities, settings.superpixels)
    except InputError as error:
        raise CaseError(case.id, str(error)) from error
    return PreparedCase(
        id=case.id,
        image=image,
        hard_label=hard_label,
        soft_label=None if soft_label is None else quantise(soft_label),
        levels=levels,
        positions=tuple(_positions(hard_label, k) for k in range(1, settings.n_classes)),
        geometry=grid.target,
    )


def _rater_labels(
    case: Case, grid: ModelGrid, settings: PreparationSettings
) -> tuple[ModelLabel, ...]:
    """Bring what everyone drew to the model's grid, where the rule asks for it."""
    if settings.softening.method != "raters":
        return ()
    return tuple(grid.label_to_model(label, settings.n_classes) for label in case.rater_labels)


def _positions(label: Label, class_index: int) -> Int32[np.ndarray, "_ axes"]:
    flat = np.flatnonzero(label == class_index)
    # Evenly spread over the structure, and the same on every run.
    chosen = flat[:: max(1, len(flat) // MAX_POSITIONS)]
    return np.stack(np.unravel_index(chosen, label.shape), axis=1).astype(np.int32)
