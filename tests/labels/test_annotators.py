"""Several people's labels made one: their mean, STAPLE, and `raters` with superpixels."""

import numpy as np
import pytest
import SimpleITK
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes

from sfumato.errors import InputError
from sfumato.labels.annotators import raters_mean, staple
from sfumato.labels.softeners import SofteningSettings, soften
from sfumato.labels.softening import one_hot
from sfumato.labels.superpixels import SuperpixelSettings

N_CLASSES = 3
COMBINATIONS = [raters_mean, staple]
each_combination = pytest.mark.parametrize("combine", COMBINATIONS)


def discs(shifts, shape=(40, 40), error=0.02, seed=0):
    """Draw the same disc for several raters, shifted and with scattered errors."""
    rng = np.random.default_rng(seed)
    row, column = np.indices(shape)
    labels = []
    for shift in shifts:
        disc = (row - 20) ** 2 + (column - 18 - shift) ** 2 < 100
        labels.append((disc ^ (rng.random(shape) < error)).astype(np.uint8))
    return tuple(labels)


@st.composite
def raters(draw):
    shape = draw(array_shapes(min_dims=2, max_dims=3, max_side=7))
    rng = np.random.default_rng(draw(st.integers(0, 999)))
    truth = rng.integers(0, N_CLASSES, shape).astype(np.uint8)
    labels = []
    for error in draw(st.lists(st.sampled_from([0.0, 0.1, 0.5]), min_size=1, max_size=4)):
        wrong = rng.integers(0, N_CLASSES, shape).astype(np.uint8)
        labels.append(np.where(rng.random(shape) < error, wrong, truth))
    return tuple(labels)


def soften_by_raters(labels, **numbers):
    image = labels[0][None] + np.random.default_rng(1).normal(0, 0.5, (1, *labels[0].shape))
    image, spacing = image.astype(np.float32), (2.0, 1.0, 1.0)[3 - labels[0].ndim :]
    settings = SofteningSettings(method="raters", **numbers)
    superpixels = SuperpixelSettings(size_mm=4)
    return (
        soften(image, labels[0], spacing, N_CLASSES, settings, superpixels, rater_labels=labels),
        soften(image, labels[0], spacing, N_CLASSES, SofteningSettings(), superpixels),
    )


@given(raters(), st.sampled_from(["mean", "staple"]), st.booleans())
def test_raters_give_probabilities(labels, raters_by, raters_with_superpixels):
    before = [label.copy() for label in labels]
    soft, _ = soften_by_raters(
        labels, raters_by=raters_by, raters_with_superpixels=raters_with_superpixels
    )
    assert soft.shape == (N_CLASSES, *labels[0].shape)
    assert soft.dtype == np.float32
    assert soft.min() >= 0
    assert soft.max() <= 1
    np.testing.assert_allclose(soft.sum(axis=0, dtype=np.float64), 1, atol=1e-6)
    for label, unchanged in zip(labels, before, strict=True):
        np.testing.assert_array_equal(label, unchanged)


@pytest.mark.parametrize("raters_by", ["mean", "staple"])
@pytest.mark.parametrize("with_superpixels", [False, True])
def test_a_single_rater_is_believed_to_the_bit(raters_by, with_superpixels):
    (label,) = discs([0])
    numbers = {"raters_by": raters_by, "raters_with_superpixels": with_superpixels}
    alone, _ = soften_by_raters((label,), **numbers)
    np.testing.assert_array_equal(alone, one_hot(label, N_CLASSES))
    settings = SofteningSettings(method="raters", **numbers)
    image = np.random.default_rng(0).normal(size=(1, *label.shape)).astype(np.float32)
    unnamed = soften(image, label, (1.0, 1.0), N_CLASSES, settings, SuperpixelSettings())
    np.testing.assert_array_equal(unnamed, one_hot(label, N_CLASSES))


@each_combination
@pytest.mark.parametrize("value", [0, 2])
def test_raters_who_draw_no_boundary_leave_the_label_one_hot(combine, value):
    label = np.full((5, 4, 3), value, np.uint8)
    np.testing.assert_array_equal(combine([label] * 3, N_CLASSES), one_hot(label, N_CLASSES))


def test_the_mean_is_the_share_of_raters():
    labels = [np.array([[0, 1, 2]], np.uint8), np.array([[0, 1, 1]], np.uint8),
              np.array([[0, 0, 1]], np.uint8), np.array([[0, 1, 0]], np.uint8)]  # fmt: skip
    expected = [[1, 0.25, 0.25], [0, 0.75, 0.5], [0, 0, 0.25]]
    np.testing.assert_allclose(raters_mean(labels, N_CLASSES)[:, 0], expected, rtol=1e-6)


@pytest.mark.parametrize("n_raters", [3, 5, 7])
def test_staple_of_two_classes_agrees_with_simple_itk(n_raters):
    labels = discs(range(n_raters), error=0.05)
    reference = SimpleITK.STAPLEImageFilter()
    reference.SetForegroundValue(1)
    images = [SimpleITK.GetImageFromArray(label.astype(np.int16)) for label in labels]
    expected = SimpleITK.GetArrayFromImage(reference.Execute(images))
    found = staple(labels, 2)
    np.testing.assert_allclose(found[1], expected, atol=1e-5)
    assert ((found[1] > 0.01) & (found[1] < 0.99)).any()


@pytest.mark.parametrize("n_raters", [2, 4])
def test_staple_is_expectation_maximisation_written_out(n_raters):
    labels = discs(range(n_raters), error=0.05)
    drawn = np.stack(labels).reshape(n_raters, -1).astype(bool)
    prior = drawn.mean()
    sensitivity, specificity = np.full((2, n_raters, 1), 0.99999)
    for _ in range(300):
        inside = prior * np.where(drawn, sensitivity, 1 - sensitivity).prod(axis=0)
        outside = (1 - prior) * np.where(drawn, 1 - specificity, specificity).prod(axis=0)
        belief = inside / (inside + outside)
        sensitivity = (belief * drawn).sum(axis=1, keepdims=True) / belief.sum()
        specificity = ((1 - belief) * ~drawn).sum(axis=1, keepdims=True) / (1 - belief).sum()
    np.testing.assert_allclose(staple(labels, 2)[1].ravel(), belief, atol=1e-6)


def test_staple_finds_who_is_reliable():
    rng = np.random.default_rng(0)
    truth = rng.integers(0, N_CLASSES, (30, 30, 10)).astype(np.uint8)
    labels = []
    for error in (0.02, 0.02, 0.6, 0.6, 0.6):
        wrong = rng.integers(0, N_CLASSES, truth.shape).astype(np.uint8)
        labels.append(np.where(rng.random(truth.shape) < error, wrong, truth))
    weighed = np.mean(staple(labels, N_CLASSES).argmax(axis=0) == truth)
    voted = np.mean(raters_mean(labels, N_CLASSES).argmax(axis=0) == truth)
    assert weighed > 0.98 > voted


def test_staple_learns_that_a_rater_confuses_two_classes():
    rng = np.random.default_rng(0)
    truth = rng.integers(0, N_CLASSES, (60, 60)).astype(np.uint8)
    swapped = np.array([0, 2, 1], np.uint8)[truth]
    good = [np.where(rng.random(truth.shape) < 0.05, 0, truth).astype(np.uint8) for _ in range(3)]
    found = staple([*good, swapped], N_CLASSES)
    np.testing.assert_array_equal(found.argmax(axis=0), truth)


def test_a_class_that_nobody_drew_is_impossible():
    labels = [np.array([[0, 0, 2, 2]], np.uint8), np.array([[0, 2, 2, 2]], np.uint8)]
    for combine in COMBINATIONS:
        assert (combine(labels, N_CLASSES)[1] == 0).all()


@each_combination
def test_the_order_of_raters_does_not_matter(combine):
    labels = discs([0, 2, 4])
    turned = combine(labels[::-1], 2)
    np.testing.assert_allclose(combine(labels, 2), turned, atol=1e-6)


@pytest.mark.parametrize("raters_by", ["mean", "staple"])
def test_with_superpixels_raters_decide_in_uncertain_superpixels_only(raters_by):
    labels = discs([0, 1, 2], error=0.02)
    numbers = {"raters_by": raters_by}
    alone, by_superpixels = soften_by_raters(labels, **numbers)
    both, _ = soften_by_raters(labels, raters_with_superpixels=True, **numbers)
    product = alone * by_superpixels
    np.testing.assert_allclose(both, product / product.sum(axis=0), atol=1e-6)
    is_certain = by_superpixels.max(axis=0) == 1
    assert 0.1 < is_certain.mean() < 1
    hard = one_hot(labels[0], N_CLASSES)
    np.testing.assert_array_equal(both[:, is_certain], hard[:, is_certain])
    assert (both.max(axis=0) < 1).any()
    assert np.abs(both - by_superpixels).max() > 0.1


def test_where_raters_rule_everything_out_superpixels_have_the_last_word():
    label, other = np.zeros((12, 12), np.uint8), np.ones((12, 12), np.uint8)
    label[:, 6:] = 1
    image = np.random.default_rng(0).normal(size=(1, 12, 12)).astype(np.float32)
    settings = SofteningSettings(method="raters", raters_with_superpixels=True)
    superpixels = SuperpixelSettings(size_mm=4)
    soft = soften(image, label, (1.0, 1.0), 2, settings, superpixels, rater_labels=(other, other))
    np.testing.assert_array_equal(soft[:, :, 0], one_hot(label, 2)[:, :, 0])
    np.testing.assert_allclose(soft.sum(axis=0), 1, atol=1e-6)


@each_combination
@pytest.mark.usefixtures("unchecked_shapes")
def test_labels_that_do_not_belong_together_are_refused(combine):
    label = np.zeros((4, 5), np.uint8)
    with pytest.raises(InputError, match=r"at least one label, and all of one shape, got none"):
        combine([], 2)
    with pytest.raises(InputError, match=r"got \(4, 4\) and \(4, 5\); resample"):
        combine([label, label[:, 1:]], 2)
    with pytest.raises(InputError, match="class 2, but n_classes is 2"):
        combine([label, label + 2], 2)


def test_the_raters_of_a_real_image_are_weighed(shared_data):
    from sfumato.cases.dataset import Dataset

    data = Dataset.open(shared_data("bubil_phase_contrast"))
    record = max(data.records, key=lambda record: len(record.label_paths))
    case = data.load(record.id)
    assert len(case.rater_labels) > 1
    n_classes = max(int(label.max()) for label in case.rater_labels) + 1
    soft = staple(case.rater_labels, n_classes)
    np.testing.assert_allclose(soft.sum(axis=0), 1, atol=1e-6)
    assert 0 < np.mean((soft[1] > 0.05) & (soft[1] < 0.95)) < 0.5
