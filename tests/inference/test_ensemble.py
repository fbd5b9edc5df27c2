"""Several models: the mean of what each says, on the image's own grid."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from tests.inference.test_predictor import ORIENTATIONS, make_model, random_image, turned
from torch import nn

from sfumato.image.geometry import Geometry
from sfumato.inference.ensemble import Ensemble, mean_slabs
from sfumato.inference.predictor import InferenceSettings, Predictor
from sfumato.inference.probability import ProbabilitySlab

SHAPE = (11, 17, 13)


def convolution(seed, n_axes=3):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return (nn.Conv2d, nn.Conv3d)[n_axes - 2](1, 2, 3, padding=1)


@pytest.fixture
def predictors():
    """Give models with other spacings, windows and mirror axes; the longest axis differs too."""
    models = [
        make_model(convolution(1), (6, 8, 4), spacing=(1.0, 1.0, 1.0)),
        make_model(convolution(2), (8, 4, 6), spacing=(0.6, 2.0, 1.3)),
        replace(make_model(convolution(3), (4, 4, 4), spacing=(2.5, 0.9, 1.0)), mirror_axes=(1, 2)),
    ]
    return [Predictor(model, InferenceSettings(is_mirrored=True)) for model in models]


def predicted(ensemble, image, geometry):
    result = np.full((2, *geometry.shape), np.nan, np.float32)
    for slab in ensemble.predict_slabs(image, geometry):
        assert np.isnan(result[:, *slab.place]).all()
        result[:, *slab.place] = slab.probability
    return result


@pytest.mark.parametrize(("axes", "signs"), ORIENTATIONS[::5])
def test_probabilities_are_averaged_on_the_images_own_grid(predictors, axes, signs):
    stored, geometry = turned(random_image(SHAPE), np.diag([1.0, 0.8, 1.2, 1.0]), axes, signs)
    found = predicted(Ensemble(predictors), stored, geometry)
    alone = [predictor.predict(stored, geometry).probability for predictor in predictors]
    np.testing.assert_allclose(found, np.mean(alone, axis=0), atol=1e-6)
    np.testing.assert_allclose(found.sum(axis=0), 1, atol=1e-6)
    assert max(np.abs(found - one).max() for one in alone) > 0.05


def test_each_model_brings_its_own_temperature(predictors):
    sure, cautious = (
        Predictor(replace(predictors[0].model, temperature=temperature))
        for temperature in (0.5, 3.0)
    )
    image, geometry = random_image(SHAPE), Geometry.from_spacing(SHAPE, (1.0, 0.8, 1.2))
    alone = [predictor.predict(image, geometry).probability for predictor in (sure, cautious)]
    found = predicted(Ensemble([sure, cautious]), image, geometry)
    np.testing.assert_allclose(found, np.mean(alone, axis=0), atol=1e-6)
    assert np.abs(alone[0] - alone[1]).max() > 0.05


def test_one_model_gives_what_it_gives_alone_to_the_bit(predictors):
    image, geometry = random_image(SHAPE), Geometry.from_spacing(SHAPE, (1.0, 0.8, 1.2))
    for predictor in predictors:
        np.testing.assert_array_equal(
            predicted(Ensemble([predictor]), image, geometry),
            predictor.predict(image, geometry).probability,
        )


def test_the_same_model_several_times_changes_next_to_nothing(predictors):
    image, geometry = random_image(SHAPE), Geometry.from_spacing(SHAPE, (1.0, 0.8, 1.2))
    np.testing.assert_allclose(
        predicted(Ensemble(predictors[:1] * 3), image, geometry),
        predictors[0].predict(image, geometry).probability,
        atol=1e-6,
    )


def test_flat_images_are_averaged_too():
    models = [make_model(convolution(i, 2), (6, 4 * i), spacing=(0.5, i)) for i in (1, 2)]
    predictors = [Predictor(model) for model in models]
    geometry = Geometry.from_spacing((14, 15), (0.7, 0.8))
    image = random_image((14, 15))
    alone = [predictor.predict(image, geometry).probability for predictor in predictors]
    found = predicted(Ensemble(predictors), image, geometry)
    np.testing.assert_allclose(found, np.mean(alone, axis=0), atol=1e-6)


@pytest.mark.parametrize("is_backward", [False, True])
def test_parts_of_any_lengths_are_matched_without_waiting_for_the_whole(is_backward):
    rng = np.random.default_rng(0)
    maps = rng.random((3, 2, 4, 12)).astype(np.float32)
    taken = [0, 0, 0]

    def stream(i, lengths):
        start = 0
        for n in lengths:
            part = slice(12 - start - n, 12 - start) if is_backward else slice(start, start + n)
            taken[i] = start = start + n
            yield ProbabilitySlab(place=(slice(0, 4), part), probability=maps[i][..., part])

    streams = [stream(i, lengths) for i, lengths in enumerate([[5, 5, 2], [1] * 12, [3, 9]])]
    mean, done = np.zeros((2, 4, 12), np.float32), 0
    for slab in mean_slabs(streams, axis=1):
        mean[:, *slab.place] += slab.probability
        done += slab.place[1].stop - slab.place[1].start
        assert min(taken) == done
    np.testing.assert_allclose(mean, maps.mean(axis=0), rtol=1e-6)
