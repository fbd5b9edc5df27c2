import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from sfumato.errors import InputError
from sfumato.image.preprocessing import (
    ChannelSettings,
    apply_scalings,
    measure_scalings,
    normalize_intensities,
)

ONE = (ChannelSettings(),)


def test_each_image_gets_zero_mean_and_unit_deviation():
    image = np.array([[[1, 3], [3, 1]]], np.float32)
    np.testing.assert_allclose(normalize_intensities(image, ONE), [[[-1, 1], [1, -1]]], rtol=1e-6)


def test_channels_are_treated_each_by_itself():
    image = np.array([[1, 3], [100, 500]], np.float32)
    np.testing.assert_allclose(normalize_intensities(image, ONE * 2), [[-1, 1]] * 2, rtol=1e-6)


def test_a_constant_channel_becomes_zero():
    for value in (0, 7, -3e4, 1e-8):
        assert not normalize_intensities(np.full((1, 4, 4), value, np.float32), ONE).any()


@pytest.mark.parametrize("scale", [1e-9, 1e-3, 1.0, 1e6, 1e30])
def test_the_unit_of_intensities_does_not_matter(scale):
    image = np.random.default_rng(0).random((1, 50)).astype(np.float32)
    expected = normalize_intensities(image, ONE)
    np.testing.assert_allclose(normalize_intensities(image * scale, ONE), expected, atol=1e-4)


def test_a_few_very_bright_elements_do_not_set_the_scale():
    image = np.random.default_rng(0).normal(size=(1, 10_000)).astype(np.float32)
    bright = image.copy()
    bright[0, :10] = 1e6
    difference = normalize_intensities(bright, ONE) - normalize_intensities(image, ONE)
    assert np.abs(difference[0, 10:]).max() < 0.1
    assert normalize_intensities(bright, ONE).max() < 5


def test_air_of_exactly_zero_can_be_left_out():
    image = np.array([[0, 0, 0, 0, 4, 6]], np.float32)
    expected = [[0, 0, 0, 0, -1, 1]]
    settings = (ChannelSettings(ignore_zero=True),)
    np.testing.assert_allclose(normalize_intensities(image, settings), expected, atol=0.02)
    assert not normalize_intensities(np.zeros((1, 5), np.float32), settings).any()


def test_constants_of_the_data_set_clip_and_scale():
    settings = ChannelSettings(normalization="dataset", low=-100, high=300, mean=100, deviation=50)
    image = np.array([[-1000, -100, 100, 150, 3000]], np.float32)
    normalized = normalize_intensities(image, (settings,))
    np.testing.assert_array_equal(normalized, [[-4, -4, 0, 1, 4]])
    assert normalized.dtype == np.float32


def test_a_wrong_number_of_channels_is_told():
    image = np.zeros((2, 4, 4), np.float32)
    with pytest.raises(InputError) as caught:
        normalize_intensities(image, ONE)
    assert str(caught.value) == "the image must have 1 channel, as in training, got 2"
    with pytest.raises(InputError, match="must have 3 channels, as in training, got 2"):
        normalize_intensities(image, ONE * 3)


def test_the_limits_of_intensities_must_be_a_range():
    with pytest.raises(ValueError, match="low must not be above high"):
        ChannelSettings(normalization="dataset", low=2, high=1)


@given(arrays(np.float32, (2, 40), elements=st.floats(-1e6, 1e6, width=32)), st.booleans())
def test_normalised_images_are_finite_and_centred(image, ignore_zero):
    before = image.copy()
    normalized = normalize_intensities(image, (ChannelSettings(ignore_zero=ignore_zero),) * 2)
    np.testing.assert_array_equal(image, before)
    assert normalized.dtype == np.float32
    assert np.isfinite(normalized).all()
    for channel, original in zip(normalized, image, strict=True):
        measured = channel[original != 0] if ignore_zero else channel
        if measured.any():
            assert abs(measured.mean(dtype=np.float64)) < 1e-4
            assert measured.std(dtype=np.float64) == pytest.approx(1, abs=1e-4)


@given(
    arrays(np.float32, (3, 4, 5), elements=st.floats(-2000, 2000, width=32)),
    st.booleans(),
)
def test_the_range_that_is_kept_is_that_of_the_percentiles(channel, ignore_zero):
    settings = (ChannelSettings(ignore_zero=ignore_zero),)
    measured = channel[channel != 0] if ignore_zero else channel
    low, high = np.percentile(measured, (0.5, 99.5)) if measured.size else (0, 0)
    (scaling,) = measure_scalings(channel[None], settings)
    np.testing.assert_allclose([scaling.low, scaling.high], [low, high], rtol=1e-5, atol=1e-5)


@given(
    arrays(np.float32, (1, 6, 8), elements=st.floats(-2000, 2000, width=32)),
    st.sampled_from(
        [
            ChannelSettings(),
            ChannelSettings(ignore_zero=True),
            ChannelSettings(normalization="dataset", low=-10, high=50, mean=20, deviation=7),
        ]
    ),
)
def test_a_part_is_normalised_as_in_the_whole_and_within_its_limits(image, settings):
    scalings = measure_scalings(image, (settings,))
    whole = apply_scalings(image, scalings)
    np.testing.assert_array_equal(apply_scalings(image[:, 2:4], scalings), whole[:, 2:4])
    lowest, highest = scalings[0].limits
    assert lowest <= whole.min()
    assert whole.max() <= highest
    if not settings.ignore_zero:
        assert (lowest, highest) == (whole.min(), whole.max())
