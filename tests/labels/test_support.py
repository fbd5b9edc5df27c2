import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from sfumato.errors import InputError
from sfumato.labels.support import (
    SuperpixelIntensities,
    boundary_support,
    explained_shares,
    worst_crossings,
)

SHAPE = (6, 8)
QUARTERS = np.kron(np.arange(4, dtype=np.int32).reshape(2, 2), np.ones((3, 4), np.int32))
UNIT = (1.0, 1.0)


def step(column: int) -> np.ndarray:
    """A mask of the columns from one on."""
    return np.broadcast_to(np.arange(SHAPE[1]) >= column, SHAPE).copy()


def noise(seed: int = 0, n_channels: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n_channels, *SHAPE)).astype(np.float32)


def test_a_boundary_along_borders_of_superpixels_is_supported_whatever_the_image() -> None:
    support = boundary_support(step(4), SuperpixelIntensities.of(noise(), QUARTERS), UNIT)
    assert support.unsupported_share == 0
    assert support.area_mm == 6


def test_a_boundary_on_an_edge_of_the_image_is_supported_within_superpixels_too() -> None:
    image = step(2)[None].astype(np.float32)
    support = boundary_support(step(2), SuperpixelIntensities.of(image, QUARTERS), UNIT)
    assert support.unsupported_share == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("offset", [0, 1000, -1e6])
def test_a_boundary_through_a_flat_region_has_no_support(offset: float) -> None:
    image = step(4)[None].astype(np.float32) + np.float32(offset)
    support = boundary_support(step(2), SuperpixelIntensities.of(image, QUARTERS), UNIT)
    assert support.unsupported_share == 1


def test_faces_count_with_their_area() -> None:
    mask = np.zeros((2, 2, 2), bool)
    mask[0, 0, 0] = True
    flat = SuperpixelIntensities.of(
        np.ones((1, 2, 2, 2), np.float32), np.zeros((2, 2, 2), np.int32)
    )
    support = boundary_support(mask, flat, (2.0, 3.0, 5.0))
    assert support.area_mm == support.unsupported_mm == 3 * 5 + 2 * 5 + 2 * 3


@pytest.mark.parametrize("is_full", [False, True])
def test_without_a_boundary_the_share_is_undefined(is_full: bool) -> None:
    intensities = SuperpixelIntensities.of(noise(), QUARTERS)
    support = boundary_support(np.full(SHAPE, is_full), intensities, UNIT)
    assert support.area_mm == 0
    assert math.isnan(support.unsupported_share)


def test_of_several_channels_the_one_that_shows_the_boundary_best_counts() -> None:
    image = np.concatenate([noise(n_channels=2), step(2)[None].astype(np.float32)])
    shares = explained_shares(step(2), SuperpixelIntensities.of(image, QUARTERS))
    np.testing.assert_allclose(shares, [1, math.nan, 1, math.nan], atol=1e-6)


@given(arrays(bool, SHAPE), arrays(np.float32, (1, *SHAPE), elements=st.integers(-500, 500)))
def test_both_sides_of_a_boundary_tell_the_same(mask: np.ndarray, image: np.ndarray) -> None:
    intensities = SuperpixelIntensities.of(image, QUARTERS)
    one = boundary_support(mask, intensities, (2.0, 0.5))
    other = boundary_support(~mask, intensities, (2.0, 0.5))
    assert one.area_mm == other.area_mm
    assert one.unsupported_mm == pytest.approx(other.unsupported_mm, abs=1e-6)
    assert 0 <= one.unsupported_mm <= one.area_mm


@given(arrays(bool, SHAPE), st.floats(0.01, 100), st.floats(-1000, 1000))
def test_the_scale_of_intensities_does_not_matter(
    mask: np.ndarray, gain: float, offset: float
) -> None:
    image = noise()
    rescaled = (gain * image.astype(np.float64) + offset * gain).astype(np.float32)
    np.testing.assert_allclose(
        explained_shares(mask, SuperpixelIntensities.of(rescaled, QUARTERS)),
        explained_shares(mask, SuperpixelIntensities.of(image, QUARTERS)),
        atol=2e-3,
    )


def test_the_explained_share_is_that_of_an_analysis_of_variance() -> None:
    image, mask = noise(3), step(2)
    inside, outside = image[0, :3, 2:4].ravel(), image[0, :3, :2].ravel()
    every = np.concatenate([inside, outside])
    between = sum(len(p) * (p.mean() - every.mean()) ** 2 for p in (inside, outside))
    expected = between / ((every - every.mean()) ** 2).sum()
    share = explained_shares(mask, SuperpixelIntensities.of(image, QUARTERS))[0]
    assert share == pytest.approx(expected, rel=1e-5)


def test_the_superpixel_that_is_cut_most_evenly_comes_first() -> None:
    mask = np.zeros(SHAPE, bool)
    mask[:3, :2] = True  # half of superpixel 0
    mask[5, 7] = True  # a corner of superpixel 3
    flat = SuperpixelIntensities.of(np.ones((1, *SHAPE), np.float32), QUARTERS)
    first, second = worst_crossings(mask, flat, (1.0, 2.0), 5)
    assert (first.index, first.is_inside, first.volume_mm) == (0, True, 12)
    assert (first.element, first.depth_mm) == ((0, 0), 3)  # three rows down it is outside
    assert (second.index, second.volume_mm, second.element) == (3, 2, (5, 7))
    assert worst_crossings(mask, flat, (1.0, 2.0), 1) == (first,)


def test_what_does_not_fit_together_is_refused(unchecked_shapes: None) -> None:
    with pytest.raises(InputError, match="compute them from this image"):
        SuperpixelIntensities.of(noise(), QUARTERS[1:])
    with pytest.raises(InputError, match="every element must have a superpixel"):
        SuperpixelIntensities.of(noise(), QUARTERS - np.int32(1))
    with pytest.raises(InputError, match="bring both to the same grid"):
        boundary_support(step(2)[1:], SuperpixelIntensities.of(noise(), QUARTERS), UNIT)
