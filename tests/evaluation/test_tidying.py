"""Post-processing that is chosen: what helps is taken, and nothing else."""

import numpy as np
import pytest

from sfumato.evaluation.tidying import FEWEST_CASES, TidyCase, choose_postprocessing
from sfumato.labels.postprocessing import PostprocessingSettings

NAMES = ["shell", "core"]


def truth(n_parts=1):
    label = np.zeros((30, 30), np.uint8)
    label[5:15, 5:15] = 1
    label[8:12, 8:12] = 2
    if n_parts == 2:
        label[20:27, 20:27] = 1
    return label


def cases(*segmentations, reference=None, n=FEWEST_CASES):
    reference = truth() if reference is None else reference
    return [TidyCase.of(segmentations[i % len(segmentations)], reference, 0.5) for i in range(n)]


def with_islands(label, *places):
    label = label.copy()
    for row, column, index in places:
        label[row, column] = index
    return label


def test_islands_that_are_wrong_are_removed():
    found = with_islands(truth(), (1, 1, 1), (25, 3, 1))
    settings, evidence = choose_postprocessing(cases(found, truth()), NAMES)
    assert settings.largest_component == ("shell",)
    assert not settings.fill_holes
    assert evidence["cases"] == FEWEST_CASES
    assert evidence["dice_before"]["shell"] < evidence["dice_after"]["shell"] == 1
    assert evidence["dice_before"]["core"] == evidence["dice_after"]["core"] == 1
    assert evidence["tried"][0] == {
        "largest_component": ["shell"],
        "mean_dice_gain": pytest.approx(0.003, abs=0.002),
        "is_taken": True,
    }


def test_where_a_structure_has_two_parts_small_islands_are_removed_by_their_volume():
    found = with_islands(truth(2), (1, 1, 1), (25, 3, 1))
    settings, _ = choose_postprocessing(cases(found, reference=truth(2)), NAMES)
    assert settings.largest_component == ()
    # A tenth of the smallest reference: 133 elements of 0.5 mm³.
    assert settings.minimum_volume_mm3 == {"shell": pytest.approx(6.65)}


def test_holes_are_filled_where_they_are_wrong():
    settings, _ = choose_postprocessing(cases(with_islands(truth(), (6, 6, 0))), NAMES)
    assert settings == PostprocessingSettings(fill_holes=("shell",))


def test_what_is_right_already_is_left_alone():
    settings, evidence = choose_postprocessing(cases(truth()), NAMES)
    assert settings == PostprocessingSettings()
    assert not any(step["is_taken"] for step in evidence["tried"])


def test_nothing_is_taken_that_harms_one_class():
    # Islands of the shell are wrong; but one of the core is right, and would go with them.
    reference = with_islands(truth(), (25, 25, 2))
    found = with_islands(reference, (1, 1, 1))
    settings, evidence = choose_postprocessing(cases(found, reference=reference), NAMES)
    assert "core" not in settings.largest_component
    assert "*" not in settings.largest_component
    for name in NAMES:
        assert evidence["dice_after"][name] >= evidence["dice_before"][name]


def test_an_island_where_there_should_be_nothing_counts():
    empty = np.zeros((9, 9), np.uint8)
    present = [TidyCase.of(truth(), truth(), 1.0)] * 4
    settings, _ = choose_postprocessing(
        [*present, TidyCase.of(with_islands(empty, (4, 4, 2)), empty, 1.0)], NAMES
    )
    assert settings.minimum_volume_mm3 == {"core": pytest.approx(1.6)}


def test_few_cases_choose_nothing():
    found = with_islands(truth(), (1, 1, 1))
    settings, evidence = choose_postprocessing(cases(found, n=FEWEST_CASES - 1), NAMES)
    assert (settings, evidence) == (PostprocessingSettings(), {})


def test_nothing_at_all_can_be_tidied():
    empty = np.zeros((4, 4), np.uint8)
    settings, _ = choose_postprocessing(cases(empty, reference=empty), NAMES)
    assert settings == PostprocessingSettings()
