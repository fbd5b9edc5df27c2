"""From a case to everything that training needs of it."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int32

from sfumato.arrays import Image, Label, ProbabilityBytes
from sfumato.cases.case import Case
from sfumato.errors import CaseError, InputError
from sfumato.image.geometry import Geometry
from sfumato.image.grid import model_grid
from sfumato.image.preprocessing import PreprocessingSettings, normalize_intensities
from sfumato.image.quantise import quantise
from sfumato.labels.softeners import SofteningSettings, soften
from sfumato.labels.superpixels import SuperpixelSettings
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
        soft_label: The probability of each class, in steps of 1/255.
        positions: For each foreground class, indices of (some of) its elements.
        geometry: The model's grid.
    """

    id: str
    image: Image
    hard_label: Label
    soft_label: ProbabilityBytes
    positions: tuple[Int32[np.ndarray, "_ axes"], ...]
    geometry: Geometry


def to_model_grid(case: Case, preprocessing: PreprocessingSettings, n_classes: int) -> Case:
    """Bring image and labels of a case to the model's orientation and spacing.

    Args:
        case: A case on its own grid.
        preprocessing: Must name the spacing.
        n_classes: Number of classes, background included.

    Raises:
        CaseError: If the case does not have as many spatial axes as the model.
    """
    if preprocessing.spacing_mm is None:
        raise InputError("preprocessing.spacing_mm must be set; let the plan choose it first")
    n_axes = len(preprocessing.spacing_mm)
    if len(case.geometry.shape) != n_axes:
        raise CaseError(
            case.id, f"it is {len(case.geometry.shape)}-D, but the model works on {n_axes}-D images"
        )
    grid = model_grid(case.geometry, preprocessing.spacing_mm)
    labels = tuple(grid.label_to_model(label, n_classes) for label in case.rater_labels)
    label = case.label
    if label is not None:
        label = labels[0] if labels else grid.label_to_model(label, n_classes)
    return Case(
        id=case.id,
        image=grid.image_to_model(case.image),
        geometry=grid.target,
        label=label,
        rater_labels=labels,
    )


def prepare_case(case: Case, settings: PreparationSettings) -> PreparedCase:
    """Bring a case to the model's grid, soften its label and normalise its intensities.

    Superpixels are computed here, on the model's grid, where training will see them.

    Args:
        case: A case with a label.
        settings: How it is done.

    Raises:
        CaseError: If the case has no label, or does not fit the settings.
    """
    if case.label is None:
        raise CaseError(case.id, "it has no label, so it cannot be used for training")
    channels = settings.preprocessing.channels
    if channels is None:
        raise InputError("preprocessing.channels must be set; let the plan choose them first")
    placed = to_model_grid(case, settings.preprocessing, settings.n_classes)
    hard_label = placed.label
    assert hard_label is not None
    try:
        soft_label = soften(
            placed.image,
            hard_label,
            placed.geometry.spacing,
            settings.n_classes,
            settings.softening,
            settings.superpixels,
        )
        image = normalize_intensities(placed.image, channels)
    except InputError as error:
        raise CaseError(case.id, str(error)) from error
    return PreparedCase(
        id=case.id,
        image=image,
        hard_label=hard_label,
        soft_label=quantise(soft_label),
        positions=tuple(_positions(hard_label, k) for k in range(1, settings.n_classes)),
        geometry=placed.geometry,
    )


def _positions(label: Label, class_index: int) -> Int32[np.ndarray, "_ axes"]:
    flat = np.flatnonzero(label == class_index)
    # Evenly spread over the structure, and the same on every run.
    chosen = flat[:: max(1, len(flat) // MAX_POSITIONS)]
    return np.stack(np.unravel_index(chosen, label.shape), axis=1).astype(np.int32)
