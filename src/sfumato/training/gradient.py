"""The gradient of a batch in pieces: one after the other, or shared out over processes.

Dice is a ratio of sums over the whole batch, not a mean over patches, so the gradients of pieces
do not add up to that of the batch. Therefore the logits of all pieces are put together, the loss
of the whole gives the slope for each logit, and each piece then passes its own slopes on.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from sfumato.model.losses import LossTerms
from sfumato.model.tensors import HardTarget, Images, OnItsGrid, SoftTarget
from sfumato.training.distributed import World, lost_processes
from sfumato.training.patches import Batch

BatchLoss = Callable[[Sequence[OnItsGrid], HardTarget, SoftTarget], LossTerms]
"""From the logits of one or several levels and the labels of a whole batch to its loss."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Learner:
    """Finds gradients of whole batches.

    Attributes:
        network: What learns, giving logits or those of several levels; one that averages
            gradients over processes, if there are several.
        world: The processes among which batches are shared out.
        dtype: The number type of convolutions.
        n_pieces: Into how many pieces this process cuts its share, at most one a patch. With
            more than one, each goes through the network twice: the first time for the loss of
            the whole, without keeping what gradients need.
    """

    network: nn.Module
    world: World
    dtype: torch.dtype
    n_pieces: int = 1

    def add_gradient(self, batch: Batch, batch_loss: BatchLoss) -> LossTerms:
        """Add the gradient of a batch's loss to that of the network's parameters.

        Args:
            batch: This process's share of the batch.
            batch_loss: The loss of a whole batch.

        Returns:
            The loss of the whole batch, the same in every process.
        """
        pieces = batch.images.tensor_split(min(self.n_pieces, len(batch.images)))
        with nullcontext() if len(pieces) == 1 else torch.no_grad():
            of_pieces = [self._levels(piece) for piece in pieces]
            levels = [torch.cat(level) for level in zip(*of_pieces, strict=True)]
        gathered = [self.world.gather(level.detach()) for level in levels]
        wholes, mine = [whole.requires_grad_() for whole, _ in gathered], gathered[0][1]
        targets = (self.world.gather(t)[0] for t in (batch.hard_target, batch.soft_target))
        terms = batch_loss(wholes, *targets)
        # Processes average their gradients, but those of the parts of a batch add up.
        slopes = [s[mine] * self.world.size for s in torch.autograd.grad(terms.total, wholes)]
        with lost_processes():
            if len(pieces) == 1:
                torch.autograd.backward(levels, slopes)
            else:
                split = (level.tensor_split(len(pieces)) for level in slopes)
                self._pass_on(pieces, list(zip(*split, strict=True)))
        return terms

    def _pass_on(
        self, pieces: Sequence[torch.Tensor], slopes: Sequence[Sequence[torch.Tensor]]
    ) -> None:
        for number, (piece, slope) in enumerate(zip(pieces, slopes, strict=True), start=1):
            with nullcontext() if number == len(pieces) else self._apart():
                torch.autograd.backward(self._levels(piece), slope)

    def _apart(self) -> AbstractContextManager[None]:
        """Add gradients up without asking the other processes yet."""
        if isinstance(self.network, DistributedDataParallel):
            return self.network.no_sync()
        return nullcontext()

    def _levels(self, images: Images) -> list[OnItsGrid]:
        with torch.autocast(images.device.type, self.dtype, enabled=self.dtype != torch.float32):
            logits = self.network(images)
        levels = [logits] if isinstance(logits, torch.Tensor) else logits
        return [level.float() for level in levels]
