"""Two kinds of training compared in pairs: same cases, same folds, same seeds.

What one seed gives, another takes away: models that differ in nothing but their seed differ by
more than most tricks claim to gain. So an interval here asks two questions at once: would other
cases say the same, and would other seeds? Cases are many, and the bootstrap answers for them.
Seeds are few, and with two or three of them a bootstrap sees far too little spread; Student's t
answers for them. Both answers are put together as Zou and Donner do.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from jaxtyping import Bool, Float64
from scipy.stats import norm, rankdata, t, wilcoxon

from sfumato.errors import InputError
from sfumato.evaluation.summary import N_RESAMPLES, SEED

# Folds differ in their numbers of seeds and cases, so no axis has a name that must agree.
Scores: TypeAlias = Float64[np.ndarray, "_ _"]
"""One metric of one fold: a row for every seed, a column for every held-out case; NaN where it
is undefined."""
PerCase: TypeAlias = Float64[np.ndarray, "_"]

Verdict = Literal["better", "worse", "not distinguishable", "unknown"]

LEVEL = 0.95
POWER = 0.8
HIGHER_IS_BETTER = frozenset(
    ("dice", "nsd_1mm", "precision", "recall", "dice_raters", "soft_dice_raters")
)


@dataclass(frozen=True, kw_only=True)
class PairedComparison:
    """How a candidate differs from a baseline in one metric.

    Attributes:
        difference: Candidate less baseline: the mean over cases, each averaged over its seeds.
        low: Lower end of the 95 % interval over cases and seeds; NaN with fewer than two cases,
            or where there is a single pair of models.
        high: Its upper end.
        is_higher_better: Whether a positive difference is an improvement.
        n_cases: Cases that were compared.
        n_models: Pairs of models, one for each fold and seed.
        n_undefined: Cases left out, because the metric is undefined there for one model or more.
        p_value: Of Wilcoxon's signed-rank test over cases, each averaged over its seeds; it asks
            about these models, not about other seeds. NaN without cases.
        effect_size: Matched-pairs rank-biserial correlation, from -1 (all cases worse) to 1 (all
            better). NaN without cases.
        share_better: Share of the cases that improved; NaN without cases.
        seed_deviation: Standard deviation of the difference over seeds; NaN with one seed.
        smallest_effect: The difference that an experiment like this one would find in four of five
            attempts; NaN without an interval.
    """

    difference: float
    low: float
    high: float
    is_higher_better: bool
    n_cases: int
    n_models: int
    n_undefined: int
    p_value: float
    effect_size: float
    share_better: float
    seed_deviation: float
    smallest_effect: float

    @property
    def verdict(self) -> Verdict:
        """What the interval says; nothing where it holds 0."""
        if math.isnan(self.low):
            return "unknown"
        if not (self.low > 0 or self.high < 0):
            return "not distinguishable"
        return "better" if (self.difference > 0) == self.is_higher_better else "worse"


def compare_in_pairs(
    baseline: Sequence[Scores], candidate: Sequence[Scores], *, is_higher_better: bool
) -> PairedComparison:
    """Compare two kinds of training that met the same cases with the same seeds.

    Args:
        baseline: For each fold, one row a seed and one column a held-out case.
        candidate: The same seeds and cases of the other kind of training.
        is_higher_better: Which way the metric points.

    Raises:
        InputError: If there is no fold, or the two do not have the same folds, seeds and cases.

    Source:
        Zou and Donner, Construction of confidence limits about effect measures: a general
        approach, Statistics in Medicine 2008. doi:10.1002/sim.3095

    Examples:
        >>> hard = np.array([[0.80, 0.70, 0.90], [0.81, 0.69, 0.92]])
        >>> found = compare_in_pairs([hard], [hard + 0.02], is_higher_better=True)
        >>> round(found.difference, 3), found.verdict, found.share_better
        (0.02, 'better', 1.0)
    """
    _check(baseline, candidate)
    differences = [after - before for before, after in zip(baseline, candidate, strict=True)]
    is_defined = [np.isfinite(table).all(axis=0) for table in differences]
    tables = _with_cases(differences, is_defined)
    n_undefined = sum(int((~defined).sum()) for defined in is_defined)
    means = [table.mean(axis=0) for table in tables]
    cases = np.concatenate([np.empty(0), *means])
    low, high = _interval(tables, cases)
    sign = 1 if is_higher_better else -1
    return PairedComparison(
        difference=float(cases.mean()) if len(cases) else math.nan,
        low=low,
        high=high,
        is_higher_better=is_higher_better,
        n_cases=len(cases),
        n_models=sum(len(table) for table in tables),
        n_undefined=n_undefined,
        p_value=signed_rank_p(cases),
        effect_size=rank_biserial(sign * cases),
        share_better=float(np.mean(sign * cases > 0)) if len(cases) else math.nan,
        seed_deviation=seed_deviation(tables),
        smallest_effect=(high - low) / 2 * float(1 + norm.ppf(POWER) / norm.ppf(0.5 + LEVEL / 2)),
    )


def seed_deviation(tables: Sequence[Scores]) -> float:
    """Measure how far models that differ in their seed alone lie apart.

    Args:
        tables: For each fold, one row a seed and one column a case; undefined numbers are left
            out with their case.

    Returns:
        The standard deviation over seeds of the mean over cases, pooled over folds; NaN where no
        fold has two seeds.

    Examples:
        >>> seed_deviation([np.array([[0.8, 0.9], [0.9, 1.0], [0.7, 0.8]])])
        0.1
    """
    tables = _with_cases(tables, [np.isfinite(table).all(axis=0) for table in tables])
    models = [table.mean(axis=1) for table in tables]
    degrees = sum(len(model) - 1 for model in models)
    if not degrees:
        return math.nan
    squares = sum(float(np.square(model - model.mean()).sum()) for model in models)
    return round(math.sqrt(squares / degrees), 12)


def signed_rank_p(differences: PerCase) -> float:
    """Return the two-sided p-value of Wilcoxon's signed-rank test; 1 if nothing differs.

    Examples:
        >>> signed_rank_p(np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6]))
        0.03125
    """
    if not len(differences):
        return math.nan
    if not differences.any():
        return 1.0
    return float(wilcoxon(differences[differences != 0]).pvalue)


def rank_biserial(improvements: PerCase) -> float:
    """Measure how far improvements outweigh deteriorations, by rank.

    Returns:
        The ranks (of size) of all improvements less those of all deteriorations, over the sum
        of both: 1 if all cases improved, -1 if none did, 0 if both weigh the same.

    Source:
        Kerby, The simple difference formula, Comprehensive Psychology 2014.
        doi:10.2466/11.IT.3.1

    Examples:
        >>> rank_biserial(np.array([1.0, 2.0, -3.0]))
        0.0
    """
    if not len(improvements):
        return math.nan
    changed = improvements[improvements != 0]
    if not len(changed):
        return 0.0
    ranks = rankdata(np.abs(changed))
    return float((ranks * np.sign(changed)).sum() / ranks.sum())


def holm(p_values: Sequence[float]) -> list[float]:
    """Correct p-values for their number; undefined ones are left out and stay so.

    Source:
        Holm, A simple sequentially rejective multiple test procedure, Scandinavian Journal of
        Statistics 1979.

    Examples:
        >>> holm([0.01, 0.04, float("nan"), 0.03])
        [0.03, 0.06, nan, 0.06]
    """
    defined = sorted((p, i) for i, p in enumerate(p_values) if not math.isnan(p))
    corrected = [math.nan] * len(p_values)
    highest = 0.0
    for rank, (p, i) in enumerate(defined):
        highest = max(highest, min(1.0, (len(defined) - rank) * p))
        corrected[i] = highest
    return corrected


def _check(baseline: Sequence[Scores], candidate: Sequence[Scores]) -> None:
    shapes = [[table.shape for table in tables] for tables in (baseline, candidate)]
    if not shapes[0] or shapes[0] != shapes[1]:
        raise InputError(
            "baseline and candidate must have the same folds, seeds and cases, got shapes"
            f" {shapes[0]} and {shapes[1]}; compare what both have"
        )


def _with_cases(tables: Sequence[Scores], is_used: Sequence[Bool[np.ndarray, "_"]]) -> list[Scores]:
    """Keep the cases that are used, and the folds that have one."""
    kept = [table[:, used] for table, used in zip(tables, is_used, strict=True)]
    return [table for table in kept if table.size]


def _interval(tables: Sequence[Scores], cases: PerCase) -> tuple[float, float]:
    reach = _reach_over_models(tables)
    if len(cases) < 2 or math.isnan(reach):
        return math.nan, math.nan
    mean = float(cases.mean())
    below, above = _reach_over_cases(cases)
    return mean - math.hypot(below, reach), mean + math.hypot(above, reach)


def _reach_over_cases(cases: PerCase) -> tuple[float, float]:
    """Measure how far below and above the mean its bootstrap interval over cases ends.

    Few cases are spread too little in resamples, so both are widened as t and n - 1 widen an
    interval of the normal distribution.
    """
    n = len(cases)
    drawn = np.random.default_rng(SEED).integers(n, size=(N_RESAMPLES, n))
    low, high = np.percentile(cases[drawn].mean(axis=1), _ends())
    widened = _quantile(n - 1) / float(norm.ppf(0.5 + LEVEL / 2)) * math.sqrt(n / (n - 1))
    mean = float(cases.mean())
    return widened * (mean - float(low)), widened * (float(high) - mean)


def _reach_over_models(tables: Sequence[Scores]) -> float:
    """Measure half the interval of the mean over models with other seeds; NaN for one model.

    Where every fold has one seed, the folds' means tell how far models lie apart.
    """
    n_cases = sum(table.shape[1] for table in tables)
    weights = np.array([table.shape[1] / max(n_cases, 1) for table in tables])
    degrees = sum(len(table) - 1 for table in tables)
    if degrees:
        deviation = seed_deviation(tables)
        n_seeds = np.array([len(table) for table in tables])
        return _quantile(degrees) * deviation * math.sqrt(float((weights**2 / n_seeds).sum()))
    if len(tables) < 2:
        return math.nan
    folds = np.array([table.mean() for table in tables])
    return _quantile(len(folds) - 1) * float(folds.std(ddof=1) * np.sqrt((weights**2).sum()))


def _quantile(degrees: int) -> float:
    return float(t.ppf(0.5 + LEVEL / 2, degrees))


def _ends() -> tuple[float, float]:
    return 50 * (1 - LEVEL), 50 * (1 + LEVEL)
