"""Trying many superpixel settings on a data set."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain

import numpy as np

from sfumato.cases.case import Case
from sfumato.cases.dataset import Dataset
from sfumato.cases.split import fold
from sfumato.errors import ConfigError, DatasetError, SfumatoError
from sfumato.evaluation.sweep import (
    FIGURES,
    METHODS,
    Sweep,
    SweepGrid,
    list_candidates,
    measure_candidates,
)
from sfumato.training.fingerprint import (
    SUBSET_SEED,
    Fingerprint,
    choose_superpixel_size,
    fingerprint_sample,
    measure_fingerprint,
)
from sfumato.workflow.failures import Failure
from sfumato.workflow.tracking import Track, silently

SIZES = (0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 4.0)
"""Edges of superpixels that are tried, in those that training would choose."""
COMPACTNESS = (0.03, 0.1, 0.3)
SCALES = (0.5, 1.0, 2.0, 4.0)
"""Scales that are tried where several people drew, in smallest spacings."""
SIGMAS = (0.7, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0)
"""Widths of the Gaussian that are tried where several people drew, in smallest spacings."""


@dataclass(frozen=True, kw_only=True)
class SweepWishes:
    """What the user wants tried; None leaves it to the data.

    Attributes:
        sizes_mm: See `SweepGrid`, like the rest.
        compactness: Regularities of superpixels.
        scales_mm: Scales of distances.
        sigmas_mm: Widths of the Gaussian.
    """

    sizes_mm: tuple[float, ...] | None = None
    compactness: tuple[float, ...] | None = None
    scales_mm: tuple[float, ...] | None = None
    sigmas_mm: tuple[float, ...] | None = None


def choose_cases(dataset: Dataset, n_cases: int | None) -> Dataset:
    """Keep the cases that have a label, or so many of them, always the same ones.

    Raises:
        ConfigError: If more cases are wanted than there are.
        DatasetError: If there are no labels at all.
    """
    ids = [record.id for record in dataset.records if record.label_paths]
    if not ids:
        raise DatasetError(
            f"{dataset.name}: has no labels, so there is nothing to soften; put labels of the same"
            " names into labels/ beside images/"
        )
    if n_cases is None:
        return dataset.select(ids)
    if not 1 <= n_cases <= len(ids):
        raise ConfigError(
            f"--cases must be from 1 to {len(ids)}, the cases with a label, got {n_cases}"
        )
    order = np.random.RandomState(SUBSET_SEED).permutation(len(ids))
    return dataset.select(ids[i] for i in order[:n_cases])


def plan_sweep(dataset: Dataset, wishes: SweepWishes, track: Track = silently) -> SweepGrid:
    """Spread the values that are tried around what training would choose.

    Scales are tried only where several people drew, for nothing else could choose among them.

    Raises:
        SfumatoError: If no case can be read.
    """
    fingerprint = _look(dataset, track)
    smallest_mm = min(fingerprint.spacing_mm)
    size_mm = choose_superpixel_size(fingerprint, fingerprint.spacing_mm)
    scales = SCALES if _has_raters(dataset) else (1.0,)
    return SweepGrid(
        sizes_mm=wishes.sizes_mm or _times(SIZES, size_mm),
        compactness=wishes.compactness or COMPACTNESS,
        scales_mm=wishes.scales_mm or _times(scales, smallest_mm),
        sigmas_mm=wishes.sigmas_mm or _times(SIGMAS, smallest_mm),
    )


def run_sweep(
    dataset: Dataset, grid: SweepGrid, track: Track = silently
) -> tuple[Sweep, list[Failure]]:
    """Measure every candidate on every case; a bad case does not stop the others.

    Where nobody drew twice, only superpixels are tried. Half of the groups are held out, see
    `fold`; none where there is a single group.
    """
    methods = METHODS if _has_raters(dataset) else METHODS[:1]
    candidates = list_candidates(grid, methods, is_photo=dataset.is_photo)
    failures, done, tables = [], [], []
    for case_id in track(dataset.case_ids, "Trying settings", len(dataset)):
        try:
            rows = measure_candidates(dataset.load(case_id), dataset.classes, candidates)
        except (SfumatoError, MemoryError) as error:
            failures.append(Failure.of(case_id, error))
            continue
        done.append(case_id)
        tables.append([[row[figure] for figure in FIGURES] for row in rows])
    measured = np.array(tables, np.float64).reshape(len(done), len(candidates), len(FIGURES))
    held_out = _held_out(dataset, done)
    sweep = Sweep(
        candidates=candidates,
        case_ids=tuple(done),
        is_held_out=np.array([case_id in held_out for case_id in done], bool),
        figures={figure: measured[:, :, i].T for i, figure in enumerate(FIGURES)},
    )
    return sweep, failures


def _has_raters(dataset: Dataset) -> bool:
    return any(len(record.label_paths) > 1 for record in dataset.records)


def _look(dataset: Dataset, track: Track) -> Fingerprint:
    """Look at a sample of the cases; those that cannot be read have no say."""
    ids = fingerprint_sample(dataset.case_ids)
    cases = _readable(dataset, track(ids, "Looking at the data", len(ids)))
    first = next(cases, None)
    if first is None:
        dataset.load(ids[0])  # says what is wrong with it
        raise DatasetError(f"{dataset.name}: none of its cases can be read; check the files")
    return measure_fingerprint(chain([first], cases), dataset.classes)


def _readable(dataset: Dataset, case_ids: Iterable[str]) -> Iterator[Case]:
    for case_id in case_ids:
        with suppress(SfumatoError):
            yield dataset.load(case_id)


def _times(factors: Sequence[float], unit_mm: float) -> tuple[float, ...]:
    return tuple(float(f"{factor * unit_mm:.3g}") for factor in factors)


def _held_out(dataset: Dataset, case_ids: Sequence[str]) -> set[str]:
    group_of = dict(zip(dataset.case_ids, dataset.groups, strict=True))
    groups = [group_of[case_id] for case_id in case_ids]
    if len(set(groups)) < 2:
        return set()
    return set(fold(case_ids, groups, k=0, n=2).held_out_ids)
