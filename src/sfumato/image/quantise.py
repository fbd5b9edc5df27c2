"""Probabilities in 256 steps, small on disk and still exact where it matters."""

import numpy as np
from jaxtyping import Float32, Float64, UInt8

from sfumato.arrays import Probability, ProbabilityBytes
from sfumato.errors import InputError

STEPS = 255
"""The number of steps that probability one is divided into."""
_BLOCK = 1 << 17  # elements worked on at a time: temporary arrays stay at a few MB a class


def quantise(probability: Probability) -> ProbabilityBytes:
    """Round probabilities to steps of 1/255 that sum to exactly 255.

    Every element's remainder goes to the classes with the largest fractions. The most
    probable class, the first of several, stays the most probable one. No probability moves by
    more than one step; only the largest moves by up to 1.5 steps (two, among more than four
    classes) where it takes that to stay ahead of an almost equal one.

    Raises:
        InputError: If probabilities are negative or do not sum to one.

    Examples:
        >>> quantise(np.array([[0.5], [0.25], [0.25]], np.float32)).ravel().tolist()
        [127, 64, 64]
    """
    n_classes = probability.shape[0]
    flat = probability.reshape(n_classes, -1)
    quantised = np.empty(flat.shape, np.uint8)
    for start in range(0, flat.shape[1], _BLOCK):
        block = slice(start, start + _BLOCK)
        quantised[:, block] = _quantise_block(flat[:, block])
    return quantised.reshape(probability.shape)


def _quantise_block(
    probability: Float32[np.ndarray, "classes n"],
) -> UInt8[np.ndarray, "classes n"]:
    total = probability.sum(axis=0, dtype=np.float64)
    if not (probability.min(initial=0) >= 0 and np.allclose(total, 1, rtol=0, atol=1e-3)):
        raise InputError(
            "probability must be nonnegative and sum to one over the classes,"
            f" got sums from {total.min():.4g} to {total.max():.4g}"
        )
    is_certain = probability == 1
    quantised = is_certain * np.uint8(STEPS)
    # Most elements of a soft label are one-hot: only the others need rounding.
    (open_elements,) = np.nonzero(~is_certain.any(axis=0) | (total != 1))
    if len(open_elements):
        quantised[:, open_elements] = _round(probability[:, open_elements], total[open_elements])
    return quantised


def _round(
    probability: Float32[np.ndarray, "classes n"], total: Float64[np.ndarray, " n"]
) -> UInt8[np.ndarray, "classes n"]:
    exact = probability * (STEPS / total)
    steps = np.floor(exact)
    _hand_out_remainder(steps, exact - steps)
    _keep_first(steps, probability.argmax(axis=0))
    return steps.astype(np.uint8)


def _hand_out_remainder(
    steps: Float64[np.ndarray, "classes n"], fraction: Float64[np.ndarray, "classes n"]
) -> None:
    """Raise the classes with the largest fractions by one step, until elements sum to 255."""
    missing = STEPS - steps.sum(axis=0)
    order = np.argsort(-fraction, axis=0, kind="stable")
    rank = np.empty_like(order)
    np.put_along_axis(rank, order, np.arange(len(order))[:, None], axis=0)
    steps += rank < missing


def _keep_first(steps: Float64[np.ndarray, "classes n"], winner: np.ndarray) -> None:
    """Move one step to the winner where the remainder made another class its equal."""
    leader = steps.argmax(axis=0)
    (lost,) = np.nonzero(leader != winner)
    steps[leader[lost], lost] -= 1
    steps[winner[lost], lost] += 1
