"""Labels spoilt on purpose: how far boundaries move, and that nothing else happens."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes
from scipy.ndimage import distance_transform_edt

from sfumato.errors import InputError
from sfumato.labels.noise import KINDS, LabelNoise, noise_rng, spoil_label, vanished_classes


def spoil(label, spacing, text, seed=0):
    return spoil_label(np.asarray(label, np.uint8), spacing, LabelNoise.parse(text), rng_of(seed))


def rng_of(seed):
    return noise_rng("a case", seed)


@st.composite
def labels(draw):
    shape = draw(array_shapes(min_dims=2, max_dims=3, min_side=2, max_side=9))
    rng = np.random.default_rng(draw(st.integers(0, 999)))
    spacing = tuple(draw(st.sampled_from([0.5, 1.0, 2.5])) for _ in shape)
    return rng.integers(0, 3, shape).astype(np.uint8), spacing


def test_erosion_takes_what_lies_within_the_size_of_the_background():
    label = np.zeros((5, 9), np.uint8)
    label[1:4, 1:8] = 1
    label[2, 5:8] = 2
    by_1 = np.zeros((5, 9), np.uint8)
    by_1[2, 2:7] = [1, 1, 1, 2, 2]
    np.testing.assert_array_equal(spoil(label, (1.0, 1.0), "erode:1mm"), by_1)
    assert not spoil(label, (1.0, 1.0), "erode:2mm").any()
    # Rows lie 3 mm apart and columns 1 mm, so only columns are reached.
    np.testing.assert_array_equal(
        spoil(label, (3.0, 1.0), "erode:2mm"), np.where([0, 0, 0, 1, 1, 1, 0, 0, 0], label, 0)
    )


def test_dilation_gives_background_to_the_nearest_class_and_leaves_the_foreground():
    label = [0, 0, 1, 0, 0, 0, 0, 2, 1, 0, 0, 0]
    assert spoil(label, (1.0,), "dilate:2mm").tolist() == [1, 1, 1, 1, 1, 2, 2, 2, 1, 1, 1, 0]
    # Equally near: the first class.
    assert spoil([2, 0, 1], (1.0,), "dilate:1mm").tolist() == [2, 1, 1]


def test_spacing_counts_and_sizes_below_it_change_nothing():
    label = np.zeros((5, 5), np.uint8)
    label[2, 2] = 1
    grown = spoil(label, (2.0, 1.0), "dilate:1mm")
    assert np.argwhere(grown).tolist() == [[2, 1], [2, 2], [2, 3]]
    assert spoil(label, (2.0, 2.0), "dilate:1mm").tolist() == label.tolist()
    assert spoil(label, (2.0, 2.0), "erode:1.9mm").tolist() == label.tolist()


@given(labels(), st.sampled_from([0.5, 1.0, 2.0, 2.5, 4.0]))
def test_the_boundary_moves_by_exactly_the_size(known, size_mm):
    label, spacing = known
    eroded = spoil(label, spacing, f"erode:{size_mm}mm")
    dilated = spoil(label, spacing, f"dilate:{size_mm}mm")
    if (label > 0).all() or (label == 0).all():
        assert (eroded == label).all()
        assert (dilated == label).all()
        return
    outwards = distance_transform_edt(label == 0, sampling=spacing)
    inwards = distance_transform_edt(label > 0, sampling=spacing)
    np.testing.assert_array_equal(eroded > 0, inwards > size_mm)
    np.testing.assert_array_equal(dilated > 0, outwards <= size_mm)
    np.testing.assert_array_equal(eroded[eroded > 0], label[eroded > 0])
    np.testing.assert_array_equal(dilated[label > 0], label[label > 0])


@given(labels(), st.sampled_from(KINDS))
def test_nothing_is_made_up_and_the_given_label_stays_as_it_was(known, kind):
    label, spacing = known
    before = label.copy()
    spoilt = spoil(label, spacing, f"{kind}:2mm")
    assert spoilt.dtype == np.uint8
    assert set(np.unique(spoilt)) <= {0, *np.unique(label)}
    np.testing.assert_array_equal(label, before)
    assert not np.shares_memory(label, spoilt)
    np.testing.assert_array_equal(spoil(label, spacing, f"{kind}:2mm"), spoilt)


@pytest.mark.parametrize("spacing", [(1.0, 1.0), (0.5, 2.0), (1.0, 1.0, 1.0)])
def test_a_shift_moves_the_whole_label_by_its_length(spacing):
    label = np.zeros((41,) * len(spacing), np.uint8)
    label[(slice(16, 25),) * len(spacing)] = 1
    directions = []
    for seed in range(20):
        moved = np.argwhere(spoil(label, spacing, "shift:6mm", seed)).mean(axis=0) - 20
        off_by_mm = np.linalg.norm(spacing) / 2  # to the nearest element
        assert np.linalg.norm(moved * spacing) == pytest.approx(6, abs=off_by_mm)
        assert (spoil(label, spacing, "shift:6mm", seed) > 0).sum() == (label > 0).sum()
        directions.append(moved)
    assert len(np.unique(directions, axis=0)) > 10


def test_a_shift_repeats_the_edge():
    moved = {tuple(spoil([2, 2, 0, 0, 1], (1.0,), "shift:1mm", seed)) for seed in range(20)}
    assert moved == {(2, 2, 2, 0, 0), (2, 0, 0, 1, 1)}


@pytest.mark.parametrize("spacing", [(1.0, 1.0), (0.5, 1.5)])
def test_a_jitter_displaces_boundaries_by_its_standard_deviation(spacing):
    label = np.zeros((120, 80), np.uint8)
    label[:, 40:] = 1
    found = []
    for seed in range(150):
        spoilt = spoil(label, spacing, "jitter:3mm", seed)
        found.append((40 - (spoilt > 0).sum(axis=1)) * spacing[1])
    assert np.std(found) == pytest.approx(3, rel=0.1)
    assert np.mean(found) == pytest.approx(0, abs=0.5)


def test_a_jitter_is_smooth():
    label = np.zeros((200, 200), np.uint8)
    label[:, 100:] = 1
    crossing = 100 - (spoil(label, (1.0, 1.0), "jitter:2mm") > 0).sum(axis=1)
    assert np.abs(np.diff(crossing)).max() <= 3
    assert len(np.unique(crossing)) > 4


def test_cases_seeds_and_raters_are_spoilt_independently():
    draws = [
        noise_rng(case, seed, rater).integers(2**60)
        for case in ("a", "b")
        for seed in (0, 1)
        for rater in (0, 1)
    ]
    assert len(set(draws)) == 8
    assert noise_rng("a", 0).integers(2**60) == draws[0]


def test_a_class_that_vanished_is_named():
    label = np.array([0, 0, 1, 0, 2, 2, 2, 2, 2], np.uint8)
    assert vanished_classes(label, spoil(label, (1.0,), "erode:1mm")) == [1]
    assert vanished_classes(label, label) == []


def test_empty_and_full_labels_stay():
    for value in (0, 1):
        label = np.full((4, 4), value, np.uint8)
        for kind in KINDS:
            assert (spoil(label, (1.0, 1.0), f"{kind}:2mm") == value).all()
    assert spoil(np.zeros((0, 3)), (1.0, 1.0), "jitter:1mm").shape == (0, 3)


def test_a_noise_is_written_as_it_is_read():
    assert str(LabelNoise.parse("jitter:2")) == "jitter:2mm"
    assert str(LabelNoise.parse("erode:.50mm")) == "erode:0.5mm"
    assert math.isclose(LabelNoise.parse("shift:12.5mm").size_mm, 12.5)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("erod:1mm", "did you mean 'erode'"),
        ("erode", "needs its size in mm, above 0, such as erode:1mm"),
        ("erode:0mm", "above 0"),
        ("erode:-1mm", "above 0"),
        ("erode:1cm", "above 0"),
    ],
)
def test_an_impossible_noise_is_refused(text, words):
    with pytest.raises(InputError, match=words):
        LabelNoise.parse(text)
