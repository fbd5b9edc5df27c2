"""What a sweep recommends, and what that achieves on the cases that chose nothing."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from sfumato.errors import InputError
from sfumato.evaluation.summary import N_RESAMPLES, SEED
from sfumato.evaluation.sweep import FIGURES, METHODS, TRUTH_FIGURES, PerCandidate, PerCase, Sweep

LARGEST_SHIFT = 0.1
"""By what share expected volumes may shift where nothing but labels chooses."""

Verdict = Literal["better", "worse", "no clear difference", "unknown"]


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """An average over held-out cases.

    Attributes:
        mean: Over the cases where the number is defined; NaN if there are none.
        low: Lower end of the 95 % bootstrap interval; NaN for fewer than two cases.
        high: Its upper end.
        n_cases: In how many cases the number is defined.
    """

    mean: float
    low: float
    high: float
    n_cases: int


@dataclass(frozen=True, kw_only=True)
class Difference:
    """How the chosen setting compares with another, case by case.

    Attributes:
        estimate: Of the chosen setting's number less the other's; negative is better.
        share_better: In which share of the cases the chosen setting's number is smaller.
    """

    estimate: Estimate
    share_better: float

    @property
    def verdict(self) -> Verdict:
        """What the interval says."""
        if math.isnan(self.estimate.low):
            return "unknown"
        if self.estimate.high < 0:
            return "better"
        return "worse" if self.estimate.low > 0 else "no clear difference"


@dataclass(frozen=True, kw_only=True, eq=False)
class Recommendation:
    """Which candidate is chosen, and how it does.

    Attributes:
        criterion: The figure that chose: `brier`, or `accuracy_gain` where nobody drew twice.
        best: For each method, the candidate that is best on the cases that choose; only
            `superpixel` where nobody drew twice.
        estimates: For each method's best, each of `FIGURES` on the held-out cases.
        differences: The chosen one less each other method's best, in `TRUTH_FIGURES`, on the
            held-out cases; empty where nobody drew twice.
    """

    criterion: Literal["brier", "accuracy_gain"]
    best: Mapping[str, int]
    estimates: Mapping[str, Mapping[str, Estimate]]
    differences: Mapping[str, Mapping[str, Difference]]

    @property
    def chosen(self) -> int:
        """The candidate that is recommended."""
        return self.best["superpixel"]


def recommend(sweep: Sweep) -> Recommendation:
    """Choose superpixels on one half of the cases and measure them on the other.

    Where several people drew, the setting is chosen whose soft label, made from the first
    one's drawing, has the smallest Brier score to the mean of all of them; the other methods'
    numbers are chosen in the same way. Otherwise nothing tells right from wrong: then those
    superpixels are chosen that follow the annotated boundaries best beyond chance, by how
    much their achievable accuracy exceeds that of a plain grid's cells of the same size, among
    the settings that shift expected volumes by a tenth at most (on average; else the one that
    shifts them least). Tiny superpixels gain nothing over tiny cells, and large ones swallow
    the structure.

    Raises:
        InputError: If there is no case that chooses.
    """
    if sweep.is_held_out.all():
        raise InputError("a sweep needs at least one case that chooses; add cases")
    has_truth = sweep.has_truth
    if has_truth:
        best = {method: _smallest(sweep, method, sweep.chosen_by("brier")) for method in METHODS}
    else:
        best = {"superpixel": _smallest(sweep, "superpixel", _loss_without_truth(sweep))}
    return Recommendation(
        criterion="brier" if has_truth else "accuracy_gain",
        best=best,
        estimates={
            method: {figure: estimate(sweep.held_out(figure, index)) for figure in FIGURES}
            for method, index in best.items()
        },
        differences={
            other: {
                figure: _compare(
                    sweep.held_out(figure, best["superpixel"]), sweep.held_out(figure, best[other])
                )
                for figure in TRUTH_FIGURES
            }
            for other in best
            if has_truth and other != "superpixel"
        },
    )


def best_places(sweep: Sweep) -> dict[tuple[float, float], int]:
    """Return the best candidate for every size and compactness of superpixels."""
    found: dict[tuple[float, float], int] = {}
    error = sweep.chosen_by("brier")
    for index, candidate in enumerate(sweep.candidates):
        if candidate.place is None:
            continue
        known = found.setdefault(candidate.place, index)
        if error[index] < error[known]:
            found[candidate.place] = index
    return found


def edges(sweep: Sweep, found: Recommendation) -> list[str]:
    """Name the settings whose recommended value is the smallest or largest of several tried.

    Beyond it may lie a better one.
    """
    tried = [c.numbers for c in sweep.candidates if c.method == "superpixel"]
    at_edge = []
    for name, number in sweep.candidates[found.chosen].numbers.items():
        values = {numbers[name] or 0.0 for numbers in tried}
        if len(values) > 1 and number in (min(values), max(values)):
            at_edge.append(name)
    return at_edge


def estimate(values: PerCase) -> Estimate:
    """Average over cases, with the percentiles of 2000 resamples of whole cases.

    Source:
        Efron and Tibshirani, An introduction to the bootstrap, 1993, section 13.3.

    Examples:
        >>> estimate(np.array([1.0, 1.0, np.nan]))
        Estimate(mean=1.0, low=1.0, high=1.0, n_cases=2)
    """
    defined = values[np.isfinite(values)]
    n_cases = len(defined)
    mean = float(defined.mean()) if n_cases else math.nan
    if n_cases < 2:
        return Estimate(mean=mean, low=math.nan, high=math.nan, n_cases=n_cases)
    drawn = np.random.default_rng(SEED).integers(n_cases, size=(N_RESAMPLES, n_cases))
    low, high = np.percentile(defined[drawn].mean(axis=1), (2.5, 97.5))
    return Estimate(mean=mean, low=float(low), high=float(high), n_cases=n_cases)


def _smallest(sweep: Sweep, method: str, loss: PerCandidate) -> int:
    """Return a method's candidate with the smallest loss; its first where all are undefined."""
    ours = [i for i, candidate in enumerate(sweep.candidates) if candidate.method == method]
    return ours[int(np.argmin(np.where(np.isnan(loss), math.inf, loss)[ours]))]


def _loss_without_truth(sweep: Sweep) -> PerCandidate:
    shift = sweep.chosen_by("volume_shift")
    is_small = shift <= LARGEST_SHIFT
    return (
        np.where(is_small, -sweep.chosen_by("accuracy_gain"), math.nan) if is_small.any() else shift
    )


def _compare(ours: PerCase, others: PerCase) -> Difference:
    difference = ours - others
    defined = difference[np.isfinite(difference)]
    share = float(np.mean(defined < 0)) if len(defined) else math.nan
    return Difference(estimate=estimate(difference), share_better=share)
