"""What many trainings say together: every kind of label against the baseline, in every metric."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sfumato.evaluation.comparison import (
    HIGHER_IS_BETTER,
    PairedComparison,
    Scores,
    compare_in_pairs,
    holm,
    seed_deviation,
)
from sfumato.evaluation.scores import CALIBRATION_METRICS
from sfumato.evaluation.summary import MEAN

CLASS_METRICS = ("dice", "hd95_mm", "assd_mm", "nsd_1mm")
"""What is compared for each class and for their mean; the mean has `CALIBRATION_METRICS` too."""


@dataclass(frozen=True, kw_only=True)
class RunScores:
    """What one trained model scored on the cases that its fold held out.

    Attributes:
        softener: The kind of soft label, as the user named it.
        train_cases: How many cases it was trained on; None for all of its fold.
        fold: The fold that was held out, "K/N".
        seed: The training's seed.
        cases: For each case its numbers: class (or "mean") → metric → value; None or missing
            where undefined. What concerns all classes together stands under "mean".
    """

    softener: str
    train_cases: int | None
    fold: str
    seed: int
    cases: Mapping[str, Mapping[str, Mapping[str, float | None]]]


@dataclass(frozen=True, kw_only=True)
class Average:
    """A metric's average for one kind of soft label.

    Attributes:
        softener: The kind of soft label.
        train_cases: How many cases were trained on; None for all.
        class_name: The class, or "mean" over classes.
        metric: The metric's name in files.
        mean: Over cases, each averaged over seeds; NaN where it is nowhere defined.
        seed_deviation: Standard deviation over seeds of the mean over cases; NaN for one seed.
        n_models: How many models were scored.
        n_undefined: How many numbers (of one case and one model) are undefined and left out.
    """

    softener: str
    train_cases: int | None
    class_name: str
    metric: str
    mean: float
    seed_deviation: float
    n_models: int
    n_undefined: int


@dataclass(frozen=True, kw_only=True)
class Contrast:
    """A kind of soft label against the baseline in one metric.

    Attributes:
        softener: The kind of soft label.
        train_cases: How many cases were trained on; None for all.
        class_name: The class, or "mean" over classes.
        metric: The metric's name in files.
        found: Their difference.
        corrected_p: Its p-value, corrected by Holm for all contrasts of the same class.
    """

    softener: str
    train_cases: int | None
    class_name: str
    metric: str
    found: PairedComparison
    corrected_p: float


@dataclass(frozen=True, kw_only=True)
class ExperimentSummary:
    """What an experiment says.

    Attributes:
        softeners: The kinds of soft label in the order the user gave, the baseline first.
        train_cases: The numbers of training cases, in the order the user gave.
        class_names: The mean and the classes.
        averages: Of every kind, number of training cases, class and metric.
        contrasts: Of every kind but the baseline, likewise.
        case_changes: For every kind but the baseline, number of training cases and case: by
            how much mean Dice differs, averaged over seeds; undefined ones are left out.
    """

    softeners: tuple[str, ...]
    train_cases: tuple[int | None, ...]
    class_names: tuple[str, ...]
    averages: tuple[Average, ...]
    contrasts: tuple[Contrast, ...]
    case_changes: Mapping[tuple[str, int | None], Mapping[str, float]]

    @property
    def baseline(self) -> str:
        """The kind of label that the others are compared with."""
        return self.softeners[0]

    def average(
        self, softener: str, train_cases: int | None, class_name: str, metric: str
    ) -> Average | None:
        """Return one average, if any model was scored for it."""
        wanted = (softener, train_cases, class_name, metric)
        return next((a for a in self.averages if _place(a) == wanted), None)

    def contrast(
        self, softener: str, train_cases: int | None, class_name: str, metric: str
    ) -> Contrast | None:
        """Return one contrast, if there are pairs for it."""
        wanted = (softener, train_cases, class_name, metric)
        return next((c for c in self.contrasts if _place(c) == wanted), None)


def summarise_experiment(
    runs: Sequence[RunScores],
    softeners: Sequence[str],
    train_cases: Sequence[int | None],
    class_names: Sequence[str],
    extra_metrics: Sequence[str] = (),
) -> ExperimentSummary:
    """Average what models scored and compare every kind of soft label with the first.

    Only folds and seeds that both kinds have are compared, so a training that failed takes its
    partner along; cases are compared where all models of a fold have the metric.

    Args:
        runs: What each trained model scored.
        softeners: The kinds of soft label, the baseline first.
        train_cases: The numbers of training cases.
        class_names: The foreground classes.
        extra_metrics: Metrics of all classes together that some data sets have besides.
    """
    columns = [(MEAN, metric) for metric in (*CLASS_METRICS, *CALIBRATION_METRICS, *extra_metrics)]
    if len(class_names) > 1:
        columns += [(name, metric) for name in class_names for metric in CLASS_METRICS]
    averages, pairs, changes = [], [], {}
    for n in train_cases:
        by_arm = {s: [r for r in runs if (r.softener, r.train_cases) == (s, n)] for s in softeners}
        for softener in softeners:
            ours, hard = by_arm[softener], by_arm[softeners[0]]
            averages += [_average(ours, softener, n, *column) for column in columns if ours]
            shared = _shared(hard, ours)
            if softener == softeners[0] or not shared:
                continue
            pairs += [(softener, n, *column, _compare(shared, *column)) for column in columns]
            changes[softener, n] = _changes(shared)
    return ExperimentSummary(
        softeners=tuple(softeners),
        train_cases=tuple(train_cases),
        class_names=(MEAN, *(class_names if len(class_names) > 1 else ())),
        averages=tuple(averages),
        contrasts=tuple(_corrected(pairs)),
        case_changes=changes,
    )


Pair = tuple[RunScores, RunScores]
Place = tuple[str, int | None, str, str]


def _place(entry: Average | Contrast) -> Place:
    return entry.softener, entry.train_cases, entry.class_name, entry.metric


def _average(
    runs: Sequence[RunScores], softener: str, train_cases: int | None, name: str, metric: str
) -> Average:
    tables = [_table(fold, name, metric) for fold in _by_fold(runs)]
    sums = [(np.nansum(t, axis=0), np.isfinite(t).sum(axis=0)) for t in tables]
    of_cases = np.concatenate([total[n > 0] / n[n > 0] for total, n in sums])
    return Average(
        softener=softener,
        train_cases=train_cases,
        class_name=name,
        metric=metric,
        mean=float(of_cases.mean()) if len(of_cases) else math.nan,
        seed_deviation=seed_deviation(tables),
        n_models=len(runs),
        n_undefined=sum(int(np.isnan(table).sum()) for table in tables),
    )


def _shared(baseline: Sequence[RunScores], candidate: Sequence[RunScores]) -> list[Pair]:
    partners = {(run.fold, run.seed): run for run in baseline}
    return [
        (partners[run.fold, run.seed], run) for run in candidate if (run.fold, run.seed) in partners
    ]


def _compare(pairs: Sequence[Pair], name: str, metric: str) -> PairedComparison:
    baseline, candidate = (_by_fold([pair[side] for pair in pairs]) for side in (0, 1))
    ids = [
        sorted({i for run in (*a, *b) for i in run.cases})
        for a, b in zip(baseline, candidate, strict=True)
    ]
    return compare_in_pairs(
        [_table(fold, name, metric, i) for fold, i in zip(baseline, ids, strict=True)],
        [_table(fold, name, metric, i) for fold, i in zip(candidate, ids, strict=True)],
        is_higher_better=metric in HIGHER_IS_BETTER,
    )


def _by_fold(runs: Sequence[RunScores]) -> list[list[RunScores]]:
    """Group runs by fold, ordered by seed."""
    folds: dict[str, list[RunScores]] = {}
    for run in sorted(runs, key=lambda run: (run.fold, run.seed)):
        folds.setdefault(run.fold, []).append(run)
    return list(folds.values())


def _table(
    fold: Sequence[RunScores], name: str, metric: str, case_ids: Sequence[str] | None = None
) -> Scores:
    ids = case_ids or sorted({case_id for run in fold for case_id in run.cases})
    return np.array([[_number(run, case_id, name, metric) for case_id in ids] for run in fold])


def _number(run: RunScores, case_id: str, name: str, metric: str) -> float:
    value = run.cases.get(case_id, {}).get(name, {}).get(metric)
    return math.nan if value is None else float(value)


def _changes(pairs: Sequence[Pair]) -> dict[str, float]:
    found: dict[str, list[float]] = {}
    for before, after in pairs:
        for case_id in before.cases:
            change = _number(after, case_id, MEAN, "dice") - _number(before, case_id, MEAN, "dice")
            found.setdefault(case_id, []).append(change)
    means = {case_id: float(np.mean(changes)) for case_id, changes in found.items()}
    return {case_id: mean for case_id, mean in means.items() if math.isfinite(mean)}


def _corrected(
    pairs: Iterable[tuple[str, int | None, str, str, PairedComparison]],
) -> list[Contrast]:
    listed = list(pairs)
    corrected = [math.nan] * len(listed)
    for name in {entry[2] for entry in listed}:
        family = [i for i, entry in enumerate(listed) if entry[2] == name]
        for i, p in zip(family, holm([listed[i][4].p_value for i in family]), strict=True):
            corrected[i] = p
    return [
        Contrast(
            softener=softener,
            train_cases=n,
            class_name=name,
            metric=metric,
            found=found,
            corrected_p=p,
        )
        for (softener, n, name, metric, found), p in zip(listed, corrected, strict=True)
    ]


def run_scores_of(document: Mapping[str, Any]) -> dict[str, dict[str, dict[str, float | None]]]:
    """Read the cases of a `metrics.json`, with the calibration metrics under "mean".

    Examples:
        >>> case = {"case": "a", "mean": {"dice": 0.9}, "core": {"dice": 0.9}, "ece": 0.1}
        >>> run_scores_of({"cases": [case]})["a"]["mean"]
        {'dice': 0.9, 'ece': 0.1}
    """
    cases = {}
    for case in document["cases"]:
        overall = {metric: case.get(metric) for metric in CALIBRATION_METRICS if metric in case}
        classes = {name: row for name, row in case.items() if isinstance(row, dict)}
        cases[str(case["case"])] = {**classes, MEAN: {**classes[MEAN], **overall}}
    return cases
