"""One temperature for a model: it is found again, and changes no segmentation."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import softmax

from sfumato.inference.temperature import fit_temperature, scale_probability


def logits_of(seed, n_classes=3, n=40_000):
    return np.random.default_rng(seed).normal(0, 2, (n_classes, n))


def draw(probability, seed=0):
    """Draw a class for every element from its probabilities."""
    chance = np.random.default_rng(seed).random(probability.shape[1])
    return (chance > probability.cumsum(axis=0)).sum(axis=0).clip(max=2).astype(np.uint8)


@given(st.integers(0, 99), st.sampled_from([0.2, 0.5, 1.0, 2.0, 7.0]))
def test_scaling_divides_the_logits(seed, temperature):
    logits = logits_of(seed, n=50)
    probability = softmax(logits, axis=0).astype(np.float32)
    scaled = scale_probability(probability, temperature)
    np.testing.assert_allclose(scaled, softmax(logits / temperature, axis=0), atol=1e-5)
    np.testing.assert_array_equal(scaled.argmax(axis=0), probability.argmax(axis=0))


def test_a_temperature_of_one_changes_no_bit():
    probability = softmax(logits_of(1, n=9), axis=0).astype(np.float32)
    assert scale_probability(probability, 1.0) is probability


def test_impossible_stays_impossible():
    assert scale_probability(np.array([[0.0], [1.0]], np.float32), 3.0).tolist() == [[0], [1]]


@pytest.mark.parametrize("temperature", [0.4, 1.0, 2.5])
def test_the_temperature_that_truth_was_drawn_with_is_found(temperature):
    logits = logits_of(2)
    reference = draw(softmax(logits / temperature, axis=0))
    found = fit_temperature(softmax(logits, axis=0).astype(np.float32), reference)
    assert found == pytest.approx(temperature, rel=0.04)


def test_a_model_that_is_never_wrong_gets_as_sure_as_may_be():
    probability = np.array([[0.9, 0.2], [0.1, 0.8]], np.float32)
    assert fit_temperature(probability, np.array([0, 1], np.uint8)) == pytest.approx(1 / 20, 1e-3)


def test_without_elements_there_is_no_temperature():
    assert fit_temperature(np.zeros((2, 0), np.float32), np.zeros(0, np.uint8)) == 1
