"""Which superpixels suit a data set: many settings measured on the same cases, one recommended.

The cases are split in two halves by their groups. The settings are chosen on one half; what the
chosen one achieves is measured on the other half, which chose nothing.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, product
from typing import TypeAlias

import numpy as np
from jaxtyping import Bool, Float64
from pydantic import Field

from sfumato.arrays import Label, Probability
from sfumato.cases.case import Case
from sfumato.errors import CaseError
from sfumato.evaluation.softness import (
    achievable_accuracy,
    boundary_recall,
    grid_cells,
    measure_softness,
)
from sfumato.labels.classes import ClassList
from sfumato.labels.softeners import SofteningSettings, soften
from sfumato.labels.softening import soften_label
from sfumato.labels.superpixels import SuperpixelSettings, compute_superpixels
from sfumato.settings import Settings

METHODS = ("superpixel", "none", "gaussian", "distance", "grid")
"""What is compared: the method, and what it has to be better than. `grid` is the method with a
plain grid's cells in the place of superpixels: what it achieves, the image had no part in."""

TRUTH_FIGURES = ("brier", "cross_entropy")
"""What tells right from wrong, where several people drew; smaller is better."""

SUPERPIXEL_FIGURES = ("accuracy_gain", "achievable_accuracy", "boundary_recall", "n_superpixels")
"""What superpixels alone decide; `accuracy_gain` is the achievable accuracy less that of a plain
grid's cells of the same size."""

FIGURES = (*TRUTH_FIGURES, *SUPERPIXEL_FIGURES, "softened_share", "volume_shift")
"""What is measured of every candidate on every case, see `Softness`; `volume_shift` is the mean
over classes of the relative shift, whichever way it goes."""

NUMBERS = {
    "superpixel": ("size_mm", "compactness", "scale_mm"),
    "none": (),
    "gaussian": ("sigma_mm",),
    "distance": ("scale_mm",),
    "grid": ("size_mm", "scale_mm"),
}
"""The settings that count for each method."""

VALUES = {
    "size_mm": "sizes_mm",
    "compactness": "compactness",
    "scale_mm": "scales_mm",
    "sigma_mm": "sigmas_mm",
}
"""Where `SweepGrid` keeps what is tried of each setting."""

METHOD_NAMES = {"none": "hard label", "grid": "plain grid"}
NUMBER_WORDS = {
    "size_mm": "",
    "compactness": "compactness ",
    "scale_mm": "scale ",
    "sigma_mm": "σ ",
}

PerCase: TypeAlias = Float64[np.ndarray, "case"]
PerCandidate: TypeAlias = Float64[np.ndarray, "candidate"]
Table: TypeAlias = Float64[np.ndarray, "candidate case"]


class SweepGrid(Settings):
    """The values that are tried, all with each other.

    Attributes:
        sizes_mm: Edges of superpixels.
        compactness: How regular superpixels are.
        scales_mm: For `superpixel` and `distance`, see `SofteningSettings`.
        sigmas_mm: For `gaussian`.
    """

    sizes_mm: tuple[float, ...] = Field(min_length=1)
    compactness: tuple[float, ...] = Field(min_length=1)
    scales_mm: tuple[float, ...] = Field(min_length=1)
    sigmas_mm: tuple[float, ...] = Field(min_length=1)


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """One way to soften labels.

    Attributes:
        method: One of `METHODS`.
        softening: The rule and its numbers; for `grid` only the scale counts.
        superpixels: How superpixels are made; for `grid` only the size counts.
    """

    method: str
    softening: SofteningSettings
    superpixels: SuperpixelSettings

    @property
    def place(self) -> tuple[float, float] | None:
        """Size and compactness of the superpixels, or None where there are none."""
        size_mm = self.superpixels.size_mm
        if self.method != "superpixel" or size_mm is None:
            return None
        return (size_mm, self.superpixels.compactness)

    @property
    def numbers(self) -> dict[str, float | None]:
        """The settings that count, by their names."""
        numbers = {
            "size_mm": self.superpixels.size_mm,
            "compactness": self.superpixels.compactness,
            "scale_mm": self.softening.scale_mm,
            "sigma_mm": self.softening.sigma_mm,
        }
        return {name: numbers[name] for name in NUMBERS[self.method]}

    @property
    def words(self) -> str:
        """What it is, for people."""
        shown = [
            f"{NUMBER_WORDS[name]}{number:g}{' mm' if name.endswith('_mm') else ''}"
            for name, number in self.numbers.items()
            if number is not None
        ]
        return ", ".join([METHOD_NAMES.get(self.method, self.method), *shown])


def list_candidates(
    grid: SweepGrid, methods: Sequence[str] = METHODS, *, is_photo: bool = False
) -> tuple[Candidate, ...]:
    """Combine the values of a grid, method by method."""
    found: list[Candidate] = []
    for method in methods:
        tried = (getattr(grid, VALUES[name]) for name in NUMBERS[method])
        for values in product(*tried):
            numbers = dict(zip(NUMBERS[method], values, strict=True))
            superpixels = {n: numbers.pop(n) for n in ("size_mm", "compactness") if n in numbers}
            rule = "superpixel" if method == "grid" else method
            found.append(
                Candidate(
                    method=method,
                    softening=SofteningSettings(method=rule, **numbers),
                    superpixels=SuperpixelSettings(is_photo=is_photo, **superpixels),
                )
            )
    return tuple(found)


@dataclass(frozen=True, kw_only=True, eq=False)
class Sweep:
    """What was measured.

    Attributes:
        candidates: What was tried.
        case_ids: On which cases.
        is_held_out: For each case, whether it is kept from choosing.
        figures: Each of `FIGURES`; NaN where undefined.
    """

    candidates: tuple[Candidate, ...]
    case_ids: tuple[str, ...]
    is_held_out: Bool[np.ndarray, "case"]
    figures: Mapping[str, Table]

    @property
    def has_truth(self) -> bool:
        """Whether any case that chooses was drawn by several people."""
        return bool(np.isfinite(self.figures["brier"][:, ~self.is_held_out]).any())

    def chosen_by(self, figure: str) -> PerCandidate:
        """Average a figure over the cases that choose, where it is defined."""
        values = self.figures[figure][:, ~self.is_held_out]
        is_defined = np.isfinite(values)
        count = is_defined.sum(axis=1)
        total = np.where(is_defined, values, 0).sum(axis=1)
        return total / np.where(count > 0, count, math.nan)

    def held_out(self, figure: str, candidate: int) -> PerCase:
        """Return a candidate's values on the cases that are kept from choosing."""
        return self.figures[figure][candidate, self.is_held_out]


def measure_candidates(
    case: Case, classes: ClassList, candidates: Sequence[Candidate]
) -> list[dict[str, float]]:
    """Soften a case's label in every way and return each one's `FIGURES`.

    Raises:
        CaseError: If the case has no label.
        InputError: If its image cannot be split into superpixels.
    """
    label = _label_of(case)
    rows = []
    for superpixels, alike in groupby(candidates, _superpixels_of):
        # The superpixels of the whole image are the same whatever the scale.
        agreement = _measure_superpixels(case, label, superpixels)
        for candidate in alike:
            soft_label = soften_by(candidate, case, len(classes))
            rows.append(agreement | _measure_label(case, label, soft_label, classes))
    return rows


def soften_by(candidate: Candidate, case: Case, n_classes: int) -> Probability:
    """Soften the label of a case.

    Raises:
        CaseError: If the case has no label.
        InputError: If its image cannot be split into superpixels.
    """
    label, spacing = _label_of(case), case.geometry.spacing
    rule, superpixels = candidate.softening, candidate.superpixels
    if candidate.method == "grid" and superpixels.size_mm is not None:
        cells = grid_cells(label.shape, spacing, superpixels.size_mm)
        return soften_label(label, cells, spacing, n_classes, rule.scale_mm)
    return soften(case.image, label, spacing, n_classes, rule, superpixels)


def _label_of(case: Case) -> Label:
    if case.label is None:
        raise CaseError(case.id, "it has no label to soften; add one or leave the case out")
    return case.label


def _superpixels_of(candidate: Candidate) -> SuperpixelSettings | None:
    return None if candidate.place is None else candidate.superpixels


def _measure_superpixels(
    case: Case, label: Label, settings: SuperpixelSettings | None
) -> dict[str, float]:
    if settings is None or settings.size_mm is None:
        return dict.fromkeys(SUPERPIXEL_FIGURES, math.nan)
    spacing = case.geometry.spacing
    superpixels = compute_superpixels(case.image, spacing, settings)
    accuracy = achievable_accuracy(label, superpixels)
    by_chance = achievable_accuracy(label, grid_cells(label.shape, spacing, settings.size_mm))
    return {
        "accuracy_gain": accuracy - by_chance,
        "achievable_accuracy": accuracy,
        "boundary_recall": boundary_recall(label, superpixels),
        "n_superpixels": float(superpixels.max() + 1),
    }


def _measure_label(
    case: Case, label: Label, soft_label: Probability, classes: ClassList
) -> dict[str, float]:
    found = measure_softness(
        label, soft_label, case.geometry.spacing, classes, rater_labels=case.rater_labels
    )
    shifts = [abs(shift) for shift in found.relative_volume_shift.values() if math.isfinite(shift)]
    return {
        "brier": found.brier,
        "cross_entropy": found.cross_entropy,
        "softened_share": found.softened_share,
        "volume_shift": sum(shifts) / len(shifts) if shifts else math.nan,
    }
