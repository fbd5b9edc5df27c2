"""The files that become of one segmented case: what type they have, and where they lie."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sfumato.arrays import Label, Probability
from sfumato.cases.record import CaseRecord
from sfumato.errors import FileError
from sfumato.image.dicom_seg import dicom_probability_writer, write_dicom_label
from sfumato.image.files import is_dicom, label_suffix, probability_writer, write_label
from sfumato.image.geometry import Geometry
from sfumato.image.kept_parts import kept_parts
from sfumato.image.names import FileType, Overlay
from sfumato.image.probabilities import WritePart
from sfumato.image.slicer import Segment, write_slicer_segmentation
from sfumato.inference.uncertainty import contour_steps
from sfumato.model.trained import TrainedModel
from sfumato.storage import os_reason

PROBABILITIES = "probabilities"
"""Folder, beside the segmentations, that holds a probability file for each case."""
CONTOURS = "contours"
"""Folder, beside the segmentations, that holds a file for each structure of each case."""
OVERLAYS = "overlays"
"""Folder, beside the segmentations, that holds a preview of each case."""


@dataclass(frozen=True, kw_only=True)
class CaseFiles:
    """The files that become of one segmented case.

    Attributes:
        record: The case's images; the first one's name and type count.
        out: Folder of the segmentations.
        model: What segments them.
        file_type: What is written.
    """

    record: CaseRecord
    out: Path
    model: TrainedModel
    file_type: FileType

    @property
    def is_dicom(self) -> bool:
        """Whether DICOM is written, which refers to the images."""
        return self.file_type == "same" and is_dicom(self._source)

    @property
    def _source(self) -> Path:
        return self.record.image_paths[0]

    @property
    def segmentation_path(self) -> Path:
        """Where the segmentation lies."""
        return self.out / f"{self.record.id}{self._segmentation_suffix}"

    @property
    def _segmentation_suffix(self) -> str:
        if self.is_dicom:
            return ".dcm"
        if self.file_type == "seg.nrrd":
            return ".seg.nrrd"
        return ".nii.gz" if self.file_type == "nifti" else label_suffix(self._source)

    @property
    def probability_paths(self) -> list[Path]:
        """Where the probabilities lie, and what says which class is which."""
        suffixes = [".dcm"] if self.is_dicom else [".nii.gz", ".json"]
        return [self.out / PROBABILITIES / f"{self.record.id}{suffix}" for suffix in suffixes]

    @property
    def contour_paths(self) -> list[Path]:
        """Where the nested contours of each structure lie."""
        words = file_words(self.model.classes.foreground)
        return [self.out / CONTOURS / f"{self.record.id}_label-{w}.nii.gz" for w in words]

    def overlay_path(self, overlay: Overlay) -> Path:
        """Where the preview lies."""
        return self.out / OVERLAYS / f"{self.record.id}.{overlay}"

    def write_segmentation(self, segmentation: Label, geometry: Geometry) -> None:
        """Write class indices: in DICOM as segments, elsewhere as the data set's own values.

        Raises:
            FileError: If the file type cannot hold them, or the disk is full.
        """
        path, classes = self.segmentation_path, self.model.classes
        if self.is_dicom:
            write_dicom_label(path, segmentation, self._source, self.model.codes)
        elif self.file_type == "seg.nrrd":
            segments = [
                Segment(name=name, value=value, codes=self.model.codes[name])
                for name, value in zip(classes.names[1:], classes.values[1:], strict=True)
            ]
            write_slicer_segmentation(path, classes.to_values(segmentation), geometry, segments)
        else:
            write_label(path, classes.to_values(segmentation), geometry)

    @contextmanager
    def probability_writer(self, geometry: Geometry) -> Iterator[WritePart]:
        """Write the probability of every class, as DICOM or NIfTI, part by part.

        Yields:
            A function that takes where a part lies, one slice for each spatial axis, and the
            probability of every class there. Together the parts must cover the grid.

        Raises:
            FileError: If DICOM cannot hold it, or the disk is full.
        """
        path = self.probability_paths[0]
        names, codes = self.model.classes.names, self.model.codes
        with (
            dicom_probability_writer(path, geometry, self._source, codes)
            if self.is_dicom
            else probability_writer(path, geometry, names)
        ) as write:
            yield write

    @contextmanager
    def contour_writer(self, geometry: Geometry) -> Iterator[WritePart]:
        """Write the nested contours of every structure as NIfTI, a file for each structure.

        Bands of all structures together would hide where one may be another, so each has its own.

        Yields:
            A function as that of `probability_writer`.

        Raises:
            FileError: If the disk is full.
        """
        folder = self.out / CONTOURS
        try:
            folder.mkdir(exist_ok=True)
            with kept_parts(folder) as kept:

                def write(place: tuple[slice, ...], probability: Probability) -> None:
                    kept.add(place, np.stack([contour_steps(one) for one in probability[1:]]))

                yield write
                for index, path in enumerate(self.contour_paths):
                    write_label(path, kept.volume(index, geometry.shape), geometry)
        except OSError as error:
            raise FileError(folder, f"cannot be written ({os_reason(error)})") from error


def file_words(class_names: Sequence[str]) -> list[str]:
    """Return what stands for each class in names of files: its letters and digits.

    Where that is nothing, or the same for two classes, all have their number.

    Examples:
        >>> file_words(["shell [outer]", "core"]), file_words(["a b", "a-b"])
        (['shellouter', 'core'], ['1', '2'])
    """
    words = ["".join(re.findall("[A-Za-z0-9]", name)) for name in class_names]
    if "" in words or len({word.lower() for word in words}) < len(words):
        return [str(index) for index in range(1, len(words) + 1)]
    return words
