"""Folds for cross-validation: seeded, and never a patient on both sides."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sfumato.errors import InputError

_SEED = 12345  # nnU-Net's, so that its users find their folds again


@dataclass(frozen=True, kw_only=True)
class Split:
    """Which cases train and which are held out."""

    train_ids: tuple[str, ...]
    held_out_ids: tuple[str, ...]


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
