import numpy as np
import pytest
from sklearn.model_selection import KFold

from sfumato.cases.split import fold, hold_back
from sfumato.errors import InputError


@pytest.mark.parametrize("n_cases", [5, 10, 13, 260])
@pytest.mark.parametrize("n", [2, 5])
def test_folds_are_those_of_scikit_learn(n_cases: int, n: int) -> None:
    ids = [f"case_{i:03d}" for i in np.random.default_rng(1).permutation(n_cases)]
    in_order = np.array(sorted(ids))
    expected = KFold(n, shuffle=True, random_state=12345).split(in_order)
    for k, (train, held_out) in enumerate(expected):
        split = fold(ids, ids, k, n)
        assert split.train_ids == tuple(in_order[train])
        assert split.held_out_ids == tuple(in_order[held_out])


def test_the_cases_of_a_group_stay_together() -> None:
    ids = [f"scan_{i:02d}" for i in range(20)]
    groups = [f"patient_{i % 7}" for i in range(20)]
    group_of = dict(zip(ids, groups, strict=True))
    in_order = np.array(sorted(set(groups)))
    expected = KFold(3, shuffle=True, random_state=12345).split(in_order)
    for k, (_, held_out) in enumerate(expected):
        split = fold(ids, groups, k, 3)
        assert {group_of[case] for case in split.held_out_ids} == set(in_order[held_out])
        assert not {group_of[c] for c in split.train_ids} & set(in_order[held_out])
        assert sorted(split.train_ids + split.held_out_ids) == ids


def test_every_case_is_held_out_once() -> None:
    ids = [f"{i:02d}" for i in range(11)]
    held_out = [case for k in range(4) for case in fold(ids, ids, k, 4).held_out_ids]
    assert sorted(held_out) == ids


def test_refuses_impossible_folds() -> None:
    ids = ["a", "b", "c", "d"]
    with pytest.raises(InputError, match="2 to 2, the number of groups, got 3; use fewer folds"):
        fold(ids, ["p", "p", "q", "q"], 0, 3)
    with pytest.raises(InputError, match="2 to 4, the number of groups, got 1"):
        fold(ids, ids, 0, 1)
    for k in (-1, 2):
        with pytest.raises(InputError, match=f"the fold must be 0 to 1, got {k}"):
            fold(ids, ids, k, 2)
    with pytest.raises(InputError, match="one entry a case, got 1 for 4 cases"):
        fold(ids, ["p"], 0, 2)


@pytest.mark.parametrize("n_cases", [0, 1, 3, 9])
def test_whole_groups_of_training_cases_are_held_back(n_cases: int) -> None:
    ids = [f"scan_{i:02d}" for i in range(20)]
    groups = [f"patient_{i // 2}" for i in range(20)]
    group_of = dict(zip(ids, groups, strict=True))
    split = fold(ids, groups, 0, 5)
    held_back = hold_back(split, group_of, n_cases)
    assert held_back.held_out_ids == split.held_out_ids
    assert n_cases <= len(held_back.calibration_ids) <= n_cases + 1
    assert sorted(held_back.train_ids + held_back.calibration_ids) == list(split.train_ids)
    assert not {group_of[c] for c in held_back.train_ids} & {
        group_of[c] for c in held_back.calibration_ids
    }
    assert hold_back(split, group_of, n_cases) == held_back


def test_something_must_be_left_to_train_on() -> None:
    split = fold(["a", "b", "c"], ["a", "b", "c"], 0, 3)
    with pytest.raises(InputError, match="leaves nothing to train on"):
        hold_back(split, {"a": "a", "b": "b", "c": "c"}, 2)
