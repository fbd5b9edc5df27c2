"""The files that a viewer shows of one case: NIfTI of one class each, and volumes."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Shaped

from sfumato.arrays import Image, Label
from sfumato.image.geometry import Geometry
from sfumato.image.kept_parts import KeptParts, kept_parts
from sfumato.image.nifti import write_nifti
from sfumato.image.quantise import STEPS, quantise
from sfumato.inference.probability import ProbabilitySlab
from sfumato.inference.uncertainty import CONTOUR_LEVELS
from sfumato.labels.classes import ClassList
from sfumato.labels.postprocessing import PostprocessingSettings, postprocess
from sfumato.storage import write_text
from sfumato.workflow.case_files import PROBABILITIES, file_words
from sfumato.workflow.segmented_case import SegmentRequest

Kind = Literal["image", "label", "probability", "contour", "dicom_seg", "volumes"]
VOLUMES = "volumes.json"
IMAGE = "image.nii.gz"
LABEL = "label.nii.gz"


@dataclass(frozen=True, kw_only=True)
class Result:
    """One file for the viewer.

    Attributes:
        name: Of the file.
        kind: What it is.
        value: Which class it is about, as the data set numbers it; None where about all.
        level: The probability that it encloses; None where it is no contour.
        bytes: Its size.
    """

    name: str
    kind: Kind
    value: int | None = None
    level: float | None = None
    bytes: int = 0


@dataclass(frozen=True, kw_only=True)
class View:
    """Where the viewer's files of one case go, and what they are made of.

    Attributes:
        folder: Where they go.
        classes: The model's.
        request: What is wanted.
        postprocessing: What the segmentation is tidied up with.
    """

    folder: Path
    classes: ClassList
    request: SegmentRequest
    postprocessing: PostprocessingSettings

    def keep(
        self, slabs: Iterator[ProbabilitySlab], image: Image, geometry: Geometry
    ) -> Iterator[ProbabilitySlab]:
        """Pass the parts of a case through, and write the viewer's files when all came."""
        self.folder.mkdir(parents=True, exist_ok=True)
        segmentation = np.empty(geometry.shape, np.uint8)
        with kept_parts(self.folder) as kept:
            for slab in slabs:
                segmentation[slab.place] = slab.segmentation()
                if self._has_probabilities:
                    kept.add(slab.place, quantise(slab.probability)[1:])
                yield slab
            self._write(image, segmentation, kept, geometry)

    @property
    def _has_probabilities(self) -> bool:
        return self.request.has_probabilities or self.request.has_uncertainty

    def _write(
        self, image: Image, segmentation: Label, kept: KeptParts, geometry: Geometry
    ) -> None:
        place = shown_geometry(geometry)
        for number, channel in enumerate(image, start=1):
            name = IMAGE if number == 1 else f"image-{number}.nii.gz"
            write_nifti(self.folder / name, _small(channel).reshape(place.shape), place)
        tidy = postprocess(
            segmentation,
            geometry.element_volume_mm3,
            self.classes.foreground,
            self.postprocessing,
        )
        values = self.classes.to_values(tidy)
        write_nifti(self.folder / LABEL, values.reshape(place.shape), place)
        if not self._has_probabilities:
            return
        for index, word in enumerate(file_words(self.classes.foreground)):
            steps = kept.volume(index, geometry.shape).reshape(place.shape)
            path = self.folder / f"probability-{word}.nii.gz"
            write_nifti(path, steps, place, slope=1 / STEPS)
            if self.request.has_uncertainty:
                for level in CONTOUR_LEVELS:
                    inside = (steps >= level * STEPS).astype(np.uint8)
                    write_nifti(self.folder / _contour_name(word, level), inside, place)

    def finish(self, output: Path, case_id: str) -> tuple[Result, ...]:
        """Add what follows from the files of `segment_cases`, and list all results."""
        found = list(self._listed())
        for folder, name in ((output, "label.dcm"), (output / PROBABILITIES, "probability.dcm")):
            if (source := folder / f"{case_id}.dcm").exists():
                (self.folder / name).hardlink_to(source)
                found.append(Result(name=name, kind="dicom_seg"))
        if (volumes := output / VOLUMES).exists():
            document = json.loads(volumes.read_text(encoding="utf-8"))
            write_text(self.folder / VOLUMES, json.dumps(shown_volumes(document, self.classes)))
            found.append(Result(name=VOLUMES, kind="volumes"))
        return tuple(
            replace(result, bytes=path.stat().st_size)
            for result in found
            if (path := self.folder / result.name).exists()
        )

    def _listed(self) -> Iterator[Result]:
        """Name all files there may be."""
        for path in sorted(self.folder.glob("image*.nii.gz")):
            yield Result(name=path.name, kind="image")
        yield Result(name=LABEL, kind="label")
        words = file_words(self.classes.foreground)
        for word, value in zip(words, self.classes.values[1:], strict=True):
            yield Result(name=f"probability-{word}.nii.gz", kind="probability", value=value)
            for level in CONTOUR_LEVELS:
                name = _contour_name(word, level)
                yield Result(name=name, kind="contour", value=value, level=level)


def shown_geometry(geometry: Geometry) -> Geometry:
    """Return a grid of three axes, since viewers know no other.

    Pictures do not say how they lie in space: their rows run downwards, their columns to the right.
    """
    if len(geometry.shape) == 3:
        return geometry
    shape = (*geometry.shape, 1)
    if geometry.plane is not None:
        return Geometry(shape=shape, affine=geometry.plane)
    affine = np.eye(4)
    if geometry.is_placed:
        affine[:2, :2], affine[:2, 3] = geometry.affine[:2, :2], geometry.affine[:2, 2]
    else:
        affine[:2] = [[0, 1, 0, 0], [-1, 0, 0, geometry.shape[0] - 1]]
    return Geometry(shape=shape, affine=affine)


def shown_volumes(document: dict[str, Any], classes: ClassList) -> list[dict[str, Any]]:
    """Return the rows of `volumes.json` as a page lists them, in ml, or mm² of flat images."""
    unit, scale = ("mm3", 1e-3) if "volume_mm3" in document["volumes"][0] else ("mm2", 1.0)
    shown_unit, amount = ("ml", "volume_mm3") if unit == "mm3" else ("mm2", "area_mm2")
    values = dict(zip(classes.names, classes.values, strict=True))

    def scaled(number: float | None) -> float | None:
        return None if number is None else number * scale

    return [
        {
            "value": values[row["structure"]],
            "name": row["structure"],
            shown_unit: scaled(row[amount]),
            f"low_{shown_unit}": scaled(row[f"low_{unit}"]),
            f"high_{shown_unit}": scaled(row[f"high_{unit}"]),
            "level": row["level"],
        }
        for row in document["volumes"]
    ]


def _small(channel: Shaped[np.ndarray, "*space"]) -> Shaped[np.ndarray, "*space"]:
    """Store intensities that are whole numbers of 16 bits as such."""
    low, high = float(channel.min()), float(channel.max())
    if low >= -(2**15) and high < 2**15 and np.array_equal(channel, np.rint(channel)):
        return channel.astype(np.int16)
    return channel


def _contour_name(word: str, level: float) -> str:
    return f"contour-{word}-{level:g}.nii.gz"
