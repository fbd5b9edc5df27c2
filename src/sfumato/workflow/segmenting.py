"""Segmenting many images, from files to files."""

import json
import time
from collections.abc import Sequence
from pathlib import Path

from sfumato.cases.dataset import CaseRecord, Dataset
from sfumato.errors import DatasetError, SfumatoError
from sfumato.image.dicom_seg import (
    check_can_write_dicom,
    dicom_probability_writer,
    write_dicom_label,
)
from sfumato.image.files import (
    is_dicom,
    label_suffix,
    read_channels,
    write_label,
    write_probability,
)
from sfumato.image.names import FileType
from sfumato.inference.predictor import Predictor
from sfumato.inference.probability import ProbabilityMap
from sfumato.storage import write_text
from sfumato.workflow.failures import Failure
from sfumato.workflow.provenance import provenance
from sfumato.workflow.tracking import Track, silently

PROBABILITIES = "probabilities"
"""Folder, beside the segmentations, that holds a probability file for each case."""


def gather_inputs(inputs: Sequence[Dataset]) -> list[CaseRecord]:
    """List the cases of several data sets together.

    Raises:
        DatasetError: If two cases would be written to the same file.
    """
    by_id: dict[str, CaseRecord] = {}
    for record in (record for dataset in inputs for record in dataset.records):
        if other := by_id.get(record.id):
            raise DatasetError(
                f"{other.image_paths[0]} and {record.image_paths[0]}: both are called"
                f" {record.id!r} and would be written to the same file; segment them into"
                " different folders"
            )
        by_id[record.id] = record
    return list(by_id.values())


def check_file_type(records: Sequence[CaseRecord], file_type: FileType) -> None:
    """Refuse to start on images whose file type cannot be written here.

    Raises:
        ConfigError: If there is DICOM among them, and nothing installed that writes it.
    """
    if file_type == "same" and any(is_dicom(record.image_paths[0]) for record in records):
        check_can_write_dicom()


def segment_cases(
    predictor: Predictor,
    records: Sequence[CaseRecord],
    out: Path,
    *,
    has_probabilities: bool = False,
    file_type: FileType = "same",
    track: Track = silently,
) -> list[Failure]:
    """Segment many cases into a folder.

    A segmentation has its input's name and file type, and the label values of the data the
    model was trained on; in DICOM, segments are numbered from 1 instead. A bad case does not
    stop the others.

    Args:
        predictor: The model.
        records: Images to segment; labels they may have are not looked at.
        out: Folder of the segmentations.
        has_probabilities: Whether the class probabilities are written too.
        file_type: What segmentations are written as.
        track: Told how far the job is.

    Returns:
        The cases that could not be segmented.
    """
    failures, seconds = [], {}
    for record in track(records, "Segmenting", len(records)):
        started = time.monotonic()
        try:
            _segment_case(predictor, record, out, has_probabilities, file_type)
        except (SfumatoError, MemoryError) as error:
            failures.append(Failure.of(record.id, error))
        seconds[record.id] = round(time.monotonic() - started, 3)
    report = {
        **provenance(),
        "model": predictor.model.about,
        "inference": predictor.settings.model_dump(mode="json"),
        "seconds": seconds,
        "failures": {failure.case_id: failure.reason for failure in failures},
    }
    write_text(out / "run.json", json.dumps(report, indent=2))
    return failures


def _segment_case(
    predictor: Predictor,
    record: CaseRecord,
    out: Path,
    has_probabilities: bool,
    file_type: FileType,
) -> None:
    image, geometry = read_channels(record.image_paths)
    probability_map = predictor.predict(image, geometry)
    source = record.image_paths[0]
    if file_type == "same" and is_dicom(source):
        _write_dicom(predictor, record, out, probability_map, has_probabilities)
        return
    classes = predictor.model.classes
    if has_probabilities:
        write_probability(
            out / PROBABILITIES / f"{record.id}.nii.gz",
            probability_map.probability,
            geometry,
            classes.names,
        )
    suffix = ".nii.gz" if file_type == "nifti" else label_suffix(source)
    path = out / f"{record.id}{suffix}"
    write_label(path, classes.to_values(probability_map.segmentation()), geometry)


def _write_dicom(
    predictor: Predictor,
    record: CaseRecord,
    out: Path,
    probability_map: ProbabilityMap,
    has_probabilities: bool,
) -> None:
    source, codes, name = record.image_paths[0], predictor.model.codes, f"{record.id}.dcm"
    geometry = probability_map.geometry
    if has_probabilities:
        whole = tuple(slice(n) for n in geometry.shape)
        with dicom_probability_writer(out / PROBABILITIES / name, geometry, source, codes) as write:
            write(whole, probability_map.probability)
    write_dicom_label(out / name, probability_map.segmentation(), source, codes)
