import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from sfumato.evaluation.softness import (
    achievable_accuracy,
    boundary_recall,
    brier_to,
    cross_entropy_to,
    grid_cells,
    measure_softness,
    softened_share,
    volume_shifts,
)
from sfumato.labels.annotators import raters_mean
from sfumato.labels.classes import ClassList
from sfumato.labels.softening import one_hot, soften_label
from sfumato.metrics.calibration import LEAST_PROBABILITY

CLASSES = ClassList(names=("background", "core", "rim"), values=(0, 1, 2))
SHAPES = array_shapes(min_dims=2, max_dims=3, min_side=2, max_side=7)


def labels(shape):
    return arrays(np.uint8, shape, elements=st.integers(0, 2))


@st.composite
def labels_with_superpixels(draw):
    shape = draw(SHAPES)
    return draw(labels(shape)), draw(arrays(np.int32, shape, elements=st.integers(0, 4)))


class TestKnownAnswers:
    def test_a_class_gains_what_softening_gives_it(self):
        label = np.array([0, 0, 1, 1], np.uint8)
        soft_label = soften_label(label, np.array([0, 0, 0, 1], np.int32), (2.0,), 2)
        # Two elements of background keep 5/6 and 3/4, one of the two others keeps 3/4.
        shift, relative = volume_shifts(label, soft_label, (2.0,))
        assert shift == pytest.approx([-1 / 3, 1 / 3], abs=1e-6)
        assert relative == pytest.approx([-1 / 12, 1 / 12], abs=1e-6)

    def test_volumes_count_in_millimetres(self):
        label = np.zeros((2, 3, 4), np.uint8)
        soft_label = np.stack([np.full(label.shape, 0.75), np.full(label.shape, 0.25)])
        shift, relative = volume_shifts(label, soft_label.astype(np.float32), (1.0, 2.0, 3.0))
        assert shift.tolist() == [-36, 36]
        assert relative[0] == -0.25
        assert math.isnan(relative[1])

    def test_a_superpixel_can_give_its_elements_one_class_only(self):
        label = np.array([[0, 0, 1, 1], [0, 0, 0, 2]], np.uint8)
        superpixels = np.array([[0, 0, 1, 1], [0, 0, 1, 1]], np.int32)
        assert achievable_accuracy(label, superpixels) == 6 / 8

    def test_boundaries_two_elements_from_a_border_are_not_recalled(self):
        label = np.zeros((5, 12), np.uint8)
        label[:, 6:] = 1
        superpixels = np.zeros(label.shape, np.int32)
        for border, recall in ((6, 1), (7, 1), (8, 0.5), (9, 0), (4, 0.5)):
            superpixels[:] = np.arange(12) >= border
            assert boundary_recall(label, superpixels) == recall, border

    def test_cells_of_a_grid_know_only_the_spacing(self):
        cells = grid_cells((4, 4), (1.0, 2.0), size_mm=2)
        np.testing.assert_array_equal(
            cells, [[0, 1, 2, 3], [0, 1, 2, 3], [4, 5, 6, 7], [4, 5, 6, 7]]
        )

    def test_cross_entropy_of_a_contradicted_hard_label_is_finite(self):
        hard = one_hot(np.array([0], np.uint8), 2)
        other = one_hot(np.array([1], np.uint8), 2)
        expected = -math.log(LEAST_PROBABILITY / (1 + LEAST_PROBABILITY))
        assert cross_entropy_to(hard, other) == pytest.approx(expected, rel=1e-6)
        assert brier_to(hard, other) == 2


class TestUndefined:
    def test_numbers_without_superpixels_or_other_raters_are_nan(self):
        label = np.zeros((4, 5), np.uint8)
        label[1, 1] = 1
        found = measure_softness(
            label, one_hot(label, 3), (1.0, 1.0), CLASSES, rater_labels=[label], case_id="p01"
        )
        assert found.case_id == "p01"
        assert found.softened_share == 0
        assert found.volume_shift == {"core": 0, "rim": 0}
        assert found.relative_volume_shift["core"] == 0
        assert math.isnan(found.relative_volume_shift["rim"])
        for name in ("n_superpixels", "achievable_accuracy", "boundary_recall", "brier"):
            assert math.isnan(getattr(found, name)), name
        assert math.isnan(found.cross_entropy)

    def test_a_label_without_boundary_has_no_boundary_recall(self):
        label = np.ones((3, 4), np.uint8)
        assert math.isnan(boundary_recall(label, np.zeros((3, 4), np.int32)))

    def test_without_elements_nothing_is_defined(self):
        label = np.zeros((0, 4), np.uint8)
        assert math.isnan(softened_share(one_hot(label, 2)))
        assert math.isnan(achievable_accuracy(label, label.astype(np.int32)))
        assert math.isnan(brier_to(one_hot(label, 2), one_hot(label, 2)))
        assert math.isnan(cross_entropy_to(one_hot(label, 2), one_hot(label, 2)))


class TestProperties:
    @given(labels_with_superpixels())
    @settings(max_examples=60)
    def test_superpixels_leave_exact_what_they_do_not_cross(self, drawn):
        label, superpixels = drawn
        exact = np.unique(superpixels * 3 + label, return_inverse=True)[1].reshape(label.shape)
        assert achievable_accuracy(label, exact.astype(np.int32)) == 1
        assert boundary_recall(label, exact.astype(np.int32)) in (
            1,
            pytest.approx(math.nan, nan_ok=True),
        )
        accuracy = achievable_accuracy(label, superpixels)
        assert np.bincount(label.ravel()).max() / label.size <= accuracy <= 1

    @given(labels_with_superpixels())
    @settings(max_examples=60)
    def test_what_one_class_gains_others_lose(self, drawn):
        label, superpixels = drawn
        spacing = (1.0, 0.5, 2.0)[: label.ndim]
        soft_label = soften_label(label, superpixels, spacing, 3)
        shift, _ = volume_shifts(label, soft_label, spacing)
        assert shift.sum() == pytest.approx(0, abs=1e-4)
        assert volume_shifts(label, one_hot(label, 3), spacing)[0].tolist() == [0, 0, 0]
        assert softened_share(one_hot(label, 3)) == 0

    @given(st.data(), SHAPES)
    @settings(max_examples=60)
    def test_the_raters_mean_predicts_the_raters_best(self, data, shape):
        drawn = [data.draw(labels(shape)) for _ in range(3)]
        mean = raters_mean(drawn, 3)
        np.testing.assert_allclose(mean.sum(axis=0), 1, atol=1e-6)
        assert brier_to(mean, mean) == 0
        for label in drawn:
            hard = one_hot(label, 3)
            assert brier_to(hard, mean) >= 0
            assert cross_entropy_to(hard, mean) >= cross_entropy_to(mean, mean, 1e-12) - 1e-6

    @given(SHAPES, st.floats(0.5, 9))
    def test_cells_are_numbered_without_gaps(self, shape, size_mm):
        cells = grid_cells(shape, (1.0, 2.0, 0.5)[: len(shape)], size_mm)
        assert cells.shape == shape
        np.testing.assert_array_equal(np.unique(cells), np.arange(cells.max() + 1))


def test_elements_without_superpixel_keep_their_class() -> None:
    label = np.array([0, 1, 0, 0, 1, 1], np.uint8)
    superpixels = np.array([-1, -1, 0, 0, 0, 1], np.int32)
    assert achievable_accuracy(label, superpixels) == pytest.approx(5 / 6)
    assert achievable_accuracy(label, np.full(6, -1, np.int32)) == 1
