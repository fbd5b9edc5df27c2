"""Labels spoilt on purpose, to see what training makes of annotations that are a little wrong."""

import hashlib
import re
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64
from scipy.ndimage import distance_transform_edt, gaussian_filter

from sfumato.arrays import Label, Spacing
from sfumato.errors import InputError, unknown_name
from sfumato.labels.rings import SAME_LENGTH
from sfumato.labels.spacing import check_spacing

KINDS = ("erode", "dilate", "jitter", "shift")
RANDOM_KINDS = ("jitter", "shift")
"""Kinds that differ from seed to seed."""
WAVE = 3
"""How wide the blur of a jitter's field is, in standard deviations of the displacement: boundaries
then swing, and hardly ever fold over themselves."""


@dataclass(frozen=True, kw_only=True)
class LabelNoise:
    """One way to spoil labels.

    Attributes:
        kind: One of `KINDS`; see `spoil_label`.
        size_mm: How far boundaries are moved.
    """

    kind: str
    size_mm: float

    @staticmethod
    def parse(text: str) -> "LabelNoise":
        """Read a noise as users write it.

        Raises:
            InputError: If the kind is unknown, or the size is no number above 0.

        Examples:
            >>> LabelNoise.parse("erode:1.5mm")
            LabelNoise(kind='erode', size_mm=1.5)
        """
        kind, _, size = text.partition(":")
        if kind not in KINDS:
            raise InputError(unknown_name("noise", kind, KINDS))
        number = re.fullmatch(r"(\d+\.?\d*|\.\d+)(mm)?", size)
        if number is None or float(number[1]) == 0:
            raise InputError(
                f"a noise needs its size in mm, above 0, such as {kind}:1mm; got {text!r}"
            )
        return LabelNoise(kind=kind, size_mm=float(number[1]))

    def __str__(self) -> str:
        return f"{self.kind}:{self.size_mm:g}mm"

    @property
    def is_random(self) -> bool:
        """Whether another seed spoils otherwise."""
        return self.kind in RANDOM_KINDS


def spoil_label(
    label: Label, spacing: Spacing, noise: LabelNoise, rng: np.random.Generator
) -> Label:
    """Move the boundaries of a label.

    - `erode` and `dilate` move the boundary between foreground and background by `size_mm`;
      boundaries between two foreground classes stay. What is eroded becomes background; where
      it dilates, background becomes the nearest class (the first of equally near ones). Distances
      run from centre to centre, so sizes below the spacing change nothing.
    - `jitter` displaces every element by a smooth random field: along each axis its standard
      deviation is `size_mm`, and its correlation falls to 1/e at six times that.
    - `shift` moves the whole label by `size_mm` in a random direction, to the nearest element.

    The last two repeat what stands at the image's edge. A class may vanish; whoever asks has to
    look (`vanished_classes`).

    Args:
        label: The class index of every element.
        spacing: Millimetres along each spatial axis.
        noise: How it is spoilt.
        rng: Decides field and direction; see `noise_rng`.

    Raises:
        InputError: If spacing does not fit the label.

    Examples:
        >>> label, rng = np.array([0, 0, 0, 1, 1, 2, 2, 2], np.uint8), np.random.default_rng(0)
        >>> spoil_label(label, (1.0,), LabelNoise.parse("erode:1mm"), rng)
        array([0, 0, 0, 0, 1, 2, 2, 2], dtype=uint8)
        >>> spoil_label(label, (1.0,), LabelNoise.parse("dilate:2mm"), rng)
        array([0, 1, 1, 1, 1, 2, 2, 2], dtype=uint8)
    """
    check_spacing(spacing, label.ndim)
    if label.size == 0:
        return label.copy()
    if noise.kind == "erode":
        return _eroded(label, spacing, noise.size_mm)
    if noise.kind == "dilate":
        return _dilated(label, spacing, noise.size_mm)
    if noise.kind == "jitter":
        return _displaced(label, _smooth_field(label.shape, spacing, noise.size_mm, rng))
    direction = rng.standard_normal(label.ndim)
    vector_mm = noise.size_mm * direction / np.linalg.norm(direction)
    along = (-1, *[1] * label.ndim)
    return _displaced(label, np.reshape(vector_mm / spacing, along))


def noise_rng(case_id: str, seed: int, rater: int = 0) -> np.random.Generator:
    """Return what decides how the label of one rater of one case is spoilt.

    It does not depend on the kind or size of noise, so a shift by twice as much goes the same
    way.
    """
    name = hashlib.sha256(case_id.encode()).digest()
    return np.random.default_rng([seed, rater, int.from_bytes(name[:8], "big")])


def vanished_classes(label: Label, spoilt: Label) -> list[int]:
    """List the classes that a label had and the spoilt one has no more.

    Examples:
        >>> vanished_classes(np.array([0, 1, 2], np.uint8), np.array([0, 1, 1], np.uint8))
        [2]
    """
    return np.setdiff1d(label, spoilt).tolist()


def _eroded(label: Label, spacing: Spacing, size_mm: float) -> Label:
    foreground = label > 0
    if foreground.all():  # Without a background there is no boundary to move.
        return label.copy()
    distance = distance_transform_edt(foreground, sampling=spacing)
    return np.where(distance > size_mm * (1 + SAME_LENGTH), label, np.uint8(0))


def _dilated(label: Label, spacing: Spacing, size_mm: float) -> Label:
    background = label == 0
    if background.all():
        return label.copy()
    reach_mm = size_mm * (1 + SAME_LENGTH)
    # The nearest element alone would not do: which of equally near ones it is, nobody says.
    nearest = np.full(label.shape, np.inf)
    grown = label.copy()
    for k in np.unique(label[~background]):
        distance = distance_transform_edt(label != k, sampling=spacing)
        is_nearer = background & (distance <= reach_mm) & (distance < nearest * (1 - SAME_LENGTH))
        grown[is_nearer] = k
        nearest[is_nearer] = distance[is_nearer]
    return grown


def _smooth_field(
    shape: tuple[int, ...], spacing: Spacing, size_mm: float, rng: np.random.Generator
) -> Float64[np.ndarray, "axes *space"]:
    """Draw a displacement, in elements, of equal standard deviation in mm along every axis."""
    width = [WAVE * size_mm / mm for mm in spacing]
    # The field goes on at the other side: so it is as strong at the edges as elsewhere.
    impulse = np.zeros(shape)
    impulse.flat[0] = 1
    strength = np.sqrt(np.square(gaussian_filter(impulse, width, mode="wrap")).sum())
    axes = [
        gaussian_filter(rng.standard_normal(shape), width, mode="wrap") * (size_mm / mm / strength)
        for mm in spacing
    ]
    return np.stack(axes)


def _displaced(label: Label, displacement: Float64[np.ndarray, "axes *_"]) -> Label:
    """Give every element what stands at its displaced place, the edge's where that is outside."""
    indices = np.ogrid[tuple(slice(n) for n in label.shape)]
    places = [
        np.clip(np.rint(index - moved).astype(np.int64), 0, n - 1)
        for index, moved, n in zip(indices, displacement, label.shape, strict=True)
    ]
    return label[tuple(places)]
