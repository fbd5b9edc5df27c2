import numpy as np
import pytest

from sfumato.image.geometry import Geometry
from sfumato.report.slices import choose_cut, slice_axis


def geometry(shape: tuple[int, ...], rotation: list[list[float]]) -> Geometry:
    affine = np.eye(4)
    affine[:3, :3] = rotation
    return Geometry(shape=shape, affine=affine)


RAS = geometry((4, 5, 6), [[1, 0, 0], [0, 1, 0], [0, 0, 1]])
LPS = geometry((4, 5, 6), [[-1, 0, 0], [0, -1, 0], [0, 0, 1]])


def test_the_cut_stands_across_the_coarsest_axis() -> None:
    assert slice_axis(Geometry.from_spacing((4, 5, 6), (3.0, 1.0, 1.0))) == 0
    assert slice_axis(Geometry.from_spacing((4, 5, 6), (1.0, 3.0, 1.0))) == 1


def test_with_equal_spacing_the_cut_is_axial_wherever_that_axis_is_stored() -> None:
    assert slice_axis(RAS) == 2
    superior_first = geometry((6, 4, 5), [[0, 1, 0], [0, 0, 1], [1, 0, 0]])
    assert slice_axis(superior_first) == 0


def test_the_cut_lies_where_the_label_is_largest() -> None:
    mask = np.zeros((4, 5, 6), bool)
    mask[1, 1, 2] = True
    mask[1:3, 1:3, 4] = True
    cut = choose_cut(RAS, mask)
    assert cut.index == 4
    assert cut.caption() == "axial slice 5 of 6"


def test_an_empty_label_shows_the_middle() -> None:
    assert choose_cut(RAS, np.zeros((4, 5, 6), bool)).index == 3


@pytest.mark.parametrize("grid", [RAS, LPS])
def test_right_is_on_the_left_and_anterior_on_top_however_the_file_is_stored(
    grid: Geometry,
) -> None:
    # A mark at the patient's right front, found by its place in the patient.
    index = np.array([0, 0, 3]) if grid is LPS else np.array([3, 4, 3])
    marked = np.zeros(grid.shape, np.float32)
    marked[tuple(index)] = 1
    everything = np.ones(grid.shape, bool)
    cut = choose_cut(grid, everything)
    assert (cut.top, cut.left) == ("A", "R")
    flat = cut.of(marked[:, :, [3] * 6])
    assert flat.shape == (5, 4)
    assert flat[0, 0] == 1


def test_sagittal_and_coronal_cuts_have_the_head_on_top() -> None:
    height = np.broadcast_to(np.arange(6, dtype=np.float32), (4, 5, 6))
    for spacing, sides, shape in (((3.0, 1.0, 1.0), "SA", (6, 5)), ((1.0, 3.0, 1.0), "SR", (6, 4))):
        cut = choose_cut(Geometry.from_spacing((4, 5, 6), spacing), np.ones((4, 5, 6), bool))
        assert cut.top + cut.left == sides
        flat = cut.of(height)
        assert flat.shape == shape
        assert flat[0, 0] == 5


def test_an_oblique_scan_is_turned_to_the_nearest_axes() -> None:
    tilt = np.deg2rad(20)
    rotation = [[1, 0, 0], [0, np.cos(tilt), -np.sin(tilt)], [0, np.sin(tilt), np.cos(tilt)]]
    cut = choose_cut(geometry((4, 5, 6), rotation), np.ones((4, 5, 6), bool))
    assert (cut.axis, cut.top, cut.left) == (2, "A", "R")


def test_spacing_belongs_to_rows_and_columns_of_the_picture() -> None:
    cut = choose_cut(Geometry.from_spacing((4, 5, 6), (0.5, 0.8, 3.0)), np.ones((4, 5, 6), bool))
    assert cut.spacing == (0.8, 0.5)
    assert cut.aspect == pytest.approx(4 * 0.5 / (5 * 0.8))


def test_of_a_stack_that_lies_nowhere_the_fullest_page_is_shown_as_it_is() -> None:
    stack = Geometry(shape=(4, 5, 6), affine=np.eye(4), is_placed=False)
    mask = np.zeros((4, 5, 6), bool)
    mask[2, 1:3, 1:3] = True
    cut = choose_cut(stack, mask, np.ones((4, 5, 6), bool))
    image = np.arange(120, dtype=np.float32).reshape(1, 4, 5, 6)
    np.testing.assert_array_equal(cut.of(image), image[:, 2])
    assert cut.caption() == "slice 3 of 4"
    assert cut.top + cut.left == ""


def test_flat_images_stay_as_they_are() -> None:
    image = np.arange(20, dtype=np.float32).reshape(1, 4, 5)
    cut = choose_cut(Geometry.from_spacing((4, 5), (1.0, 1.0)), np.ones((4, 5), bool))
    np.testing.assert_array_equal(cut.of(image), image)
    assert cut.caption() == ""


def test_a_small_label_is_zoomed_in_on_with_a_margin() -> None:
    mask = np.zeros((100, 100), bool)
    mask[40:60, 70:80] = True
    cut = choose_cut(Geometry.from_spacing((100, 100), (1.0, 1.0)), mask)
    assert cut.size == (30, 20)
    assert cut.of(mask).sum() == mask.sum()
    assert cut.caption() == "detail"


def test_a_label_at_the_border_is_zoomed_in_on_inside_the_image() -> None:
    mask = np.zeros((100, 100), bool)
    mask[95:, :5] = True
    cut = choose_cut(Geometry.from_spacing((100, 100), (1.0, 1.0)), mask)
    assert cut.of(mask).shape == cut.size
    assert cut.of(mask).sum() == 25


def test_of_a_large_image_the_fullest_detail_is_shown() -> None:
    mask = np.zeros((1000, 900), bool)
    mask[::7, ::7] = True
    mask[700:760, 800:850] = True
    cut = choose_cut(Geometry.from_spacing((1000, 900), (1.0, 1.0)), mask, largest_side=256)
    assert cut.size == (256, 256)
    assert cut.of(mask)[..., :].sum() >= 60 * 50


def test_of_a_large_empty_image_the_middle_is_shown() -> None:
    empty = np.zeros((1001, 301), bool)
    cut = choose_cut(Geometry.from_spacing((1001, 301), (1.0, 1.0)), empty, largest_side=101)
    assert cut.start == (450, 100)
