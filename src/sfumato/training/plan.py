"""From a data set's fingerprint to grid, patch, network and superpixels: no expert needed.

The rules follow nnU-Net where they meet the same question, with sizes that suit a laptop.

Source:
    Isensee et al., nnU-Net, Nature Methods 2021. doi:10.1038/s41592-020-01008-z
"""

from collections.abc import Sequence

import numpy as np

from sfumato.arrays import Spacing
from sfumato.errors import InputError
from sfumato.image.preprocessing import ChannelSettings, PreprocessingSettings
from sfumato.labels.superpixels import SuperpixelSettings
from sfumato.model.network import LEAST_LEVELS, Levels, NetworkSettings, check_levels
from sfumato.settings import Settings
from sfumato.training.augmentation import THICK_SLICES, AugmentationSettings
from sfumato.training.fingerprint import ChannelFingerprint, Fingerprint, choose_superpixel_size
from sfumato.training.patches import PatchSettings

PATCH_ELEMENTS = {2: 2**16, 3: 2**17}
"""Elements in a patch before it is rounded up: 256×256, or about 50×50×50."""
BATCH_ELEMENTS = 2**18
"""Elements in a batch, about; at least two patches, for a steady gradient."""
LARGEST_BATCH = 64
"""Patches in a batch at most: with tiny images, drawing them takes longer than learning."""
SMALLEST_FEATURE_MAP = 4
MAX_LEVELS = 6
FIRST_FEATURES = 16
MAX_FEATURES = 256
HOUNSFIELD_AIR = -500.0
"""Images whose smallest intensity lies below this are taken for computed tomography."""


class Plan(Settings):
    """The settings that depend on the data; None stands for "let the plan choose"."""

    preprocessing: PreprocessingSettings = PreprocessingSettings()
    superpixels: SuperpixelSettings = SuperpixelSettings()
    patches: PatchSettings = PatchSettings()
    network: NetworkSettings = NetworkSettings()
    augmentation: AugmentationSettings = AugmentationSettings()


def make_plan(fingerprint: Fingerprint, wishes: Plan) -> Plan:
    """Choose every value that the wishes leave open.

    Args:
        fingerprint: What the data are like.
        wishes: Values that are set already; they are kept, and the others fit themselves
            to them.

    Raises:
        InputError: If a wish does not fit the data, such as a spacing with two numbers for
            volumes.
    """
    n_axes = len(fingerprint.spacing_mm)
    spacing = wishes.preprocessing.spacing_mm or choose_spacing(fingerprint)
    if len(spacing) != n_axes or min(spacing) <= 0:
        raise InputError(
            f"preprocessing.spacing_mm must be {n_axes} positive numbers, got {list(spacing)}"
        )
    channels = wishes.preprocessing.channels or tuple(map(choose_channel, fingerprint.channels))
    if len(channels) != len(fingerprint.channels):
        raise InputError(
            f"preprocessing.channels must have {len(fingerprint.channels)} entries, one a channel"
            f" of the images, got {len(channels)}"
        )
    shape, network = choose_network(fingerprint, spacing, wishes)
    batch_size = BATCH_ELEMENTS // int(np.prod(shape))
    batch_size = wishes.patches.batch_size or min(max(2, batch_size), LARGEST_BATCH)
    size_mm = wishes.superpixels.size_mm or choose_superpixel_size(fingerprint, spacing)
    mirror_axes = wishes.augmentation.mirror_axes
    if mirror_axes is None:
        chiral = {pair.axis for pair in fingerprint.mirror_pairs}
        mirror_axes = tuple(a for a in usual_mirror_axes(n_axes) if a not in chiral)
    if not set(mirror_axes) <= set(range(n_axes)) or len(set(mirror_axes)) < len(mirror_axes):
        raise InputError(
            f"augmentation.mirror_axes must be different axes out of 0 to {n_axes - 1},"
            f" got {list(mirror_axes)}"
        )
    return Plan(
        preprocessing=wishes.preprocessing.model_copy(
            update={"spacing_mm": spacing, "channels": channels}
        ),
        superpixels=wishes.superpixels.model_copy(update={"size_mm": size_mm}),
        patches=wishes.patches.model_copy(update={"shape": shape, "batch_size": batch_size}),
        network=network,
        augmentation=wishes.augmentation.model_copy(update={"mirror_axes": mirror_axes}),
    )


def usual_mirror_axes(n_axes: int) -> tuple[int, ...]:
    """Return the axes that are mirrored where no two classes change places by it.

    Flat images may lie any way round; in a volume only left and right look alike.
    """
    return (0, 1) if n_axes == 2 else (0,)


def choose_spacing(fingerprint: Fingerprint) -> Spacing:
    """Choose the model's spacing: the median, but finer along thick slices."""
    spacing = list(fingerprint.spacing_mm)
    coarsest = int(np.argmax(spacing))
    if spacing[coarsest] > THICK_SLICES * min(spacing):
        spacing[coarsest] = max(fingerprint.fine_spacing_mm[coarsest], min(spacing))
    return tuple(float(f"{s:.6g}") for s in spacing)


def choose_channel(channel: ChannelFingerprint) -> ChannelSettings:
    """Choose how a channel's intensities are normalised."""
    if channel.minimum < HOUNSFIELD_AIR:
        return ChannelSettings(
            normalization="dataset",
            low=channel.low,
            high=channel.high,
            mean=channel.mean,
            deviation=max(channel.deviation, 1e-6),
        )
    return ChannelSettings(normalization="case", ignore_zero=channel.zero_share > 0.25)


def choose_network(
    fingerprint: Fingerprint, spacing: Spacing, wishes: Plan
) -> tuple[tuple[int, ...], NetworkSettings]:
    """Choose patch and network together, since a patch must divide by the network's strides.

    Returns:
        The patch's shape, and the network's levels.

    Raises:
        InputError: If a wish does not fit the data or another wish.
    """
    image_shape = [e / s for e, s in zip(fingerprint.shape_mm, spacing, strict=True)]
    shape = wishes.patches.shape or _patch_shape(image_shape, spacing)
    if len(shape) != len(spacing):
        raise InputError(f"patches.shape must be {len(spacing)} numbers, got {list(shape)}")
    network = _choose_levels(shape, spacing, wishes.network)
    assert network.strides is not None
    divisors = np.prod(network.strides, axis=0)
    divisible = tuple(int(d * max(1, round(n / d))) for n, d in zip(shape, divisors, strict=True))
    if wishes.patches.shape is not None and divisible != tuple(shape):
        raise InputError(
            f"patches.shape must divide by the network's strides {divisors.tolist()},"
            f" got {list(shape)}; try {list(divisible)}"
        )
    if np.prod(divisible // divisors) < 2:
        raise InputError(
            f"a patch of {list(divisible)} elements leaves a single one on the network's coarsest"
            " level; make patches.shape larger, or network.strides smaller"
        )
    return divisible, network


def _choose_levels(
    shape: Sequence[int], spacing: Spacing, wishes: NetworkSettings
) -> NetworkSettings:
    n_wished = len(wishes.features or wishes.kernels or ())
    strides, kernels = _levels(shape, spacing, n_wished or MAX_LEVELS)
    while len(strides) < max(LEAST_LEVELS, n_wished):  # a tiny image
        strides, kernels = (*strides, (1,) * len(spacing)), (*kernels, kernels[-1])
    if wishes.strides is not None:
        strides, kernels = wishes.strides, ((3,) * len(spacing),) * len(wishes.strides)
    features = wishes.features or tuple(
        min(FIRST_FEATURES * 2**i, MAX_FEATURES) for i in range(len(strides))
    )
    kernels = wishes.kernels or kernels
    if any(len(level) != len(spacing) for level in (*strides, *kernels)):
        raise InputError(
            f"network.strides and kernels must have {len(spacing)} numbers on every level,"
            f" got {strides} and {kernels}"
        )
    check_levels(features, strides, kernels)
    return NetworkSettings(features=features, strides=strides, kernels=kernels)


def _patch_shape(image_shape: Sequence[float], spacing: Spacing) -> tuple[int, ...]:
    """Find the largest patch that is as wide in mm along every axis as the image allows."""
    budget = PATCH_ELEMENTS[len(spacing)]
    shape: tuple[int, ...] = (1,) * len(spacing)
    for edge_mm in min(spacing) * np.geomspace(8, 1024, 400):
        wider = tuple(
            int(np.ceil(min(n, edge_mm / s))) for n, s in zip(image_shape, spacing, strict=True)
        )
        if np.prod(wider) > budget:
            break
        shape = wider
    return tuple(_round_up(n) for n in shape)


def _round_up(n: int) -> int:
    """Round up to what halves often, without growing by much."""
    step = 8 if n > 16 else 4 if n > 8 else 1
    return -(-n // step) * step


def _levels(shape: Sequence[int], spacing: Spacing, most: int) -> tuple[Levels, Levels]:
    """Halve axes until feature maps get small; thick slices wait until the others catch up.

    Those that are too small to be halved again are not waited for.
    """
    n_axes = len(shape)
    sizes, spacings = np.array(shape, float), np.array(spacing, float)
    strides, kernels = [(1,) * n_axes], []
    is_wide = np.zeros(n_axes, bool)
    while True:
        is_large = sizes >= 2 * SMALLEST_FEATURE_MAP
        is_comparable = spacings <= 2 * spacings[is_large | ~is_large.any()].min()
        is_wide |= is_comparable
        kernels.append(tuple(3 if w else 1 for w in is_wide))
        is_halved = is_large & is_comparable
        if not is_halved.any() or len(strides) == most:
            break
        strides.append(tuple(2 if h else 1 for h in is_halved))
        sizes, spacings = np.where(is_halved, sizes / 2, sizes), spacings * (1 + is_halved)
    return tuple(strides), tuple(kernels)
