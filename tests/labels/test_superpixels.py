"""Superpixels: connected, the right size in millimetres, and fair to every channel."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes
from pydantic import ValidationError
from scipy import ndimage

from sfumato.errors import InputError
from sfumato.labels.softening import soften_image_label, soften_label
from sfumato.labels.superpixels import (
    N_LEVELS,
    SuperpixelSettings,
    compute_superpixels,
    default_size_mm,
    jitter_size,
    scale_to_levels,
    seed,
)


@st.composite
def images_with_spacing(draw):
    shape = draw(array_shapes(min_dims=2, max_dims=3, max_side=14))
    n_channels = draw(st.integers(1, 3))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    image = rng.normal(size=(n_channels, *shape)).astype(np.float32)
    smoothness = draw(st.sampled_from([0, 1]))
    image = ndimage.gaussian_filter(image, (0, *[smoothness] * len(shape)))
    spacing = draw(st.tuples(*[st.sampled_from([0.4, 1.0, 1.4, 3.0])] * len(shape)))
    return image, spacing


def noisy_image(shape, n_channels=1, seed=0):
    """Whole numbers, so that multiplying by 1000 is exact."""
    rng = np.random.default_rng(seed)
    smooth = ndimage.gaussian_filter(rng.normal(size=(n_channels, *shape)), (0, *[2] * len(shape)))
    return np.round(500 * smooth / smooth.std()).astype(np.float32)


def n_pieces(superpixels):
    """Count connected pieces (through faces) of all superpixels together."""
    boxes = ndimage.find_objects(superpixels + 1)
    return sum(ndimage.label(superpixels[box] == i)[1] for i, box in enumerate(boxes))


def median_extent_mm(superpixels, spacing):
    boxes = ndimage.find_objects(superpixels + 1)
    counts = np.median([[along.stop - along.start for along in box] for box in boxes], axis=0)
    return counts * spacing


def test_superpixels_follow_the_edges_of_an_image():
    image = np.zeros((1, 4, 8), np.float32)
    image[:, :, 3:] = 1
    superpixels = compute_superpixels(image, (1.0, 1.0), SuperpixelSettings(size_mm=4))
    expected = np.array([[0, 0, 0, 1, 1, 1, 1, 1]] * 4, np.int32)
    np.testing.assert_array_equal(superpixels, expected)


def test_an_image_without_contrast_gives_a_grid():
    image = np.full((1, 9, 15), 7, np.float32)
    superpixels = compute_superpixels(image, (1.0, 1.0), SuperpixelSettings(size_mm=3))
    expected = np.arange(15, dtype=np.int32).reshape(3, 5).repeat(3, axis=0).repeat(3, axis=1)
    np.testing.assert_array_equal(superpixels, expected)
    assert not seed(image, (1.0, 1.0), SuperpixelSettings()).has_contrast


@settings(deadline=None)
@given(images_with_spacing(), st.sampled_from([None, 0.2, 1.5, 4.0, 9.0, 1000.0]))
def test_every_superpixel_is_connected_and_numbered_without_gaps(case, size_mm):
    image, spacing = case
    superpixels = compute_superpixels(image, spacing, SuperpixelSettings(size_mm=size_mm))
    assert superpixels.dtype == np.int32
    assert superpixels.shape == image.shape[1:]
    n_superpixels = int(superpixels.max()) + 1
    np.testing.assert_array_equal(np.unique(superpixels), np.arange(n_superpixels))
    assert n_pieces(superpixels) == n_superpixels


@pytest.mark.parametrize(
    ("shape", "spacing"),
    [((40, 44, 36), (1.0, 1.0, 1.0)), ((12, 60, 60), (3.0, 0.8, 0.8)), ((90, 110), (0.3, 0.3))],
)
def test_superpixels_of_noise_are_connected_too(shape, spacing):
    image = np.random.default_rng(0).normal(size=(2, *shape)).astype(np.float32)
    superpixels = compute_superpixels(image, spacing, SuperpixelSettings(compactness=0.01))
    assert n_pieces(superpixels) == superpixels.max() + 1


@pytest.mark.parametrize("shape", [(1, 1), (3, 2), (1, 9), (1, 1, 1), (2, 1, 3), (1, 20, 20)])
@pytest.mark.parametrize("size_mm", [0.01, 1.0, 2.0, 100.0])
def test_tiny_images_and_extreme_sizes_work(shape, size_mm):
    image = np.arange(np.prod(shape), dtype=np.float32).reshape(1, *shape)
    spacing = (1.0,) * len(shape)
    superpixels = compute_superpixels(image, spacing, SuperpixelSettings(size_mm=size_mm))
    expected = {0.01: np.prod(shape), 1.0: np.prod(shape), 100.0: 1}.get(size_mm)
    assert expected in (None, superpixels.max() + 1)
    assert n_pieces(superpixels) == superpixels.max() + 1


def test_the_same_input_gives_the_same_superpixels():
    image = noisy_image((20, 24, 22))
    first, second = (
        compute_superpixels(image, (1.0, 1.0, 1.0), SuperpixelSettings()) for _ in range(2)
    )
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize(
    ("shape", "spacing"),
    [
        ((40, 40, 40), (1.0, 1.0, 1.0)),
        ((40, 40, 40), (1.3, 1.0, 1.0)),
        ((20, 80, 80), (3.0, 0.8, 0.8)),
        ((80, 80, 20), (0.8, 0.8, 3.0)),
        ((120, 40, 40), (0.3, 1.0, 1.0)),
        ((30, 60, 100), (2.0, 1.0, 0.5)),
        ((80, 80), (0.5, 0.5)),
        ((80, 160), (1.0, 0.5)),
    ],
)
@pytest.mark.parametrize("size", [1.0, 1.6])
def test_superpixels_have_the_size_in_millimetres_along_every_axis(shape, spacing, size):
    image = np.zeros((1, *shape), np.float32)
    size_mm = size * default_size_mm(spacing)
    superpixels = compute_superpixels(image, spacing, SuperpixelSettings(size_mm=size_mm))
    extent_mm = median_extent_mm(superpixels, spacing)
    assert (np.abs(extent_mm - size_mm) <= np.maximum(0.3 * size_mm, spacing)).all()
    # Seeds stand a whole number of elements apart, so the mean is only nearly the size.
    volume_mm = np.prod(shape) * np.prod(spacing) / (superpixels.max() + 1)
    assert volume_mm ** (1 / len(shape)) == pytest.approx(size_mm, rel=0.12)


def test_slices_thicker_than_a_superpixel_have_superpixels_of_their_own():
    image = noisy_image((5, 40, 40))
    superpixels = compute_superpixels(image, (8.0, 1.0, 1.0), SuperpixelSettings(size_mm=5))
    assert (median_extent_mm(superpixels, (8.0, 1.0, 1.0))[0]) == 8
    n_in_slice = [len(np.unique(one)) for one in superpixels]
    assert sum(n_in_slice) < 1.1 * (superpixels.max() + 1)
    assert np.mean(n_in_slice) == pytest.approx(64, rel=0.2)


def test_a_thick_slice_keeps_the_intensity_scale_of_the_whole_image():
    bright = noisy_image((1, 40, 40))
    image = np.concatenate([bright, 0.02 * bright], axis=1)
    settings = SuperpixelSettings(size_mm=5)
    spacing = (8.0, 1.0, 1.0)
    first, faint = compute_superpixels(image, spacing, settings)
    grid, _ = compute_superpixels(np.zeros_like(image), spacing, settings)
    assert share_of_borders(grid, faint) > 0.8
    assert share_of_borders(grid, first) < 0.8


def share_of_borders(a, b):
    """Return how many of the faces on a superpixel's border in `b` are on one in `a`."""
    borders_a, borders_b = (np.diff(superpixels) != 0 for superpixels in (a, b))
    return (borders_a & borders_b).sum() / borders_b.sum()


def test_noise_does_not_melt_superpixels_together():
    image = np.random.default_rng(0).normal(size=(1, 40, 40, 40)).astype(np.float32)
    superpixels = compute_superpixels(image, (1.0, 1.0, 1.0), SuperpixelSettings(size_mm=4))
    sizes = np.bincount(superpixels.ravel())
    assert 64 / 2 < np.median(sizes) < 2 * 64
    assert sizes.max() < 500


@pytest.mark.parametrize("scale", [2.0**-10, 1000.0, -1000.0])
def test_no_channel_outweighs_another_by_its_scale(scale):
    image = noisy_image((24, 26, 20), n_channels=2)
    rescaled = image.copy()
    rescaled[1] = rescaled[1] * np.float32(abs(scale)) + np.float32(0 if scale > 0 else 64000)
    settings = SuperpixelSettings()
    np.testing.assert_array_equal(
        compute_superpixels(rescaled, (1.0, 1.0, 1.0), settings),
        compute_superpixels(image, (1.0, 1.0, 1.0), settings),
    )


def test_a_constant_channel_changes_nothing():
    image = noisy_image((30, 30))
    padded = np.concatenate([image, np.full_like(image, 9)])
    np.testing.assert_array_equal(
        compute_superpixels(padded, (1.0, 1.0), SuperpixelSettings()),
        compute_superpixels(image, (1.0, 1.0), SuperpixelSettings()),
    )


def test_outliers_do_not_hide_the_rest_of_an_image():
    image = noisy_image((60, 60))
    with_outlier = image.copy()
    with_outlier.flat[image.argmax()] = 1e7
    np.testing.assert_array_equal(
        compute_superpixels(with_outlier, (1.0, 1.0), SuperpixelSettings()),
        compute_superpixels(image, (1.0, 1.0), SuperpixelSettings()),
    )


def test_contrast_in_very_few_elements_counts():
    image = np.zeros((1, 60, 60), np.float32)
    image[0, 10:13, 10:13] = 1
    superpixels = compute_superpixels(image, (1.0, 1.0), SuperpixelSettings())
    assert seed(image, (1.0, 1.0), SuperpixelSettings()).has_contrast
    assert len(np.unique(superpixels[10:13, 10:13])) == 1
    # The bright spot moved the borders of the grid.
    assert (superpixels != compute_superpixels(image * 0, (1.0, 1.0), SuperpixelSettings())).any()


def test_millimetres_only_matter_relative_to_the_size():
    image = noisy_image((20, 30, 30))
    near = compute_superpixels(image, (1.0, 1.0, 1.0), SuperpixelSettings(size_mm=5))
    far = compute_superpixels(image, (0.25, 0.25, 0.25), SuperpixelSettings(size_mm=1.25))
    np.testing.assert_array_equal(near, far)


def test_three_channels_are_a_photo_only_if_said_so():
    image = np.clip(noisy_image((40, 40), n_channels=3) / 10 + 128, 0, 255)
    three = compute_superpixels(image, (1.0, 1.0), SuperpixelSettings())
    reordered = compute_superpixels(image[[2, 0, 1]], (1.0, 1.0), SuperpixelSettings())
    np.testing.assert_array_equal(three, reordered)
    photo = compute_superpixels(image, (1.0, 1.0), SuperpixelSettings(is_photo=True))
    assert (photo != three).any()
    assert n_pieces(photo) == photo.max() + 1


@pytest.mark.parametrize(("n_channels", "shift"), [(1, 0), (4, 0), (3, -1), (3, 256)])
def test_a_photo_needs_three_channels_from_0_to_255(n_channels, shift):
    image = np.full((n_channels, 8, 8), shift, np.float32)
    with pytest.raises(InputError, match="set is_photo to false"):
        compute_superpixels(image, (1.0, 1.0), SuperpixelSettings(is_photo=True))


@pytest.mark.parametrize(
    "spacing", [(), (1.0,), (1.0, 1.0, 1.0), (1.0, 0.0), (1.0, -1.0), (1.0, np.nan)]
)
def test_spacing_must_fit_the_image(spacing):
    image = np.zeros((1, 4, 4), np.float32)
    with pytest.raises(InputError, match="a positive number for each of the 2 spatial axes, got"):
        compute_superpixels(image, spacing, SuperpixelSettings())


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_an_image_with_holes_is_refused(value):
    image = np.zeros((1, 4, 4), np.float32)
    image[0, 1, 1] = value
    with pytest.raises(InputError, match="NaN or infinity"):
        compute_superpixels(image, (1.0, 1.0), SuperpixelSettings())


@pytest.mark.parametrize(
    "wrong", [{"size_mm": 0}, {"compactness": 0}, {"n_iterations": 0}, {"size": 3}]
)
def test_settings_check_themselves(wrong):
    with pytest.raises(ValidationError):
        SuperpixelSettings(**wrong)


def test_more_compact_superpixels_have_shorter_borders():
    image = noisy_image((60, 60))
    perimeters = []
    for compactness in (0.1, 0.3, 3.0):
        settings = SuperpixelSettings(compactness=compactness)
        superpixels = compute_superpixels(image, (1.0, 1.0), settings)
        length = sum((np.diff(superpixels, axis=axis) != 0).sum() for axis in (0, 1))
        perimeters.append(length / np.sqrt(superpixels.max() + 1))
    assert perimeters[0] > perimeters[1] > perimeters[2]


def test_a_mask_says_where_superpixels_are_wanted():
    image = noisy_image((30, 34))
    where = (np.hypot(*(np.indices((34, 30)) - 15)) < 13).T
    superpixels = compute_superpixels(image, (1.0, 1.0), SuperpixelSettings(), where=where)
    np.testing.assert_array_equal(superpixels >= 0, where)
    inside = np.where(where, superpixels, superpixels.max() + 1)
    assert n_pieces(inside) == superpixels.max() + 1 + ndimage.label(~where)[1]


@pytest.mark.usefixtures("unchecked_shapes")
def test_a_mask_of_another_shape_is_refused():
    image, where = noisy_image((30, 34)), np.ones((29, 34), bool)
    with pytest.raises(InputError, match=r"where must have the image's shape \(30, 34\)"):
        compute_superpixels(image, (1.0, 1.0), SuperpixelSettings(), where=where)


def test_random_seeds_give_other_superpixels_of_the_same_size():
    image = noisy_image((20, 24, 22))
    drawn = [
        compute_superpixels(
            image, (1.0, 1.0, 1.0), SuperpixelSettings(), rng=np.random.default_rng(number)
        )
        for number in (0, 0, 1)
    ]
    np.testing.assert_array_equal(drawn[0], drawn[1])
    assert (drawn[0] != drawn[2]).any()
    assert drawn[2].max() == pytest.approx(drawn[0].max(), rel=0.2)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int64])
def test_whole_numbers_are_taken_as_they_are(dtype):
    image = np.clip(noisy_image((20, 24), n_channels=2) / 10 + 100, 0, 255).astype(dtype)
    np.testing.assert_array_equal(
        compute_superpixels(image, (1.0, 1.0), SuperpixelSettings()),
        compute_superpixels(image.astype(np.float32), (1.0, 1.0), SuperpixelSettings()),
    )


def test_sums_of_huge_superpixels_do_not_overflow():
    image = np.full((1, 3000, 6000), 255, np.uint8)
    image[:, :, :2500] = 240
    superpixels = compute_superpixels(
        image, (1.0, 1.0), SuperpixelSettings(size_mm=3000, compactness=0.01)
    )
    expected = np.broadcast_to((np.arange(6000) >= 2500).astype(np.int32), (3000, 6000))
    np.testing.assert_array_equal(superpixels, expected)


@pytest.mark.parametrize("value", [1e36, -3.4e38])
def test_one_huge_intensity_is_an_intensity(value):
    image = noisy_image((40, 40))
    image[0, 5, 5] = value
    assert compute_superpixels(image, (1.0, 1.0), SuperpixelSettings()).min() == 0


def test_extreme_compactness_gives_the_grid():
    image = noisy_image((32, 32))
    superpixels = compute_superpixels(
        image, (1.0, 1.0), SuperpixelSettings(size_mm=8, compactness=1e30)
    )
    expected = np.arange(16, dtype=np.int32).reshape(4, 4).repeat(8, axis=0).repeat(8, axis=1)
    np.testing.assert_array_equal(superpixels, expected)


@pytest.mark.parametrize("shape", [(0, 4, 4), (1, 0, 5)])
def test_an_empty_image_is_refused(shape):
    with pytest.raises(InputError, match="the image is empty"):
        compute_superpixels(np.zeros(shape, np.float32), (1.0, 1.0), SuperpixelSettings())


def test_a_photo_with_holes_is_refused():
    photo = np.full((3, 8, 8), 100, np.float32)
    photo[0, 3, 3] = np.nan
    with pytest.raises(InputError, match="NaN"):
        compute_superpixels(photo, (1.0, 1.0), SuperpixelSettings(is_photo=True))


def test_colours_are_compared_as_scikit_image_has_them():
    from skimage.color import rgb2lab

    from sfumato._kernel import native

    photo = np.random.default_rng(0).uniform(0, 255, (3, 4096)).astype(np.float32)
    photo[:, :2] = [[0, 255]] * 3
    lab = np.empty_like(photo)
    native.photo_to_lab(photo, lab)
    np.testing.assert_allclose(lab * 100, rgb2lab(photo / 255, channel_axis=0), atol=0.02)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int64, np.float32])
def test_levels_give_the_superpixels_and_soft_labels_of_the_image_to_the_bit(dtype):
    image = (noisy_image((20, 24), n_channels=2) / 10 + 100).clip(0, 255).astype(dtype)
    spacing, label = (1.0, 1.5), (noisy_image((20, 24), seed=1)[0] > 0).astype(np.uint8)
    is_photo = dtype == np.uint8
    image = np.concatenate([image, image[:1]]) if is_photo else image
    settings = SuperpixelSettings(size_mm=4, is_photo=is_photo)
    levels = scale_to_levels(image, settings)
    assert levels.min() >= 0
    assert levels.max() < N_LEVELS
    np.testing.assert_array_equal(
        soften_image_label(levels, label, spacing, 2, settings, is_scaled=True),
        soften_image_label(image, label, spacing, 2, settings),
    )


def test_a_piece_in_levels_is_scaled_as_the_whole_image():
    image, label = noisy_image((40, 34)), np.zeros((20, 34), np.uint8)
    image[:, 20:] *= 1000  # beside which the rest hardly differs
    label[3:13, 5:25] = 1
    settings = SuperpixelSettings()
    piece = scale_to_levels(image, settings)[:, :20]
    soft = soften_image_label(piece, label, (1.0, 1.0), 2, settings, is_scaled=True)
    # Too little contrast to follow: superpixels are squares.
    squares = compute_superpixels(np.zeros_like(image[:, :20]), (1.0, 1.0), settings)
    np.testing.assert_array_equal(soft, soften_label(label, squares, (1.0, 1.0), 2))
    by_itself = soften_image_label(image[:, :20], label, (1.0, 1.0), 2, settings)
    assert not np.array_equal(soft, by_itself)


def test_intensities_far_above_all_others_have_the_highest_level():
    image = np.linspace(0, 1e-36, 1000, dtype=np.float32).reshape(1, 20, 50)
    image[0, 3, 4] = 1e9
    levels = scale_to_levels(image, SuperpixelSettings())
    assert levels[0, 3, 4] == N_LEVELS - 1
    assert levels[0, 0, 0] == 0


def test_levels_of_an_image_without_contrast_have_none():
    levels = scale_to_levels(np.stack([np.full((5, 6), k, np.int16) for k in (3, 7)]),
                             SuperpixelSettings())  # fmt: skip
    assert not seed(levels, (1.0, 1.0), SuperpixelSettings(), is_scaled=True).has_contrast


@pytest.mark.parametrize("hole", [np.nan, np.inf, -np.inf])
def test_an_image_with_holes_has_no_levels(hole):
    image = noisy_image((300, 400))
    image[0, 7, 7] = hole
    with pytest.raises(InputError, match="NaN or infinity"):
        scale_to_levels(image, SuperpixelSettings())


def test_sizes_are_drawn_up_to_a_quarter_larger_or_smaller():
    rng = np.random.default_rng(0)
    sizes = [
        jitter_size(SuperpixelSettings(compactness=0.3), (1.0, 1.0, 1.0), rng) for _ in range(400)
    ]
    assert {settings.compactness for settings in sizes} == {0.3}
    edges = [settings.size_mm for settings in sizes]
    assert 3 <= min(edges) < 3.1
    assert 4.9 < max(edges) <= 5
    assert np.mean(edges) == pytest.approx(4, abs=0.1)
    assert 1.5 <= jitter_size(SuperpixelSettings(size_mm=2), (1.0, 1.0), rng).size_mm <= 2.5
