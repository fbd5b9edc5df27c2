"""Training cases as one looks at them to understand softening: planes, computed as settings change.

The whole label is softened by the compiled core, then any plane of it is at hand.
"""

import io
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

import numpy as np
from jaxtyping import Float64, Shaped, UInt8
from nibabel.orientations import io_orientation
from PIL import Image as Picture

from sfumato.arrays import ProbabilityBytes, Superpixels
from sfumato.cases.case import Case
from sfumato.cases.dataset import Dataset
from sfumato.errors import CaseError, InputError
from sfumato.image.geometry import Geometry
from sfumato.image.quantise import quantise
from sfumato.labels.band import compute_superpixels_near_boundaries
from sfumato.labels.classes import ClassList
from sfumato.labels.softeners import SofteningSettings, soften
from sfumato.labels.superpixels import SuperpixelSettings

What = Literal["image", "hard", "superpixels", "soft"]
Space = Shaped[np.ndarray, "*space"]
Value = TypeVar("Value")

_KEPT_CASES = 2
_KEPT_LABELS = 6
_BORDERS_OF_GREY = (0.5, 99.5)


@dataclass(frozen=True, kw_only=True, eq=False)
class SoftenedCase:
    """What one setting makes of a case.

    Attributes:
        probability: Of each class, in steps of 1/255.
        superpixels: Those that it was made with; of other rules, those there would be.
        share: Which share of all elements is no longer certain.
        milliseconds: How long it took.
    """

    probability: ProbabilityBytes
    superpixels: Superpixels
    share: float
    milliseconds: float


@dataclass(frozen=True, kw_only=True)
class Softening:
    """What a reader asks for."""

    size_mm: float | None = None
    compactness: float = 0.1
    scale_mm: float | None = None
    softener: str = "superpixel"


class TrainingCases:
    """The cases of a data set, of which the last few that were looked at are in memory.

    Args:
        dataset: Where they are.
    """

    def __init__(self, dataset: Dataset) -> None:
        self.dataset = dataset
        self._cases: _Latest[Case] = _Latest(_KEPT_CASES)
        self._softened: _Latest[SoftenedCase] = _Latest(_KEPT_LABELS)
        self._grey: _Latest[Space] = _Latest(_KEPT_CASES)

    @property
    def classes(self) -> ClassList:
        """The classes of the data set; only where all labels had to be read is that slow."""
        return self.dataset.classes

    def case(self, case_id: str) -> Case:
        """Read a case.

        Raises:
            CaseError: If it cannot be read, or has no label.
        """
        case = self._cases.get(case_id, lambda: self.dataset.load(case_id))
        if case.label is None:
            raise CaseError(case_id, "it has no label to soften")
        return case

    def soften(self, case_id: str, asked: Softening) -> SoftenedCase:
        """Soften the label of a case.

        Raises:
            CaseError: If the case cannot be read or the settings do not fit it.
        """
        return self._softened.get((case_id, asked), lambda: self._soften(case_id, asked))

    def _soften(self, case_id: str, asked: Softening) -> SoftenedCase:
        case = self.case(case_id)
        assert case.label is not None
        superpixels = SuperpixelSettings(
            size_mm=asked.size_mm, compactness=asked.compactness, is_photo=self.dataset.is_photo
        )
        softening = SofteningSettings(method=asked.softener, scale_mm=asked.scale_mm)
        spacing = case.geometry.spacing
        started = time.perf_counter()
        try:
            probability = soften(
                case.image,
                case.label,
                spacing,
                len(self.classes),
                softening,
                superpixels,
                rater_labels=case.rater_labels,
            )
            milliseconds = 1000 * (time.perf_counter() - started)
            shown = compute_superpixels_near_boundaries(
                case.image, case.label, spacing, superpixels
            )
        except InputError as error:
            raise CaseError(case_id, str(error)) from error
        n_uncertain = int(np.count_nonzero(probability.max(axis=0) < 1))
        return SoftenedCase(
            probability=quantise(probability),
            superpixels=shown,
            share=n_uncertain / case.label.size,
            milliseconds=milliseconds,
        )

    def grey(self, case_id: str) -> Space:
        """Return the image in 8 bits, in colours if it is a photograph; channels last."""
        return self._grey.get(case_id, lambda: self._scaled(self.case(case_id)))

    def _scaled(self, case: Case) -> Space:
        if self.dataset.is_photo:
            return np.moveaxis(case.image, 0, -1).clip(0, 255).astype(np.uint8)
        channel = case.image[0]
        low, high = np.percentile(channel, _BORDERS_OF_GREY)
        unit = 255 / max(float(high - low), 1e-12)
        return ((channel - low) * unit).clip(0, 255).astype(np.uint8)

    def plane(self, case_id: str, what: What, value: int, asked: Softening) -> Space:
        """Return the volume that a plane is taken from, as bytes; colours come last.

        Args:
            case_id: The case.
            what: Intensities, the label's values, probabilities in steps of 1/255, or superpixels
                by number: red, green and blue are its bytes, and none is transparent.
            value: Which class a probability is of.
            asked: The settings.

        Raises:
            CaseError: If the case cannot be read or the settings do not fit it.
        """
        if what == "image":
            return self.grey(case_id)
        if what == "hard":
            label = self.case(case_id).label
            assert label is not None
            return np.array(shown_values(self.classes), np.uint8)[label]
        softened = self.soften(case_id, asked)
        if what == "soft":
            return softened.probability[shown_values(self.classes).index(value)]
        return _as_colours(softened.superpixels)


class _Latest(Generic[Value]):
    """The values that were asked for last; each is made once, whoever asks meanwhile."""

    def __init__(self, n: int) -> None:
        self._n = n
        self._lock = threading.Lock()
        self._values: OrderedDict[Hashable, Value] = OrderedDict()

    def get(self, key: Hashable, make: Callable[[], Value]) -> Value:
        with self._lock:
            if key not in self._values:
                value = make()
                self._values[key] = value
                while len(self._values) > self._n:
                    self._values.popitem(last=False)
            self._values.move_to_end(key)
            return self._values[key]


def shown_values(classes: ClassList) -> list[int]:
    """Return a byte for each class: its value in files, or its index where one is larger."""
    if max(classes.values) <= 255:
        return list(classes.values)
    return list(range(len(classes)))


@dataclass(frozen=True, kw_only=True)
class Sight:
    """How a volume is laid out for the eye: from above, from the front, from the left.

    Attributes:
        axes: The array axes, in the order superior, anterior, right.
        is_flipped: Whether each runs the other way than that it is shown.
    """

    axes: tuple[int, ...]
    is_flipped: tuple[bool, ...]

    @staticmethod
    def of(geometry: Geometry) -> "Sight":
        """Find out how a grid lies in the patient; a flat image stays as it is."""
        if len(geometry.shape) == 2:
            return Sight(axes=(0, 1), is_flipped=(False, False))
        if not geometry.is_placed:
            return Sight(axes=(0, 1, 2), is_flipped=(False,) * 3)
        orientation: Float64[np.ndarray, "3 2"] = io_orientation(geometry.affine)
        axes = [int(np.flatnonzero(orientation[:, 0] == patient)[0]) for patient in (2, 1, 0)]
        # Planes are seen with superior, anterior and the patient's right at their beginnings.
        return Sight(
            axes=tuple(axes), is_flipped=tuple(bool(orientation[axis, 1] > 0) for axis in axes)
        )

    def numbers(self, values: tuple[float, ...]) -> list[float]:
        """Put numbers, one for each array axis, into the order of sight."""
        return [values[axis] for axis in self.axes]

    def plane(self, volume: Space, axis: int, index: int) -> Space:
        """Cut a plane: rows run along the first remaining axis, columns along the second."""
        n_axes = len(self.axes)
        seen = volume.transpose(*self.axes, *range(n_axes, volume.ndim))
        flips = tuple(slice(None, None, -1 if flip else 1) for flip in self.is_flipped)
        seen = seen[flips]
        return seen if n_axes == 2 else np.take(seen, index, axis)


def _as_colours(superpixels: Superpixels) -> UInt8[np.ndarray, "*space 4"]:
    colours = np.zeros((*superpixels.shape, 4), np.uint8)
    for byte in range(3):
        colours[..., byte] = (superpixels >> (8 * byte)) & 255
    colours[..., 3] = np.where(superpixels < 0, 0, 255)
    colours[superpixels < 0] = 0
    return colours


def as_png(plane: Space) -> bytes:
    """Write bytes as a PNG: grey, or with three or four of them for each element in colours."""
    stream = io.BytesIO()
    Picture.fromarray(np.ascontiguousarray(plane)).save(stream, "PNG", compress_level=1)
    return stream.getvalue()
