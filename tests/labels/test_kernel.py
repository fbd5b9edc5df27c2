"""The compiled core against the same definition in plain NumPy, and against itself."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter
from tests.labels import reference

from sfumato import SuperpixelSettings, compute_superpixels, soften_image_label, soften_label
from sfumato._kernel import native

SHAPES = st.one_of(
    st.tuples(st.just(1), st.integers(1, 30), st.integers(1, 30)),
    st.tuples(*[st.integers(1, 12)] * 3),
)


@st.composite
def problems(draw):
    """Draw an image, a label and how superpixels are made, for the core and for the reference."""
    shape = draw(SHAPES)
    n_channels, n_classes = draw(st.integers(1, 5)), draw(st.integers(2, 5))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    smoothness = [0, *[draw(st.sampled_from([0.0, 0.5, 2.0]))] * 3]
    image = gaussian_filter(rng.random((n_channels, *shape)), smoothness).astype(np.float32)
    label = gaussian_filter(rng.random(shape), draw(st.sampled_from([0.5, 1.5, 3.0])))
    low = image.reshape(n_channels, -1).min(axis=1)
    gain = (4095 / np.maximum(image.reshape(n_channels, -1).max(axis=1) - low, 1e-6)).astype(
        np.float32
    )
    return {
        "image": image,
        "label": ((label * 30).astype(int) % n_classes).astype(np.uint8),
        "n_classes": n_classes,
        "spacing": tuple(draw(st.sampled_from([0.5, 1.0, 1.75, 4.0])) for _ in range(3)),
        "definition": reference.Definition(
            low=low.tolist(),
            gain=gain.tolist(),
            n_cells=[int(rng.integers(1, 2 + n // 3)) for n in shape],
            weights=rng.uniform(1, 200, 3).astype(np.float32).tolist(),
            n_iterations=draw(st.integers(1, 10)),
        ),
        "n_threads": draw(st.integers(1, 3)),
    }


def core_settings(definition):
    return native.Superpixels(**vars(definition))


@settings(max_examples=300)
@given(problems(), st.booleans(), st.booleans())
def test_superpixels_are_those_of_the_definition_to_the_bit(problem, has_holes, is_shifted):
    shape = problem["image"].shape[1:]
    rng = np.random.default_rng(0)
    where = rng.random(shape) < 0.8 if has_holes else None
    definition = problem["definition"]
    if is_shifted:
        shifts = rng.uniform(-1, 1, (np.prod(definition.n_cells), 3)).astype(np.float32)
        definition = replace(definition, shifts=shifts)
    found = np.full(shape, -1, np.int32)
    n = native.compute_superpixels(
        problem["image"],
        core_settings(definition),
        None if where is None else where.view(np.uint8),
        found,
        problem["n_threads"],
    )
    expected = reference.superpixels_of(problem["image"], definition, where)
    np.testing.assert_array_equal(found, expected)
    assert n == expected.max() + 1


@settings(max_examples=200)
@given(problems(), st.sampled_from([0.3, 1.0, 20.0]))
def test_one_pass_gives_the_soft_label_of_the_definition(problem, scale_mm):
    label, n_classes = problem["label"], problem["n_classes"]
    found = np.zeros((n_classes, *label.shape), np.float32)
    native.soften_image_label(
        problem["image"],
        core_settings(problem["definition"]),
        label,
        problem["spacing"],
        scale_mm,
        found,
        problem["n_threads"],
    )
    superpixels = reference.superpixels_near_boundary(
        problem["image"], label, problem["definition"]
    )
    expected = reference.soften(label, superpixels, problem["spacing"], n_classes, scale_mm)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    hard = np.stack([label == k for k in range(n_classes)])
    np.testing.assert_array_equal(found != hard, expected != hard)


@pytest.mark.parametrize("n_superpixels", [1, 3, 40])
@given(problems())
def test_given_superpixels_are_softened_however_large_they_are(n_superpixels, problem):
    label, n_classes = problem["label"], problem["n_classes"]
    rng = np.random.default_rng(0)
    superpixels = np.sort(rng.integers(n_superpixels, size=label.size).astype(np.int32))
    superpixels = superpixels.reshape(label.shape)
    found = np.zeros((n_classes, *label.shape), np.float32)
    native.soften_label(
        label, superpixels, n_superpixels, problem["spacing"], 1.0, found, problem["n_threads"]
    )
    expected = reference.soften(label, superpixels, problem["spacing"], n_classes, 1.0)
    np.testing.assert_allclose(found, expected, atol=1e-6)


def large_problem():
    rng = np.random.default_rng(0)
    shape = (40, 90, 70)
    image = gaussian_filter(rng.normal(size=(2, *shape)), (0, 3, 3, 3)).astype(np.float32)
    label = (image[0] > 0).astype(np.uint8) + (image[0] > 0.05)
    return image / image.std(), label


@pytest.mark.parametrize("n_threads", [2, 3, 7])
def test_the_number_of_threads_changes_nothing(n_threads):
    image, label = large_problem()
    settings = SuperpixelSettings(size_mm=5)
    spacing = (2.0, 1.0, 1.0)
    np.testing.assert_array_equal(
        compute_superpixels(image, spacing, settings, n_threads=n_threads),
        compute_superpixels(image, spacing, settings),
    )
    np.testing.assert_array_equal(
        soften_image_label(image, label, spacing, 3, settings, n_threads=n_threads),
        soften_image_label(image, label, spacing, 3, settings),
    )


@pytest.mark.parametrize("instructions", ["baseline", "avx2"])
def test_slower_processors_compute_the_same_bits(instructions, monkeypatch):
    image, label = large_problem()
    settings = SuperpixelSettings(size_mm=5)
    fastest = soften_image_label(image, label, (2.0, 1.0, 1.0), 3, settings)
    monkeypatch.setenv("SFUMATO_INSTRUCTIONS", instructions)
    slower = soften_image_label(image, label, (2.0, 1.0, 1.0), 3, settings)
    np.testing.assert_array_equal(fastest, slower)


@pytest.mark.parametrize("instructions", ["baseline", "avx2"])
@pytest.mark.parametrize("n_channels", [1, 3, 6])
def test_slower_processors_give_the_same_superpixels(instructions, n_channels, monkeypatch):
    rng = np.random.default_rng(0)
    image = gaussian_filter(rng.normal(size=(n_channels, 90, 130)), (0, 2, 2)).astype(np.float32)
    fastest = compute_superpixels(image, (1.0, 1.0), SuperpixelSettings())
    monkeypatch.setenv("SFUMATO_INSTRUCTIONS", instructions)
    slower = compute_superpixels(image, (1.0, 1.0), SuperpixelSettings())
    np.testing.assert_array_equal(fastest, slower)


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("low", [0.0, 0.0]),
        ("gain", []),
        ("n_cells", [1, 5, 1]),
        ("shifts", np.zeros((3, 3), "f4")),
        ("is_photo", True),
    ],
)
def test_the_core_refuses_settings_that_do_not_fit(name, wrong):
    right = {"low": [0.0], "gain": [1.0], "n_cells": [1, 2, 2], "weights": [1.0] * 3}
    right |= {"n_iterations": 1, "shifts": None, "is_photo": False}
    settings = native.Superpixels(**{**right, name: wrong})
    superpixels = np.zeros((1, 4, 4), np.int32)
    with pytest.raises(ValueError, match="must"):
        native.compute_superpixels(
            np.zeros((1, 1, 4, 4), np.float32), settings, None, superpixels, 1
        )


def test_the_band_changes_few_soft_elements():
    image, label = large_problem()
    settings = SuperpixelSettings(size_mm=5)
    spacing = (2.0, 1.0, 1.0)
    band = soften_image_label(image, label, spacing, 3, settings)
    whole = soften_label(label, compute_superpixels(image, spacing, settings), spacing, 3)
    is_soft = (whole.max(axis=0) < 1) | (band.max(axis=0) < 1)
    assert (np.abs(band - whole).max(axis=0)[is_soft] > 1e-6).mean() <= 0.002
