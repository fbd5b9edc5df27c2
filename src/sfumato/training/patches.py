"""Patches: the pieces of cases that training sees."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float32, Float64, Shaped
from pydantic import Field
from torch.nn import functional

from sfumato.arrays import Image, Label, Probability, Spacing
from sfumato.cases.preparation import PreparedCase
from sfumato.errors import CaseError, InputError, SfumatoError
from sfumato.model.tensors import HardTarget, Images, SoftTarget
from sfumato.settings import Settings
from sfumato.training.augmentation import (
    AugmentationSettings,
    Placement,
    change_intensities,
    draw_matrix,
)
from sfumato.training.redrawing import Redrawing


class PatchSettings(Settings):
    """What a training step sees.

    Attributes:
        shape: Elements of a patch along each axis; None lets the plan choose.
        batch_size: Patches in a step; None lets the plan choose.
        foreground_fraction: Share of patches centred on a structure; the others lie anywhere.
    """

    shape: tuple[int, ...] | None = None
    batch_size: int | None = Field(default=None, ge=1)
    foreground_fraction: float = Field(default=0.5, ge=0, le=1)


@dataclass(frozen=True, kw_only=True, eq=False)
class Patch:
    """A piece of a case: image, hard and soft label cut alike.

    Attributes:
        image: Normalised intensities.
        hard_label: What the annotator drew.
        soft_label: The probability of each class, or None where it is yet to be drawn.
        levels: The intensities that superpixels are then drawn from, else None.
    """

    image: Image
    hard_label: Label
    soft_label: Probability | None
    levels: Image | None


@dataclass(frozen=True, kw_only=True, eq=False)
class Batch:
    """Several patches as tensors."""

    images: Images
    hard_target: HardTarget
    soft_target: SoftTarget

    def to(self, device: torch.device) -> "Batch":
        """Copy the batch to a device."""
        return Batch(
            images=self.images.to(device),
            hard_target=self.hard_target.to(device),
            soft_target=self.soft_target.to(device),
        )


@dataclass(frozen=True, kw_only=True)
class BatchSource:
    """Draws the batch of any training step; the same step gives the same batch.

    A patch depends on its place in the batch and not on the others, so that processes can
    share out a batch.

    Attributes:
        cases: What patches are cut from.
        patches: How large patches and batches are, nothing left open.
        augmentation: How patches are changed.
        seed: Decides, with the step's number, all that is random.
        redrawing: How soft labels are drawn that the cases do not bring with them.
    """

    cases: Sequence[PreparedCase]
    patches: PatchSettings
    augmentation: AugmentationSettings
    seed: int
    redrawing: Redrawing | None = None

    def draw(self, step: int, share: range | None = None) -> Batch:
        """Draw the batch of one step.

        Args:
            step: Steps done before it.
            share: The places of the batch that are wanted; None draws them all.

        Raises:
            CaseError: If a case has no patch to give, because its files are damaged, say.
        """
        if self.patches.shape is None or self.patches.batch_size is None:
            raise InputError("patch settings must be complete; let the plan fill them first")
        places = range(self.patches.batch_size) if share is None else share
        drawn = [self._draw_patch(step, place) for place in places]
        images, hard_labels, soft_labels = zip(*drawn, strict=True)
        return Batch(
            images=torch.from_numpy(np.stack(images)),
            hard_target=torch.from_numpy(np.stack(hard_labels).astype(np.int64)),
            soft_target=torch.from_numpy(np.stack(soft_labels)),
        )

    def _draw_patch(self, step: int, place: int) -> tuple[Image, Label, Probability]:
        assert self.patches.shape is not None
        rng = np.random.default_rng([self.seed, step, place])
        index = int(rng.integers(len(self.cases)))
        case = self._case(index, step)
        try:
            placement = draw_placement(case, self.patches, self.augmentation, rng)
            patch = cut_patch(case, placement, self.patches.shape)
            soft_label = self._soft_label(patch, case.geometry.spacing, rng)
            image = change_intensities(patch.image, self.augmentation, rng)
        except (SfumatoError, MemoryError):
            raise
        except Exception as error:
            raise CaseError(
                case.id,
                f"no patch can be drawn from it ({type(error).__name__}: {error}); delete prepared/"
                " in the run's folder and run again with --resume",
            ) from error
        return image, patch.hard_label, soft_label

    def _case(self, index: int, step: int) -> PreparedCase:
        """Open a case, with the soft label of the step's epoch where epochs have their own."""
        case = self.cases[index]
        if self.redrawing is None or self.redrawing.softening.when != "every_epoch":
            return case
        assert self.patches.batch_size is not None
        # In an epoch each case gives one patch on average.
        steps_per_epoch = math.ceil(len(self.cases) / self.patches.batch_size)
        return self.redrawing.soften_case(case, (self.seed, step // steps_per_epoch, index))

    def _soft_label(self, patch: Patch, spacing: Spacing, rng: np.random.Generator) -> Probability:
        """Return a patch's soft label, drawn now if it did not come with the case."""
        if patch.soft_label is not None:
            return patch.soft_label
        assert self.redrawing is not None
        assert patch.levels is not None
        # A generator of its own: patches are the same, however often soft labels are drawn.
        (own_rng,) = rng.spawn(1)
        return self.redrawing.soften(patch.levels, patch.hard_label, spacing, own_rng)


def draw_placement(
    case: PreparedCase,
    patches: PatchSettings,
    augmentation: AugmentationSettings,
    rng: np.random.Generator,
) -> Placement:
    """Draw where a patch lies in a case and how it is turned, scaled and mirrored.

    An axis along which the image fits into the patch is centred; elsewhere the patch stays
    inside the image, as near as it can to the point it was meant for.
    """
    image_shape = np.array(case.geometry.shape)
    shape = np.array(patches.shape)
    present = [p for p in case.positions if len(p)]
    if present and rng.random() < patches.foreground_fraction:
        positions = present[rng.integers(len(present))]
        point = positions[rng.integers(len(positions))]
    else:
        point = rng.integers(image_shape)
    first = np.clip(point - shape // 2, 0, np.maximum(image_shape - shape, 0))
    first = np.where(image_shape <= shape, -((shape - image_shape) // 2), first)
    return Placement(
        centre=first + (shape - 1) / 2,
        matrix=draw_matrix(augmentation, case.geometry.spacing, rng),
    )


def cut_patch(case: PreparedCase, placement: Placement, shape: tuple[int, ...]) -> Patch:
    """Cut a patch out of a case, the same way from image, hard and soft label.

    Beyond the image's border the nearest element is repeated, so that class
    probabilities sum to 1 there too.
    """
    matrix = placement.matrix
    # Not compared exactly: spacing / spacing may differ from 1 in its last bit.
    if np.allclose(np.abs(matrix), np.eye(len(shape)), rtol=0, atol=1e-9):
        return _cut_straight(case, placement, shape)
    return _cut_turned(case, placement, shape)


def _cut_straight(case: PreparedCase, placement: Placement, shape: tuple[int, ...]) -> Patch:
    """Cut along the grid, mirrored perhaps: no element changes its value."""
    indices = []
    for axis, n in enumerate(shape):
        offsets = (np.arange(n) - (n - 1) / 2) * placement.matrix[axis, axis]
        index = np.rint(placement.centre[axis] + offsets).astype(int)
        indices.append(index.clip(0, case.geometry.shape[axis] - 1))
    where = np.ix_(*indices)
    soft_label = levels = None
    if case.soft_label is not None:
        soft_label = np.stack([c[where] for c in case.soft_label]).astype(np.float32) / 255
    if case.levels is not None:
        levels = np.stack([channel[where] for channel in case.levels]).astype(np.float32)
    return Patch(
        image=np.stack([channel[where] for channel in case.image]),
        hard_label=case.hard_label[where],
        soft_label=soft_label,
        levels=levels,
    )


def _cut_turned(case: PreparedCase, placement: Placement, shape: tuple[int, ...]) -> Patch:
    """Cut at an angle or scale: image and soft label linearly, hard label by the nearest."""
    coordinates = _coordinates(placement, shape)
    lowest = np.floor(coordinates.min(axis=tuple(range(len(shape))))).astype(int)
    highest = np.ceil(coordinates.max(axis=tuple(range(len(shape))))).astype(int) + 1
    limit = np.array(case.geometry.shape)
    lowest, highest = lowest.clip(0, limit - 1), highest.clip(1, limit)
    box = tuple(slice(a, b) for a, b in zip(lowest, highest, strict=True))
    grid = _sampling_grid(coordinates - lowest, highest - lowest)
    soft_label = levels = None
    if case.soft_label is not None:
        soft_label = _sample(case.soft_label[:, *box] / np.float32(255), grid, "bilinear")
        soft_label /= soft_label.sum(axis=0, keepdims=True)
    if case.levels is not None:
        levels = _sample(case.levels[:, *box], grid, "bilinear")
    return Patch(
        image=_sample(case.image[:, *box], grid, "bilinear"),
        hard_label=_sample(case.hard_label[box][None], grid, "nearest")[0].astype(np.uint8),
        soft_label=soft_label,
        levels=levels,
    )


def _coordinates(
    placement: Placement, shape: tuple[int, ...]
) -> Float64[np.ndarray, "*space axes"]:
    """Return, for each element of the patch, where in the image it comes from."""
    offsets = np.stack(
        np.meshgrid(*[np.arange(n) - (n - 1) / 2 for n in shape], indexing="ij"), axis=-1
    )
    return offsets @ placement.matrix.T + placement.centre


def _sampling_grid(
    coordinates: Float64[np.ndarray, "*space axes"], shape: np.ndarray
) -> torch.Tensor:
    """Scale indices to torch's convention: -1 to 1, and the last axis first."""
    scaled = 2 * coordinates / np.maximum(shape - 1, 1) - 1
    return torch.from_numpy(np.ascontiguousarray(scaled[..., ::-1].astype(np.float32)))[None]


def _sample(
    channels: Shaped[np.ndarray, "_ *space"], grid: torch.Tensor, mode: str
) -> Float32[np.ndarray, "_ *patch"]:
    source = torch.from_numpy(channels.astype(np.float32))[None]
    sampled = functional.grid_sample(
        source, grid, mode=mode, padding_mode="border", align_corners=True
    )
    return sampled[0].numpy()
