"""What many trainings say together: every kind of label against the baseline, in every metric."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sfumato.evaluation.comparison import (
    HIGHER_IS_BETTER,
    PairedComparison,
    compare_in_pairs,
    holm,
    seed_deviation,
)
from sfumato.evaluation.rater_scores import ONE_RATER, RATERS_METRICS
from sfumato.evaluation.runs import (
    NO_NOISE,
    Condition,
    Partners,
    RunScores,
    align,
    aligned_tables,
    select_runs,
)
from sfumato.evaluation.scores import CALIBRATION_METRICS, UNSCALED_METRICS
from sfumato.evaluation.summary import MEAN

CLASS_METRICS = ("dice", "hd95_mm", "assd_mm", "nsd_1mm")
"""What is compared for each class and for their mean. The mean has `CALIBRATION_METRICS` too;
`RATERS_METRICS` where several people drew the same cases, and `UNSCALED_METRICS` where models have
a temperature."""

Column = tuple[str, str]
"""A class (or "mean") and a metric."""


@dataclass(frozen=True, kw_only=True)
class Average:
    """A metric's average for one kind of soft label.

    Attributes:
        softener: The kind of soft label.
        condition: What else the models were trained on.
        class_name: The class, or "mean" over classes.
        metric: The metric's name in files.
        mean: Over cases, each averaged over seeds; NaN where it is nowhere defined.
        seed_deviation: Standard deviation over seeds of the mean over cases; NaN for one seed.
        n_models: How many models were scored.
        n_undefined: How many numbers (of one case and one model) are undefined and left out.
    """

    softener: str
    condition: Condition
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
        condition: What both were trained on.
        class_name: The class, or "mean" over classes.
        metric: The metric's name in files.
        found: Their difference.
        corrected_p: Its p-value, corrected by Holm for all contrasts of the same class.
    """

    softener: str
    condition: Condition
    class_name: str
    metric: str
    found: PairedComparison
    corrected_p: float


@dataclass(frozen=True, kw_only=True)
class Degradation:
    """What spoilt training labels did to one kind of soft label in one metric.

    Attributes:
        softener: The kind of soft label.
        condition: The training with spoilt labels.
        class_name: The class, or "mean" over classes.
        metric: The metric's name in files.
        found: Trained on spoilt labels less trained on those that were drawn.
        beside_baseline: That difference less the baseline's own: better where this kind of
            label suffers less; None for the baseline itself.
    """

    softener: str
    condition: Condition
    class_name: str
    metric: str
    found: PairedComparison
    beside_baseline: PairedComparison | None


@dataclass(frozen=True, kw_only=True)
class ExperimentSummary:
    """What an experiment says.

    Attributes:
        softeners: The kinds of soft label in the order the user gave, the baseline first.
        conditions: What they were trained on, in the order the user gave.
        class_names: The mean and the classes.
        averages: Of every kind, condition, class and metric.
        contrasts: Of every kind but the baseline, likewise.
        degradations: Of every kind and every condition with spoilt labels, where there are
            models on labels as they were drawn to compare with.
        case_changes: For every kind but the baseline, condition and case: by how much mean Dice
            differs, averaged over seeds; undefined ones are left out.
    """

    softeners: tuple[str, ...]
    conditions: tuple[Condition, ...]
    class_names: tuple[str, ...]
    averages: tuple[Average, ...]
    contrasts: tuple[Contrast, ...]
    degradations: tuple[Degradation, ...]
    case_changes: Mapping[tuple[str, Condition], Mapping[str, float]]

    @property
    def baseline(self) -> str:
        """The kind of label that the others are compared with."""
        return self.softeners[0]

    @property
    def noises(self) -> tuple[str, ...]:
        """How training labels are spoilt, each way once."""
        return tuple(dict.fromkeys(condition.noise for condition in self.conditions))

    @property
    def train_cases(self) -> tuple[int | None, ...]:
        """The numbers of training cases, each once."""
        return tuple(dict.fromkeys(condition.train_cases for condition in self.conditions))

    @property
    def main_condition(self) -> Condition:
        """What is told first: the last number of training cases, with the first noise."""
        return Condition(train_cases=self.train_cases[-1], noise=self.noises[0])

    def average(
        self, softener: str, condition: Condition, class_name: str, metric: str
    ) -> Average | None:
        """Return one average, if any model was scored for it."""
        wanted = (softener, condition, class_name, metric)
        return next((a for a in self.averages if _place(a) == wanted), None)

    def contrast(
        self, softener: str, condition: Condition, class_name: str, metric: str
    ) -> Contrast | None:
        """Return one contrast, if there are pairs for it."""
        wanted = (softener, condition, class_name, metric)
        return next((c for c in self.contrasts if _place(c) == wanted), None)

    def degradation(
        self, softener: str, condition: Condition, class_name: str, metric: str
    ) -> Degradation | None:
        """Return what spoilt labels did, if there are pairs for it."""
        wanted = (softener, condition, class_name, metric)
        return next((d for d in self.degradations if _place(d) == wanted), None)


def summarise_experiment(
    runs: Sequence[RunScores],
    softeners: Sequence[str],
    conditions: Sequence[Condition],
    class_names: Sequence[str],
) -> ExperimentSummary:
    """Average what models scored and compare every kind of soft label with the first.

    Only folds and seeds that both kinds have are compared, so a training that failed takes its
    partner along; cases are compared where all models of a fold have the metric. What was scored
    against single raters is averaged only: so many comparisons would drown the others.

    Args:
        runs: What each trained model scored.
        softeners: The kinds of soft label, the baseline first.
        conditions: What they were trained on.
        class_names: The foreground classes.
    """
    measured = _measured_overall(runs)
    sometimes = [m for m in (*RATERS_METRICS, *UNSCALED_METRICS) if m in measured]
    compared = (*CLASS_METRICS, *CALIBRATION_METRICS, *sometimes)
    columns = [(MEAN, metric) for metric in compared]
    if len(class_names) > 1:
        columns += [(name, metric) for name in class_names for metric in CLASS_METRICS]
    averaged = [*columns, *((MEAN, metric) for metric in measured if ONE_RATER.fullmatch(metric))]
    averages, pairs, changes = [], [], {}
    for condition in conditions:
        baseline = select_runs(runs, softeners[0], condition)
        for softener in softeners:
            ours = select_runs(runs, softener, condition)
            averages += [_average(ours, softener, condition, *c) for c in averaged if ours]
            shared = align(baseline, ours)
            if softener == softeners[0] or not shared:
                continue
            pairs += [(softener, condition, *c, _compare(shared, *c)) for c in columns]
            changes[softener, condition] = _changes(shared)
    return ExperimentSummary(
        softeners=tuple(softeners),
        conditions=tuple(conditions),
        class_names=(MEAN, *(class_names if len(class_names) > 1 else ())),
        averages=tuple(averages),
        contrasts=tuple(_corrected(pairs)),
        degradations=tuple(_degradations(runs, softeners, conditions, columns)),
        case_changes=changes,
    )


def _measured_overall(runs: Sequence[RunScores]) -> list[str]:
    """List what was measured of the mean, and of all classes together, for any case."""
    cases = [numbers.get(MEAN, {}) for run in runs for numbers in run.cases.values()]
    return list(dict.fromkeys(metric for case in cases for metric in case))


def _place(entry: Average | Contrast | Degradation) -> tuple[str, Condition, str, str]:
    return entry.softener, entry.condition, entry.class_name, entry.metric


def _average(
    runs: Sequence[RunScores], softener: str, condition: Condition, name: str, metric: str
) -> Average:
    (tables,) = aligned_tables(align(runs), name, metric)
    sums = [(np.nansum(t, axis=0), np.isfinite(t).sum(axis=0)) for t in tables]
    of_cases = np.concatenate([total[n > 0] / n[n > 0] for total, n in sums])
    return Average(
        softener=softener,
        condition=condition,
        class_name=name,
        metric=metric,
        mean=float(of_cases.mean()) if len(of_cases) else math.nan,
        seed_deviation=seed_deviation(tables),
        n_models=len(runs),
        n_undefined=sum(int(np.isnan(table).sum()) for table in tables),
    )


def _compare(pairs: Sequence[Partners], name: str, metric: str) -> PairedComparison:
    baseline, candidate = aligned_tables(pairs, name, metric)
    return compare_in_pairs(baseline, candidate, is_higher_better=metric in HIGHER_IS_BETTER)


def _changes(pairs: Sequence[Partners]) -> dict[str, float]:
    found: dict[str, list[float]] = {}
    for before, after in pairs:
        for case_id in before.cases:
            change = after.number(case_id, MEAN, "dice") - before.number(case_id, MEAN, "dice")
            found.setdefault(case_id, []).append(change)
    means = {case_id: float(np.mean(changes)) for case_id, changes in found.items()}
    return {case_id: mean for case_id, mean in means.items() if math.isfinite(mean)}


def _degradations(
    runs: Sequence[RunScores],
    softeners: Sequence[str],
    conditions: Sequence[Condition],
    columns: Sequence[Column],
) -> Iterable[Degradation]:
    for spoilt in conditions:
        clean = Condition(train_cases=spoilt.train_cases)
        if spoilt.noise == NO_NOISE or clean not in conditions:
            continue
        hard = [select_runs(runs, softeners[0], c) for c in (clean, spoilt)]
        for softener in softeners:
            ours = [select_runs(runs, softener, c) for c in (clean, spoilt)]
            alone = align(*ours)
            beside = align(*hard, *ours) if softener != softeners[0] else []
            for column in columns if alone else ():
                yield Degradation(
                    softener=softener,
                    condition=spoilt,
                    class_name=column[0],
                    metric=column[1],
                    found=_compare(alone, *column),
                    beside_baseline=_compare_changes(beside, *column) if beside else None,
                )


def _compare_changes(fours: Sequence[Partners], name: str, metric: str) -> PairedComparison:
    """Compare by how much two kinds of label change, from clean to spoilt."""
    hard_clean, hard_spoilt, clean, spoilt = aligned_tables(fours, name, metric)
    return compare_in_pairs(
        [after - before for before, after in zip(hard_clean, hard_spoilt, strict=True)],
        [after - before for before, after in zip(clean, spoilt, strict=True)],
        is_higher_better=metric in HIGHER_IS_BETTER,
    )


def _corrected(
    pairs: Iterable[tuple[str, Condition, str, str, PairedComparison]],
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
            condition=condition,
            class_name=name,
            metric=metric,
            found=found,
            corrected_p=p,
        )
        for (softener, condition, name, metric, found), p in zip(listed, corrected, strict=True)
    ]
