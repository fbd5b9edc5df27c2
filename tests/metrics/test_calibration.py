import math

import hypothesis.extra.numpy as arrays
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sfumato.errors import InputError
from sfumato.metrics.calibration import (
    boundary_band,
    brier_score,
    expected_calibration_error,
    merge,
    reliability_curve,
)

LABELS = arrays.arrays(np.uint8, (5, 6), elements=st.integers(0, 2))


def two_classes(foreground):
    foreground = np.asarray(foreground, np.float32)
    return np.stack([1 - foreground, foreground])


def label(*values):
    return np.array(values, np.uint8)


def random_probability(seed, shape=(5, 6), n_classes=3):
    weights = np.random.default_rng(seed).exponential(size=(n_classes, *shape))
    return (weights / weights.sum(axis=0)).astype(np.float32)


def error(*arguments, **options):
    return expected_calibration_error(reliability_curve(*arguments, **options))


class TestReliabilityCurve:
    def test_elements_are_sorted_into_bins_by_the_probability_of_their_best_class(self):
        probability = two_classes([0.9, 0.1, 0.8, 0.35])
        curve = reliability_curve(probability, label(1, 1, 1, 0), n_bins=4)
        np.testing.assert_array_equal(curve.count, [0, 0, 1, 3])
        np.testing.assert_allclose(curve.confidence, [math.nan, math.nan, 0.65, 2.6 / 3], rtol=1e-6)
        np.testing.assert_allclose(curve.accuracy, [math.nan, math.nan, 1, 2 / 3])

    @pytest.mark.parametrize("n_bins", [5, 10, 15, 20])
    def test_a_bin_includes_its_upper_end(self, n_bins):
        ends = np.arange(n_bins // 2 + 1, n_bins + 1) / n_bins
        curve = reliability_curve(two_classes(ends), np.ones(len(ends), np.uint8), n_bins=n_bins)
        np.testing.assert_array_equal(np.flatnonzero(curve.count), np.rint(ends * n_bins) - 1)

    def test_only_the_masked_elements_count(self):
        probability, reference = random_probability(0), np.ones((5, 6), np.uint8)
        mask = np.zeros((5, 6), bool)
        mask[2:4, 1:3] = True
        masked = reliability_curve(probability, reference, mask)
        cropped = reliability_curve(probability[:, 2:4, 1:3], reference[2:4, 1:3])
        np.testing.assert_array_equal(masked.count, cropped.count)
        np.testing.assert_array_equal(masked.accuracy, cropped.accuracy)

    @given(st.integers(0, 1000), LABELS)
    def test_merging_the_curves_of_two_halves_gives_the_curve_of_the_whole(self, seed, reference):
        probability = random_probability(seed)
        whole = reliability_curve(probability, reference)
        halves = [
            reliability_curve(probability[:, rows], reference[rows])
            for rows in (slice(0, 2), slice(2, 5))
        ]
        merged = merge(halves)
        np.testing.assert_array_equal(merged.count, whole.count)
        np.testing.assert_allclose(merged.confidence, whole.confidence)
        np.testing.assert_allclose(merged.accuracy, whole.accuracy)

    def test_curves_with_other_bins_or_none_at_all_cannot_be_merged(self):
        probability, reference = two_classes([0.7]), label(1)
        with pytest.raises(InputError, match="same bins"):
            merge([reliability_curve(probability, reference, n_bins=n) for n in (10, 15)])
        with pytest.raises(InputError, match="at least one"):
            merge([])


class TestExpectedCalibrationError:
    def test_by_hand(self):
        # Three quarters right at 0.9, and one of one right at 0.6.
        probability = two_classes([0.9, 0.9, 0.9, 0.9, 0.6])
        reference = label(1, 1, 1, 0, 1)
        assert error(probability, reference) == pytest.approx((4 * 0.15 + 0.4) / 5)

    def test_being_sure_and_right_is_calibrated_and_being_sure_and_wrong_is_the_worst(self):
        assert error(two_classes([1, 0]), label(1, 0)) == 0
        assert error(two_classes([1, 0]), label(0, 1)) == 1

    def test_labels_drawn_from_the_probabilities_are_calibrated(self):
        rng = np.random.default_rng(0)
        truth = rng.uniform(size=200_000)
        reference = (rng.uniform(size=truth.size) < truth).astype(np.uint8)
        assert error(two_classes(truth), reference) < 0.01

    def test_confidence_squared_is_off_by_the_integral_of_the_difference(self):
        # Right with probability p, but p² is said: over p from 0 to 1 the integral of p - p² is
        # 1/6. Many classes share the rest, so that p² is the largest down to nearly 0.
        rng = np.random.default_rng(0)
        n_classes = 250
        truth = rng.uniform(0.1, 1, size=40_000)
        said = truth**2
        probability = np.empty((n_classes, truth.size), np.float32)
        probability[0], probability[1:] = said, (1 - said) / (n_classes - 1)
        reference = (rng.uniform(size=truth.size) > truth).astype(np.uint8)
        missing = 0.1**2 / 2 - 0.1**3 / 3
        assert error(probability, reference) * 0.9 == pytest.approx(1 / 6 - missing, abs=0.005)

    def test_it_is_undefined_where_no_element_counts(self):
        nowhere = np.zeros(1, bool)
        assert math.isnan(error(two_classes([0.7]), label(1), nowhere))


class TestBrierScore:
    def test_by_hand_with_three_classes(self):
        probability = np.array([[0.5], [0.25], [0.25]], np.float32)
        assert brier_score(probability, label(0)) == 0.25 + 2 * 0.0625
        assert brier_score(probability, label(1)) == 0.25 + 0.5625 + 0.0625

    def test_it_runs_from_zero_to_two(self):
        assert brier_score(two_classes([1, 0]), label(1, 0)) == 0
        assert brier_score(two_classes([1, 0]), label(0, 1)) == 2

    def test_only_the_masked_elements_count(self):
        probability = two_classes([1, 0.5])
        assert brier_score(probability, label(1, 1), np.array([False, True])) == 0.5
        assert math.isnan(brier_score(probability, label(1, 1), np.array([False, False])))

    def test_the_true_probabilities_score_best(self):
        rng = np.random.default_rng(0)
        truth = rng.uniform(size=50_000)
        reference = (rng.uniform(size=truth.size) < truth).astype(np.uint8)
        best = brier_score(two_classes(truth), reference)
        assert best == pytest.approx(2 * (1 / 2 - 1 / 3), abs=0.01)
        assert best < brier_score(two_classes(truth**2), reference)
        assert best < brier_score(two_classes(np.sqrt(truth)), reference)


class TestBoundaryBand:
    def test_it_lies_on_both_sides_of_every_boundary(self):
        reference = label(0, 0, 0, 1, 2, 2, 2, 2)
        band = boundary_band(reference, (1.0,), width_mm=2)
        np.testing.assert_array_equal(band, [False, True, True, True, True, True, False, False])

    def test_its_width_is_in_mm_along_each_axis(self):
        reference = np.zeros((9, 9), np.uint8)
        reference[4, 4] = 1
        band = boundary_band(reference, (1.0, 2.0), width_mm=2)
        assert np.argwhere(band).tolist() == [
            [2, 4],
            [3, 4],
            [4, 3],
            [4, 4],
            [4, 5],
            [5, 4],
            [6, 4],
        ]

    def test_it_is_empty_where_there_is_no_boundary(self):
        assert not boundary_band(np.ones((4, 4), np.uint8), (1.0, 1.0), width_mm=9).any()

    @given(LABELS, st.floats(0.5, 6), st.tuples(st.floats(0.5, 3), st.floats(0.5, 3)))
    def test_it_is_what_comparing_all_pairs_of_elements_gives(self, reference, width_mm, spacing):
        places = np.argwhere(np.ones(reference.shape, bool)) * spacing
        distance = np.linalg.norm(places[:, None] - places, axis=2)
        is_other = reference.ravel()[:, None] != reference.ravel()
        expected = (is_other & (distance <= width_mm * (1 + 1e-5))).any(axis=1)
        band = boundary_band(reference, spacing, width_mm)
        np.testing.assert_array_equal(band.ravel(), expected)
