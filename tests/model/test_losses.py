import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from sfumato.model.losses import (
    SOFT_LOSSES,
    LossSettings,
    dice_loss,
    dice_semimetric_loss,
    hard_and_soft_loss,
    hard_loss,
    jaccard_metric_loss,
    soft_cross_entropy,
    soft_divergence,
    soft_weight_at,
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


def test_the_settings_name_every_soft_loss():
    names = LossSettings.model_fields["soft"].annotation.__args__
    assert list(names) == list(SOFT_LOSSES)


@settings(deadline=None)
@given(SHAPES, SEEDS, st.sampled_from(list(SOFT_LOSSES)), st.sampled_from([0.01, 0.1, 1.0]))
def test_every_soft_loss_is_least_exactly_at_agreement(shape, seed, name, size):
    _, soft = random_targets(shape, seed)
    soft = (0.9 * soft + 0.1 / shape[1]).double()
    loss, logits = SOFT_LOSSES[name], soft.log()
    # Adding the same to all logits of an element changes nothing, so it is taken out.
    change = size * random_logits(shape, seed + 1).double()
    change -= change.mean(dim=1, keepdim=True)
    at_agreement = loss(logits, soft)
    assert loss(logits + change, soft) > at_agreement
    assert loss(logits - change, soft) > at_agreement


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("name", list(SOFT_LOSSES))
def test_following_the_gradient_of_a_soft_loss_leads_to_the_soft_label(name, seed):
    _, soft = random_targets((2, 3, 4, 4), seed)
    soft = 0.9 * soft + 0.1 / 3
    logits = random_logits((2, 3, 4, 4), seed + 1).requires_grad_()
    before = (logits.softmax(dim=1) - soft).abs().mean().item()
    optimizer = torch.optim.Adam([logits], lr=0.02)
    for _ in range(500):
        optimizer.zero_grad()
        SOFT_LOSSES[name](logits, soft).backward()
        optimizer.step()
    after = (logits.softmax(dim=1) - soft).abs().mean().item()
    assert after < 0.2 * before


def test_product_form_dice_is_not_least_at_a_soft_label():
    # Why Dice meets hard labels only: a more certain prediction has the larger product.
    soft = torch.tensor([[[0.3, 0.3], [0.7, 0.7]]])

    def product_form(probability):
        one = probability[:, 1]
        return 1 - 2 * (one * soft[:, 1]).sum() / (one + soft[:, 1]).sum()

    certain = torch.tensor([[[0.0, 0.0], [1.0, 1.0]]])
    assert product_form(certain) < product_form(soft)
    assert dice_semimetric_loss((certain + 1e-12).log(), soft) > dice_semimetric_loss(
        soft.log(), soft
    )


@settings(deadline=None)
@given(SHAPES, SEEDS)
def test_the_dice_semimetric_of_a_hard_label_is_the_dice_loss(shape, seed):
    logits = random_logits(shape, seed)
    hard, _ = random_targets(shape, seed + 1)
    torch.testing.assert_close(
        dice_semimetric_loss(logits, one_hot(hard, shape[1])), dice_loss(logits, hard)
    )


def test_the_metric_losses_of_a_half_against_a_quarter_are_known():
    soft = torch.tensor([[[0.75, 0.75], [0.25, 0.25]]])
    even = torch.zeros(1, 2, 2)
    # Differences 1/4 and 1/4; sums 1 and 1/2; one added below.
    assert dice_semimetric_loss(even, soft) == pytest.approx(0.5 / 2.5)
    assert jaccard_metric_loss(even, soft) == pytest.approx(2 * 0.5 / 3)


@settings(deadline=None)
@given(SHAPES, SEEDS)
def test_soft_cross_entropy_is_the_divergence_and_the_entropy_of_the_soft_label(shape, seed):
    logits = random_logits(shape, seed)
    _, soft = random_targets(shape, seed + 1)
    entropy = -torch.xlogy(soft, soft).sum(dim=1).mean()
    torch.testing.assert_close(
        soft_cross_entropy(logits, soft), soft_divergence(logits, soft) + entropy
    )


@pytest.mark.parametrize("name", list(SOFT_LOSSES))
def test_the_named_soft_loss_counts_with_the_weight_of_the_moment(name):
    logits = random_logits((2, 3, 4), 0)
    hard, soft = random_targets((2, 3, 4), 1)
    chosen = LossSettings(soft=name, soft_weight=2, soft_ramp=0.5)
    for fraction, weight in ((0.0, 0.0), (0.125, 0.5), (0.5, 2.0), (1.0, 2.0)):
        terms = hard_and_soft_loss(logits, hard, soft, chosen, fraction)
        assert terms.soft == SOFT_LOSSES[name](logits, soft)
        torch.testing.assert_close(terms.total, terms.hard + weight * terms.soft)


def test_a_weight_without_ramp_is_constant():
    constant = LossSettings(soft_weight=0.7)
    assert [soft_weight_at(f, constant) for f in (0.0, 0.5, 1.0)] == [0.7] * 3
