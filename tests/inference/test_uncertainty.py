"""Volumes, their intervals and nested contours, from probabilities."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sfumato.image.geometry import Geometry
from sfumato.inference.uncertainty import VolumeEstimate, VolumeSums, contour_steps

SPACING = (2.5, 0.8, 1.2)


def probability_of(*foreground):
    rows = np.array(foreground, np.float32)
    return np.concatenate([1 - rows.sum(axis=0, keepdims=True), rows])


def random_probability(rng, shape=(3, 6, 5, 4), sharpness=1.0):
    logits = sharpness * rng.normal(size=shape)
    values = np.exp(logits)
    return (values / values.sum(axis=0)).astype(np.float32)


def estimates(probability, spacing):
    geometry = Geometry.from_spacing(probability.shape[1:], spacing)
    sums = VolumeSums(len(probability), geometry.element_volume_mm3)
    sums.add(probability)
    return sums.estimates(probability.argmax(axis=0).astype(np.uint8))


def test_volumes_are_in_cubic_millimetres():
    probability = probability_of([[[1, 0.75, 0.25, 0]]], [[[0, 0, 0.5, 1]]])
    first, second = estimates(probability, SPACING)
    assert (first.volume, second.volume) == pytest.approx((2 * 2.4, 2 * 2.4))
    assert (first.expected, second.expected) == pytest.approx((2 * 2.4, 1.5 * 2.4))
    assert (first.in_doubt, second.in_doubt) == pytest.approx((0.375 * 2.4, 0.25 * 2.4))


def test_areas_of_flat_images_are_in_square_millimetres():
    (only,) = estimates(probability_of([[1, 0.5], [0, 0]]), (0.5, 0.25))
    assert only.expected == pytest.approx(1.5 * 0.125)


def test_parts_add_up_to_the_whole():
    probability = random_probability(np.random.default_rng(1))
    whole = estimates(probability, SPACING)
    sums = VolumeSums(3, Geometry.from_spacing((6, 5, 4), SPACING).element_volume_mm3)
    for start in (0, 1, 4):
        sums.add(probability[:, start : {0: 1, 1: 4, 4: 6}[start]])
    for one, other in zip(
        sums.estimates(probability.argmax(0).astype(np.uint8)), whole, strict=True
    ):
        assert one.expected == pytest.approx(other.expected)
        assert one.in_doubt == pytest.approx(other.in_doubt)
        assert one.volume == other.volume


def test_a_structure_that_is_not_there_has_no_volume_and_an_interval_from_0():
    (only,) = estimates(probability_of([[0, 0], [0, 0]]), (1.0, 1.0))
    assert (only.volume, only.expected, only.in_doubt) == (0, 0, 0)
    assert only.interval([0.0, 0.5, 2.0], 0.5) == (0, 0.5)


def test_with_few_cases_there_is_no_interval():
    estimate = VolumeEstimate(volume=5, expected=5, in_doubt=1, element_volume=1)
    assert all(map(math.isnan, estimate.interval([1.0] * 8, 0.9)))
    assert estimate.interval([1.0] * 9, 0.9) == (3, 7)
    assert all(map(math.isnan, estimate.interval([], 0.5)))


def test_intervals_hold_the_truth_as_often_as_they_say():
    # A model that is too sure and too large, on structures of all sizes: no formula knows that.
    rng = np.random.default_rng(3)
    found = []
    for _ in range(300):
        errors, (estimate, truth) = [], (None, 0.0)
        for _ in range(20):
            size = rng.integers(3, 9)
            probability = random_probability(rng, (2, size, size), sharpness=rng.uniform(1, 3))
            (estimate,) = estimates(probability, (1.5, 0.7))
            shifted = probability[1] ** 1.5
            truth = float((rng.random(shifted.shape) < shifted).sum()) * 1.05
            errors.append(estimate.error(truth))
        low, high = estimate.interval(errors[:-1], 0.9)
        found.append(low <= truth <= high)
    assert 0.86 <= np.mean(found) <= 0.94


@given(st.integers(0, 99))
def test_contours_are_nested_and_lie_at_10_50_and_90_percent(seed):
    probability = np.random.default_rng(seed).random((5, 6), np.float32)
    steps = contour_steps(probability)
    for least, level in ((1, 0.1), (2, 0.5), (3, 0.9)):
        np.testing.assert_array_equal(steps >= least, probability >= np.float32(level))
