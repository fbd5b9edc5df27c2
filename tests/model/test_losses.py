import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from sfumato.model.losses import (
    LossSettings,
    dice_loss,
    hard_and_soft_loss,
    hard_loss,
    soft_divergence,
)

SHAPES = st.sampled_from([(1, 2, 4), (2, 3, 4, 4), (2, 5, 3, 3, 2)])
SEEDS = st.integers(0, 2**31)
CERTAIN = 1e4
"""A logit so large that its class has the probability 1."""


def random_logits(shape, seed):
    return 3 * torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def random_targets(shape, seed):
    """Draw soft labels with exact zeros in them, and the most probable classes."""
    generator = torch.Generator().manual_seed(seed)
    weight = (torch.rand(shape, generator=generator) - 0.3).clamp(min=0)
    weight[:, 0] += weight.sum(dim=1) == 0
    soft = weight / weight.sum(dim=1, keepdim=True)
    return soft.argmax(dim=1), soft


def one_hot(label, n_classes):
    return functional.one_hot(label, n_classes).movedim(-1, 1).float()


def test_dice_loss_is_zero_for_the_same_and_nearly_one_apart():
    label = torch.tensor([[0, 0, 1, 2] * 50])
    same = CERTAIN * one_hot(label, 3)
    assert dice_loss(same, label) == 0
    shifted = CERTAIN * one_hot((label + 1) % 3, 3)
    assert dice_loss(shifted, label) == pytest.approx(1, abs=0.02)


def test_dice_loss_of_a_half_overlap_is_known():
    label = torch.tensor([[1, 1, 0, 0]])
    logits = CERTAIN * one_hot(torch.tensor([[0, 1, 1, 0]]), 2)
    # Intersection 1, sizes 2 and 2, one added to both: (2 + 1) / (4 + 1).
    assert dice_loss(logits, label) == pytest.approx(1 - 3 / 5)


def test_dice_loss_leaves_background_out_and_stands_absent_classes():
    label = torch.zeros((1, 8), dtype=torch.long)
    assert dice_loss(CERTAIN * one_hot(label, 3), label) == 0


def test_dice_loss_counts_a_class_over_the_whole_batch():
    label = torch.tensor([[1, 1, 1, 1], [0, 0, 0, 0]])
    logits = CERTAIN * one_hot(torch.tensor([[1, 1, 1, 1], [1, 0, 0, 0]]), 2)
    assert dice_loss(logits, label) == pytest.approx(1 - 9 / 10)


def test_divergence_of_an_even_prediction_from_a_certain_label_is_log_two():
    soft = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]])
    assert soft_divergence(torch.zeros(1, 2, 2), soft) == pytest.approx(math.log(2))


def test_divergence_is_known_for_a_quarter_against_a_half():
    soft = torch.tensor([[[0.25], [0.75]]])
    expected = 0.25 * math.log(0.25 / 0.5) + 0.75 * math.log(0.75 / 0.5)
    assert soft_divergence(torch.zeros(1, 2, 1), soft) == pytest.approx(expected)


@settings(deadline=None)
@given(SHAPES, SEEDS)
def test_divergence_vanishes_at_agreement_and_nowhere_else(shape, seed):
    logits = random_logits(shape, seed)
    agreeing = soft_divergence(logits, logits.softmax(dim=1))
    assert abs(agreeing.item()) < 1e-6
    hard, soft = random_targets(shape, seed + 1)
    for target in (soft, one_hot(hard, shape[1])):
        assert soft_divergence(logits, target) > 1e-4


@settings(deadline=None)
@given(SHAPES, SEEDS)
def test_divergence_is_least_at_the_soft_label(shape, seed):
    _, soft = random_targets(shape, seed)
    soft = 0.9 * soft + 0.1 / shape[1]
    logits = soft.log().requires_grad_()
    (gradient,) = torch.autograd.grad(soft_divergence(logits, soft), logits)
    assert gradient.abs().max() < 1e-6


@settings(deadline=None)
@given(SHAPES, SEEDS)
def test_divergence_from_a_hard_label_is_the_cross_entropy(shape, seed):
    logits = random_logits(shape, seed)
    hard, _ = random_targets(shape, seed + 1)
    torch.testing.assert_close(
        soft_divergence(logits, one_hot(hard, shape[1])), functional.cross_entropy(logits, hard)
    )


@settings(deadline=None)
@given(SHAPES, SEEDS, st.sampled_from(["dice", "cross_entropy", "dice_and_cross_entropy"]))
def test_the_total_is_the_hard_loss_and_alpha_times_the_soft_one(shape, seed, hard_name):
    logits = random_logits(shape, seed)
    hard, soft = random_targets(shape, seed + 1)
    for weight in (0.0, 0.5, 2.0):
        chosen = LossSettings(hard=hard_name, soft_weight=weight)
        terms = hard_and_soft_loss(logits, hard, soft, chosen)
        torch.testing.assert_close(terms.total, terms.hard + weight * terms.soft)
        torch.testing.assert_close(terms.hard, hard_loss(logits, hard, chosen))
        torch.testing.assert_close(terms.soft, soft_divergence(logits, soft))


def test_the_hard_loss_is_the_one_that_is_named():
    logits = random_logits((2, 3, 4), 0)
    hard, _ = random_targets((2, 3, 4), 1)
    dice = dice_loss(logits, hard)
    cross_entropy = functional.cross_entropy(logits, hard)
    both = LossSettings(hard="dice_and_cross_entropy")
    assert hard_loss(logits, hard, LossSettings(hard="dice")) == dice
    assert hard_loss(logits, hard, LossSettings(hard="cross_entropy")) == cross_entropy
    assert hard_loss(logits, hard, both) == dice + cross_entropy


@pytest.mark.parametrize("scale", [0.0, 1.0, 100.0, CERTAIN])
@pytest.mark.parametrize("hard_name", ["dice", "dice_and_cross_entropy"])
def test_gradients_are_finite_however_certain_label_and_prediction_are(scale, hard_name):
    hard, soft = random_targets((2, 3, 5, 5), 0)
    assert (soft == 0).any()
    for target in (soft, one_hot(hard, 3), one_hot(2 - hard, 3)):
        logits = (scale * random_logits((2, 3, 5, 5), 1)).requires_grad_()
        terms = hard_and_soft_loss(logits, hard, target, LossSettings(hard=hard_name))
        (gradient,) = torch.autograd.grad(terms.total, logits)
        assert terms.total.isfinite()
        assert gradient.isfinite().all()
