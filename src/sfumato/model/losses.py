"""What training minimises: agreement with the hard label and with the soft one.

Product-form Dice meets hard labels only: with a soft target it is not smallest at agreement.
Whatever meets soft labels here is, and nowhere else (`SOFT_LOSSES`).

Source:
    Li et al., Superpixel-guided label softening for medical image segmentation,
    MICCAI 2020. arXiv:2007.08897
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from pydantic import Field
from torch.nn import functional

from sfumato.model.deep_supervision import level_weights, targets_of_levels
from sfumato.model.tensors import HardTarget, Logits, OnItsGrid, Scalar, SoftTarget
from sfumato.settings import Settings


class LossSettings(Settings):
    """How hard and soft labels count.

    Attributes:
        hard: What meets the hard label: "dice", "cross_entropy" or the sum of both.
        soft: What meets the soft label: "divergence" (Kullback-Leibler), "cross_entropy",
            "dice_semimetric" or "jaccard_metric".
        soft_weight: α, the weight of what meets the soft label; 0 trains on the hard label
            alone.
        soft_ramp: Share of the training over which α grows evenly from 0 to `soft_weight`;
            0 keeps it constant.
        deep_supervision: Whether the decoder's coarser levels are trained on coarser labels
            too.
    """

    hard: Literal["dice", "cross_entropy", "dice_and_cross_entropy"] = "dice"
    soft: Literal["divergence", "cross_entropy", "dice_semimetric", "jaccard_metric"] = "divergence"
    soft_weight: float = Field(default=1.0, ge=0)
    soft_ramp: float = Field(default=0.0, ge=0, le=1)
    deep_supervision: bool = False


@dataclass(frozen=True, kw_only=True)
class LossTerms:
    """The parts of the loss, kept apart so that each can be logged."""

    hard: Scalar
    soft: Scalar
    total: Scalar


def dice_loss(logits: Logits, hard_target: HardTarget) -> Scalar:
    """Measure how little prediction and hard label overlap, over the whole batch.

    Returns:
        One minus the Dice coefficient of predicted probabilities and label, averaged over
        the foreground classes: 0 (the same) to 1 (apart). One element is added to
        numerator and denominator, so that a class that is absent is no division by zero.

    Source:
        Milletari et al., V-Net, 3DV 2016. arXiv:1606.04797 (first power in the
        denominator, sums over the batch).
    """
    probability = logits.softmax(dim=1)
    one_hot = _one_hot(hard_target, logits)
    over_elements = [0, *range(2, logits.ndim)]
    intersection = (probability * one_hot).sum(over_elements)
    size = (probability + one_hot).sum(over_elements)
    dice = (2 * intersection + 1) / (size + 1)
    return 1 - dice[1:].mean()


def _one_hot(hard_target: HardTarget, logits: Logits) -> SoftTarget:
    return functional.one_hot(hard_target, logits.shape[1]).movedim(-1, 1).to(logits.dtype)


def soft_divergence(logits: Logits, soft_target: SoftTarget) -> Scalar:
    """Average Kullback-Leibler divergence KL(q ‖ p) from the prediction to the soft label.

    Returns:
        Nats per element. Zero exactly where the predicted probabilities equal the soft
        label; for a one-hot label this is the cross-entropy.
    """
    log_probability = logits.log_softmax(dim=1)
    divergence = torch.xlogy(soft_target, soft_target) - soft_target * log_probability
    return divergence.sum(dim=1).mean()


def soft_cross_entropy(logits: Logits, soft_target: SoftTarget) -> Scalar:
    """Average cross-entropy of the prediction under the soft label.

    Returns:
        Nats per element: the divergence plus the soft label's own entropy, so its gradients
        are those of the divergence, but at agreement it is not zero.
    """
    return -(soft_target * logits.log_softmax(dim=1)).sum(dim=1).mean()


def dice_semimetric_loss(logits: Logits, soft_target: SoftTarget) -> Scalar:
    """Measure how little prediction and soft label overlap, over the whole batch.

    Returns:
        Sum of absolute differences over the sum of both, averaged over the foreground
        classes: 0 (exactly at agreement) to 1. One element is added to the denominator, so
        that an absent class is no division by zero. For a hard label it is `dice_loss`.

    Source:
        Wang et al., Dice semimetric losses, MICCAI 2023. arXiv:2303.16296 (the first form).
    """
    difference, size = _difference_and_size(logits, soft_target)
    return (difference / (size + 1))[1:].mean()


def jaccard_metric_loss(logits: Logits, soft_target: SoftTarget) -> Scalar:
    """Measure how little of their union prediction and soft label share, over the whole batch.

    Returns:
        Twice the sum of absolute differences over that sum plus the sum of both, averaged
        over the foreground classes: 0 (exactly at agreement) to 1. One element is added to
        the denominator.

    Source:
        Wang et al., Jaccard metric losses, NeurIPS 2023. arXiv:2302.05666 (the first form).
    """
    difference, size = _difference_and_size(logits, soft_target)
    return (2 * difference / (size + difference + 1))[1:].mean()


def _difference_and_size(
    logits: Logits, soft_target: SoftTarget
) -> tuple[torch.Tensor, torch.Tensor]:
    """Sum absolute differences, and prediction and target, for each class."""
    probability = logits.softmax(dim=1)
    over_elements = [0, *range(2, logits.ndim)]
    difference = (probability - soft_target).abs().sum(over_elements)
    return difference, (probability + soft_target).sum(over_elements)


SOFT_LOSSES: Mapping[str, Callable[[Logits, SoftTarget], Scalar]] = {
    "divergence": soft_divergence,
    "cross_entropy": soft_cross_entropy,
    "dice_semimetric": dice_semimetric_loss,
    "jaccard_metric": jaccard_metric_loss,
}
"""What can meet the soft label, by its name in the settings."""


def soft_weight_at(fraction: float, settings: LossSettings) -> float:
    """Return α when a share of the training, by steps or by time, is done.

    Examples:
        >>> settings = LossSettings(soft_weight=2, soft_ramp=0.5)
        >>> [soft_weight_at(fraction, settings) for fraction in (0, 0.25, 0.5, 1)]
        [0.0, 1.0, 2.0, 2.0]
    """
    if fraction >= settings.soft_ramp:
        return settings.soft_weight
    return settings.soft_weight * fraction / settings.soft_ramp


def hard_loss(logits: Logits, hard_target: HardTarget, settings: LossSettings) -> Scalar:
    """Measure disagreement with the hard label, as the settings say."""
    match settings.hard:
        case "dice":
            return dice_loss(logits, hard_target)
        case "cross_entropy":
            return functional.cross_entropy(logits, hard_target)
        case "dice_and_cross_entropy":
            cross_entropy = functional.cross_entropy(logits, hard_target)
            return dice_loss(logits, hard_target) + cross_entropy


def _coarse_hard_loss(logits: Logits, target: SoftTarget, settings: LossSettings) -> Scalar:
    """Measure disagreement with a hard label that a coarser grid has made a probability.

    Each is `hard_loss` where the label is hard there too, and smallest at agreement
    elsewhere, which product-form Dice is not.
    """
    match settings.hard:
        case "dice":
            return dice_semimetric_loss(logits, target)
        case "cross_entropy":
            return soft_cross_entropy(logits, target)
        case "dice_and_cross_entropy":
            return dice_semimetric_loss(logits, target) + soft_cross_entropy(logits, target)


def hard_and_soft_loss(
    logits: Logits,
    hard_target: HardTarget,
    soft_target: SoftTarget,
    settings: LossSettings,
    fraction: float = 1.0,
) -> LossTerms:
    """Add up the hard loss and the weighted soft loss.

    Args:
        logits: What the network gave.
        hard_target: The annotation.
        soft_target: The softened annotation.
        settings: What counts, and how much.
        fraction: Share of the training that is done, 0 to 1; a ramped α goes by it.
    """
    hard = hard_loss(logits, hard_target, settings)
    soft = SOFT_LOSSES[settings.soft](logits, soft_target)
    return LossTerms(hard=hard, soft=soft, total=hard + soft_weight_at(fraction, settings) * soft)


def deep_hard_and_soft_loss(
    logits: Sequence[OnItsGrid],
    hard_target: HardTarget,
    soft_target: SoftTarget,
    strides: Sequence[Sequence[int]],
    settings: LossSettings,
    fraction: float = 1.0,
) -> LossTerms:
    """Add up the hard and soft losses of several levels, each level by its weight.

    Args:
        logits: What the network gave on each level, full resolution first.
        hard_target: The annotation.
        soft_target: The softened annotation.
        strides: `NetworkSettings.strides`; not looked at where there is one level.
        settings: What counts, and how much.
        fraction: Share of the training that is done, 0 to 1; a ramped α goes by it.
    """
    finest, *coarser = level_weights(len(logits))
    terms = hard_and_soft_loss(logits[0], hard_target, soft_target, settings, fraction)
    if not coarser:
        return terms
    hard, soft = finest * terms.hard, finest * terms.soft
    one_hot = _one_hot(hard_target, logits[0])
    hard_targets = targets_of_levels(one_hot, strides, len(logits))
    soft_targets = targets_of_levels(soft_target, strides, len(logits))
    for level, weight in enumerate(coarser, start=1):
        hard = hard + weight * _coarse_hard_loss(logits[level], hard_targets[level], settings)
        soft = soft + weight * SOFT_LOSSES[settings.soft](logits[level], soft_targets[level])
    return LossTerms(hard=hard, soft=soft, total=hard + soft_weight_at(fraction, settings) * soft)
