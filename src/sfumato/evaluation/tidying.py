"""Which post-processing a model's segmentations get: the one that is better on known cases."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64
from scipy import ndimage

from sfumato.arrays import Label
from sfumato.labels.postprocessing import ALL, PostprocessingSettings, postprocess
from sfumato.metrics.overlap import dice

FEWEST_CASES = 5
"""So many cases can choose something; of fewer, one would."""
SHARES = (0.1, 0.5)
"""Least volumes that are tried, in volumes of the smallest reference."""
SMALLEST_GAIN = 1e-6
"""By how much the mean Dice must rise, so that no rounding counts as evidence."""

_CaseDice = Float64[np.ndarray, "case class"]


@dataclass(frozen=True, kw_only=True, eq=False)
class TidyCase:
    """A case on which post-processing is tried: as much of it as has a structure."""

    segmentation: Label
    reference: Label
    element_volume_mm3: float

    @staticmethod
    def of(segmentation: Label, reference: Label, element_volume_mm3: float) -> "TidyCase":
        """Keep as much of a case as has a structure; post-processing does not see the rest."""
        is_either = ((segmentation != 0) | (reference != 0)).view(np.uint8)
        found = ndimage.find_objects(is_either)
        box = found[0] if found else (slice(0, 1),) * segmentation.ndim
        return TidyCase(
            segmentation=segmentation[box].copy(),
            reference=reference[box].copy(),
            element_volume_mm3=element_volume_mm3,
        )


def choose_postprocessing(
    cases: Sequence[TidyCase], class_names: Sequence[str]
) -> tuple[PostprocessingSettings, dict[str, Any]]:
    """Try a few ways to tidy up segmentations, and take what helps.

    One after the other: the largest part of each class, and of all; two least volumes of each
    class, and of all; holes of each class. One is taken if, with those taken before it, the mean
    Dice over classes and cases rises and no class's mean falls. Where a class is in neither the
    segmentation nor the reference of a case, that is right and counts as 1.

    Args:
        cases: Cases that neither trained the model nor test it.
        class_names: All classes but the background, in the order of their indices.

    Returns:
        The settings, and the evidence, for people: the number of cases, the Dice before and
        after, and what each step that was tried changes. With fewer than `FEWEST_CASES` cases
        nothing is chosen, and there is no evidence.
    """
    chosen = PostprocessingSettings()
    if len(cases) < FEWEST_CASES:
        return chosen, {}
    before = current = _class_dice(cases, class_names, chosen)
    tried = []
    for step in _steps(cases, class_names):
        candidate = _with(chosen, step)
        found = _class_dice(cases, class_names, candidate)
        gain = float(found.mean() - current.mean())
        is_taken = gain > SMALLEST_GAIN and bool((found >= current).all())
        tried.append({**_set_values(step), "mean_dice_gain": round(gain, 6), "is_taken": is_taken})
        if is_taken:
            chosen, current = candidate, found
    evidence = {
        "cases": len(cases),
        "dice_before": dict(zip(class_names, before.round(6).tolist(), strict=True)),
        "dice_after": dict(zip(class_names, current.round(6).tolist(), strict=True)),
        "tried": tried,
    }
    return chosen, evidence


def _class_dice(
    cases: Sequence[TidyCase], class_names: Sequence[str], settings: PostprocessingSettings
) -> Float64[np.ndarray, "class"]:
    """Return each class's mean over the cases."""
    values: _CaseDice = np.array(
        [
            [dice(case.reference == index, found == index) for index in _indices(class_names)]
            for case in cases
            for found in [
                postprocess(case.segmentation, case.element_volume_mm3, class_names, settings)
            ]
        ]
    )
    means: Float64[np.ndarray, "class"] = np.nan_to_num(values, nan=1.0).mean(axis=0)
    return means


def _steps(
    cases: Sequence[TidyCase], class_names: Sequence[str]
) -> Iterator[PostprocessingSettings]:
    together = (ALL,) if len(class_names) > 1 else ()
    for name in (*class_names, *together):
        yield PostprocessingSettings(largest_component=(name,))
    for name, index in (*zip(class_names, _indices(class_names), strict=True), (ALL, None)):
        if name != ALL or together:
            smallest = _smallest_volume(cases, index)
            for share in SHARES if smallest else ():
                least = float(f"{share * smallest:.3g}")
                yield PostprocessingSettings(minimum_volume_mm3={name: least})
    for name in class_names:
        yield PostprocessingSettings(fill_holes=(name,))


def _smallest_volume(cases: Sequence[TidyCase], index: int | None) -> float:
    """Return the smallest volume of a class, or of all, among references that have it; else 0."""
    volumes = [
        case.element_volume_mm3
        * np.count_nonzero(case.reference if index is None else case.reference == index)
        for case in cases
    ]
    return min((float(volume) for volume in volumes if volume), default=0.0)


def _indices(class_names: Sequence[str]) -> range:
    return range(1, len(class_names) + 1)


def _with(chosen: PostprocessingSettings, step: PostprocessingSettings) -> PostprocessingSettings:
    return PostprocessingSettings(
        largest_component=(*chosen.largest_component, *step.largest_component),
        minimum_volume_mm3={**chosen.minimum_volume_mm3, **step.minimum_volume_mm3},
        fill_holes=(*chosen.fill_holes, *step.fill_holes),
    )


def _set_values(step: PostprocessingSettings) -> dict[str, Any]:
    return step.model_dump(mode="json", exclude_defaults=True)
