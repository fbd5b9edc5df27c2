"""Cases that a page holds whole, for its reader to look at from all sides."""

import base64
import gzip
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import TypeAlias

import numpy as np
from jaxtyping import Shaped, UInt8

from sfumato.arrays import Label, Probability
from sfumato.cases.case import Case
from sfumato.image.geometry import Geometry
from sfumato.image.quantise import quantise
from sfumato.labels.classes import ClassList
from sfumato.report.colours import class_colour
from sfumato.report.layers import is_shown_in_colour

MOST_ELEMENTS = 2**21
"""Elements of a case that a page holds at most: those of 128 × 128 × 128."""
FAINT = 0.02
"""What has at least this probability is kept in the picture."""

SCRIPTS = ("elements", "volumes", "structures", "lines", "controls", "viewer", "report")
"""The viewer's modules, each after those that it imports from."""

Bytes: TypeAlias = UInt8[np.ndarray, "*space"]


@dataclass(frozen=True, kw_only=True)
class Box:
    """A part of a grid, and which of its elements are kept.

    Attributes:
        start: The first element along each axis.
        stop: The one after the last.
        steps: Of how many elements along each axis one is kept.
    """

    start: tuple[int, ...]
    stop: tuple[int, ...]
    steps: tuple[int, ...]

    def of(self, array: Shaped[np.ndarray, "..."]) -> Shaped[np.ndarray, "..."]:
        """Cut an array whose last axes are the spatial ones."""
        lead = [slice(None)] * (array.ndim - len(self.start))
        kept = map(slice, self.start, self.stop, self.steps)
        return array[(*lead, *kept)]


@dataclass(frozen=True, kw_only=True)
class ViewedCase:
    """A case as the viewer unpacks it.

    Attributes:
        description: What the bytes are, as the viewer reads it.
        content: Image, reference, segmentation and probabilities one after the other, first
            axis fastest, packed with gzip.
        note: Which part of the case this is, for the reader.
    """

    description: dict[str, object]
    content: bytes
    note: str

    @property
    def text(self) -> str:
        """The bytes as a page holds them."""
        return base64.b64encode(self.content).decode()


def view_case(
    case: Case,
    segmentation: Label,
    classes: ClassList,
    probability: Probability | None = None,
) -> ViewedCase:
    """Make a case small enough to be a part of a page.

    It is cropped around what was drawn, segmented or has some probability, intensities become
    256 grey levels, and of more than `MOST_ELEMENTS` elements only every second, third or so
    is kept.

    Args:
        case: Image and grid, and the reference if there is one.
        segmentation: The label that the model produced, on the case's grid.
        classes: Their names.
        probability: What the model gave each class.
    """
    reference = np.zeros_like(segmentation) if case.label is None else case.label
    is_shown = (segmentation > 0) | (reference > 0)
    if probability is not None:
        is_shown |= probability[0] <= 1 - FAINT
    box = _box_around(is_shown, case.geometry)
    is_colour = is_shown_in_colour(case)
    parts = [_grey_levels(box.of(case.image if is_colour else case.image[:1]))]
    parts += [box.of(reference), box.of(segmentation)]
    if probability is not None:
        parts += list(quantise(np.ascontiguousarray(box.of(probability)))[1:])
    shape = box.of(reference).shape
    return ViewedCase(
        description={
            "dims": [*shape, *[1] * (3 - len(shape))],
            "affine": _affine(case.geometry, box),
            "isColour": is_colour,
            "isFlat": len(shape) == 2,
            "isPlaced": case.geometry.is_placed,
            "hasProbabilities": probability is not None,
            "classes": [
                {"value": k + 1, "name": name, "colour": class_colour(k)}
                for k, name in enumerate(classes.foreground)
            ],
        },
        content=gzip.compress(b"".join(map(_first_axis_fastest, parts)), mtime=0),
        note=_note(box, case.geometry),
    )


def viewer_words(viewed: Sequence[ViewedCase]) -> str:
    """Say what of a page can be looked at, and how much of it that takes; empty for nothing."""
    if not viewed:
        return ""
    megabytes = sum(len(one.text) for one in viewed) / 1e6
    which = "The worst case is" if len(viewed) == 1 else "The worst cases are"
    return (
        f"{which} part of this page and can be looked at from all sides, without a network: cropped"
        f" around the structures, {megabytes:.1f} MB in all, and"
        f" {len(niivue_text()) / 1e6:.1f} MB for the viewer (NiiVue)."
    )


def viewer_style() -> str:
    """Return the viewer's style sheet."""
    return _read("viewer.css")


@cache
def viewer_script() -> str:
    """Return the viewer as one module: pages without a server cannot import."""
    text = "\n".join(_read(f"{name}.js") for name in SCRIPTS)
    return re.sub(r"^export ", "", re.sub(r"^import .*;\n", "", text, flags=re.M), flags=re.M)


@cache
def niivue_text() -> str:
    """Return NiiVue, packed with gzip, as a page holds it."""
    packed = files("sfumato.report").joinpath("viewer", "niivue.umd.js.gz").read_bytes()
    return base64.b64encode(packed).decode()


def _read(name: str) -> str:
    return files("sfumato.report").joinpath("viewer", name).read_text(encoding="utf-8")


def _box_around(is_shown: Shaped[np.ndarray, "*space"], geometry: Geometry) -> Box:
    """Keep a margin of a quarter of what is shown, and at least a few elements."""
    start, stop = [], []
    for axis, n in enumerate(is_shown.shape):
        others = tuple(other for other in range(is_shown.ndim) if other != axis)
        used = np.flatnonzero(is_shown.any(axis=others))
        low, high = (int(used[0]), int(used[-1]) + 1) if used.size else (0, n)
        margin = max((high - low) // 4, 4)
        start.append(max(low - margin, 0))
        stop.append(min(high + margin, n))
    sizes = [b - a for a, b in zip(start, stop, strict=True)]
    steps = [1] * len(sizes)
    while _n_kept(sizes, steps) > MOST_ELEMENTS:
        finest = min(range(len(sizes)), key=lambda axis: steps[axis] * geometry.spacing[axis])
        steps[finest] += 1
    return Box(start=tuple(start), stop=tuple(stop), steps=tuple(steps))


def _n_kept(sizes: Sequence[int], steps: Sequence[int]) -> int:
    return int(np.prod([-(-size // step) for size, step in zip(sizes, steps, strict=True)]))


def _note(box: Box, geometry: Geometry) -> str:
    size = " × ".join(str(b - a) for a, b in zip(box.start, box.stop, strict=True))
    whole = " × ".join(map(str, geometry.shape))
    part = f"all {whole} elements" if size == whole else f"{size} of {whole} elements"
    steps = " × ".join(map(str, box.steps))
    thinned = f", of each {steps} one" if max(box.steps) > 1 else ""
    return f"{part}{thinned}, in 256 grey levels"


def _grey_levels(channels: Shaped[np.ndarray, "channel *space"]) -> Shaped[np.ndarray, "..."]:
    """Spread intensities over bytes, leaving out the outermost half percent; colours last."""
    values = channels.astype(np.float32)
    finite = values[np.isfinite(values)]
    low, high = np.percentile(finite, (0.5, 99.5)) if finite.size else (0.0, 1.0)
    bright = np.clip((np.nan_to_num(values, nan=low) - low) / max(high - low, 1e-12), 0, 1)
    levels = np.rint(255 * bright).astype(np.uint8)
    return levels if len(levels) == 3 else levels[0]


def _first_axis_fastest(part: Shaped[np.ndarray, "..."]) -> bytes:
    """Return the bytes as NIfTI has them; the channels of a colour are its first axis."""
    return np.asarray(part, np.uint8).tobytes(order="F")


def _affine(geometry: Geometry, box: Box) -> list[list[float]]:
    """Return three rows: from an element that is kept to millimetres."""
    affine = np.eye(4)
    n_axes = len(geometry.shape)
    affine[:n_axes, :n_axes] = geometry.affine[:-1, :-1] * np.array(box.steps)
    affine[:n_axes, 3] = geometry.affine[:-1, :-1] @ np.array(box.start) + geometry.affine[:-1, -1]
    return [[float(value) for value in row] for row in affine[:3]]
