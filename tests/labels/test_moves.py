import numpy as np
import pytest

from sfumato.labels.moves import LARGEST_MOVE, Move, small_moves


def block() -> np.ndarray:
    mask = np.zeros((9, 9, 9), bool)
    mask[3:6, 3:6, 3:6] = True
    return mask


def test_a_mask_is_moved_both_ways_along_each_axis_and_grown_and_shrunk() -> None:
    moves = dict(small_moves(block(), (1.0, 1.0, 1.0)))
    assert len(moves) == (3 + 1) * 2 * LARGEST_MOVE
    np.testing.assert_array_equal(moves[Move(shift=(0, -2, 0))], np.roll(block(), -2, axis=1))
    assert moves[Move(shift=(0, 0, 0), growth_mm=1.0)].sum() == 27 + 6 * 9
    assert moves[Move(shift=(0, 0, 0), growth_mm=-1.0)].sum() == 1


def test_growth_is_measured_in_millimetres() -> None:
    moves = dict(small_moves(block(), (3.0, 1.5, 1.5)))
    grown = moves[Move(shift=(0, 0, 0), growth_mm=1.5)]
    assert grown.any(axis=(1, 2)).sum() == 3  # the next slice is too far away
    assert grown.any(axis=(0, 2)).sum() == 5


@pytest.mark.parametrize("n", [1, 2])
def test_a_structure_at_the_edge_of_the_image_goes_on_beyond_it(n: int) -> None:
    mask = np.zeros((4, 6), bool)
    mask[:, :3] = True
    moved = dict(small_moves(mask, (1.0, 1.0)))[Move(shift=(0, n))]
    np.testing.assert_array_equal(moved[0], np.arange(6) < 3 + n)
