"""Tidying up segmentations: known answers, and what holds for any label."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from sfumato.errors import InputError
from sfumato.labels.postprocessing import PostprocessingSettings, postprocess

NAMES = ["shell", "core"]
EVERYTHING = PostprocessingSettings(
    largest_component=("shell", "core", "*"),
    minimum_volume_mm3={"core": 3.0, "*": 5.0},
    fill_holes=("core", "shell"),
)


def label(*rows):
    return np.array([[int(c) for c in row] for row in rows], np.uint8)


def done(segmentation, element_volume_mm3=1.0, **settings):
    before = segmentation.copy()
    result = postprocess(
        segmentation, element_volume_mm3, NAMES, PostprocessingSettings(**settings)
    )
    np.testing.assert_array_equal(segmentation, before)
    return result


def random_label(seed, shape=(9, 8, 7)):
    return np.random.default_rng(seed).choice(3, shape, p=[0.7, 0.2, 0.1]).astype(np.uint8)


def test_nothing_is_done_by_default():
    segmentation = random_label(0)
    np.testing.assert_array_equal(done(segmentation), segmentation)


def test_the_largest_part_of_a_class_stays_and_the_others_become_background():
    segmentation = label("1100022", "1102000", "0000001")
    found = done(segmentation, largest_component=("shell",))
    np.testing.assert_array_equal(found, label("1100022", "1102000", "0000000"))


def test_the_largest_part_of_all_together_may_have_several_classes():
    segmentation = label("1120000", "0000222", "0000000", "1000000")
    found = done(segmentation, largest_component=("*",))
    np.testing.assert_array_equal(found, label("1120000", "0000000", "0000000", "0000000"))


def test_parts_that_touch_at_a_corner_are_one():
    segmentation = label("10001", "01000", "00000")
    found = done(segmentation, largest_component=("shell",))
    np.testing.assert_array_equal(found, label("10000", "01000", "00000"))


def test_of_equally_large_parts_the_first_stays():
    found = done(label("0110011"), largest_component=("shell",))
    np.testing.assert_array_equal(found, label("0110000"))


@pytest.mark.parametrize(("least", "stays"), [(0.3, True), (0.3001, False)])
def test_the_least_volume_is_in_cubic_millimetres(least, stays):
    # Three elements of 0.1 mm³, which no computer adds up to 0.3.
    segmentation = label("111")
    found = done(segmentation, element_volume_mm3=0.1, minimum_volume_mm3={"shell": least})
    np.testing.assert_array_equal(found, segmentation if stays else 0)


def test_only_parts_of_the_named_class_need_a_volume():
    segmentation = label("1000200011")
    found = done(segmentation, minimum_volume_mm3={"shell": 2})
    np.testing.assert_array_equal(found, label("0000200011"))


def test_a_hole_is_filled_but_another_structure_in_it_stays():
    segmentation = label("11111", "10021", "11111", "00000", "11000")
    found = done(segmentation, fill_holes=("shell",))
    np.testing.assert_array_equal(found, label("11111", "11121", "11111", "00000", "11000"))


def test_what_is_open_at_the_border_or_a_face_is_no_hole():
    segmentation = label("10100", "11101", "00110", "01010", "01100")
    np.testing.assert_array_equal(
        done(segmentation, fill_holes=("shell",)),
        label("10100", "11101", "00110", "01110", "01100"),
    )


def test_a_hole_that_removed_parts_leave_is_filled():
    segmentation = label("11111", "10201", "11111")
    found = done(segmentation, minimum_volume_mm3={"core": 2}, fill_holes=("shell",))
    np.testing.assert_array_equal(found, label("11111", "11111", "11111"))


def test_an_empty_segmentation_stays_empty():
    for shape in ((5, 4), (3, 4, 5), (1, 1, 1)):
        found = postprocess(np.zeros(shape, np.uint8), 1.0, NAMES, EVERYTHING)
        np.testing.assert_array_equal(found, np.zeros(shape, np.uint8))


@given(st.integers(0, 999))
def test_what_is_tidy_stays_as_it_is(seed):
    once = postprocess(random_label(seed), 1.5, NAMES, EVERYTHING)
    np.testing.assert_array_equal(postprocess(once, 1.5, NAMES, EVERYTHING), once)


@given(st.integers(0, 999))
def test_no_element_changes_from_one_structure_to_another(seed):
    before = random_label(seed)
    after = postprocess(before, 1.0, NAMES, EVERYTHING)
    assert ((after == before) | (after == 0) | (before == 0)).all()


def test_names_that_no_class_has_are_refused():
    with pytest.raises(InputError, match="did you mean 'shell'"):
        done(label("11"), largest_component=("shel",))
    with pytest.raises(InputError, match="class"):
        done(label("11"), fill_holes=("*",))


def test_a_least_volume_of_nothing_is_refused():
    with pytest.raises(ValidationError, match="positive"):
        PostprocessingSettings(minimum_volume_mm3={"shell": 0.0})
