"""Geodesic distances: known ways, and a plain Dijkstra as a check."""

import heapq
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes
from scipy.ndimage import distance_transform_edt

from sfumato.errors import InputError
from sfumato.labels.geodesic import geodesic_distance


def dijkstra(image, mask, spacing, contrast_mm):
    """Settle one element after the other, the nearest first."""
    distance = np.where(mask, 0.0, np.inf)
    waiting = [(0.0, tuple(x)) for x in np.argwhere(mask).tolist()]
    while waiting:
        way, here = heapq.heappop(waiting)
        if way > distance[here]:
            continue
        for offset in product((-1, 0, 1), repeat=mask.ndim):
            there = tuple(np.add(here, offset).tolist())
            if not all(0 <= i < n for i, n in zip(there, mask.shape, strict=True)):
                continue
            length = np.multiply(offset, spacing)
            edge = contrast_mm * (image[:, *there].astype(float) - image[:, *here].astype(float))
            longer = way + np.sqrt((length**2).sum() + (edge**2).sum())
            if longer < distance[there]:
                distance[there] = longer
                heapq.heappush(waiting, (longer, there))
    return distance


@given(
    array_shapes(min_dims=1, max_dims=3, max_side=6),
    st.integers(1, 2),
    st.sampled_from([(1.0, 1.0, 1.0), (3.0, 0.7, 0.7), (0.5, 2.0, 1.0)]),
    st.sampled_from([0.0, 1.0, 20.0]),
    st.sampled_from([np.float32, np.uint8, np.int16]),
    st.integers(0, 999),
)
def test_it_agrees_with_dijkstra(shape, n_channels, spacing, contrast_mm, dtype, seed):
    rng = np.random.default_rng(seed)
    image = (4 * rng.random((n_channels, *shape))).astype(dtype)
    mask = rng.random(shape) < 0.2
    spacing = spacing[: len(shape)]
    expected = dijkstra(image, mask, spacing, contrast_mm)
    found = geodesic_distance(image, mask, spacing, contrast_mm=contrast_mm, reach_mm=1e6)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    reach_mm = 4.0
    near = geodesic_distance(image, mask, spacing, contrast_mm=contrast_mm, reach_mm=reach_mm)
    is_clear = np.abs(expected - reach_mm) > 1e-3
    within = np.where(expected < reach_mm, expected, np.inf)
    np.testing.assert_allclose(near[is_clear], within[is_clear], rtol=1e-5)


def test_ways_go_around_what_is_different():
    image = np.zeros((1, 3, 5), np.float32)
    image[0, :2, 2] = 1
    mask = np.zeros((3, 5), bool)
    mask[0, 0] = True
    found = geodesic_distance(image, mask, (1.0, 1.0), contrast_mm=100.0, reach_mm=1e3)
    assert found[0, 4] == pytest.approx(4 * np.sqrt(2))
    assert found[0, 2] == pytest.approx(1 + np.hypot(1, 100), rel=1e-5)


@pytest.mark.parametrize(
    ("spacing", "longest"),
    [((1.0, 1.0, 1.0), 1.13), ((2.0, 1.0, 1.0), 1.2), ((4.0, 1.0, 1.0), 1.3)],
)
def test_without_contrast_it_is_nearly_the_straight_distance(spacing, longest):
    mask = np.zeros((9, 11, 10), bool)
    mask[4, 5, 2] = True
    image = np.random.default_rng(0).random((1, *mask.shape)).astype(np.float32)
    found = geodesic_distance(image, mask, spacing, contrast_mm=0.0, reach_mm=99.0)
    straight = distance_transform_edt(~mask, sampling=spacing)
    assert (found >= straight - 1e-4).all()
    assert (found <= longest * straight + 1e-4).all()
    np.testing.assert_allclose(found[4, 5], straight[4, 5], rtol=1e-6)


def test_without_a_mask_nothing_is_reached_and_a_full_one_is_everywhere():
    image = np.zeros((1, 4, 4), np.float32)
    lengths = {"contrast_mm": 1.0, "reach_mm": 9.0}
    empty, full = np.zeros((4, 4), bool), np.ones((4, 4), bool)
    assert (geodesic_distance(image, empty, (1.0, 1.0), **lengths) == np.inf).all()
    assert (geodesic_distance(image, full, (1.0, 1.0), **lengths) == 0).all()


@pytest.mark.usefixtures("unchecked_shapes")
def test_a_mask_or_spacing_that_does_not_fit_is_refused():
    image, mask = np.zeros((1, 4, 4), np.float32), np.zeros((4, 5), bool)
    with pytest.raises(InputError, match="make the mask on the image's grid"):
        geodesic_distance(image, mask, (1.0, 1.0), contrast_mm=1.0, reach_mm=9.0)
    with pytest.raises(InputError, match="spacing must have"):
        geodesic_distance(image, mask[:, 1:], (1.0,), contrast_mm=1.0, reach_mm=9.0)
