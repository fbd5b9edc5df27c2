"""Every softener by name: known answers, what all have in common, and their memory."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes
from pydantic import ValidationError

from sfumato.errors import InputError
from sfumato.labels.softeners import SOFTENERS, SofteningInput, SofteningSettings, soften
from sfumato.labels.softening import one_hot, soften_label
from sfumato.labels.superpixels import SuperpixelSettings, compute_superpixels

N_CLASSES = 4
KEEPS_HARD_LABEL = ["none", "superpixel", "distance", "uniform"]


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
    assert sorted(SOFTENERS) == ["distance", "gaussian", "none", "superpixel", "svls", "uniform"]


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


@pytest.mark.parametrize("wrong", [{"epsilon": 1.0}, {"sigma_mm": 0}, {"scale_mm": -1}])
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
