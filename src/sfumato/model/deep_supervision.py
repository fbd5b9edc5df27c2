"""Deep supervision: while it learns, the decoder answers for its coarser levels too.

A convolution of size 1 on each of them guesses the classes there, and is thrown away after
training: the trained network and what it costs to use it are the same as without.

Source:
    Lee et al., Deeply-supervised nets, AISTATS 2015. arXiv:1409.5185; weights and levels of
    Isensee et al., nnU-Net, Nature Methods 2021. doi:10.1038/s41592-020-01008-z
"""

from collections.abc import Sequence

import torch
from torch import nn

from sfumato.model.network import NetworkSettings
from sfumato.model.tensors import Images, OnItsGrid


class DeepSupervision(nn.Module):
    """A network with a head for each supervised level of its decoder below full resolution.

    The decoder's coarsest level is left out: hardly anything can be told apart there. So a
    network of three levels has no such head. Torch's global generator draws the weights.

    Args:
        network: A network of `build_network`; it is not changed.
        settings: Its shape, nothing left open.
        n_classes: Number of classes, background included.
    """

    def __init__(self, network: nn.Module, settings: NetworkSettings, n_classes: int) -> None:
        super().__init__()
        assert settings.features is not None
        assert settings.strides is not None
        self.network = network
        self.strides = settings.strides
        convolution = nn.Conv2d if len(self.strides[0]) == 2 else nn.Conv3d
        self.heads = nn.ModuleList(
            convolution(n_features, n_classes, kernel_size=1)
            for n_features in settings.features[1:-2]
        )
        for name, parameter in self.heads.named_parameters():
            # As DynUNet's own layers.
            if name.endswith("bias"):
                nn.init.zeros_(parameter)
            else:
                nn.init.kaiming_normal_(parameter, a=0.01)

    def forward(self, images: Images) -> list[OnItsGrid]:
        """Compute the network's own logits, and those of each head, finest first.

        Args:
            images: A batch whose shape divides by the network's strides.
        """
        part = self.network.get_submodule
        skips = [part("input_block")(images)]
        for downsample in part("downsamples").children():
            skips.append(downsample(skips[-1]))
        features = part("bottleneck")(skips[-1])
        decoded = []
        for upsample, skip in zip(part("upsamples").children(), reversed(skips), strict=True):
            features = upsample(features, skip)
            decoded.append(features)
        finest, *coarser, _ = reversed(decoded)
        coarser_logits = [head(level) for head, level in zip(self.heads, coarser, strict=True)]
        return [part("output_block")(finest), *coarser_logits]


def level_weights(n_levels: int) -> list[float]:
    """Return how much each level counts: half as much as the one above, 1 in all.

    Examples:
        >>> [round(weight, 3) for weight in level_weights(3)]
        [0.571, 0.286, 0.143]
    """
    total = 2 - 0.5 ** (n_levels - 1)
    return [0.5**level / total for level in range(n_levels)]


def coarsen(target: OnItsGrid, strides: Sequence[int]) -> OnItsGrid:
    """Bring class probabilities to a coarser grid: the mean over what each element covers.

    That is the probability of a class at a place drawn at random in the element, so it still
    sums to one; a boundary softened on the fine grid is softened as far in millimetres on the
    coarse one, and a thin structure fades where picking one of the elements would lose it or
    make it too thick.

    Args:
        target: Probabilities; the shape divides by the strides.
        strides: How many elements become one, along each axis.
    """
    # Along one axis after the other: torch pools no volumes on some devices.
    for axis, stride in enumerate(strides, start=2):
        if stride > 1:
            target = torch.unflatten(target, axis, (-1, stride)).mean(dim=axis + 1)
    return target


def targets_of_levels(
    target: OnItsGrid, strides: Sequence[Sequence[int]], n_levels: int
) -> list[OnItsGrid]:
    """Bring class probabilities to the grids of full resolution and the levels below.

    Args:
        target: Probabilities at full resolution.
        strides: `NetworkSettings.strides`.
        n_levels: How many levels, full resolution included.
    """
    targets = [target]
    for level in range(1, n_levels):
        targets.append(coarsen(targets[-1], strides[level]))
    return targets
