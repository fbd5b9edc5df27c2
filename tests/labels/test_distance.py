"""Known distances, then the agreement with SciPy's own."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from scipy.ndimage import distance_transform_edt

from sfumato.labels.distance import signed_distance

SPACINGS = st.tuples(*[st.sampled_from([0.3, 0.7, 1.0, 2.5, 6.0])] * 3)
MASKS = arrays(bool, array_shapes(min_dims=2, max_dims=3, max_side=9))


def test_distance_counts_millimetres_from_centre_to_centre():
    mask = np.array([[0, 0, 1], [0, 0, 1]], bool)
    expected = np.array([[-1.0, -0.5, 0.5], [-1.0, -0.5, 0.5]], np.float32)
    np.testing.assert_array_equal(signed_distance(mask, (2.0, 0.5)), expected)


def test_distance_runs_diagonally_where_that_is_shorter():
    mask = np.array([[1, 0, 0], [0, 0, 0], [0, 0, 0]], bool)
    np.testing.assert_allclose(signed_distance(mask, (3.0, 4.0))[1, 1], -5.0)
    np.testing.assert_allclose(signed_distance(mask, (3.0, 4.0))[2, 2], -10.0)


def test_a_mask_without_boundary_is_infinitely_far_from_it():
    full, empty = np.ones((2, 3), bool), np.zeros((2, 3), bool)
    assert (signed_distance(full, (1.0, 1.0)) == np.inf).all()
    assert (signed_distance(empty, (1.0, 1.0)) == -np.inf).all()


@given(MASKS, SPACINGS)
def test_distance_agrees_with_scipy(mask, spacing):
    spacing = spacing[: mask.ndim]
    if mask.all() or not mask.any():
        return
    inside = distance_transform_edt(mask, sampling=spacing)
    outside = distance_transform_edt(~mask, sampling=spacing)
    np.testing.assert_allclose(signed_distance(mask, spacing), inside - outside, rtol=2e-7)


@given(MASKS, SPACINGS)
def test_the_complement_lies_at_the_opposite_distance(mask, spacing):
    spacing = spacing[: mask.ndim]
    np.testing.assert_array_equal(signed_distance(~mask, spacing), -signed_distance(mask, spacing))
