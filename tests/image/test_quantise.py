import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from sfumato.errors import InputError
from sfumato.image.quantise import quantise

weights = st.tuples(st.integers(2, 9), st.integers(1, 30)).flatmap(
    lambda shape: arrays(np.float32, shape, elements=st.floats(0, 1, width=32))
)


@given(weights)
def test_sums_to_255_and_keeps_the_most_probable_class(weight: np.ndarray) -> None:
    weight[0] += np.float32(1e-3)  # so that no element sums to zero
    probability = weight / weight.sum(axis=0)
    quantised = quantise(probability)
    assert (quantised.sum(axis=0, dtype=int) == 255).all()
    np.testing.assert_array_equal(quantised.argmax(axis=0), probability.argmax(axis=0))
    error_steps = np.abs(quantised - 255 * probability)
    winner = probability.argmax(axis=0)[None]
    most = 1.5 if len(probability) <= 4 else 2
    assert np.take_along_axis(error_steps, winner, axis=0).max() <= most + 1e-3
    np.put_along_axis(error_steps, winner, 0, axis=0)
    assert error_steps.max() <= 1 + 1e-3


@given(st.integers(2, 256))
def test_the_first_of_equal_classes_stays_the_first(n_classes: int) -> None:
    quantised = quantise(np.full((n_classes, 1), 1 / n_classes, np.float32))
    assert quantised.argmax() == 0
    assert quantised.sum() == 255


def test_a_second_step_keeps_the_winner_ahead() -> None:
    # These are steps of 1/255. Rounding alone would give 37 to the first and the second.
    weight = np.array([36.37, 36.96, *[36.334] * 5], np.float32)[:, None]
    quantised = quantise(weight / weight.sum(axis=0))
    assert quantised.ravel().tolist() == [36, 38, 37, 36, 36, 36, 36]


def test_a_remainder_does_not_crown_another_class() -> None:
    # In steps: 99.95, 100 and 55.05. Rounding the first up would make it the first maximum.
    probability = np.array([[99.95], [100.0], [55.05]], np.float32) / np.float32(255)
    assert quantise(probability).ravel().tolist() == [99, 101, 55]


def test_hard_labels_stay_exact() -> None:
    probability = np.eye(3, dtype=np.float32)
    np.testing.assert_array_equal(quantise(probability), 255 * np.eye(3))


def test_keeps_the_shape_also_beyond_one_block() -> None:
    probability = np.full((2, 60, 50, 50), 0.5, np.float32)
    quantised = quantise(probability)
    assert quantised.shape == probability.shape
    assert (quantised[0] == 128).all()


def test_needs_little_memory_beyond_the_result() -> None:
    probability = np.full((4, 100, 100, 100), 0.25, np.float32)
    tracemalloc.start()
    quantise(probability)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2.5 * probability.nbytes


@pytest.mark.parametrize("wrong", [[0.5, 0.4], [1.2, -0.2], [np.nan, 1.0]])
def test_rejects_what_is_no_probability(wrong: list[float]) -> None:
    with pytest.raises(InputError, match="nonnegative and sum to one"):
        quantise(np.array(wrong, np.float32)[:, None])
