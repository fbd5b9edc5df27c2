"""The gradient of a batch that is cut into pieces is that of the whole, Dice included."""

import pytest
import torch
from torch import nn

from sfumato.model.deep_supervision import DeepSupervision
from sfumato.model.losses import (
    SOFT_LOSSES,
    LossSettings,
    LossTerms,
    deep_hard_and_soft_loss,
    hard_and_soft_loss,
)
from sfumato.model.network import NetworkSettings, build_network
from sfumato.model.tensors import HardTarget, OnItsGrid, SoftTarget
from sfumato.training.distributed import ALONE
from sfumato.training.gradient import BatchLoss, Learner
from sfumato.training.patches import Batch

NETWORK = NetworkSettings(
    features=(4, 8, 8), strides=((1, 1), (2, 2), (2, 2)), kernels=((3, 3), (3, 3), (3, 3))
)


DEEPER = NetworkSettings(
    features=(4, 8, 8, 8, 8),
    strides=((1, 1), (2, 2), (2, 2), (2, 1), (1, 2)),
    kernels=((3, 3),) * 5,
)


@pytest.fixture
def network() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return build_network(NETWORK, 1, 3)


@pytest.fixture
def batch() -> Batch:
    """Give patches with structures of very different sizes, so that Dice is no mean over them."""
    with torch.random.fork_rng():
        torch.manual_seed(2)
        share = torch.tensor([0.02, 0.1, 0.5, 0.9, 0.3])[:, None, None]
        hard = (torch.rand(5, 16, 16) < share).long() * torch.randint(1, 3, (5, 16, 16))
        return Batch(
            images=torch.randn(5, 1, 16, 16),
            hard_target=hard,
            soft_target=torch.rand(5, 3, 16, 16).softmax(dim=1),
        )


def loss_by(settings: LossSettings) -> BatchLoss:
    def batch_loss(logits: list[OnItsGrid], hard: HardTarget, soft: SoftTarget) -> LossTerms:
        return deep_hard_and_soft_loss(logits, hard, soft, DEEPER.strides, settings)

    return batch_loss


def gradient(
    network: nn.Module, batch: Batch, batch_loss: BatchLoss, n_pieces: int
) -> tuple[torch.Tensor, float]:
    network.zero_grad()
    learner = Learner(network=network, world=ALONE, dtype=torch.float32, n_pieces=n_pieces)
    terms = learner.add_gradient(batch, batch_loss)
    found = [p.grad.flatten() for p in network.parameters() if p.grad is not None]
    return torch.cat(found), terms.total.item()


@pytest.mark.parametrize("soft", SOFT_LOSSES)
@pytest.mark.parametrize("n_pieces", [1, 2, 3, 5, 9])
def test_pieces_give_the_gradient_of_the_whole_batch(
    network: nn.Module, batch: Batch, soft: str, n_pieces: int
) -> None:
    settings = LossSettings.model_validate({"hard": "dice_and_cross_entropy", "soft": soft})
    terms = hard_and_soft_loss(
        network(batch.images), batch.hard_target, batch.soft_target, settings
    )
    torch.autograd.backward(terms.total)
    expected = torch.cat([p.grad.flatten() for p in network.parameters() if p.grad is not None])
    found, total = gradient(network, batch, loss_by(settings), n_pieces)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)
    assert total == pytest.approx(terms.total.item(), rel=1e-6)


@pytest.mark.parametrize("n_pieces", [1, 2, 5])
def test_pieces_give_the_gradient_of_the_whole_batch_on_every_level(
    batch: Batch, n_pieces: int
) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        supervision = DeepSupervision(build_network(DEEPER, 1, 3), DEEPER, 3)
    terms = deep_hard_and_soft_loss(
        supervision(batch.images), batch.hard_target, batch.soft_target, DEEPER.strides,
        LossSettings(),
    )  # fmt: skip
    torch.autograd.backward(terms.total)
    expected = torch.cat([p.grad.flatten() for p in supervision.parameters() if p.grad is not None])
    found, total = gradient(supervision, batch, loss_by(LossSettings()), n_pieces)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)
    assert total == pytest.approx(terms.total.item(), rel=1e-6)


def test_the_whole_as_one_piece_gives_the_same_bits(network: nn.Module, batch: Batch) -> None:
    settings = LossSettings()
    terms = hard_and_soft_loss(
        network(batch.images), batch.hard_target, batch.soft_target, settings
    )
    torch.autograd.backward(terms.total)
    expected = torch.cat([p.grad.flatten() for p in network.parameters() if p.grad is not None])
    assert torch.equal(gradient(network, batch, loss_by(settings), 1)[0], expected)


def test_dice_of_pieces_does_not_add_up_to_that_of_the_batch(
    network: nn.Module, batch: Batch
) -> None:
    logits = network(batch.images)
    settings = LossSettings(hard="dice", soft_weight=0)
    whole = hard_and_soft_loss(logits, batch.hard_target, batch.soft_target, settings).total
    pieces = [
        hard_and_soft_loss(*(t[i : i + 1] for t in parts), settings).total
        for parts in [(logits, batch.hard_target, batch.soft_target)]
        for i in range(len(batch.images))
    ]
    assert abs(whole - sum(pieces) / len(pieces)) > 0.01


def test_no_more_than_a_piece_goes_through_the_network_at_a_time(
    network: nn.Module, batch: Batch
) -> None:
    sizes: list[tuple[int, bool]] = []

    class Watched(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            sizes.append((len(images), torch.is_grad_enabled()))
            return network(images)

    learner = Learner(network=Watched(), world=ALONE, dtype=torch.float32, n_pieces=3)
    learner.add_gradient(batch, loss_by(LossSettings()))
    # First without what gradients need, for the loss of the whole, then once more with it.
    assert sizes == [(n, has_gradient) for has_gradient in (False, True) for n in (2, 2, 1)]
