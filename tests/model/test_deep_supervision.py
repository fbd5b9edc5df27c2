from itertools import pairwise

import pytest
import torch
from torch.nn import functional

from sfumato.model.deep_supervision import (
    DeepSupervision,
    coarsen,
    level_weights,
    targets_of_levels,
)
from sfumato.model.losses import (
    LossSettings,
    deep_hard_and_soft_loss,
    hard_and_soft_loss,
    hard_loss,
)
from sfumato.model.network import NetworkSettings, build_network

THICK_SLICES = NetworkSettings(
    features=(4, 5, 6, 7, 8),
    strides=((1, 1, 1), (2, 2, 1), (2, 2, 1), (2, 2, 2), (2, 1, 2)),
    kernels=((3, 3, 1), (3, 3, 1), (3, 3, 3), (3, 3, 3), (3, 3, 3)),
)
FLAT = NetworkSettings(
    features=(4, 8, 8), strides=((1, 1), (2, 2), (2, 2)), kernels=((3, 3), (3, 3), (3, 3))
)
SHAPE = (16, 16, 4)


def random_label(shape=(2, *SHAPE)):
    return torch.randint(3, shape, generator=torch.Generator().manual_seed(3))


def one_hot(label):
    return functional.one_hot(label, 3).movedim(-1, 1).float()


def random_soft_label():
    logits = torch.randn((2, 3, *SHAPE), generator=torch.Generator().manual_seed(4))
    return (3 * logits).softmax(dim=1)


def test_each_level_but_the_coarsest_guesses_on_its_own_grid():
    supervision = DeepSupervision(build_network(THICK_SLICES, 2, 3), THICK_SLICES, 3)
    logits = supervision(torch.randn(2, 2, *SHAPE))
    assert [tuple(level.shape[2:]) for level in logits] == [(16, 16, 4), (8, 8, 4), (4, 4, 4)]
    assert all(level.shape[:2] == (2, 3) for level in logits)
    targets = targets_of_levels(random_soft_label(), THICK_SLICES.strides, len(logits))
    assert [t.shape for t in targets] == [level.shape for level in logits]


def test_a_network_of_three_levels_has_nothing_to_add():
    supervision = DeepSupervision(build_network(FLAT, 1, 2), FLAT, 2)
    assert len(supervision.heads) == 0
    assert len(supervision(torch.randn(1, 1, 8, 8))) == 1


@pytest.mark.parametrize(("settings", "shape"), [(THICK_SLICES, SHAPE), (FLAT, (8, 12))])
def test_full_resolution_is_what_the_network_gives_by_itself(settings, shape):
    network = build_network(settings, 2, 3)
    images = torch.randn(2, 2, *shape)
    assert torch.equal(DeepSupervision(network, settings, 3)(images)[0], network(images))


def test_every_head_learns():
    supervision = DeepSupervision(build_network(THICK_SLICES, 2, 3), THICK_SLICES, 3)
    loss = deep_hard_and_soft_loss(
        supervision(torch.randn(2, 2, *SHAPE)),
        random_label(),
        random_soft_label(),
        THICK_SLICES.strides,
        LossSettings(),
    )
    torch.autograd.backward(loss.total)
    assert all(p.grad is not None and p.grad.any() for p in supervision.heads.parameters())


@pytest.mark.parametrize("n_levels", range(1, 6))
def test_weights_halve_and_add_up_to_one(n_levels):
    weights = level_weights(n_levels)
    assert sum(weights) == pytest.approx(1)
    assert all(below == above / 2 for above, below in pairwise(weights))


def test_a_coarse_label_is_the_share_of_what_it_covers():
    label = torch.tensor([[[0, 0, 1, 1], [0, 1, 1, 1], [2, 2, 1, 0], [2, 2, 0, 0]]])
    coarse = coarsen(one_hot(label), (2, 2))
    assert coarse[0, :, 0, 0].tolist() == [0.75, 0.25, 0]
    assert coarse[0, :, 0, 1].tolist() == [0, 1, 0]
    assert coarse[0, :, 1, 0].tolist() == [0, 0, 1]
    assert coarse[0, :, 1, 1].tolist() == [0.75, 0.25, 0]


def test_coarse_labels_stay_probabilities_and_keep_volumes_along_any_strides():
    soft = random_soft_label()
    for target in targets_of_levels(soft, THICK_SLICES.strides, 5):
        torch.testing.assert_close(target.sum(dim=1), torch.ones_like(target[:, 0]))
        torch.testing.assert_close(target.mean(dim=(0, 2, 3, 4)), soft.mean(dim=(0, 2, 3, 4)))


def test_one_level_counts_as_without_deep_supervision():
    logits, label, soft = torch.randn(2, 3, *SHAPE), random_label(), random_soft_label()
    settings = LossSettings(soft_weight=0.5, soft_ramp=0.5)
    plain = hard_and_soft_loss(logits, label, soft, settings, 0.2)
    deep = deep_hard_and_soft_loss([logits], label, soft, THICK_SLICES.strides, settings, 0.2)
    assert (deep.hard, deep.soft, deep.total) == (plain.hard, plain.soft, plain.total)


@pytest.mark.parametrize("hard", ["dice", "cross_entropy", "dice_and_cross_entropy"])
def test_levels_add_up_by_their_weights(hard):
    """Where the coarse label is hard, a level counts as full resolution would."""
    coarse_label = random_label((2, 8, 8, 4))
    label = coarse_label.repeat_interleave(2, 1).repeat_interleave(2, 2)
    settings = LossSettings(hard=hard, soft="cross_entropy", soft_weight=2)
    fine, coarse = torch.randn(2, 3, *SHAPE), torch.randn(2, 3, 8, 8, 4)
    deep = deep_hard_and_soft_loss(
        [fine, coarse], label, one_hot(label), THICK_SLICES.strides, settings
    )
    alone = [
        hard_and_soft_loss(fine, label, one_hot(label), settings),
        hard_and_soft_loss(coarse, coarse_label, one_hot(coarse_label), settings),
    ]
    torch.testing.assert_close(deep.hard, (2 * alone[0].hard + alone[1].hard) / 3)
    torch.testing.assert_close(deep.total, (2 * alone[0].total + alone[1].total) / 3)


@pytest.mark.parametrize("hard", ["dice", "cross_entropy"])
def test_a_coarse_level_is_best_at_the_share_of_volume(hard):
    """Product-form Dice would be best where the larger class has everything."""
    label = torch.zeros(1, *SHAPE, dtype=torch.long)
    label[..., 1::2, :] = 1
    label[:, ::2] = 1
    target = coarsen(functional.one_hot(label, 2).movedim(-1, 1).float(), (2, 2, 1))
    assert target[:, 1].unique().tolist() == [0.75]

    def loss(probability):
        coarse = torch.tensor([1 - probability, probability]).log()
        coarse = coarse.reshape(1, 2, 1, 1, 1).expand(1, 2, 8, 8, 4)
        fine = torch.zeros(1, 2, *SHAPE)
        soft = functional.one_hot(label, 2).movedim(-1, 1).float()
        settings = LossSettings(hard=hard, soft_weight=0)
        terms = deep_hard_and_soft_loss([fine, coarse], label, soft, THICK_SLICES.strides, settings)
        return float(terms.total - 2 / 3 * hard_loss(fine, label, settings))

    assert loss(0.75) < min(loss(0.6), loss(0.7), loss(0.8), loss(0.999))
