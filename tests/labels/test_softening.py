"""The method on arrays small enough to check by eye, then what must always hold."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from sfumato.errors import InputError
from sfumato.labels.distance import signed_distance
from sfumato.labels.softening import one_hot, soften_image_label, soften_label, uncertain_region
from sfumato.labels.superpixels import SuperpixelSettings

N_CLASSES = 6
SPACINGS = st.tuples(*[st.sampled_from([0.3, 0.7, 1.0, 2.5, 6.0])] * 3)
SCALES = st.sampled_from([None, 0.01, 0.5, 3.0, 1000.0])


@st.composite
def labels_with_superpixels(draw):
    shape = draw(array_shapes(min_dims=2, max_dims=3, max_side=8))
    label = draw(arrays(np.uint8, shape, elements=st.integers(0, N_CLASSES - 1)))
    superpixels = draw(arrays(np.int32, shape, elements=st.integers(0, 5)))
    return label, superpixels


def soften_by_definition(label, superpixels, spacing, n_classes):
    """The formulas of the paper, element by element, nothing shared with the package."""
    elements = list(np.ndindex(label.shape))
    q = np.zeros((n_classes, *label.shape))
    for k in range(n_classes):
        for x in elements:
            q[k][x] = label[x] == k
            mates = label[superpixels == superpixels[x]] == k
            if mates.any() and not mates.all():
                others = [y for y in elements if (label[y] == k) != (label[x] == k)]
                d = min(np.linalg.norm((np.subtract(x, y)) * spacing) for y in others)
                d = (d if label[x] == k else -d) / min(spacing)
                q[k][x] = 0.5 * (d / (1 + abs(d)) + 1)
    return q / q.sum(axis=0)


def test_only_superpixels_that_hold_both_sides_are_uncertain():
    mask = np.array([[0, 0, 1, 1], [0, 0, 0, 1]], bool)
    superpixels = np.array([[0, 1, 1, 2], [0, 3, 3, 2]], np.int32)
    expected = np.array([[0, 1, 1, 0], [0, 0, 0, 0]], bool)
    np.testing.assert_array_equal(uncertain_region(mask, superpixels), expected)


def test_elements_without_superpixel_are_certain():
    mask = np.array([True, False, False, True])
    superpixels = np.array([-1, -1, 0, 0], np.int32)
    np.testing.assert_array_equal(uncertain_region(mask, superpixels), [False, False, True, True])
    soft = soften_label(mask.astype(np.uint8), superpixels, (1.0,), n_classes=2)
    np.testing.assert_allclose(soft[1], [1, 0, 0.25, 0.75])


def test_nothing_gives_nothing():
    nothing = np.zeros((5, 0), np.uint8)
    soft = soften_label(nothing, nothing.astype(np.int32), (1.0, 1.0), n_classes=2)
    assert soft.shape == (2, 5, 0)
    assert signed_distance(nothing.astype(bool), (1.0, 1.0)).shape == (5, 0)


@pytest.mark.parametrize("n_classes", [0, 257])
def test_an_impossible_number_of_classes_is_refused(n_classes):
    with pytest.raises(InputError, match="n_classes must be from 1 to 256"):
        soften_label(np.zeros(2, np.uint8), np.zeros(2, np.int32), (1.0,), n_classes=n_classes)


@pytest.mark.parametrize("hole", [np.nan, np.inf])
def test_an_image_with_holes_at_the_boundary_is_refused(hole):
    image = np.random.default_rng(0).normal(size=(1, 16, 16)).astype(np.float32)
    label = np.zeros((16, 16), np.uint8)
    label[8:] = 1
    image[0, 8, 8] = hole
    with pytest.raises(InputError, match="NaN or infinity"):
        soften_image_label(image, label, (1.0, 1.0), 2, SuperpixelSettings())


def probability_at(distance):
    """Equation 1 of the paper."""
    return 0.5 * (distance / (1 + np.abs(distance)) + 1)


def test_a_soft_label_is_hard_outside_the_uncertain_region():
    label = np.array([0, 0, 0, 1, 1], np.uint8)
    superpixels = np.array([0, 1, 1, 1, 2], np.int32)
    soft = soften_label(label, superpixels, (1.0,), n_classes=2)
    np.testing.assert_allclose(soft[1], [0, 1 / 6, 0.25, 0.75, 1], rtol=1e-6)
    np.testing.assert_array_equal(soft[:, [0, 4]], [[1, 0], [0, 1]])


def test_distances_are_counted_in_smallest_spacings():
    label = np.array([[0, 1], [0, 1]], np.uint8)
    superpixels = np.zeros((2, 2), np.int32)
    for scale in (0.2, 1.0, 7.0):
        soft = soften_label(label, superpixels, (scale, scale), n_classes=2)
        np.testing.assert_allclose(soft[1], [[0.25, 0.75]] * 2, rtol=1e-6)


def test_scale_mm_is_the_distance_of_three_quarters():
    label = np.array([0, 0, 1, 1], np.uint8)
    soft = soften_label(label, np.zeros(4, np.int32), (1.0,), n_classes=2, scale_mm=2.0)
    np.testing.assert_allclose(soft[1], [0.25, 1 / 3, 2 / 3, 0.75], rtol=1e-6)


def test_three_classes_that_meet_share_the_probability():
    label = np.array([0, 1, 2], np.uint8)
    soft = soften_label(label, np.zeros(3, np.int32), (1.0,), n_classes=3)
    expected = np.array([[5 / 6, 1 / 4, 1 / 6], [1 / 4, 3 / 4, 1 / 4], [1 / 6, 1 / 4, 5 / 6]])
    expected[0, 0] = expected[2, 2] = 0.75
    np.testing.assert_allclose(soft, expected / expected.sum(axis=0), rtol=1e-6)


def test_the_nearest_boundary_may_lie_far_outside_the_uncertain_region():
    # One long superpixel crosses the boundary only at its far end; the other boundary, which its
    # near end is closest to, follows superpixel borders 20 mm away.
    label = np.ones((1, 200), np.uint8)
    label[0, :20] = label[0, 199] = 0
    superpixels = np.zeros((1, 200), np.int32)
    superpixels[0, 20:40], superpixels[0, 40:] = 1, 2
    soft = soften_label(label, superpixels, (1.0, 1.0), n_classes=2)
    distance = signed_distance(label == 1, (1.0, 1.0))
    assert distance[0, 40] == 21
    expected = probability_at(distance)
    np.testing.assert_allclose(soft[1, 0, 40:], expected[0, 40:], rtol=1e-6)


@given(labels_with_superpixels(), SPACINGS)
def test_soft_labels_agree_with_the_formulas_written_out(case, spacing):
    label, superpixels = (array[:4, :4, ...] for array in case)
    spacing = spacing[: label.ndim]
    soft = soften_label(label, superpixels, spacing, N_CLASSES)
    expected = soften_by_definition(label, superpixels, spacing, N_CLASSES)
    np.testing.assert_allclose(soft, expected, atol=1e-6)


@given(labels_with_superpixels(), SPACINGS, SCALES)
def test_soft_labels_are_probabilities_and_keep_the_hard_label(case, spacing, scale_mm):
    label, superpixels = case
    soft = soften_label(label, superpixels, spacing[: label.ndim], N_CLASSES, scale_mm)
    assert soft.dtype == np.float32
    assert soft.min() >= 0
    assert soft.max() <= 1
    np.testing.assert_allclose(soft.sum(axis=0, dtype=np.float64), 1, atol=1e-6)
    np.testing.assert_array_equal(soft.argmax(axis=0), label)
    own = np.take_along_axis(soft, label[np.newaxis].astype(int), axis=0)[0]
    second = np.sort(soft, axis=0)[-2]
    assert (own > second).all()


@given(labels_with_superpixels(), SPACINGS)
def test_a_label_along_superpixel_borders_stays_one_hot_to_the_bit(case, spacing):
    label, superpixels = case
    finer = superpixels * N_CLASSES + label.astype(np.int32)
    soft = soften_label(label, finer, spacing[: label.ndim], N_CLASSES)
    np.testing.assert_array_equal(soft, one_hot(label, N_CLASSES))


@given(labels_with_superpixels(), SPACINGS)
def test_elements_in_certain_superpixels_stay_one_hot_to_the_bit(case, spacing):
    label, superpixels = case
    soft = soften_label(label, superpixels, spacing[: label.ndim], N_CLASSES)
    regions = [uncertain_region(label == k, superpixels) for k in range(N_CLASSES)]
    is_certain = ~np.any(regions, axis=0)
    hard = one_hot(label, N_CLASSES)
    np.testing.assert_array_equal(soft[:, is_certain], hard[:, is_certain])
    assert ((soft > 0) & (soft < 1)).any(axis=0)[~is_certain].all()


@pytest.mark.parametrize("value", [0, 1])
def test_a_label_without_boundary_stays_one_hot(value):
    label = np.full((3, 4, 5), value, np.uint8)
    soft = soften_label(label, np.zeros((3, 4, 5), np.int32), (1.0, 1.0, 3.0), n_classes=2)
    np.testing.assert_array_equal(soft, one_hot(label, 2))


@given(labels_with_superpixels(), SPACINGS)
def test_mirrored_input_gives_mirrored_soft_labels(case, spacing):
    label, superpixels = case
    spacing = spacing[: label.ndim]
    soft = soften_label(label, superpixels, spacing, N_CLASSES)
    for axis in range(label.ndim):
        mirrored = soften_label(
            np.flip(label, axis), np.flip(superpixels, axis), spacing, N_CLASSES
        )
        np.testing.assert_array_equal(mirrored, np.flip(soft, axis + 1))


@given(labels_with_superpixels(), SPACINGS)
def test_transposed_input_gives_transposed_soft_labels(case, spacing):
    label, superpixels = case
    spacing = spacing[: label.ndim]
    soft = soften_label(label, superpixels, spacing, N_CLASSES)
    axes = [0, *range(label.ndim, 0, -1)]
    transposed = soften_label(label.T, superpixels.T, spacing[::-1], N_CLASSES)
    np.testing.assert_allclose(transposed, soft.transpose(axes), rtol=2e-6)


@given(labels_with_superpixels(), SPACINGS)
def test_a_class_that_does_not_occur_gets_no_probability(case, spacing):
    label, superpixels = case
    spacing = spacing[: label.ndim]
    soft = soften_label(label, superpixels, spacing, N_CLASSES + 2)
    assert (soft[N_CLASSES:] == 0).all()
    np.testing.assert_array_equal(
        soft[:N_CLASSES], soften_label(label, superpixels, spacing, N_CLASSES)
    )


@given(labels_with_superpixels())
def test_the_input_is_left_alone(case):
    label, superpixels = case
    before = label.copy(), superpixels.copy()
    soften_label(label, superpixels, (1.0, 1.0, 1.0)[: label.ndim], N_CLASSES)
    np.testing.assert_array_equal(label, before[0])
    np.testing.assert_array_equal(superpixels, before[1])


def test_a_class_beyond_the_declared_ones_is_refused():
    label = np.array([0, 3], np.uint8)
    with pytest.raises(InputError, match=r"class 3, but n_classes is 2, which allows 0 to 1"):
        soften_label(label, np.zeros(2, np.int32), (1.0,), n_classes=2)


@pytest.mark.usefixtures("unchecked_shapes")
def test_superpixels_of_another_shape_are_refused():
    with pytest.raises(InputError, match=r"superpixels have shape \(3,\), but the label \(2,\)"):
        soften_label(np.zeros(2, np.uint8), np.zeros(3, np.int32), (1.0,), n_classes=2)


@pytest.mark.parametrize("spacing", [(), (1.0, 1.0), (0.0,), (-1.0,), (np.nan,), (np.inf,)])
def test_a_spacing_without_meaning_is_refused(spacing):
    label, superpixels = np.array([0, 1], np.uint8), np.zeros(2, np.int32)
    message = r"spacing must have a positive number for each of the 1 spatial axes, got \("
    with pytest.raises(InputError, match=message):
        soften_label(label, superpixels, spacing, n_classes=2)


@pytest.mark.parametrize("scale_mm", [-1.0, 0.0, 1e-9, 1e9])
def test_a_scale_without_meaning_is_refused(scale_mm):
    label = np.array([0, 1], np.uint8)
    with pytest.raises(InputError, match="scale_mm must be within"):
        soften_label(label, np.zeros(2, np.int32), (1.0,), n_classes=2, scale_mm=scale_mm)
