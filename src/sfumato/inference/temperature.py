"""One number that makes a model's probabilities honest without changing its segmentations."""

import numpy as np
from jaxtyping import Float32, UInt8
from scipy.optimize import minimize_scalar

from sfumato.arrays import Probability

LARGEST_CHANGE = 20.0
"""A temperature lies between this and one over it; a model that asks for more knows nothing."""
LEAST_PROBABILITY = np.float32(1e-12)
"""Stands for 0 in logarithms."""


def scale_probability(probability: Probability, temperature: float) -> Probability:
    """Divide logits by a temperature, given the probabilities that they made.

    Every probability is raised to the power 1 / temperature, and then they are divided by their
    sum: that is softmax(logits / temperature). The order of the classes stays.

    Args:
        probability: What a network predicts for each class.
        temperature: Above 1 makes probabilities more cautious, below 1 surer; 1 leaves them
            as they are.

    Source:
        Guo et al., On calibration of modern neural networks, ICML 2017, section 4.2.

    Examples:
        >>> sure = np.array([[0.2], [0.8]], np.float32)
        >>> scale_probability(sure, 2.0).round(3).tolist()
        [[0.3330000042915344], [0.6669999957084656]]
    """
    if temperature == 1:
        return probability
    scaled = probability ** np.float32(1 / temperature)
    scaled /= scaled.sum(axis=0)
    return scaled


def fit_temperature(
    probability: Float32[np.ndarray, "classes elements"], reference: UInt8[np.ndarray, "elements"]
) -> float:
    """Find the temperature at which the reference surprises a model least.

    Args:
        probability: What the network predicts, on cases that it was not trained on.
        reference: The right class of every element.

    Returns:
        The temperature with the smallest mean of -log p of the right class; 1 without elements.

    Source:
        Guo et al., On calibration of modern neural networks, ICML 2017, section 4.2.
    """
    if reference.size == 0:
        return 1.0
    logits = np.log(np.maximum(probability, LEAST_PROBABILITY)).astype(np.float64)
    right = np.take_along_axis(logits, reference[None].astype(np.intp), axis=0)[0]
    highest = logits.max(axis=0)

    def surprise(log_temperature: float) -> float:
        power = np.exp(-log_temperature)
        total = np.exp(power * (logits - highest)).sum(axis=0)
        return float((np.log(total) + power * (highest - right)).mean())

    end = np.log(LARGEST_CHANGE)
    return float(np.exp(minimize_scalar(surprise, bounds=(-end, end), method="bounded").x))
