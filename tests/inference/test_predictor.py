"""From an image on its own grid to probabilities on the same grid."""

from dataclasses import replace
from itertools import permutations, product

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import nn

from sfumato.errors import InputError, ModelError
from sfumato.image.geometry import Geometry
from sfumato.image.grid import model_grid
from sfumato.image.preprocessing import (
    ChannelSettings,
    PreprocessingSettings,
    normalize_intensities,
)
from sfumato.inference.predictor import InferenceSettings, Predictor
from sfumato.inference.sliding_window import Windows, fitted_window, gaussian_weight, window_corners
from sfumato.labels.classes import ClassList
from sfumato.model.network import NetworkSettings
from sfumato.model.trained import TrainedModel

ORIENTATIONS = [
    (axes, signs) for axes in permutations(range(3)) for signs in product((1, -1), repeat=3)
]
WINDOW = (6, 8, 4)


def make_model(network, window=WINDOW, n_channels=1, spacing=None):
    return TrainedModel(
        network=network,
        network_settings=NetworkSettings(),
        n_channels=n_channels,
        window=window,
        mirror_axes=(0,),
        classes=ClassList(names=("background", "bright"), values=(0, 1)),
        preprocessing=PreprocessingSettings(
            spacing_mm=spacing or (1.0,) * len(window), channels=(ChannelSettings(),) * n_channels
        ),
    )


def convolution(n_axes=3, n_channels=1):
    """Return a network that sees the neighbours, so that directions matter to it."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        kind = nn.Conv3d if n_axes == 3 else nn.Conv2d
        return kind(n_channels, 2, 3, padding=1)


class BrightIsInside(nn.Module):
    """Calls an element inside the brighter it is."""

    def forward(self, images):
        return torch.cat([-8 * images, 8 * images], dim=1)


def turned(image, affine, axes, signs):
    """Store the same volume in another order of elements, as another scanner might."""
    change = np.zeros((4, 4))
    change[3, 3] = 1
    for new, (old, sign) in enumerate(zip(axes, signs, strict=True)):
        change[old, new] = sign
        change[old, 3] = 0 if sign > 0 else image.shape[1 + old] - 1
    forwards = tuple(slice(None, None, sign) for sign in signs)
    stored = image.transpose(0, *(1 + a for a in axes))[:, *forwards]
    return np.ascontiguousarray(stored), Geometry(shape=stored.shape[1:], affine=affine @ change)


def random_image(shape, n_channels=1):
    return np.random.default_rng(0).normal(size=(n_channels, *shape)).astype(np.float32)


@pytest.mark.parametrize(("axes", "signs"), ORIENTATIONS)
def test_the_order_of_elements_in_a_file_does_not_matter(axes, signs):
    predictor = Predictor(make_model(convolution()))
    image, affine = random_image((5, 9, 7)), np.diag([1.0, 1.0, 1.0, 1.0])
    expected = predictor.predict(image, Geometry(shape=(5, 9, 7), affine=affine)).probability
    stored, geometry = turned(image, affine, axes, signs)
    predicted = predictor.predict(stored, geometry)
    assert predicted.geometry is geometry
    undone, _ = turned(expected, affine, axes, signs)
    np.testing.assert_allclose(predicted.probability, undone, atol=1e-6)


@pytest.mark.parametrize(("axes", "signs"), [((0, 1, 2), (1, 1, 1)), ((2, 0, 1), (-1, 1, -1))])
@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (0.5, 1.0, 2.0), (2.0, 0.7, 1.5)])
def test_a_structure_is_found_where_it_is_whatever_the_spacing(axes, signs, spacing):
    offset_mm = (np.indices((20, 18, 16)).T - (11, 8, 7)) * spacing
    blob = np.exp(-((offset_mm / 5) ** 2).sum(axis=-1)).T[None].astype(np.float32)
    stored, geometry = turned(blob, np.diag([*spacing, 1.0]), axes, signs)
    model = make_model(BrightIsInside(), spacing=(1.0, 1.0, 1.0))
    predicted = Predictor(model).predict(stored, geometry)
    assert predicted.probability.shape == (2, *stored.shape[1:])
    np.testing.assert_allclose(predicted.probability.sum(axis=0), 1, atol=1e-6)
    found, expected = predicted.segmentation() == 1, stored[0] > stored.mean()
    assert 2 * (found & expected).sum() / (found.sum() + expected.sum()) > 0.97
    shift = np.argwhere(found).mean(axis=0) - np.argwhere(expected).mean(axis=0)
    assert np.abs(shift).max() < 0.1


@pytest.mark.parametrize("shape", [(6, 8), (3, 20), (1, 1)])
def test_flat_images_are_predicted_on_their_own_grid(shape):
    predictor = Predictor(make_model(convolution(2, n_channels=3), (6, 8), n_channels=3))
    geometry = Geometry.from_spacing(shape, (0.5, 0.7))
    predicted = predictor.predict(random_image(shape, n_channels=3), geometry)
    assert predicted.probability.shape == (2, *shape)
    assert predicted.segmentation().shape == shape


def test_predicting_changes_neither_the_image_nor_the_next_prediction():
    image = random_image((9, 9, 9))
    image.flags.writeable = False
    geometry = Geometry.from_spacing((9, 9, 9), (1.0, 2.0, 1.0))
    predictor = Predictor(make_model(convolution()))
    first = predictor.predict(image, geometry).probability
    np.testing.assert_array_equal(predictor.predict(image, geometry).probability, first)


def test_mirroring_uses_the_axes_that_training_mirrored():
    image = random_image((6, 8, 4))
    geometry = Geometry.from_spacing((6, 8, 4), (1.0, 1.0, 1.0))
    predictor = Predictor(make_model(convolution()), InferenceSettings(is_mirrored=True))
    predicted = predictor.predict(image, geometry).probability
    left_right = predictor.predict(np.flip(image, 1).copy(), geometry).probability
    np.testing.assert_allclose(np.flip(left_right, 1), predicted, atol=1e-6)
    up_down = predictor.predict(np.flip(image, 3).copy(), geometry).probability
    assert np.abs(np.flip(up_down, 3) - predicted).max() > 1e-3


def test_half_the_bits_give_nearly_the_same_probabilities():
    image = random_image((8, 8, 8))
    geometry = Geometry.from_spacing((8, 8, 8), (1.0, 1.0, 1.0))
    model = make_model(convolution())
    full = Predictor(model).predict(image, geometry).probability
    half = Predictor(model, dtype=torch.bfloat16).predict(image, geometry).probability
    assert half.dtype == np.float32
    np.testing.assert_allclose(half, full, atol=0.02)
    assert (half != full).any()


def test_an_image_with_other_channels_is_refused():
    predictor = Predictor(make_model(convolution()))
    geometry = Geometry.from_spacing((6, 8, 4), (1.0, 1.0, 1.0))
    with pytest.raises(ModelError) as caught:
        predictor.predict(random_image((6, 8, 4), n_channels=2), geometry)
    assert str(caught.value) == (
        "the number of channels must be 1, as in training, got 2;"
        " give it the same channels in the same order"
    )


def test_an_image_of_another_dimension_is_refused():
    predictor = Predictor(make_model(convolution()))
    with pytest.raises(ModelError, match="the image is 2-D, but the model is 3-D"):
        predictor.predict(random_image((6, 8)), Geometry.from_spacing((6, 8), (1.0, 1.0)))


def test_an_image_that_is_not_on_its_grid_is_refused():
    predictor = Predictor(make_model(convolution()))
    geometry = Geometry.from_spacing((6, 8, 5), (1.0, 1.0, 1.0))
    with pytest.raises(InputError, match=r"has shape \(6, 8, 4\), but its geometry says"):
        predictor.predict(random_image((6, 8, 4)), geometry)


@pytest.mark.parametrize("overlap", [-0.1, 1.0])
def test_windows_must_leave_room_to_move(overlap):
    with pytest.raises(ValueError, match="overlap"):
        InferenceSettings(overlap=overlap)


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (1.3, 0.8, 2.0)])
@pytest.mark.parametrize(("axes", "signs"), [((0, 1, 2), (1, 1, 1)), ((2, 0, 1), (-1, 1, -1))])
def test_slabs_make_up_the_image_and_are_what_one_pass_over_it_gives(spacing, axes, signs):
    image, geometry = turned(random_image((9, 30, 7)), np.eye(4), axes, signs)
    model = make_model(convolution(), spacing=spacing)
    whole = Predictor(model).predict(image, geometry)
    counted = np.zeros(image.shape[1:], int)
    for slab in Predictor(model).predict_slabs(image, geometry):
        counted[slab.place] += 1
        np.testing.assert_array_equal(slab.segmentation(), whole.segmentation()[slab.place])
    assert (counted == 1).all()
    # The unbounded way: everything at once, in plain steps.
    grid = model_grid(geometry, spacing)
    placed = grid.image_to_model(normalize_intensities(image, model.preprocessing.channels))
    expected = predict_at_once(model.network, placed)
    resampled = to_source(grid, expected)
    np.testing.assert_allclose(whole.probability, resampled, atol=2e-5)


def predict_at_once(network, image):
    """Blend windows over sums for the whole image."""
    window = fitted_window(image.shape[1:], WINDOW, (1, 1, 1))
    windows = Windows(shape=image.shape[1:], size=window, overlap=0.5)
    padded = np.pad(image, [(0, 0), *windows.padding], mode="edge")
    total, weights = np.zeros((2, *padded.shape[1:])), np.zeros(padded.shape[1:])
    for corner in window_corners(padded.shape[1:], window, 0.5):
        where = tuple(slice(c, c + w) for c, w in zip(corner, window, strict=True))
        with torch.inference_mode():
            logits = network(torch.from_numpy(padded[:, *where].copy())[None])
        total[:, *where] += logits.softmax(dim=1)[0].numpy() * gaussian_weight(window)
        weights[where] += gaussian_weight(window)
    inner = (slice(b, b + n) for (b, _), n in zip(windows.padding, image.shape[1:], strict=True))
    return (total / weights)[:, *inner].astype(np.float32)


def to_source(grid, probability):
    zoom = [grid.source.shape[a] / n for a, n in zip(grid.axes, probability.shape[1:], strict=True)]
    back = np.stack(
        [ndimage.zoom(p, zoom, order=1, mode="nearest", grid_mode=True) for p in probability]
    )
    flipped = back[:, *(slice(None, None, -1 if f else 1) for f in grid.flipped)]
    return flipped.transpose(0, *(1 + np.argsort(grid.axes)))


@pytest.mark.parametrize("shear", [0.0, 0.2])
def test_a_sheared_image_is_predicted_on_its_own_grid(shear):
    affine = np.diag([1.0, 1.0, 2.0, 1.0])
    affine[0, 2], affine[1, 2] = shear, -shear
    geometry = Geometry(shape=(12, 10, 9), affine=affine)
    predicted = Predictor(make_model(convolution())).predict(random_image((12, 10, 9)), geometry)
    assert predicted.geometry is geometry
    assert predicted.probability.shape == (2, 12, 10, 9)
    np.testing.assert_allclose(predicted.probability.sum(axis=0), 1, atol=1e-6)


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (0.7, 1.0, 1.0)])
def test_empty_space_is_predicted_once_and_as_if_it_were_not_known(spacing):
    image = np.full((1, 8, 8, 60), -1000, np.float32)
    image[0, 2:6, 2:6, 4:14] = random_image((4, 4, 10))[0] * 100
    cut = ChannelSettings(normalization="dataset", low=-300, high=300, deviation=100)
    model = replace(
        make_model(convolution(), spacing=spacing),
        preprocessing=PreprocessingSettings(spacing_mm=spacing, channels=(cut,)),
    )
    geometry = Geometry.from_spacing((8, 8, 60), (1.0, 1.0, 1.0))
    seen = []
    network = model.network.forward
    model.network.forward = lambda images: (seen.append(float(images.std())), network(images))[1]
    predicted = Predictor(model).predict(image, geometry).probability
    assert sum(deviation < 1e-6 for deviation in seen) == 1
    assert sum(deviation >= 1e-6 for deviation in seen) >= 4
    model.network.forward = network
    grid = model_grid(geometry, spacing)
    placed = grid.image_to_model(normalize_intensities(image, (cut,)))
    expected = to_source(grid, predict_at_once(model.network, placed))
    np.testing.assert_allclose(predicted, expected, atol=1e-5)


def test_a_temperature_changes_how_sure_a_model_is_and_nothing_else():
    model = make_model(convolution())
    image = random_image((9, 8, 12))  # larger than a window, so that windows are blended
    geometry = Geometry.from_spacing((9, 8, 12), (1.0, 1.0, 1.0))
    plain = Predictor(model).predict(image, geometry)
    cautious = Predictor(replace(model, temperature=2.0)).predict(image, geometry)
    root = np.sqrt(plain.probability)
    np.testing.assert_allclose(cautious.probability, root / root.sum(axis=0), atol=1e-6)
    np.testing.assert_array_equal(cautious.segmentation(), plain.segmentation())
    np.testing.assert_array_equal(cautious.unscaled, plain.probability)
    assert plain.unscaled is None
