import math

import hypothesis.extra.numpy as arrays
import numpy as np
import pytest
from hypothesis import given

from sfumato.metrics.overlap import dice, jaccard, precision, recall, relative_volume_error

MASKS = arrays.arrays(bool, (3, 4))
NOTHING = np.zeros((2, 2), bool)
CORNER = np.array([[True, False], [False, False]])
TOP = np.array([[True, True], [False, False]])
ALL = [dice, jaccard, precision, recall, relative_volume_error]


def test_counts_are_compared_as_by_hand():
    assert dice(TOP, CORNER) == 2 / 3
    assert jaccard(TOP, CORNER) == 1 / 2
    assert precision(TOP, CORNER) == 1
    assert recall(TOP, CORNER) == 1 / 2
    assert relative_volume_error(TOP, CORNER) == -1 / 2
    assert relative_volume_error(CORNER, TOP) == 1


@pytest.mark.parametrize("measure", ALL)
def test_every_measure_is_undefined_where_both_masks_are_empty(measure):
    assert math.isnan(measure(NOTHING, NOTHING))


def test_an_empty_segmentation_misses_everything_and_has_no_precision():
    assert dice(TOP, NOTHING) == jaccard(TOP, NOTHING) == recall(TOP, NOTHING) == 0
    assert relative_volume_error(TOP, NOTHING) == -1
    assert math.isnan(precision(TOP, NOTHING))


def test_an_empty_reference_leaves_no_recall_and_no_volume_to_compare_with():
    assert dice(NOTHING, TOP) == jaccard(NOTHING, TOP) == precision(NOTHING, TOP) == 0
    assert math.isnan(recall(NOTHING, TOP))
    assert math.isnan(relative_volume_error(NOTHING, TOP))


@given(MASKS, MASKS)
def test_overlap_is_symmetric_and_precision_is_recall_the_other_way_round(one, other):
    np.testing.assert_equal(dice(one, other), dice(other, one))
    np.testing.assert_equal(jaccard(one, other), jaccard(other, one))
    np.testing.assert_equal(precision(one, other), recall(other, one))


@given(MASKS, MASKS)
def test_dice_and_jaccard_say_the_same_in_other_numbers(one, other):
    overlap = jaccard(one, other)
    np.testing.assert_allclose(dice(one, other), 2 * overlap / (1 + overlap))


@given(MASKS.filter(np.any))
def test_a_mask_agrees_with_itself(mask):
    assert dice(mask, mask) == jaccard(mask, mask) == precision(mask, mask) == 1
    assert relative_volume_error(mask, mask) == 0
