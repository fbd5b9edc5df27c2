"""The network: a U-Net with instance normalisation, from MONAI."""

from typing import TypeAlias

from torch import nn

from sfumato.errors import InputError
from sfumato.settings import Settings

LEAST_LEVELS = 3
"""MONAI's network needs them."""

Levels: TypeAlias = tuple[tuple[int, ...], ...]
"""One number for each axis, level by level."""


class NetworkSettings(Settings):
    """The shape of the U-Net.

    Attributes:
        features: Feature maps on each level, from full resolution down; None lets the plan
            choose.
        strides: For each level and axis, how much coarser it is than the level above; the
            first is all ones. None lets the plan choose.
        kernels: For each level and axis, the size of its convolutions; None lets the plan
            choose.
    """

    features: tuple[int, ...] | None = None
    strides: Levels | None = None
    kernels: Levels | None = None


def build_network(settings: NetworkSettings, n_channels: int, n_classes: int) -> nn.Module:
    """Build the U-Net with random weights (torch's global generator draws them).

    Args:
        settings: The shape of the network, nothing left open.
        n_channels: Channels of the image.
        n_classes: Number of classes, background included.

    Raises:
        InputError: If features, strides and kernels do not describe one network.

    Source:
        Isensee et al., nnU-Net, Nature Methods 2021. doi:10.1038/s41592-020-01008-z;
        MONAI's DynUNet.
    """
    features, strides, kernels = settings.features, settings.strides, settings.kernels
    if features is None or strides is None or kernels is None:
        raise InputError("network settings must be complete; let the plan fill them first")
    check_levels(features, strides, kernels)
    # MONAI takes seconds to import.
    from monai.networks.nets.dynunet import DynUNet

    network: nn.Module = DynUNet(
        spatial_dims=len(strides[0]),
        in_channels=n_channels,
        out_channels=n_classes,
        kernel_size=kernels,
        strides=strides,
        upsample_kernel_size=strides[1:],
        filters=features,
        norm_name=("instance", {"affine": True}),
        act_name=("leakyrelu", {"inplace": True, "negative_slope": 0.01}),
    )
    return network


def check_levels(features: tuple[int, ...], strides: Levels, kernels: Levels) -> None:
    """Refuse levels that are no network.

    Raises:
        InputError: If features, strides and kernels do not describe one network.
    """
    if not LEAST_LEVELS <= len(features) == len(strides) == len(kernels):
        raise InputError(
            "network.features, strides and kernels must have one entry for each of at least"
            f" {LEAST_LEVELS} levels, got {len(features)}, {len(strides)} and {len(kernels)}"
        )
    n_axes = len(strides[0])
    if any(len(level) != n_axes for level in (*strides, *kernels)):
        raise InputError(
            f"network.strides and kernels must have {n_axes} numbers on every level,"
            f" got {strides} and {kernels}"
        )
    if min(features) < 1 or min(map(min, strides)) < 1 or max(strides[0]) > 1:
        raise InputError(
            "network.features and strides must be at least 1, and the first strides all 1,"
            f" got {features} and {strides}"
        )
    for kernel, stride in zip(sum(kernels, ()), sum(strides, ()), strict=True):
        if kernel < 1 or kernel % 2 == 0 or stride > kernel + 1:
            raise InputError(
                "network.kernels must be odd, and strides at most one more than the kernel,"
                f" got kernel {kernel} with stride {stride}"
            )
