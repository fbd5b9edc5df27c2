"""Random changes, one at a time: what each does, and what none may do."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sfumato.training.augmentation import AugmentationSettings, change_intensities, draw_matrix

INTENSITY_CHANGES = [
    "low_resolution_probability",
    "noise_probability",
    "brightness_probability",
    "contrast_probability",
    "gamma_probability",
]
NOTHING = AugmentationSettings(
    rotation_probability=0,
    scale_probability=0,
    mirror_axes=(),
    **dict.fromkeys(INTENSITY_CHANGES, 0.0),
)
SPACINGS = st.tuples(*[st.sampled_from([0.3, 0.7, 1.0, 2.5, 49.0])] * 3)
SHAPES = [(1, 6, 7), (3, 5, 4, 6), (2, 1, 1), (1, 1, 1, 1), (1, 1, 9)]


def only(**values):
    return NOTHING.model_copy(update=values)


def random_image(shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def change(image, settings, seed=0):
    return change_intensities(image, settings, np.random.default_rng(seed))


def drawn(settings, spacing, seed):
    """Return a drawn matrix as it acts on millimetres."""
    matrix = draw_matrix(settings, spacing, np.random.default_rng(seed))
    return np.diag(spacing) @ matrix @ np.linalg.inv(np.diag(spacing))


@pytest.mark.parametrize("shape", SHAPES)
def test_with_all_probabilities_zero_nothing_changes(shape):
    image = random_image(shape)
    for seed in range(5):
        np.testing.assert_array_equal(change(image, NOTHING, seed), image)


@given(SPACINGS, st.integers(0, 100))
def test_with_all_probabilities_zero_nothing_moves(spacing, seed):
    matrix = draw_matrix(NOTHING, spacing, np.random.default_rng(seed))
    np.testing.assert_allclose(matrix, np.eye(3), rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", [*INTENSITY_CHANGES, "all"])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_change_keeps_shape_and_type_and_leaves_its_input_alone(name, shape):
    chosen = only(**dict.fromkeys(INTENSITY_CHANGES if name == "all" else [name], 1.0))
    image = random_image(shape)
    before = image.copy()
    for seed in range(5):
        changed = change(image, chosen, seed)
        assert changed.shape == shape
        assert changed.dtype == np.float32
        assert np.isfinite(changed).all()
        np.testing.assert_array_equal(image, before)


@pytest.mark.parametrize("name", INTENSITY_CHANGES)
def test_a_change_of_probability_one_happens_always(name):
    image = random_image((1, 200, 200))  # a resolution lower by 1 / 200 at least is seen
    for seed in range(10):
        assert (change(image, only(**{name: 1.0}), seed) != image).any()


@pytest.mark.parametrize("name", INTENSITY_CHANGES)
def test_a_change_happens_as_often_as_its_probability_says(name):
    image = random_image((1, 50, 50))
    chosen = only(**{name: 0.3})
    n_changed = sum((change(image, chosen, seed) != image).any() for seed in range(400))
    assert 85 <= n_changed <= 155  # 120 ± 3.8 standard deviations


def test_noise_is_as_strong_as_asked_for_at_most():
    image = np.zeros((1, 100, 100), np.float32)
    chosen = only(noise_probability=1.0, noise_deviation=0.5)
    deviations = [change(image, chosen, seed).std() for seed in range(40)]
    assert max(deviations) < 0.52
    assert np.mean(deviations) == pytest.approx(0.25, abs=0.1)


def test_brightness_multiplies():
    image = random_image((2, 5, 5))
    ratio = change(image, only(brightness_probability=1.0)) / image
    np.testing.assert_allclose(ratio, ratio[0, 0, 0], rtol=1e-5)
    assert 0.75 <= ratio[0, 0, 0] <= 1.25


def test_contrast_keeps_the_mean_of_every_channel():
    image = random_image((2, 9, 9)) + np.float32(3)
    changed = change(image, only(contrast_probability=1.0))
    np.testing.assert_allclose(changed.mean(axis=(1, 2)), image.mean(axis=(1, 2)), rtol=1e-5)
    ratio = changed.std() / image.std()
    assert 0.75 <= ratio <= 1.25


@pytest.mark.parametrize("seed", range(5))
def test_gamma_keeps_the_range_and_the_order_of_every_channel(seed):
    image = random_image((2, 9, 9), seed)
    changed = change(image, only(gamma_probability=1.0), seed)
    for channel, bent in zip(image, changed, strict=True):
        assert bent.min() == pytest.approx(channel.min(), abs=1e-5)
        assert bent.max() == pytest.approx(channel.max(), abs=1e-5)
        assert (np.diff(bent.ravel()[channel.ravel().argsort()]) >= 0).all()


def test_a_constant_image_has_no_gamma_to_bend():
    image = np.full((1, 4, 4), -2.5, np.float32)
    np.testing.assert_allclose(change(image, only(gamma_probability=1.0)), image)


def test_a_lower_resolution_smooths_and_keeps_what_is_even():
    noisy, even = random_image((1, 32, 32)), np.full((1, 32, 32), 1.5, np.float32)
    chosen = only(low_resolution_probability=1.0)
    np.testing.assert_allclose(change(even, chosen), even, rtol=1e-6)
    assert np.mean([change(noisy, chosen, seed).std() for seed in range(20)]) < 0.9 * noisy.std()


def test_the_same_randomness_makes_the_same_change():
    image, chosen = random_image((2, 8, 8)), AugmentationSettings(noise_probability=1.0)
    np.testing.assert_array_equal(change(image, chosen, 1), change(image, chosen, 1))
    assert (change(image, chosen, 1) != change(image, chosen, 2)).any()


@given(SPACINGS, st.integers(0, 2**31), st.integers(2, 3))
def test_a_rotation_is_one_in_millimetres(spacing, seed, n_axes):
    spacing = spacing[:n_axes]
    chosen = only(rotation_probability=1.0, rotation_degrees=180)
    rotation = drawn(chosen, spacing, seed)
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(n_axes), atol=1e-9)
    assert np.linalg.det(rotation) == pytest.approx(1)


@given(SPACINGS, st.integers(0, 2**31))
def test_a_flat_image_turns_by_at_most_the_angle_asked_for(spacing, seed):
    chosen = only(rotation_probability=1.0, rotation_degrees=30)
    rotation = drawn(chosen, spacing[:2], seed)
    assert np.rad2deg(np.arccos(np.clip(rotation[0, 0], -1, 1))) <= 30 + 1e-6


@given(SPACINGS, st.integers(0, 2**31))
def test_a_scale_is_the_same_along_all_axes_and_within_its_range(spacing, seed):
    chosen = only(scale_probability=1.0, scale_range=(0.5, 2.0))
    scale = drawn(chosen, spacing, seed)
    np.testing.assert_allclose(scale, scale[0, 0] * np.eye(3), atol=1e-9)
    assert 0.5 <= scale[0, 0] <= 2


@settings(max_examples=20)
@given(SPACINGS)
def test_each_axis_is_mirrored_half_the_time_and_by_itself(spacing):
    chosen = only(mirror_axes=(0, 2))
    signs = np.array([np.diag(drawn(chosen, spacing, seed)) for seed in range(200)])
    np.testing.assert_allclose(np.abs(signs), 1)
    assert (signs[:, 1] > 0).all()
    assert 70 <= (signs[:, 0] < 0).sum() <= 130
    assert 70 <= (signs[:, 2] < 0).sum() <= 130
    assert 25 <= ((signs[:, 0] < 0) & (signs[:, 2] < 0)).sum() <= 75


def test_thick_slices_are_rotated_within_themselves_only():
    chosen = only(rotation_probability=1.0, rotation_degrees=40)
    for seed in range(10):
        matrix = draw_matrix(chosen, (1.0, 1.0, 3.5), np.random.default_rng(seed))
        np.testing.assert_array_equal(matrix[2], [0, 0, 1])
        np.testing.assert_array_equal(matrix[:, 2], [0, 0, 1])
        assert matrix[0, 1] != 0


def test_mirroring_is_of_the_patch_whatever_else_happens():
    chosen = only(rotation_probability=1.0, rotation_degrees=40)
    mirrored = chosen.model_copy(update={"mirror_axes": (1,)})
    for seed in range(10):
        plain = draw_matrix(chosen, (1.0, 2.0, 3.0), np.random.default_rng(seed))
        other = draw_matrix(mirrored, (1.0, 2.0, 3.0), np.random.default_rng(seed))
        np.testing.assert_array_equal(np.abs(other), np.abs(plain))
        np.testing.assert_array_equal(other[:, [0, 2]], plain[:, [0, 2]])


@pytest.mark.parametrize("scale_range", [(2.0, 1.0), (0.0, 1.0), (-1.0, 1.0)])
def test_scales_must_be_a_range_above_zero(scale_range):
    with pytest.raises(ValueError, match="the smallest scale must be above 0 and not above"):
        AugmentationSettings(scale_range=scale_range)


@pytest.mark.parametrize("name", ["rotation_probability", *INTENSITY_CHANGES])
def test_probabilities_lie_between_zero_and_one(name):
    for wrong in (-0.1, 1.1):
        with pytest.raises(ValueError, match=name):
            AugmentationSettings(**{name: wrong})
