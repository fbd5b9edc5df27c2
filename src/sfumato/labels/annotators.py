"""What several people's labels of the same image say together."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64, Int64
from scipy.special import softmax

from sfumato.arrays import Label, Probability
from sfumato.errors import InputError
from sfumato.labels.softening import check_label, one_hot

FIRST_RELIABILITY = 0.99999
"""How often raters are taken to be right before anything is known of them."""
SETTLED = 1e-8
"""Change of every rater's reliability below which estimation has ended."""
MAX_ROUNDS = 1000
LEAST_PROBABILITY = 1e-300
"""Stands for 0 in logarithms."""


def raters_mean(rater_labels: Sequence[Label], n_classes: int) -> Probability:
    """Return which share of the raters gave every element each class.

    Args:
        rater_labels: What every annotator drew.
        n_classes: Number of classes, background included.

    Raises:
        InputError: If there is no label, labels differ in shape, or one holds a class index of
            `n_classes` or more.

    Examples:
        >>> raters_mean([np.array([0, 1], np.uint8), np.array([1, 1], np.uint8)], n_classes=2)
        array([[0.5, 0. ],
               [0.5, 1. ]], dtype=float32)
    """
    check_raters(rater_labels, n_classes)
    probability = np.zeros((n_classes, *rater_labels[0].shape), np.float32)
    for label in rater_labels:
        for k in range(n_classes):
            probability[k] += label == k
    probability /= len(rater_labels)
    return probability


def staple(rater_labels: Sequence[Label], n_classes: int) -> Probability:
    """Weigh raters by how reliable they seem, class by class.

    Expectation maximisation over the whole image, for several classes: from what is believed to
    be true follows how often each rater takes each class for each other one, and from that what
    is to be believed. Before anything else a class is as probable as the share that all raters
    together gave it. Elements are independent of their neighbours.

    Only different combinations of decisions matter, not where they were taken, so the work
    does not grow with the image.

    Args:
        rater_labels: What every annotator drew.
        n_classes: Number of classes, background included.

    Returns:
        The probability of every class given all decisions. Where all agree it is close to, but
        not quite, one; a class that nobody drew has the probability 0. A single rater is
        believed, since there is nobody to compare with.

    Raises:
        InputError: If there is no label, labels differ in shape, or one holds a class index of
            `n_classes` or more.

    Source:
        Warfield, Zou and Wells, Simultaneous truth and performance level estimation (STAPLE),
        IEEE TMI 2004. doi:10.1109/TMI.2004.828354
    """
    check_raters(rater_labels, n_classes)
    if len(rater_labels) == 1:
        return one_hot(rater_labels[0], n_classes)
    first = rater_labels[0]
    present = np.unique(np.concatenate([np.unique(label) for label in rater_labels]))
    probability = np.zeros((n_classes, *first.shape), np.float32)
    if first.size == 0:
        return probability
    disputed = np.any([label != first for label in rater_labels], axis=0)
    agreed = np.searchsorted(present, first).astype(np.int32)
    decisions, combination, counts = np.unique(
        np.searchsorted(present, np.stack([label[disputed] for label in rater_labels])),
        axis=1,
        return_inverse=True,
        return_counts=True,
    )
    unanimous = np.tile(np.arange(len(present)), (len(rater_labels), 1))
    belief = _estimate(
        np.concatenate([unanimous, decisions], axis=1),
        np.concatenate([np.bincount(agreed[~disputed], minlength=len(present)), counts]),
        len(present),
    )
    row = agreed
    row[disputed] = len(present) + combination.ravel()
    for column, k in zip(belief.T, present, strict=True):
        probability[k] = column.astype(np.float32)[row]
    return probability


def _estimate(
    decisions: Int64[np.ndarray, "raters combinations"],
    counts: Int64[np.ndarray, "combinations"],
    n_classes: int,
) -> Float64[np.ndarray, "combinations {n_classes}"]:
    """Return how probable each class is where raters decided so, counts times, or otherwise."""
    decided = decisions[:, None] == np.arange(n_classes)[:, None]
    weights = decided * counts.astype(np.float64)
    prior = weights.sum(axis=(0, 2)) / weights.sum()
    # For each rater, how often one class (row) is drawn where another (column) is true.
    reliability = np.full((n_classes, n_classes), (1 - FIRST_RELIABILITY) / max(1, n_classes - 1))
    np.fill_diagonal(reliability, FIRST_RELIABILITY)
    reliability = np.tile(reliability, (len(decisions), 1, 1))
    for _ in range(MAX_ROUNDS):
        belief = _belief(decisions, reliability, prior)
        drawn = weights @ belief
        # A class that is believed in nowhere leaves raters as they were.
        total = drawn.sum(axis=1, keepdims=True)
        updated = np.divide(drawn, total, out=reliability.copy(), where=total > 0)
        change = np.abs(updated - reliability).max()
        reliability = updated
        if change < SETTLED:
            break
    return _belief(decisions, reliability, prior)


def _belief(
    decisions: Int64[np.ndarray, "raters combinations"],
    reliability: Float64[np.ndarray, "raters classes classes"],
    prior: Float64[np.ndarray, "classes"],
) -> Float64[np.ndarray, "combinations classes"]:
    logarithms = np.log(np.maximum(reliability, LEAST_PROBABILITY))
    joint = sum(of_rater[drawn] for of_rater, drawn in zip(logarithms, decisions, strict=True))
    belief: Float64[np.ndarray, "combinations classes"] = softmax(np.log(prior) + joint, axis=1)
    return belief


def check_raters(rater_labels: Sequence[Label], n_classes: int) -> None:
    """Refuse labels that do not belong to one image.

    Raises:
        InputError: If there is no label, labels differ in shape, or one holds a class index of
            `n_classes` or more.
    """
    shapes = {label.shape for label in rater_labels}
    if len(shapes) != 1:
        shown = " and ".join(map(str, sorted(shapes))) or "none"
        raise InputError(
            f"rater_labels must be at least one label, and all of one shape, got {shown};"
            " resample the labels to the image's grid first"
        )
    for label in rater_labels:
        check_label(label, n_classes)
