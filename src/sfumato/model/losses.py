"""What training minimises: agreement with the hard label and with the soft one.

Dice meets hard labels only: with a soft target its product form is not smallest at
agreement. The Kullback-Leibler divergence is, so that is what soft labels meet.

Source:
    Li et al., Superpixel-guided label softening for medical image segmentation,
    MICCAI 2020. arXiv:2007.08897
"""

from dataclasses import dataclass
from typing import Literal

import torch
from pydantic import Field
from torch.nn import functional

from sfumato.model.tensors import HardTarget, Logits, Scalar, SoftTarget
from sfumato.settings import Settings


class LossSettings(Settings):
    """How hard and soft labels count.

    Attributes:
        hard: What meets the hard label: "dice", "cross_entropy" or the sum of both.
        soft_weight: α, the weight of the divergence from the soft label; 0 trains on the
            hard label alone.
    """

    hard: Literal["dice", "cross_entropy", "dice_and_cross_entropy"] = "dice"
    soft_weight: float = Field(default=1.0, ge=0)


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
    one_hot = functional.one_hot(hard_target, logits.shape[1]).movedim(-1, 1).to(logits.dtype)
    over_elements = [0, *range(2, logits.ndim)]
    intersection = (probability * one_hot).sum(over_elements)
    size = (probability + one_hot).sum(over_elements)
    dice = (2 * intersection + 1) / (size + 1)
    return 1 - dice[1:].mean()


def soft_divergence(logits: Logits, soft_target: SoftTarget) -> Scalar:
    """Average Kullback-Leibler divergence KL(q ‖ p) from the prediction to the soft label.

    Returns:
        Nats per element. Zero exactly where the predicted probabilities equal the soft
        label; for a one-hot label this is the cross-entropy.
    """
    log_probability = logits.log_softmax(dim=1)
    divergence = torch.xlogy(soft_target, soft_target) - soft_target * log_probability
    return divergence.sum(dim=1).mean()


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


def hard_and_soft_loss(
    logits: Logits,
    hard_target: HardTarget,
    soft_target: SoftTarget,
    settings: LossSettings,
) -> LossTerms:
    """Add up the hard loss and the weighted soft loss."""
    hard = hard_loss(logits, hard_target, settings)
    soft = soft_divergence(logits, soft_target)
    return LossTerms(hard=hard, soft=soft, total=hard + settings.soft_weight * soft)
