import numpy as np
import pytest

from sfumato.errors import InputError
from sfumato.image.geometry import Geometry

TURNED = np.array([[0.0, -3, 0, 10], [2, 0, 0, 20], [0, 0, 5, 30], [0, 0, 0, 1]])
"""Two millimetres along the first axis, three along the second, turned about the third."""


def moved(geometry: Geometry, *offset_mm: float) -> Geometry:
    affine = geometry.affine.copy()
    affine[:-1, -1] += offset_mm
    return Geometry(shape=geometry.shape, affine=affine)


def test_spacing_is_read_from_an_affine_however_it_is_turned() -> None:
    assert Geometry(shape=(4, 5, 6), affine=TURNED).spacing == (2, 3, 5)


def test_an_array_of_known_spacing_lies_at_the_origin() -> None:
    geometry = Geometry.from_spacing((4, 5), (2.0, 0.5))
    np.testing.assert_array_equal(geometry.affine, [[2, 0, 0], [0, 0.5, 0], [0, 0, 1]])
    assert geometry.spacing == (2, 0.5)


def test_a_spacing_needs_one_positive_number_an_axis() -> None:
    with pytest.raises(InputError, match="one number for each of the 2 spatial axes, got"):
        Geometry.from_spacing((4, 5), (1.0, 1.0, 1.0))
    for wrong in ((1.0, 0.0), (-1.0, 1.0)):
        with pytest.raises(InputError, match="spacing must be positive on every axis, got"):
            Geometry.from_spacing((4, 5), wrong)


def test_an_affine_must_fit_the_number_of_axes() -> None:
    with pytest.raises(InputError, match="affine must be 3×3 for 2 spatial axes"):
        Geometry(shape=(4, 5), affine=np.eye(4))


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_an_affine_must_be_finite(wrong: float) -> None:
    affine = np.eye(4)
    affine[0, 3] = wrong
    with pytest.raises(InputError, match="affine must be finite"):
        Geometry(shape=(4, 5, 6), affine=affine)
    with pytest.raises(InputError, match="affine must be finite"):
        Geometry(shape=(4, 5), affine=np.eye(3), plane=affine)


def test_an_affine_must_not_flatten_the_volume() -> None:
    without_height = np.diag([1.0, 1.0, 0.0, 1.0])
    two_axes_alike = np.eye(4)
    two_axes_alike[:, 1] = two_axes_alike[:, 0]
    for affine in (without_height, two_axes_alike):
        with pytest.raises(InputError, match="spacing must be positive on every axis"):
            Geometry(shape=(4, 5, 6), affine=affine)


def test_a_grid_does_not_differ_from_itself() -> None:
    geometry = Geometry(shape=(4, 5, 6), affine=TURNED)
    assert geometry.difference(geometry) is None
    assert geometry.difference(moved(geometry, 0.005, 0, 0)) is None


def test_fine_grids_are_told_apart_by_their_own_spacing() -> None:
    fine = Geometry.from_spacing((40, 50), (0.0005, 0.0004))
    assert fine.difference(moved(fine, 0.000003, 0)) is None
    assert fine.difference(moved(fine, 0.000005, 0)) == "a place up to 5e-06 mm away"
    other_spacing = Geometry.from_spacing((40, 50), (0.0005, 0.0005))
    assert fine.difference(other_spacing) == (
        "spacing 0.0005 × 0.0005 mm instead of 0.0005 × 0.0004 mm"
    )


def test_a_coarse_grid_is_not_compared_more_loosely() -> None:
    coarse = Geometry.from_spacing((4, 5), (10.0, 10.0))
    assert coarse.difference(moved(coarse, 0.02, 0)) == "a place up to 0.02 mm away"


def test_a_difference_of_grids_is_told_in_words() -> None:
    geometry = Geometry.from_spacing((4, 5), (1.0, 2.0))
    other_shape = Geometry.from_spacing((4, 6), (1.0, 2.0))
    assert geometry.difference(other_shape) == "shape 4×6 instead of 4×5"
    assert other_shape.difference(geometry) == "shape 4×5 instead of 4×6"
    other_spacing = Geometry.from_spacing((4, 5), (1.0, 2.5))
    assert geometry.difference(other_spacing) == "spacing 1 × 2.5 mm instead of 1 × 2 mm"
    elsewhere = moved(geometry, 3, 4)
    assert geometry.difference(elsewhere) == "a place up to 5 mm away"
    assert geometry.difference(Geometry.from_spacing((4, 5, 1), (1.0, 2.0, 1.0))) is not None


def test_a_slight_turn_counts_by_what_it_does_to_the_farthest_corner() -> None:
    angle = 0.001
    turn = np.eye(3)
    turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    small = Geometry.from_spacing((5, 5), (1.0, 1.0))
    large = Geometry.from_spacing((500, 5), (1.0, 1.0))
    assert small.difference(Geometry(shape=small.shape, affine=turn)) is None
    assert (
        large.difference(Geometry(shape=large.shape, affine=turn)) == "a place up to 0.499 mm away"
    )


def test_an_elements_volume_knows_spacing_and_angles() -> None:
    assert Geometry.from_spacing((2, 3, 4), (2.5, 1.0, 0.4)).element_volume_mm3 == pytest.approx(1)
    assert Geometry.from_spacing((2, 3), (0.5, 0.5)).element_volume_mm3 == pytest.approx(0.25)
    sheared = np.eye(4)
    sheared[0, 1], sheared[2, 2] = 1.0, -2.0
    assert Geometry(shape=(2, 2, 2), affine=sheared).element_volume_mm3 == pytest.approx(2)
