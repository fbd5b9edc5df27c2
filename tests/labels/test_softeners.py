"""Every softener by name: known answers, what all have in common, and their memory."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes
from pydantic import ValidationError
from scipy.ndimage import distance_transform_edt

from sfumato.errors import InputError
from sfumato.labels.softeners import (
    ENSEMBLE_SEED,
    SOFTENERS,
    SofteningInput,
    SofteningSettings,
    soften,
)
from sfumato.labels.softening import one_hot, soften_image_label, soften_label
from sfumato.labels.superpixels import SuperpixelSettings, compute_superpixels

N_CLASSES = 4
KEEPS_HARD_LABEL = [
    "none", "superpixel", "superpixel_ensemble", "distance", "uniform", "boundary", "dilation",
    "geodesic",
]  # fmt: skip


def soften_by(method, label, image=None, spacing=None, **numbers):
    image = np.zeros((1, *label.shape), np.float32) if image is None else image
    spacing = spacing or (1.0,) * label.ndim
    softening = SofteningSettings(method=method, **numbers)
    n_classes = max(2, int(label.max()) + 1)
    return soften(image, label, spacing, n_classes, softening, SuperpixelSettings(size_mm=3))


@st.composite
def cases(draw):
    shape = draw(array_shapes(min_dims=2, max_dims=3, max_side=8))
    rng = np.random.default_rng(draw(st.integers(0, 999)))
    label = rng.integers(0, N_CLASSES, shape).astype(np.uint8)
    image = (label + rng.normal(size=shape))[np.newaxis].astype(np.float32)
    return image, label, draw(st.sampled_from([(1.0, 1.0, 1.0), (3.0, 0.7, 0.7)]))[: label.ndim]


def test_the_table_names_every_method():
    assert sorted(SOFTENERS) == [
        "boundary", "dilation", "distance", "gaussian", "geodesic", "none", "raters", "superpixel",
        "superpixel_ensemble", "svls", "uniform",
    ]  # fmt: skip


@settings(deadline=None)
@given(cases(), st.sampled_from(sorted(SOFTENERS)))
def test_every_method_gives_probabilities(case, method):
    image, label, spacing = case
    before = image.copy(), label.copy()
    softening = SofteningSettings(method=method)
    soft = soften(image, label, spacing, N_CLASSES, softening, SuperpixelSettings())
    assert soft.shape == (N_CLASSES, *label.shape)
    assert soft.dtype == np.float32
    assert soft.min() >= 0
    assert soft.max() <= 1
    np.testing.assert_allclose(soft.sum(axis=0, dtype=np.float64), 1, atol=1e-6)
    if method in KEEPS_HARD_LABEL:
        np.testing.assert_array_equal(soft.argmax(axis=0), label)
    np.testing.assert_array_equal(image, before[0])
    np.testing.assert_array_equal(label, before[1])


@pytest.mark.parametrize(
    ("numbers", "uses_superpixels"),
    [
        ({}, True),
        ({"method": "superpixel_ensemble"}, True),
        ({"method": "geodesic"}, False),
        ({"method": "raters"}, False),
        ({"method": "raters", "raters_with_superpixels": True}, True),
        ({"method": "none", "raters_with_superpixels": True}, False),
    ],
)
def test_settings_say_whether_superpixels_matter(numbers, uses_superpixels):
    assert SofteningSettings(**numbers).uses_superpixels == uses_superpixels


@pytest.mark.parametrize("method", sorted(set(SOFTENERS) - {"uniform"}))
@pytest.mark.parametrize("value", [0, 1])
def test_a_label_without_boundary_stays_one_hot(method, value):
    label = np.full((9, 8), value, np.uint8)
    image = np.random.default_rng(0).normal(size=(1, 9, 8)).astype(np.float32)
    np.testing.assert_array_equal(soften_by(method, label, image), one_hot(label, 2))


def test_none_gives_the_hard_label():
    label = np.array([[0, 2, 1]], np.uint8)
    np.testing.assert_array_equal(soften_by("none", label)[:, 0].argmax(axis=0), [0, 2, 1])
    assert set(np.unique(soften_by("none", label))) == {0, 1}


def test_superpixel_is_the_method_of_the_paper():
    rng = np.random.default_rng(0)
    label = np.zeros((20, 20), np.uint8)
    label[5:14, 6:17] = 1
    image = (label + 0.3 * rng.normal(size=(1, 20, 20))).astype(np.float32)
    superpixels = compute_superpixels(image, (1.0, 1.0), SuperpixelSettings(size_mm=3))
    expected = soften_label(label, superpixels, (1.0, 1.0), 2)
    found = soften_by("superpixel", label, image)
    np.testing.assert_array_equal(found, expected)
    assert ((found > 0) & (found < 1)).any()
    longer = soften_by("superpixel", label, image, scale_mm=3.0)
    assert (longer[1] <= found[1])[label == 1].all()


def test_superpixel_keeps_the_label_hard_where_the_image_says_nothing():
    label = np.zeros((12, 12), np.uint8)
    label[3:7, 3:7] = 1
    image = np.full((1, 12, 12), 5, np.float32)
    np.testing.assert_array_equal(soften_by("superpixel", label, image), one_hot(label, 2))


def noisy_square(shape=(24, 24)):
    label = np.zeros(shape, np.uint8)
    label[(slice(6, 15),) * len(shape)] = 1
    noise = np.random.default_rng(0).normal(size=(1, *shape))
    return (label + 0.3 * noise).astype(np.float32), label


def draws_of_an_ensemble(image, label, spacing, n_draws):
    rng = np.random.default_rng(ENSEMBLE_SEED)
    for i in range(n_draws):
        size_mm = 3 * (4 / 3) ** ((2 * i + 1) / n_draws - 1)
        superpixels = SuperpixelSettings(size_mm=size_mm)
        yield soften_image_label(image, label, spacing, 2, superpixels, rng=rng)


@pytest.mark.parametrize("spacing", [(1.0, 1.0), (2.0, 0.5), (3.0, 1.0, 1.0)])
def test_an_ensemble_is_the_mean_of_its_draws(spacing):
    image, label = noisy_square((16, 24, 24)[3 - len(spacing) :])
    draws = list(draws_of_an_ensemble(image, label, spacing, 3))
    found = soften_by("superpixel_ensemble", label, image, spacing, n_draws=3)
    np.testing.assert_allclose(found, np.mean(draws, axis=0), atol=1e-6)
    assert not np.array_equal(draws[0], draws[1])
    again = soften_by("superpixel_ensemble", label, image, spacing, n_draws=3)
    np.testing.assert_array_equal(found, again)


@pytest.mark.parametrize("n_draws", [1, 3, 7, 10])
def test_an_ensemble_is_one_hot_to_the_bit_where_all_its_draws_are(n_draws):
    image, label = noisy_square()
    is_hard = np.ones(label.shape, bool)
    for draw in draws_of_an_ensemble(image, label, (1.0, 1.0), n_draws):
        is_hard &= (draw == one_hot(label, 2)).all(axis=0)
    found = soften_by("superpixel_ensemble", label, image, n_draws=n_draws)
    assert 0.3 < is_hard.mean() < 1
    np.testing.assert_array_equal(found[:, is_hard], one_hot(label, 2)[:, is_hard])
    assert (found[:, ~is_hard].max(axis=0) < 1).all()


def test_boundary_smooths_within_a_radius_in_millimetres():
    label = np.array([[0, 0, 0, 1, 1, 1]], np.uint8)
    found = soften_by("boundary", label, epsilon=0.2)
    np.testing.assert_allclose(found[1, 0], [0, 0, 0.1, 0.9, 1, 1], rtol=1e-6)
    found = soften_by("boundary", label, spacing=(9.0, 0.1), epsilon=0.2, radius_mm=0.2)
    np.testing.assert_allclose(found[1, 0], [0, 0.1, 0.1, 0.9, 0.9, 1], rtol=1e-6)
    np.testing.assert_array_equal(found[:, 0, [0, 5]], [[1, 0], [0, 1]])


@given(cases(), st.floats(0.5, 4))
def test_what_boundary_and_dilation_soften_agrees_with_scipy(case, radius_mm):
    _, label, spacing = case
    by_boundary = soften_by("boundary", label, spacing=spacing, radius_mm=radius_mm)
    by_dilation = soften_by("dilation", label, spacing=spacing, radius_mm=radius_mm)
    to_class = [
        distance_transform_edt(label != k, sampling=spacing) if (label == k).any() else np.inf
        for k in range(N_CLASSES)
    ]
    to_others = [np.where(label == k, np.inf, distance) for k, distance in enumerate(to_class)]
    # A distance that equals the radius but for rounding may fall on either side.
    nearest = np.min(to_others, axis=0)
    assert (by_boundary[:, nearest < radius_mm * 0.999].max(axis=0) < 1).all()
    assert (by_boundary[:, nearest > radius_mm * 1.001].max(axis=0) == 1).all()
    for k in range(1, len(by_dilation)):
        assert (by_dilation[k][to_others[k] < radius_mm * 0.999] > 0).all()
        is_far = (to_others[k] > radius_mm * 1.001) & (label != k)
        assert (by_dilation[k][is_far] == 0).all()
    assert (by_dilation[0][label != 0] == 0).all()


def test_dilation_gives_rings_a_fixed_probability():
    label = np.array([[0, 0, 0, 1, 1]], np.uint8)
    found = soften_by("dilation", label, ring_probability=0.4, radius_mm=2.0)
    np.testing.assert_allclose(found[1, 0], [0, 0.4, 0.4, 1, 1], rtol=1e-6)


def test_rings_that_meet_share_their_probability():
    label = np.array([[1, 0, 2, 3, 3]], np.uint8)
    found = soften_by("dilation", label, ring_probability=0.4)
    expected = [
        [0, 0.6, 0, 0, 0],
        [1, 0.2, 0, 0, 0],
        [0, 0.2, 0.6, 0.4, 0],
        [0, 0, 0.4, 0.6, 1],
    ]
    np.testing.assert_allclose(found[:, 0], expected, rtol=1e-6)


def test_geodesic_mixes_one_hot_with_falling_ways():
    label = np.array([[0, 0, 0, 1, 1]], np.uint8)
    shares = np.exp([-3, -2, -1, 0, 0]) / (np.exp([-3, -2, -1, 0, 0]) + np.exp([0, 0, 0, -1, -2]))
    found = soften_by("geodesic", label, epsilon=0.3)
    np.testing.assert_allclose(found[1, 0], 0.7 * label[0] + 0.3 * shares, rtol=1e-5)
    found = soften_by("geodesic", label, spacing=(1.0, 2.0), epsilon=0.3, scale_mm=2.0)
    np.testing.assert_allclose(found[1, 0], 0.7 * label[0] + 0.3 * shares, rtol=1e-5)


def test_geodesic_softens_a_boundary_less_where_it_lies_on_an_edge():
    label = np.zeros((6, 12), np.uint8)
    label[:, 4:] = 1
    image = np.zeros((1, 6, 12), np.float32)
    on_edge, beside_edge = image.copy(), image.copy()
    on_edge[:, :, 4:], beside_edge[:, :, 8:] = 1, 1
    hard = soften_by("geodesic", label, on_edge)
    soft = soften_by("geodesic", label, beside_edge)
    assert (hard[1, :, 3] < 1e-5).all()
    assert (soft[1, :, 3] > 0.02).all()
    harder = soften_by("geodesic", label, on_edge, contrast_mm=30.0)
    np.testing.assert_array_equal(harder, one_hot(label, 2))


def test_geodesic_is_one_hot_to_the_bit_out_of_reach():
    label = np.zeros((3, 60), np.uint8)
    label[:, 30:] = 1
    found = soften_by("geodesic", label, epsilon=0.3)
    is_far = np.abs(np.arange(60) - 29.5) > 17
    np.testing.assert_array_equal(found[:, :, is_far], one_hot(label, 2)[:, :, is_far])


def test_distance_softens_the_whole_image_by_equation_1():
    label = np.array([[0, 0, 0, 1]], np.uint8)
    found = soften_by("distance", label)
    np.testing.assert_allclose(found[1, 0], [0.125, 1 / 6, 0.25, 0.75], rtol=1e-6)
    found = soften_by("distance", label, spacing=(1.0, 2.0), scale_mm=2.0)
    np.testing.assert_allclose(found[1, 0], [0.125, 1 / 6, 0.25, 0.75], rtol=1e-6)


def test_uniform_spreads_epsilon_over_all_classes():
    label = np.array([[0, 1]], np.uint8)
    found = soften_by("uniform", label, epsilon=0.2)
    np.testing.assert_allclose(found[:, 0], [[0.9, 0.1], [0.1, 0.9]], rtol=1e-6)


def test_gaussian_blurs_in_millimetres():
    label = np.zeros((1, 21), np.uint8)
    label[0, 10:] = 1
    found = soften_by("gaussian", label, spacing=(1.0, 0.5), sigma_mm=1.0)
    weights = np.exp(-(np.arange(-8, 9) ** 2) / 8)
    assert found[1, 0, 10] == pytest.approx(weights[8:].sum() / weights.sum(), abs=1e-6)
    assert found[1, 0, 12] == pytest.approx(weights[6:].sum() / weights.sum(), abs=1e-6)
    narrow = soften_by("gaussian", label, spacing=(1.0, 0.5))
    np.testing.assert_allclose(
        narrow, soften_by("gaussian", label, spacing=(1.0, 0.5), sigma_mm=0.35)
    )


@pytest.mark.parametrize("shape", [(5, 6), (4, 5, 3)])
def test_svls_is_a_convolution_written_out(shape):
    label = np.random.default_rng(0).integers(0, 3, shape).astype(np.uint8)
    found = soften_by("svls", label)
    for x in np.ndindex(shape):
        weights, expected = 0.0, np.zeros(3)
        for offset in np.ndindex((3,) * len(shape)):
            offset = np.array(offset) - 1
            if offset.any():
                neighbour = tuple(np.clip(x + offset, 0, np.array(shape) - 1))
                weight = np.exp(-(offset**2).sum() / 2)
                expected[label[neighbour]] += weight
                weights += weight
        expected /= weights
        expected[label[x]] += 1
        np.testing.assert_allclose(found[(slice(None), *x)], expected / 2, atol=1e-6)


def test_an_unknown_method_is_named_with_a_suggestion():
    with pytest.raises(ValidationError, match="did you mean 'superpixel'"):
        SofteningSettings(method="superpixels")


@pytest.mark.parametrize(
    "wrong",
    [
        {"epsilon": 1.0},
        {"sigma_mm": 0},
        {"scale_mm": -1},
        {"n_draws": 0},
        {"radius_mm": 0},
        {"ring_probability": 0.5},
        {"contrast_mm": -1},
        {"raters_by": "vote"},
    ],
)
def test_settings_check_themselves(wrong):
    with pytest.raises(ValidationError):
        SofteningSettings(**wrong)


@pytest.mark.usefixtures("unchecked_shapes")
@pytest.mark.parametrize("method", sorted(SOFTENERS))
def test_input_that_does_not_fit_together_is_refused(method):
    softening, superpixels = SofteningSettings(method=method), SuperpixelSettings()
    image, label = np.zeros((1, 4, 5), np.float32), np.full((4, 5), 3, np.uint8)
    with pytest.raises(InputError, match="class 3, but n_classes is 2"):
        soften(image, label, (1.0, 1.0), 2, softening, superpixels)
    with pytest.raises(InputError, match="resample the label"):
        soften(image, label[:, 1:], (1.0, 1.0), 4, softening, superpixels)
    with pytest.raises(InputError, match="spacing must have"):
        soften(image, label, (1.0,), 4, softening, superpixels)


@pytest.mark.usefixtures("unchecked_shapes")
@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"label": np.zeros((4, 4), np.uint8)}, "resample the label"),
        ({"spacing": (1.0, 0.0)}, "spacing must have a positive number for each of the 2"),
        ({"n_classes": 1}, "class 1, but n_classes is 1"),
        ({"rater_labels": (np.zeros((4, 4), np.uint8),)}, "rater_labels must be at least one"),
        ({"rater_labels": (np.full((4, 5), 2, np.uint8),)}, "class 2, but n_classes is 2"),
    ],
)
def test_whatever_is_known_is_checked_where_it_is_put_together(wrong, message):
    known = {
        "image": np.zeros((1, 4, 5), np.float32),
        "label": np.ones((4, 5), np.uint8),
        "spacing": (1.0, 1.0),
        "n_classes": 2,
        "softening": SofteningSettings(),
        "superpixels": SuperpixelSettings(),
    }
    assert SofteningInput(**known).n_classes == 2
    with pytest.raises(InputError, match=message):
        SofteningInput(**{**known, **wrong})


@pytest.mark.slow
@pytest.mark.parametrize("n_classes", [2, 4])
@pytest.mark.parametrize("method", sorted(SOFTENERS))
def test_softening_needs_less_than_ten_times_the_memory_of_the_image(method, n_classes):
    from_centre = np.linalg.norm(np.indices((96, 96, 96)) - 48, axis=0)
    label = np.digitize(-from_centre, [-44, -30, -15][: n_classes - 1]).astype(np.uint8)
    noise = np.random.default_rng(0).normal(size=label.shape)
    image = (label + noise)[np.newaxis].astype(np.float32)
    corner = soften_by(method, label[:9, :9, :9], image[:, :9, :9, :9])  # imports happen here
    assert corner.shape[1:] == (9, 9, 9)
    softening, superpixels = SofteningSettings(method=method), SuperpixelSettings()
    tracemalloc.start()
    try:
        soften(image, label, (1.0, 1.0, 1.0), n_classes, softening, superpixels)
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak_bytes < 10 * image.nbytes
