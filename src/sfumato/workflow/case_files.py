"""The files that become of one segmented case: what type they have, and where they lie."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sfumato.arrays import Label
from sfumato.cases.record import CaseRecord
from sfumato.image.dicom_seg import dicom_probability_writer, write_dicom_label
from sfumato.image.files import is_dicom, label_suffix, probability_writer, write_label
from sfumato.image.geometry import Geometry
from sfumato.image.names import FileType
from sfumato.image.probabilities import WritePart
from sfumato.model.trained import TrainedModel

PROBABILITIES = "probabilities"
"""Folder, beside the segmentations, that holds a probability file for each case."""


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

    def write_segmentation(self, segmentation: Label, geometry: Geometry) -> None:
        """Write class indices: in DICOM as segments, elsewhere as the data set's own values.

        Raises:
            FileError: If the file type cannot hold them, or the disk is full.
        """
        if self.is_dicom:
            path = self.out / f"{self.record.id}.dcm"
            write_dicom_label(path, segmentation, self._source, self.model.codes)
            return
        suffix = ".nii.gz" if self.file_type == "nifti" else label_suffix(self._source)
        values = self.model.classes.to_values(segmentation)
        write_label(self.out / f"{self.record.id}{suffix}", values, geometry)

    @contextmanager
    def probability_writer(self, geometry: Geometry) -> Iterator[WritePart]:
        """Write the probability of every class, as DICOM or NIfTI, part by part.

        Yields:
            A function that takes where a part lies, one slice for each spatial axis, and the
            probability of every class there. Together the parts must cover the grid.

        Raises:
            FileError: If DICOM cannot hold it, or the disk is full.
        """
        suffix = ".dcm" if self.is_dicom else ".nii.gz"
        path = self.out / PROBABILITIES / f"{self.record.id}{suffix}"
        names, codes = self.model.classes.names, self.model.codes
        with (
            dicom_probability_writer(path, geometry, self._source, codes)
            if self.is_dicom
            else probability_writer(path, geometry, names)
        ) as write:
            yield write
