import math

import hypothesis.extra.numpy as arrays
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sfumato.errors import InputError
from sfumato.metrics.surface import (
    average_surface_distance,
    hausdorff_distance,
    surface_dice,
    surface_distances,
)

UNIT = (1.0, 1.0)
MASKS = arrays.arrays(bool, (4, 5))
SPACINGS = st.tuples(st.floats(0.2, 5), st.floats(0.2, 5))


def pixel(*index, shape=(1, 6)):
    mask = np.zeros(shape, bool)
    mask[index] = True
    return mask


def box(*lengths, margin=2):
    return np.pad(np.ones(lengths, bool), margin)


def reference_area(mask, spacing):
    return surface_distances(mask, mask, spacing).reference_area.sum()


def measures(one, other, spacing):
    distances = surface_distances(one, other, spacing)
    return [
        hausdorff_distance(distances, 95),
        hausdorff_distance(distances, 100),
        average_surface_distance(distances),
        surface_dice(distances, 1),
    ]


class TestKnownAnswers:
    def test_two_pixels_two_mm_apart(self):
        # Each pixel's outline passes through its four corners; the other's are 1 or 2 mm off.
        distances = surface_distances(pixel(0, 1), pixel(0, 3), UNIT)
        assert sorted(distances.reference_mm) == [1, 1, 2, 2]
        assert sorted(distances.segmentation_mm) == [1, 1, 2, 2]
        assert hausdorff_distance(distances, 100) == hausdorff_distance(distances, 95) == 2
        assert hausdorff_distance(distances, 40) == 1
        assert average_surface_distance(distances) == pytest.approx(1.5)
        assert surface_dice(distances, 0.5) == 0
        assert surface_dice(distances, 1) == pytest.approx(0.5)
        assert surface_dice(distances, 2) == 1

    def test_spacing_is_in_mm_along_its_own_axis(self):
        distances = surface_distances(pixel(0, 1), pixel(0, 3), (7.0, 3.0))
        assert hausdorff_distance(distances) == 6
        assert average_surface_distance(distances) == pytest.approx(4.5)

    def test_the_outline_of_one_pixel_joins_the_midpoints_to_its_neighbours(self):
        assert reference_area(pixel(0, 2), (3.0, 4.0)) == pytest.approx(4 * 2.5)

    def test_pixels_that_touch_at_a_corner_have_outlines_of_their_own(self):
        assert reference_area(np.eye(2, dtype=bool), UNIT) == pytest.approx(8 * math.sqrt(0.5))

    def test_the_surface_of_one_voxel_is_an_octahedron(self):
        voxel = pixel(1, 1, 1, shape=(3, 3, 3))
        assert reference_area(voxel, (1.0, 1.0, 1.0)) == pytest.approx(math.sqrt(3))

    def test_the_surface_of_a_box_has_flat_faces_bevelled_edges_and_cut_corners(self):
        faces = 2 * (3 * 4 + 4 * 5 + 3 * 5)
        edges = 4 * (3 + 4 + 5) * math.sqrt(0.5)
        corners = math.sqrt(3)
        assert reference_area(box(4, 5, 6), (1.0,) * 3) == pytest.approx(faces + edges + corners)

    def test_a_sphere_of_stairs_has_a_tenth_too_much_surface_and_more_on_uneven_grids(self):
        def sphere_area(spacing):
            steps = [np.arange(-15 / s, 15 / s + 1).round() * s for s in spacing]
            grid = np.meshgrid(*steps, indexing="ij")
            return reference_area(sum(axis**2 for axis in grid) < 12**2, spacing)

        exact = 4 * math.pi * 12**2
        assert 1 < sphere_area((1.0, 1.0, 1.0)) / exact < 1.1
        assert 1 < sphere_area((3.0, 1.0, 0.5)) / exact < 1.2

    def test_the_two_directions_differ_where_one_mask_has_something_extra(self):
        both, one = pixel(0, [0, 5]), pixel(0, 0)
        distances = surface_distances(both, one, UNIT)
        assert distances.segmentation_mm.max() == 0
        assert sorted(distances.reference_mm) == [0, 0, 0, 0, 4, 4, 5, 5]
        assert average_surface_distance(distances) == pytest.approx(18 / 12)
        assert surface_dice(distances, 1) == pytest.approx(8 / 12)

    def test_few_far_pieces_count_for_the_hausdorff_distance_but_not_for_its_percentile(self):
        square, noisy = np.zeros((2, 40, 60), bool)
        square[5:35, 5:35] = noisy[5:35, 5:35] = True
        noisy[20, 55] = True
        distances = surface_distances(square, noisy, UNIT)
        assert hausdorff_distance(distances, 100) == 21
        assert hausdorff_distance(distances, 95) == 0

    def test_a_structure_cut_off_by_the_edge_of_the_image_has_a_surface_there(self):
        whole = np.ones((2, 3), bool)
        assert reference_area(whole, UNIT) == reference_area(np.pad(whole, 4), UNIT)

    def test_a_tolerance_forgives_the_rounding_of_spacings_in_files(self):
        distances = surface_distances(pixel(0, 1), pixel(0, 2), (1.0, float(np.float32(1.0000001))))
        assert surface_dice(distances, 1) == 1


class TestEmptyMasks:
    def test_nothing_is_defined_between_two_empty_masks(self):
        nothing = np.zeros((3, 3), bool)
        assert all(math.isnan(value) for value in measures(nothing, nothing, UNIT))

    @pytest.mark.parametrize("swap", [False, True])
    def test_no_distance_is_defined_to_an_empty_mask_and_no_surface_agrees(self, swap):
        pair = (pixel(0, 1), np.zeros((1, 6), bool))
        *distances, agreement = measures(*(pair[::-1] if swap else pair), UNIT)
        assert all(math.isnan(value) for value in distances)
        assert agreement == 0


class TestProperties:
    @given(MASKS, MASKS, SPACINGS)
    def test_measures_are_symmetric(self, one, other, spacing):
        np.testing.assert_allclose(measures(one, other, spacing), measures(other, one, spacing))

    @given(MASKS.filter(np.any), SPACINGS)
    def test_a_mask_agrees_with_itself(self, mask, spacing):
        assert measures(mask, mask, spacing) == [0, 0, 0, 1]

    @given(MASKS, MASKS, SPACINGS, st.sampled_from([0, 1]))
    def test_mirroring_both_masks_changes_nothing(self, one, other, spacing, axis):
        mirrored = measures(np.flip(one, axis), np.flip(other, axis), spacing)
        np.testing.assert_allclose(mirrored, measures(one, other, spacing))

    @given(MASKS, MASKS, SPACINGS)
    def test_exchanging_the_axes_with_their_spacings_changes_nothing(self, one, other, spacing):
        exchanged = measures(one.T, other.T, spacing[::-1])
        np.testing.assert_allclose(exchanged, measures(one, other, spacing))

    @given(MASKS.filter(np.any), MASKS.filter(np.any), SPACINGS)
    def test_scaling_the_spacing_scales_the_distances(self, one, other, spacing):
        *single, _ = measures(one, other, spacing)
        *double, _ = measures(one, other, (2 * spacing[0], 2 * spacing[1]))
        np.testing.assert_allclose(double, 2 * np.array(single))

    @given(MASKS, MASKS, SPACINGS)
    def test_a_larger_percentile_is_no_smaller_and_bounds_the_average(self, one, other, spacing):
        if one.any() and other.any():
            worst_95, worst, average, _ = measures(one, other, spacing)
            assert worst_95 <= worst
            assert average <= worst + 1e-12


def test_a_spacing_of_another_length_is_refused():
    with pytest.raises(InputError, match="one spacing for each axis"):
        surface_distances(pixel(0, 1), pixel(0, 1), (1.0, 1.0, 1.0))


def test_masks_are_left_as_they_were():
    mask = pixel(0, 1)
    mask.setflags(write=False)
    assert measures(mask, mask, UNIT) == [0, 0, 0, 1]
