"""The same numbers as DeepMind's surface-distance package, which defined them."""

import warnings

import numpy as np
import pytest
import surface_distance
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter
from surface_distance import lookup_tables

from sfumato.metrics.surface import (
    average_surface_distance,
    hausdorff_distance,
    surface_dice,
    surface_distances,
)

EXACT = {"rel": 1e-9, "abs": 1e-9}


@st.composite
def cases(draw):
    n_axes = draw(st.sampled_from([2, 3]))
    shape = draw(st.tuples(*[st.integers(1, 12)] * n_axes))
    spacing = draw(st.tuples(*[st.floats(0.3, 5)] * n_axes))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    smoothness = draw(st.sampled_from([0.0, 0.7, 1.5]))
    masks = [gaussian_filter(rng.normal(size=shape), smoothness) > 0 for _ in range(2)]
    for mask in masks:
        # The package divides by zero where a mask is empty; our own rules are tested elsewhere.
        mask.flat[rng.integers(mask.size)] = True
    return *masks, spacing


def theirs(reference, segmentation, spacing):
    with warnings.catch_warnings():
        # It reaches SciPy's functions by names that SciPy is about to drop.
        warnings.simplefilter("ignore", DeprecationWarning)
        return surface_distance.compute_surface_distances(reference, segmentation, spacing)


@settings(max_examples=150, deadline=None)
@given(cases())
def test_distances_and_areas_are_the_same(case):
    expected, ours = theirs(*case), surface_distances(*case)
    for direction, distances_mm, area in (
        ("gt_to_pred", ours.reference_mm, ours.reference_area),
        ("pred_to_gt", ours.segmentation_mm, ours.segmentation_area),
    ):
        mask = direction.split("_")[0]
        expected_mm = expected[f"distances_{direction}"]
        expected_area = expected[f"surfel_areas_{mask}"]
        np.testing.assert_allclose(np.sort(distances_mm), expected_mm, rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(np.sort(area), np.sort(expected_area), rtol=1e-9)
        assert distances_mm @ area == pytest.approx(expected_mm @ expected_area, **EXACT)


@settings(max_examples=150, deadline=None)
@given(cases(), st.floats(0, 100))
def test_percentiles_are_the_same_up_to_the_rounding_of_the_percentile(case, percentile):
    expected = surface_distance.compute_robust_hausdorff(theirs(*case), percentile)
    ours = surface_distances(*case)
    low = hausdorff_distance(ours, max(percentile - 1e-6, 0))
    high = hausdorff_distance(ours, min(percentile + 1e-6, 100))
    assert low - 1e-9 <= expected <= high + 1e-9


@settings(max_examples=100, deadline=None)
@given(cases(), st.sampled_from([0.5, 1.0, 2.0, 3.3]))
def test_surface_dice_is_the_same(case, tolerance_mm):
    ours, expected = surface_distances(*case), theirs(*case)
    # At a distance within the last digits of the tolerance, either answer is right.
    gap = np.abs(np.concatenate([ours.reference_mm, ours.segmentation_mm]) - tolerance_mm)
    if gap.min() > 1e-4:
        assert surface_dice(ours, tolerance_mm) == pytest.approx(
            surface_distance.compute_surface_dice_at_tolerance(expected, tolerance_mm), **EXACT
        )


@settings(max_examples=50, deadline=None)
@given(cases())
def test_the_average_lies_between_the_two_directed_averages(case):
    directed = surface_distance.compute_average_surface_distance(theirs(*case))
    average = average_surface_distance(surface_distances(*case))
    assert min(directed) - 1e-9 <= average <= max(directed) + 1e-9


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (3.0, 0.9, 0.8), (1.0, 2.0, 5.0)])
def test_every_one_of_the_256_neighbourhoods_has_the_same_area(spacing):
    table = lookup_tables.create_table_neighbour_code_to_surface_area(spacing)
    kernel = lookup_tables.ENCODE_NEIGHBOURHOOD_3D_KERNEL
    for code in range(1, 256):
        inside = (code & kernel) > 0
        ours = surface_distances(inside, inside, spacing)
        # The middle one of the 27 neighbourhoods that touch the cube is the cube itself.
        expected = sum(
            table[int((kernel * np.pad(inside, 1)[i : i + 2, j : j + 2, k : k + 2]).sum())]
            for i, j, k in np.ndindex(3, 3, 3)
        )
        assert ours.reference_area.sum() == pytest.approx(expected, rel=1e-12)
