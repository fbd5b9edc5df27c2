"""Planted errors (hippocampus, MSD Task04): does `sfumato audit` rank them first?

    python benchmarks/audit.py DATA

DATA is a folder that `sfumato info` understands. Half of the cases (every other one, by name)
served to choose the score; `--half choosing` shows their numbers. What is reported is the other
half. In every planting 5 % of those cases, drawn at random, get a label with an error of one
kind, and all are ranked with the others as they came. The table gives the area under the ROC
curve (1: all planted errors before all others; 0.5: chance) as the mean over plantings, with
the range of the middle 95 % of them, and which share of the planted errors are among the first
5 %, 10 % and 20 % of the ranking. Labels that came with errors of their own count against it.

The last row of each kind ranks by the image's steepness across the boundary instead, for
comparison; the second and third by the two parts of the score.
"""

import argparse
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from jaxtyping import Float
from scipy.ndimage import distance_transform_edt, gaussian_filter

from sfumato.arrays import Label, Mask, Spacing
from sfumato.cases.case import Case
from sfumato.cases.dataset import Dataset
from sfumato.evaluation.audit import N_PLACES, CaseAudit, audit_case
from sfumato.workflow.auditing import AuditConfig, plan_audit

PLANTED_SHARE = 0.05
N_PLANTINGS = 1000
FIRST = (0.05, 0.1, 0.2)
Spoil = Callable[[Label, Spacing, np.random.Generator], Label]


def shift(label: Label, spacing: Spacing, rng: np.random.Generator, lengths_mm: Sequence) -> Label:
    """Shift a whole label along a random axis, either way."""
    axis = int(rng.integers(label.ndim))
    n = max(round(float(rng.choice(lengths_mm)) / spacing[axis]), 1) * int(rng.choice((-1, 1)))
    source = np.clip(np.arange(label.shape[axis]) - n, 0, label.shape[axis] - 1)
    return label.take(source, axis=axis)


def dilate(label: Label, spacing: Spacing, rng: np.random.Generator, lengths_mm: Sequence) -> Label:
    """Grow all structures together into the background, each as far as it is the nearest."""
    reach_mm = float(rng.choice(lengths_mm))
    distance, nearest = distance_transform_edt(label == 0, spacing, return_indices=True)
    return np.where(distance <= reach_mm, label[tuple(nearest)], 0).astype(np.uint8)


def erode(label: Label, spacing: Spacing, rng: np.random.Generator, lengths_mm: Sequence) -> Label:
    """Take a rim off all structures together."""
    reach_mm = float(rng.choice(lengths_mm))
    distance = distance_transform_edt(label > 0, spacing)
    return np.where(distance > reach_mm, label, 0).astype(np.uint8)


def bump(label: Label, spacing: Spacing, rng: np.random.Generator, radius_mm: float) -> Label:
    """Add or remove a ball somewhere at the outer boundary."""
    inside_mm = distance_transform_edt(label > 0, spacing)
    rim = np.argwhere((label > 0) & (inside_mm <= min(spacing)))
    offset = np.moveaxis(np.indices(label.shape), 0, -1) - rng.choice(rim)
    ball = np.linalg.norm(offset * spacing, axis=-1) <= radius_mm
    if rng.random() < 0.5:
        return np.where(ball, 0, label).astype(np.uint8)
    grown = dilate(label, spacing, rng, (3 * radius_mm,))
    return np.where(ball, grown, label).astype(np.uint8)


SPOT = "ball of 4 mm radius added or removed"
KINDS: Mapping[str, Spoil] = {
    "shifted by 2 or 3 mm": partial(shift, lengths_mm=(2, 3)),
    "dilated by 1 or 2 mm": partial(dilate, lengths_mm=(1, 2)),
    "shifted by 1 mm": partial(shift, lengths_mm=(1,)),
    "eroded by 1 mm": partial(erode, lengths_mm=(1,)),
    SPOT: partial(bump, radius_mm=4.0),
}


def auc(planted: Float[np.ndarray, " planted"], others: Float[np.ndarray, " other"]) -> float:
    """Give the probability that a planted error scores above another case."""
    difference = planted[:, None] - others[None, :]
    return float(np.mean((difference > 0) + 0.5 * (difference == 0)))


def contrast(case: Case) -> float:
    """Measure how steep the slightly smoothed image is across the boundary: no superpixels."""
    image = gaussian_filter(case.image[0].astype(np.float64), 0.7)
    is_near = distance_transform_edt(case.label == 0, case.geometry.spacing) <= 4
    steps = [
        np.abs(np.diff(image, axis=axis))[np.diff(case.label, axis=axis) != 0]
        for axis in range(image.ndim)
    ]
    return float(np.concatenate(steps).mean() / image[is_near].std())


def scores_of(case: Case, audit: Callable[[Case], CaseAudit]) -> dict[str, float]:
    """Give what the case can be ranked by; higher is more suspicious."""
    result = audit(case)
    found = result.classes.values()
    return {
        "score": result.score,
        "unsupported share alone": max(each.support.unsupported_share for each in found),
        "gain alone": max(each.gain for each in found),
        "contrast across the boundary": -contrast(case),
    }


def score_all(
    cases: Sequence[Case], spoil: Spoil | None, audit: Callable[[Case], CaseAudit]
) -> dict[str, Float[np.ndarray, " case"]]:
    """Score every case with one kind of error; the same error every time it is run."""
    rows = []
    for i, case in enumerate(cases):
        label = case.label
        if spoil is not None:
            label = spoil(label, case.geometry.spacing, np.random.default_rng(i))
        rows.append(scores_of(replace(case, label=label), audit))
    return {name: np.array([row[name] for row in rows]) for name in rows[0]}


def is_pointed_at(changed: Mask, audit: CaseAudit, spacing: Spacing) -> bool:
    """Tell whether one of the worst places lies within 2 mm of what was changed."""
    distance = distance_transform_edt(~changed, spacing)
    places = audit.places[:N_PLACES]
    return any(distance[place.crossing.element] <= 2 for place in places)


def print_spots(cases: Sequence[Case], audit: Callable[[Case], CaseAudit]) -> None:
    """Say how often the worst places of a case point at an error in one spot."""
    spoil, found = KINDS[SPOT], []
    for i, case in enumerate(cases):
        spacing = case.geometry.spacing
        label = spoil(case.label, spacing, np.random.default_rng(i))
        audits = audit(replace(case, label=label)), audit(case)
        found.append([is_pointed_at(label != case.label, each, spacing) for each in audits])
    spoiled, clean = np.mean(found, axis=0)
    print(f"\n{SPOT}: one of a case's {N_PLACES} worst places points at it in {spoiled:.0%} of the")
    print(f"cases; in {clean:.0%} one lies there without the error, too.")


def plant(
    clean: Float[np.ndarray, " case"], spoiled: Float[np.ndarray, " case"]
) -> Float[np.ndarray, "planting number"]:
    """Plant errors again and again: area under the curve, and shares found among the first."""
    n_planted = max(round(PLANTED_SHARE * len(clean)), 1)
    rng = np.random.default_rng(0)
    rows = []
    for _ in range(N_PLANTINGS):
        is_planted = np.zeros(len(clean), bool)
        is_planted[rng.choice(len(clean), n_planted, replace=False)] = True
        scores = np.where(is_planted, spoiled, clean)
        ranked = is_planted[np.argsort(-scores, kind="stable")]
        found = [ranked[: round(share * len(clean))].sum() / n_planted for share in FIRST]
        rows.append([auc(scores[is_planted], scores[~is_planted]), *found])
    return np.array(rows)


def main() -> None:
    """Plant all kinds of errors and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--half", choices=("choosing", "reporting"), default="reporting")
    chosen = parser.parse_args()
    dataset = Dataset.open(chosen.data)
    config = plan_audit(dataset, AuditConfig())
    ids = dataset.case_ids[0 if chosen.half == "choosing" else 1 :: 2]
    cases = [dataset.load(case_id) for case_id in ids]
    audit = partial(audit_case, classes=dataset.classes, settings=config.superpixels)
    started = time.monotonic()
    clean = score_all(cases, None, audit)
    print(f"{(time.monotonic() - started) / len(cases):.3f} s a case; {len(cases)} cases\n")
    first = " | ".join(f"in first {share:.0%}" for share in FIRST)
    print(f"| planted | ranked by | area under ROC curve | middle 95 % | {first} |")
    print("|" + "---|" * (4 + len(FIRST)))
    for kind, spoil in KINDS.items():
        spoiled = score_all(cases, spoil, audit)
        for name in clean:
            numbers = plant(clean[name], spoiled[name])
            low, high = np.percentile(numbers[:, 0], (2.5, 97.5))
            mean, *found = numbers.mean(axis=0)
            shares = " | ".join(f"{share:.0%}" for share in found)
            print(f"| {kind} | {name} | {mean:.3f} | {low:.3f} to {high:.3f} | {shares} |")
    print_spots(cases, audit)


if __name__ == "__main__":
    main()
