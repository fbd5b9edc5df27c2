"""What trained models scored, lined up case by case and seed by seed."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sfumato.evaluation.comparison import Scores
from sfumato.evaluation.summary import MEAN

NO_NOISE = "none"
"""The noise of labels as they were drawn."""


@dataclass(frozen=True, kw_only=True)
class Condition:
    """What kinds of soft label share when they are compared.

    Attributes:
        train_cases: How many cases models are trained on; None for all of their fold.
        noise: How the training labels are spoilt, such as "erode:1mm"; "none" leaves them as
            they were drawn.
    """

    train_cases: int | None = None
    noise: str = NO_NOISE


@dataclass(frozen=True, kw_only=True)
class RunScores:
    """What one trained model scored on the cases that its fold held out.

    Attributes:
        softener: The kind of soft label, as the user named it.
        condition: What else it was trained on.
        fold: The fold that was held out, "K/N".
        seed: The training's seed.
        cases: For each case its numbers: class (or "mean") → metric → value; None or missing
            where undefined. What concerns all classes together stands under "mean".
    """

    softener: str
    condition: Condition
    fold: str
    seed: int
    cases: Mapping[str, Mapping[str, Mapping[str, float | None]]]

    def number(self, case_id: str, class_name: str, metric: str) -> float:
        """Return one number of one case; NaN where it is undefined or missing."""
        value = self.cases.get(case_id, {}).get(class_name, {}).get(metric)
        return math.nan if value is None else float(value)


Partners = tuple[RunScores, ...]
"""Models of one fold and seed, one of each arm."""


def select_runs(runs: Sequence[RunScores], softener: str, condition: Condition) -> list[RunScores]:
    """Return the models of one kind of soft label under one condition."""
    return [run for run in runs if (run.softener, run.condition) == (softener, condition)]


def align(*arms: Sequence[RunScores]) -> list[Partners]:
    """Put together the models of several arms that share fold and seed, ordered by both.

    A model without a partner in every arm is left out: a training that failed takes its partners
    along.
    """
    by_place = [{(run.fold, run.seed): run for run in arm} for arm in arms]
    shared = set.intersection(*map(set, by_place))
    return [tuple(arm[place] for arm in by_place) for place in sorted(shared)]


def aligned_tables(
    partners: Sequence[Partners], class_name: str, metric: str
) -> list[list[Scores]]:
    """Return one metric of every arm: for each arm and fold a row a seed and a column a case.

    All arms have the same rows and columns; what is undefined is NaN.
    """
    folds: dict[str, list[Partners]] = {}
    for together in partners:
        folds.setdefault(together[0].fold, []).append(together)
    return [
        [_table([p[arm] for p in fold], _case_ids(fold), class_name, metric)
         for fold in folds.values()]
        for arm in range(len(partners[0]))
    ]  # fmt: skip


def run_scores_of(document: Mapping[str, Any]) -> dict[str, dict[str, dict[str, float | None]]]:
    """Read the cases of a `metrics.json`, with what concerns all classes under "mean".

    Examples:
        >>> case = {"case": "a", "mean": {"dice": 0.9}, "core": {"dice": 0.9}, "ece": 0.1}
        >>> run_scores_of({"cases": [case]})["a"]["mean"]
        {'dice': 0.9, 'ece': 0.1}
    """
    cases = {}
    for case in document["cases"]:
        classes = {name: row for name, row in case.items() if isinstance(row, dict)}
        overall = {name: v for name, v in case.items() if name not in classes and name != "case"}
        cases[str(case["case"])] = {**classes, MEAN: {**classes[MEAN], **overall}}
    return cases


def _case_ids(fold: Sequence[Partners]) -> list[str]:
    return sorted({case_id for together in fold for run in together for case_id in run.cases})


def _table(
    runs: Sequence[RunScores], case_ids: Sequence[str], class_name: str, metric: str
) -> Scores:
    return np.array([[run.number(i, class_name, metric) for i in case_ids] for run in runs])
