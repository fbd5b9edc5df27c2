"""Probabilities in 256 steps, small on disk and still exact where it matters."""

import numpy as np
from jaxtyping import Float32, Float64, UInt8

from sfumato.arrays import Probability, ProbabilityBytes
from sfumato.errors import InputError

STEPS = 255
"""The number of steps that probability one is divided into."""
_BLOCK = 1 << 16  # elements worked on at a time: temporary arrays stay at a few MB a class


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
    floor = np.floor(exact)
    n_missing = (STEPS - floor.sum(axis=0)).astype(int)
    order = np.argsort(floor - exact, axis=0, kind="stable")
    rank = np.argsort(order, axis=0, kind="stable")
    # The classes with the largest fractions are rounded up, until elements sum to 255.
    is_raised = rank < n_missing
    last_raised = order[n_missing - 1, np.arange(len(n_missing))]
    steps = floor + is_raised
    _keep_first(steps, probability.argmax(axis=0), is_raised, last_raised)
    return steps.astype(np.uint8)


def _keep_first(
    steps: Float64[np.ndarray, "classes n"],
    winner: np.ndarray,
    is_raised: np.ndarray,
    last_raised: np.ndarray,
) -> None:
    """Move one step to the winner where rounding made another class its equal or better.

    It comes from a class that was rounded up, so that no other class is off by a whole step:
    from that equal one, or else from the one that had least right to it.
    """
    leader = steps.argmax(axis=0)
    (lost,) = np.nonzero(leader != winner)
    is_fair = is_raised[leader[lost], lost] | (last_raised[lost] == winner[lost])
    giver = np.where(is_fair, leader[lost], last_raised[lost])
    steps[giver, lost] -= 1
    steps[winner[lost], lost] += 1
