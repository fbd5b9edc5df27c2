"""Folds for cross-validation: seeded, and never a patient on both sides."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from pydantic import Field

from sfumato.errors import InputError
from sfumato.settings import Settings

_SEED = 12345  # nnU-Net's, so that its users find their folds again


@dataclass(frozen=True, kw_only=True)
class Split:
    """Which cases train, which are held out, and which only calibrate the model."""

    train_ids: tuple[str, ...]
    held_out_ids: tuple[str, ...]
    calibration_ids: tuple[str, ...] = ()


class CalibrationSettings(Settings):
    """How many training cases are held back to calibrate the model on, and what is chosen there.

    Attributes:
        cases: About so many of the training cases, whole groups, train nothing. The model's
            temperature is fitted on them, and how wrong its volumes are is measured; 0 does not.
        has_postprocessing: Whether they also choose what segmentations are tidied up with.
    """

    cases: int = Field(default=0, ge=0)
    has_postprocessing: bool = True


def fold(case_ids: Sequence[str], groups: Sequence[str], k: int, n: int) -> Split:
    """Hold out one of `n` folds; every group falls into one fold.

    The folds are those of scikit-learn's `KFold(n, shuffle=True, random_state=12345)` over the
    sorted names of the groups. Where each case is its own group they are nnU-Net's.

    Args:
        case_ids: The names of all cases.
        groups: The group of each case, in the same order.
        k: Which fold is held out, 0 to n-1.
        n: Number of folds.

    Raises:
        InputError: If `k` or `n` is out of range, or there are fewer groups than folds.

    Examples:
        >>> split = fold(["a1", "a2", "b", "c"], ["a", "a", "b", "c"], k=0, n=3)
        >>> split.train_ids, split.held_out_ids
        (('b', 'c'), ('a1', 'a2'))
    """
    if len(groups) != len(case_ids):
        raise InputError(
            f"groups must have one entry a case, got {len(groups)} for {len(case_ids)} cases"
        )
    names = sorted(set(groups))
    if not 2 <= n <= len(names):
        raise InputError(
            f"the number of folds must be 2 to {len(names)}, the number of groups, got {n};"
            " use fewer folds or more cases"
        )
    if not 0 <= k < n:
        raise InputError(f"the fold must be 0 to {n - 1}, got {k}")
    order = np.arange(len(names))
    np.random.RandomState(_SEED).shuffle(order)
    held_out_groups = {names[i] for i in np.array_split(order, n)[k]}
    members = sorted(zip(case_ids, groups, strict=True))
    return Split(
        train_ids=tuple(case for case, group in members if group not in held_out_groups),
        held_out_ids=tuple(case for case, group in members if group in held_out_groups),
    )


def hold_back(split: Split, groups: Mapping[str, str], n_cases: int) -> Split:
    """Take training cases away to calibrate the model on: whole groups, in a fixed random order.

    Args:
        split: Which cases train.
        groups: The group of each case.
        n_cases: At least so many are taken; 0 takes none.

    Raises:
        InputError: If nothing would be left to train on.

    Examples:
        >>> split = Split(train_ids=("a", "b1", "b2", "c"), held_out_ids=("d",))
        >>> groups = {"a": "a", "b1": "b", "b2": "b", "c": "c"}
        >>> held_back = hold_back(split, groups, 1)
        >>> held_back.train_ids, held_back.calibration_ids
        (('a', 'b1', 'b2'), ('c',))
    """
    names = sorted({groups[case_id] for case_id in split.train_ids})
    np.random.RandomState(_SEED).shuffle(names)
    taken: list[str] = []
    while len(taken) < n_cases:
        if len(names) < 2:
            raise InputError(
                f"calibration.cases leaves nothing to train on: {n_cases} of the"
                f" {len(split.train_ids)} training cases; use fewer"
            )
        name = names.pop()
        taken += [case_id for case_id in split.train_ids if groups[case_id] == name]
    return replace(
        split,
        train_ids=tuple(case_id for case_id in split.train_ids if case_id not in taken),
        calibration_ids=tuple(sorted(taken)),
    )
