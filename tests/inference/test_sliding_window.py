"""Windows, their places and their blending; networks are small real ones."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from sfumato.errors import InputError
from sfumato.inference.averaging import averaged
from sfumato.inference.sliding_window import (
    fitted_window,
    gaussian_weight,
    predict_windows,
    window_corners,
)

shapes_and_windows = st.integers(1, 3).flatmap(
    lambda n: st.tuples(st.tuples(*[st.integers(1, 12)] * n), st.tuples(*[st.integers(1, 12)] * n))
)
overlaps = st.floats(0, 0.9)


class Pointwise(nn.Module):
    """Looks at one element at a time, so windows cannot matter."""

    def __init__(self, n_channels=1, n_classes=3):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.weight = torch.randn(n_classes, n_channels, generator=generator)

    def forward(self, images):
        return torch.einsum("kc,bc...->bk...", self.weight, images)


class PlaceBound(nn.Module):
    """Adds logits that depend on the place in the window, as no trained network should."""

    def __init__(self, window):
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        self.place = torch.randn(3, *window, generator=generator)

    def forward(self, images):
        return images * self.place + self.place.flip(0)


def random_image(shape, n_channels=1, seed=0):
    return np.random.default_rng(seed).normal(size=(n_channels, *shape)).astype(np.float32)


def softmax(network, image):
    with torch.inference_mode():
        return network(torch.from_numpy(image)[None]).softmax(dim=1)[0].numpy()


def test_windows_lie_evenly_and_touch_the_borders():
    assert window_corners((10,), (4,), 0.5) == [(0,), (2,), (4,), (6,)]
    assert window_corners((10,), (4,), 0) == [(0,), (3,), (6,)]
    assert window_corners((4, 5), (4, 5), 0.5) == [(0, 0)]
    assert window_corners((4, 6), (4, 4), 0.5) == [(0, 0), (0, 2)]


@pytest.mark.parametrize("overlap", [-0.1, 1.0, 1.5])
def test_an_overlap_must_leave_windows_room_to_move(overlap):
    with pytest.raises(InputError, match="overlap must be at least 0 and below 1, got"):
        window_corners((10,), (4,), overlap)


@given(shapes_and_windows, overlaps)
def test_windows_cover_the_image_and_overlap_as_asked_to_the_element(sizes, overlap):
    window = sizes[1]
    shape = tuple(max(n, w) for n, w in zip(*sizes, strict=True))
    corners = np.array(window_corners(shape, window, overlap))
    covered = np.zeros(shape, int)
    for corner in corners:
        covered[tuple(slice(c, c + w) for c, w in zip(corner, window, strict=True))] += 1
    assert covered.min() >= 1
    assert (corners.min(axis=0) == 0).all()
    assert (corners.max(axis=0) + window == shape).all()
    for axis, w in enumerate(window):
        steps = np.diff(np.unique(corners[:, axis]))
        assert (steps <= max(1, np.ceil(w * (1 - overlap)))).all()


@given(st.tuples(*[st.integers(1, 9)] * 2))
def test_a_window_counts_most_at_its_centre_and_nowhere_nothing(window):
    weight = gaussian_weight(window)
    assert weight.shape == window
    assert weight.min() > 0
    assert weight[tuple(n // 2 for n in window)] == weight.max()
    for axis in (0, 1):
        np.testing.assert_array_equal(weight, np.flip(weight, axis))


@pytest.mark.parametrize("shape", [(8,), (6, 8), (4, 6, 5)])
def test_an_image_of_one_window_is_predicted_as_it_is(shape):
    network, image = PlaceBound(shape), random_image(shape)
    predicted = predict_windows(averaged([network]), image, shape, 0.5)
    np.testing.assert_allclose(predicted, softmax(network, image), atol=1e-6)
    assert predicted.dtype == np.float32


@settings(deadline=None)
@given(shapes_and_windows, overlaps)
def test_windows_leave_no_seams(sizes, overlap):
    # Where the image is smaller than the window it is padded; that must not show either.
    shape, window = sizes
    network, image = Pointwise(n_channels=2), random_image(shape, n_channels=2)
    predicted = predict_windows(averaged([network]), image, window, overlap)
    np.testing.assert_allclose(predicted, softmax(network, image), atol=1e-5)


@settings(deadline=None, max_examples=40)
@given(shapes_and_windows, overlaps, st.booleans())
def test_blended_probabilities_sum_to_one(sizes, overlap, is_mirrored):
    shape, window = sizes
    axes = tuple(range(len(shape))) if is_mirrored else ()
    predicted = predict_windows(
        averaged([PlaceBound(window)], axes), random_image(shape), window, overlap
    )
    assert predicted.shape == (3, *shape)
    assert predicted.min() >= 0
    np.testing.assert_allclose(predicted.sum(axis=0), 1, atol=1e-6)


def test_a_small_image_is_padded_evenly_by_its_border():
    seen = []

    def network(images):
        seen.append(images.numpy().copy())
        return torch.cat([images, -images], dim=1)

    image = np.array([[[1, 2], [3, 4]]], np.float32)
    predict_windows(averaged([network]), image, (3, 5), 0.5)
    expected = [[1, 1, 2, 2, 2], [3, 3, 4, 4, 4], [3, 3, 4, 4, 4]]
    np.testing.assert_array_equal(seen, [[[expected]]])


@pytest.mark.parametrize("axes", [(0,), (1,), (0, 1), (1, 2), (0, 1, 2)])
def test_with_mirroring_a_mirrored_image_gets_the_mirrored_prediction(axes):
    shape, window = (8, 10, 6), (4, 6, 6)
    network, image = PlaceBound(window), random_image(shape)
    predicted = predict_windows(averaged([network], axes), image, window, 0.5)
    for axis in axes:
        mirrored = np.flip(image, 1 + axis)
        again = predict_windows(averaged([network], axes), mirrored, window, 0.5)
        np.testing.assert_allclose(again, np.flip(predicted, 1 + axis), atol=1e-6)


def test_without_mirroring_a_place_bound_network_shows():
    network, image = PlaceBound((8,)), random_image((8,))
    predicted = predict_windows(averaged([network]), image, (8,), 0.5)
    mirrored = predict_windows(averaged([network]), image[:, ::-1], (8,), 0.5)[:, ::-1]
    assert np.abs(predicted - mirrored).max() > 0.1


def test_mirroring_averages_the_probabilities_of_both_ways():
    network, image = PlaceBound((4,)), random_image((4,))
    predicted = predict_windows(averaged([network], (0,)), image, (4,), 0.5)
    both = (softmax(network, image) + softmax(network, image[:, ::-1].copy())[:, ::-1]) / 2
    np.testing.assert_allclose(predicted, both, atol=1e-6)


def test_an_image_that_is_read_only_is_predicted_without_a_warning():
    image = random_image((6, 8))
    image.flags.writeable = False
    for window in ((6, 8), (3, 8), (4, 4), (9, 9)):
        predict_windows(averaged([Pointwise()]), image, window, 0.5)


class NearSighted(nn.Module):
    """Two convolutions without normalisation: it sees two elements far."""

    def __init__(self, n_classes=3):
        super().__init__()
        generator = torch.Generator().manual_seed(2)
        self.first = torch.randn(8, 1, 3, 3, 3, generator=generator) / 5
        self.second = torch.randn(n_classes, 8, 3, 3, 3, generator=generator) / 20

    def forward(self, images):
        hidden = functional.conv3d(images, self.first, padding=1).relu()
        return functional.conv3d(hidden, self.second, padding=1)


@pytest.mark.parametrize("overlap", [0.5, 0.6])
def test_tiles_of_a_network_that_sees_less_than_the_overlap_leave_no_seam(overlap):
    # Where a window ends the network sees its padding instead of the image, but there the
    # window hardly counts.
    network, image = NearSighted(), random_image((72, 64, 100))
    window = fitted_window((72, 64, 100), (48, 48, 48), (8, 8, 8))
    tiled = predict_windows(averaged([network]), image, window, overlap)
    whole = softmax(network, image)
    assert np.abs(tiled - whole).max() < 1e-3
    without_overlap = predict_windows(averaged([network]), image, (36, 32, 50), 0)
    assert np.abs(without_overlap - whole).max() > 0.05


def test_a_window_grows_to_hold_an_axis_whole_but_by_no_more_than_a_third():
    assert fitted_window((128, 96, 95, 129), (96,) * 4, (16,) * 4) == (128, 96, 96, 96)
    assert fitted_window((100, 113, 97), (96,) * 3, (16, 16, 1)) == (112, 128, 97)
    assert fitted_window((40,), (48,), (16,)) == (48,)


def test_a_window_grows_where_fewer_of_them_are_less_work():
    # 3 × 128 instead of 5 × 96; but not 7 × 128 instead of 10 × 96, which saves little.
    assert fitted_window((256, 512), (96, 96), (16, 16)) == (128, 96)
    # Windows that overlap by nothing fit as they are.
    assert fitted_window((288,), (96,), (16,), overlap=0.0) == (96,)
